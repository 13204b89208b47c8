//! What a fetch returns, from where, and how much.

use std::time::{Duration, Instant};

use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{DeleteRecordsRequest, FetchRequest, FetchResponse};
use kferry::protocol::error_code::ErrorCode;

use crate::batches::{TIMESTAMP, batch};
use crate::broker::Case;
use crate::client::{Fetch, headers};

/// The case's topic, with batches of 3 records each.
fn batches_of_three(case: &mut Case, count: usize) {
    case.create_topic(&[]);
    for _ in 0..count {
        assert_eq!(case.produce(&batch(3)).error_code, 0);
    }
}

fn error(case: &mut Case, fetch: Fetch) -> ErrorCode {
    ErrorCode::from_wire(case.fetch(fetch).error_code)
}

pub(crate) fn an_offset_within_a_batch_returns_the_whole_batch(case: &mut Case) {
    batches_of_three(case, 3);
    let bases: Vec<i64> = headers(&case.fetch(Fetch::from(4)))
        .iter()
        .map(|header| header.base_offset())
        .collect();
    assert_eq!(bases, [3, 6]);
}

pub(crate) fn the_first_batch_comes_whole_and_others_may_be_cut(case: &mut Case) {
    batches_of_three(case, 3);
    let size = batch(3).len();

    let least = case
        .fetch(Fetch {
            max_bytes: 1,
            ..Fetch::from(0)
        })
        .records
        .expect("records");
    assert_eq!(least.len(), size);

    let half_more = i32::try_from(size + size / 2).expect("a small batch");
    let cut = case
        .fetch(Fetch {
            max_bytes: half_more,
            ..Fetch::from(0)
        })
        .records
        .expect("records");
    assert_eq!(cut.len(), size + size / 2);
}

pub(crate) fn offsets_outside_of_the_log_are_out_of_range(case: &mut Case) {
    batches_of_three(case, 1);
    assert_eq!(error(case, Fetch::from(4)), ErrorCode::OffsetOutOfRange);
    assert_eq!(error(case, Fetch::from(-1)), ErrorCode::OffsetOutOfRange);
    assert_eq!(error(case, Fetch::from(3)), ErrorCode::None, "the end itself is not");
}

#[expect(clippy::disallowed_methods, reason = "measures how long an answer takes")]
pub(crate) fn a_fetch_at_the_end_waits_for_its_time(case: &mut Case) {
    batches_of_three(case, 1);
    let began = Instant::now();
    let fetched = case.fetch(Fetch {
        max_wait_ms: 300,
        ..Fetch::from(3)
    });
    assert!(began.elapsed() >= Duration::from_millis(290), "{:?}", began.elapsed());
    assert!(fetched.records.unwrap_or_default().is_empty());
}

pub(crate) fn a_leader_epoch_from_the_future_is_unknown(case: &mut Case) {
    batches_of_three(case, 1);
    assert_eq!(
        error(
            case,
            Fetch {
                leader_epoch: 0,
                ..Fetch::from(0)
            }
        ),
        ErrorCode::None
    );
    assert_eq!(
        error(
            case,
            Fetch {
                leader_epoch: 7,
                ..Fetch::from(0)
            }
        ),
        ErrorCode::UnknownLeaderEpoch
    );
}

pub(crate) fn deleted_records_move_the_start_into_a_batch(case: &mut Case) {
    batches_of_three(case, 2);
    let partition = DeleteRecordsPartition::default().with_offset(4);
    let topic = DeleteRecordsTopic::default()
        .with_name(case.name())
        .with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(30_000);
    assert_eq!(case.call(1, &request).topics[0].partitions[0].low_watermark, 4);

    assert_eq!(case.offset_at(-2, false), 4);
    assert_eq!(error(case, Fetch::from(3)), ErrorCode::OffsetOutOfRange);
    let fetched = case.fetch(Fetch::from(4));
    assert_eq!(fetched.log_start_offset, 4);
    assert_eq!(headers(&fetched)[0].base_offset(), 3);
}

pub(crate) fn a_timestamp_finds_the_first_record_as_late(case: &mut Case) {
    batches_of_three(case, 1); // One second from record to record.
    assert_eq!(case.offset_at(TIMESTAMP - 1, false), 0);
    assert_eq!(case.offset_at(TIMESTAMP + 1, false), 1);
    assert_eq!(case.offset_at(TIMESTAMP + 2000, false), 2);
    assert_eq!(case.offset_at(TIMESTAMP + 2001, false), -1);
}

/// A fetch that belongs to a session. The case's partition is in it, or nothing new is.
fn in_session(case: &mut Case, id: i32, epoch: i32, offset: Option<i64>) -> FetchResponse {
    let topics = offset.map(|offset| {
        let partition = FetchPartition::default()
            .with_fetch_offset(offset)
            .with_partition_max_bytes(1 << 20);
        FetchTopic::default()
            .with_topic(case.name())
            .with_partitions(vec![partition])
    });
    let request = FetchRequest::default()
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_session_id(id)
        .with_session_epoch(epoch)
        .with_topics(topics.into_iter().collect());
    case.call(11, &request)
}

pub(crate) fn a_session_returns_only_what_has_changed(case: &mut Case) {
    batches_of_three(case, 1);
    let first = in_session(case, 0, 0, Some(3));
    assert_ne!(first.session_id, 0);
    assert_eq!(first.responses.len(), 1, "the first answer is complete");

    assert!(in_session(case, first.session_id, 1, None).responses.is_empty());
    case.produce(&batch(3));
    let third = in_session(case, first.session_id, 2, None);
    assert_eq!(headers(&third.responses[0].partitions[0])[0].base_offset(), 3);
}

pub(crate) fn an_unknown_session_and_a_wrong_epoch_are_refused(case: &mut Case) {
    batches_of_three(case, 1);
    let unknown = in_session(case, 123_456, 1, None);
    assert_eq!(
        ErrorCode::from_wire(unknown.error_code),
        ErrorCode::FetchSessionIdNotFound
    );

    let first = in_session(case, 0, 0, Some(3));
    let wrong = in_session(case, first.session_id, 5, None);
    assert_eq!(
        ErrorCode::from_wire(wrong.error_code),
        ErrorCode::InvalidFetchSessionEpoch
    );
}
