//! What a partition does, event by event.

use super::producing::sequence_after;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::offsets::{OffsetPair, Run, TargetOffset};
use crate::protocol::error_code::ErrorCode;
use crate::record::{BatchBuilder, BatchHeader, BatchOptions, ReencodeError};
use crate::replication::budget::Budget;
use crate::replication::fate::FateContext;
use crate::replication::forgetting::WallClock;
use crate::replication::ledger::OwnerId;
use crate::replication::prepare::{FetchedRecords, PrepareError, Prepared, prepare};
use crate::replication::recovery::{Known, Recovered};

#[expect(
    clippy::disallowed_methods,
    reason = "an Instant has no other beginning; nothing depends on it"
)]
pub(super) fn start_of_time() -> Instant {
    Instant::now()
}

/// The next fetch is to ask for the partition.
pub(super) fn wants_fetch(partition: &PartitionReplicator, now: Instant, max_prepared_bytes: usize) -> bool {
    matches!(partition.fetch_wish(now, max_prepared_bytes), FetchWish::From(_))
}

/// A partition that was copied before, up to offset 0: its mapping is in the ledger.
pub(in crate::replication) fn remembered(end: i64) -> PartitionStart {
    PartitionStart {
        topic: "t".into(),
        target_topic: "t".into(),
        partition: 0,
        source_topic_id: Uuid::nil(),
        target_topic_id: Uuid::nil(),
        position: SourceOffset(0),
        leader_epoch: -1,
        mark: None,
        epochs: EpochHistory::default(),
        target_next: TargetOffset(0),
        end: Some(SourceOffset(end)),
        is_compacted: true,
        is_cleaned: true,
        keeps_time: true,
        beginning: Beginning::Remembered,
        is_quiet: true,
        producer_id: 7,
        producer_epoch: 0,
        next_sequence: 0,
        flow_start: OffsetPair {
            source: SourceOffset(0),
            target: TargetOffset(0),
        },
        cuts: Vec::new(),
        owner: OwnerId {
            generation: 1,
            instance: 1,
        },
        segment: Segment::default(),
        segments: Vec::new(),
        superseded: Vec::new(),
        policies: Policies::default(),
        clock: WallClock::new(start_of_time(), 0),
    }
}

/// The target has what the ledger says, and no more.
pub(in crate::replication) fn as_known(known: &Known) -> Recovered {
    Recovered::as_known(known, false)
}

/// A partition whose leader has not acked anything so far.
pub(super) fn partition(end: i64) -> PartitionReplicator {
    started(remembered(end))
}

pub(super) fn started(start: PartitionStart) -> PartitionReplicator {
    let now = start_of_time();
    let mut partition = PartitionReplicator::new(start, None);
    let known = partition.poll_recovery(now).expect("the target is asked first");
    partition.handle_recovered(now, as_known(&known));
    partition
}

pub(super) fn log(last_stable_offset: i64) -> SourceLog {
    SourceLog {
        last_stable_offset: SourceOffset(last_stable_offset),
        high_watermark: SourceOffset(last_stable_offset),
        log_start_offset: SourceOffset(0),
    }
}

pub(super) fn lost() -> ProduceOutcome {
    ProduceOutcome::Unknown { cause: "lost".into() }
}

pub(super) fn run(source: i64, target: i64, count: i64) -> Run {
    Run {
        source_start: SourceOffset(source),
        target_start: TargetOffset(target),
        count,
    }
}

/// `count` batches of two records each, from `base_offset` on.
pub(super) fn fetched(base_offset: i64, count: i64) -> Prepared {
    let mut records = Vec::new();
    for i in 0..count {
        let mut batch = BatchBuilder::new(BatchOptions {
            base_offset: base_offset + 2 * i,
            ..BatchOptions::default()
        });
        for _ in 0..2 {
            batch.push(0, None, Some(b"v"), &[]);
        }
        records.extend_from_slice(&batch.build().expect("small"));
    }
    let context = FateContext {
        start_offset: base_offset,
        max_batch_bytes: 1 << 20,
        keep_append_time: true,
    };
    let hold = Arc::new(Budget::new(1 << 20).try_reserve(records.len()).expect("free"));
    prepare(
        FetchedRecords {
            records: records.into(),
            aborted: Vec::new(),
            high_watermark: i64::MAX,
            before: None,
        },
        context,
        &hold,
    )
}

pub(super) fn feed(partition: &mut PartitionReplicator, now: Instant, batches: i64) {
    let at = partition.fetch_position().0;
    partition.handle_fetched(now, fetched(at, batches), log(1000));
}

pub(super) fn send_all(partition: &mut PartitionReplicator, now: Instant) -> Vec<OutgoingBatch> {
    std::iter::from_fn(|| partition.poll_batch(now, 0)).collect()
}

pub(super) fn acked(base_offset: i64) -> ProduceOutcome {
    ProduceOutcome::Acked {
        base_offset: TargetOffset(base_offset),
    }
}

pub(super) fn refused(code: ErrorCode) -> ProduceOutcome {
    ProduceOutcome::Refused { code, message: None }
}

pub(super) fn sequences(batches: &[OutgoingBatch]) -> Vec<i32> {
    batches.iter().map(|batch| batch.sequence).collect()
}

/// A partition whose producer id the leader knows, with `batches` sent and unacked.
pub(super) fn streaming(now: Instant, batches: i64) -> (PartitionReplicator, Vec<OutgoingBatch>) {
    let mut partition = partition(1000);
    feed(&mut partition, now, 1);
    assert_eq!(sequences(&send_all(&mut partition, now)), [0]);
    partition.handle_outcome(now, 0, acked(0));
    feed(&mut partition, now, batches);
    let sent = send_all(&mut partition, now);
    (partition, sent)
}

#[test]
fn a_new_producer_id_has_one_batch_on_its_way_until_the_first_ack() {
    let now = start_of_time();
    let mut partition = partition(1000);
    feed(&mut partition, now, 8);
    assert_eq!(sequences(&send_all(&mut partition, now)), [0]);
    partition.handle_outcome(now, 0, acked(0));
    assert_eq!(sequences(&send_all(&mut partition, now)), [2, 4, 6, 8, 10], "then five");
}

#[test]
fn small_batches_that_wait_leave_the_rest_at_the_source() {
    let now = start_of_time();
    let (mut partition, sent) = streaming(now, 5);
    assert_eq!(sent.len(), MAX_UNACKED);
    for _ in 0..MAX_UNACKED {
        assert!(wants_fetch(&partition, now, usize::MAX));
        feed(&mut partition, now, 1);
    }
    assert!(!wants_fetch(&partition, now, usize::MAX));
    partition.handle_outcome(now, 2, acked(2));
    assert_eq!(send_all(&mut partition, now).len(), 1);
    assert!(wants_fetch(&partition, now, usize::MAX));
}

#[test]
fn the_position_follows_the_acks_in_order() {
    let now = start_of_time();
    let (mut partition, _) = streaming(now, 3);
    partition.handle_outcome(now, 4, acked(4));
    assert_eq!(
        partition.acked_position(),
        SourceOffset(2),
        "the batch before is not acked"
    );
    partition.handle_outcome(now, 2, acked(2));
    assert_eq!(partition.acked_position(), SourceOffset(6));
}

#[test]
fn out_of_order_behind_a_failed_batch_is_sent_again_in_order() {
    let now = start_of_time();
    let (mut partition, _) = streaming(now, 3);
    partition.handle_outcome(now, 2, refused(ErrorCode::NotLeaderOrFollower));
    partition.handle_outcome(now, 4, refused(ErrorCode::OutOfOrderSequenceNumber));
    partition.handle_outcome(now, 6, refused(ErrorCode::OutOfOrderSequenceNumber));
    let later = partition.produce_retry_at().expect("backing off");
    assert_eq!(
        sequences(&send_all(&mut partition, later)),
        [2],
        "one at a time: the leader may have forgotten us"
    );
    partition.handle_outcome(later, 2, acked(2));
    assert_eq!(sequences(&send_all(&mut partition, later)), [4, 6]);
}

#[test]
fn out_of_order_that_is_heard_of_before_its_reason_is_sent_again_too() {
    let now = start_of_time();
    let (mut partition, _) = streaming(now, 2);
    partition.handle_outcome(now, 4, refused(ErrorCode::OutOfOrderSequenceNumber));
    partition.handle_outcome(now, 2, refused(ErrorCode::NotLeaderOrFollower));
    let later = partition.produce_retry_at().expect("backing off");
    assert_eq!(sequences(&send_all(&mut partition, later)), [2]);
    partition.handle_outcome(later, 2, acked(2));
    assert_eq!(sequences(&send_all(&mut partition, later)), [4]);
}

#[test]
fn an_ack_while_a_failed_batch_waits_opens_no_window() {
    let now = start_of_time();
    let (mut partition, _) = streaming(now, 3);
    partition.handle_outcome(now, 2, refused(ErrorCode::NotLeaderOrFollower));
    partition.handle_outcome(now, 4, acked(2)); // From a leader that had forgotten us.
    partition.handle_outcome(now, 6, acked(4));
    let later = partition.produce_retry_at().expect("backing off");
    feed(&mut partition, later, 3);
    assert_eq!(sequences(&send_all(&mut partition, later)), [2]);
}

#[test]
fn a_target_that_takes_nothing_is_given_up_after_a_while() {
    let now = start_of_time();
    let (mut partition, _) = streaming(now, 1);
    partition.handle_outcome(now, 2, refused(ErrorCode::NotEnoughReplicas));
    partition.give_up(now + Duration::from_secs(9), Duration::from_secs(10));
    assert!(partition.stopped().is_none());
    partition.give_up(now + Duration::from_secs(10), Duration::from_secs(10));
    assert!(matches!(partition.stopped(), Some(Stopped::TargetUnavailable { .. })));
}

#[test]
fn an_offset_out_of_range_is_a_gap_with_its_exact_range() {
    let now = start_of_time();
    let mut partition = partition(1000);
    assert_eq!(
        partition.handle_fetch_refused(now, ErrorCode::OffsetOutOfRange),
        Some(FetchTrouble::OutOfRange)
    );
    partition.handle_source_range(now, SourceOffset(0), SourceOffset(50));
    assert!(partition.stopped().is_none(), "it was in range after all");
    partition.handle_source_range(now, SourceOffset(17), SourceOffset(50));
    assert!(matches!(
        partition.stopped(),
        Some(Stopped::SourceGap {
            from: SourceOffset(0),
            to: SourceOffset(17)
        })
    ));
}

#[test]
fn what_came_before_the_damage_still_arrives() {
    let now = start_of_time();
    let mut partition = partition(1000);
    let mut prepared = fetched(0, 1);
    prepared.damage = Some(PrepareError::Reencode {
        base_offset: 2,
        source: ReencodeError::RecordTooLarge {
            offset: 2,
            size: 9,
            limit: 8,
        },
    });
    partition.handle_fetched(now, prepared, log(1000));
    assert!(!partition.is_settled());
    assert_eq!(sequences(&send_all(&mut partition, now)), [0]);
    partition.handle_outcome(now, 0, acked(0));
    assert!(partition.is_settled() && partition.acked_position() == SourceOffset(2));
}

#[test]
fn an_end_without_batches_is_believed_the_third_time() {
    let now = start_of_time();
    let mut partition = partition(10);
    partition.handle_fetched(now, fetched(0, 0), log(10));
    partition.handle_source_well();
    for _ in 0..2 {
        partition.handle_nothing_fetched();
        assert!(!partition.is_done());
    }
    partition.handle_nothing_fetched();
    assert!(partition.is_done());
}

#[test]
fn a_batch_that_never_comes_whole_is_no_end() {
    let now = start_of_time();
    let mut partition = partition(10);
    for _ in 0..3 {
        let mut prepared = fetched(0, 0);
        prepared.damage = Some(PrepareError::NeverWhole { position: 0, bytes: 99 });
        partition.handle_fetched(now, prepared, log(10));
        partition.handle_nothing_fetched();
    }
    assert!(!partition.is_done());
    assert!(matches!(partition.stopped(), Some(Stopped::SourceUnreadable { .. })));
}

#[test]
fn a_checkpoint_never_runs_ahead_of_the_acks() {
    let now = start_of_time();
    let (mut partition, _) = streaming(now, 2);
    let written = partition.poll_checkpoint().expect("something new");
    assert_eq!(written.checkpoint.source_position, SourceOffset(2));
    assert_eq!(
        (written.checkpoint.target_next, written.checkpoint.next_sequence),
        (TargetOffset(2), 2)
    );
    assert_eq!(partition.poll_checkpoint(), None, "nothing new");
    partition.handle_checkpoint_failed(written.clone());
    assert_eq!(
        partition.poll_checkpoint(),
        Some(written),
        "what was not written is written again"
    );
}

#[test]
fn what_is_abandoned_is_fetched_again() {
    let now = start_of_time();
    let (mut partition, sent) = streaming(now, 8);
    assert_eq!(sent.len(), 5);
    partition.abandon_prepared();
    assert_eq!(partition.fetch_position(), SourceOffset(12));
    for (sequence, offset) in sequences(&sent).into_iter().zip([2, 4, 6, 8, 10]) {
        partition.handle_outcome(now, sequence, acked(offset));
    }
    assert_eq!(partition.acked_position(), SourceOffset(12));
}

#[test]
fn a_target_that_goes_back_stops_the_partition() {
    let now = start_of_time();
    let (mut partition, _) = streaming(now, 1);
    partition.handle_outcome(now, 2, acked(1));
    assert!(matches!(partition.stopped(), Some(Stopped::TargetWentBack { .. })));
}

#[test]
fn sequences_wrap() {
    assert_eq!(sequence_after(i32::MAX - 1, 5), 3);
    assert_eq!(sequence_after(i32::MAX, 1), 0);
}

#[test]
fn the_header_that_goes_out_is_ours() {
    let now = start_of_time();
    let (_, sent) = streaming(now, 1);
    let header = BatchHeader::parse(&[&sent[0].header[..], &sent[0].payload[..]].concat()).expect("a batch");
    assert_eq!(
        (header.base_offset(), header.producer_id(), header.base_sequence()),
        (0, 7, 2)
    );
}

#[test]
fn another_writer_on_the_target_opens_a_run_and_is_told() {
    let now = start_of_time();
    let (mut partition, _) = streaming(now, 1);
    partition.handle_outcome(now, 2, acked(5));
    assert_eq!(
        partition.take_incidents(),
        [Incident::ForeignRecords(TargetOffset(2), TargetOffset(5))]
    );
    let written = partition.poll_checkpoint().expect("new");
    assert_eq!(written.segments[0].runs(), [run(0, 0, 2), run(2, 5, 2)]);
}

#[test]
fn a_stopped_partition_holds_no_memory() {
    let now = start_of_time();
    let (mut partition, _) = streaming(now, 8);
    partition.handle_outcome(now, 2, refused(ErrorCode::TopicAuthorizationFailed));
    for sequence in [4, 6, 8, 10] {
        partition.handle_outcome(now, sequence, refused(ErrorCode::OutOfOrderSequenceNumber));
    }
    assert!(partition.is_settled() && partition.unacked.is_empty() && partition.prepared.is_empty());
    assert_eq!(partition.acked_position(), SourceOffset(2));
}

#[test]
fn an_end_without_batches_is_not_believed_of_a_topic_that_is_not_compacted() {
    let now = start_of_time();
    let mut partition = partition(10);
    partition.start.is_compacted = false;
    partition.handle_fetched(now, fetched(0, 0), log(10));
    while partition.stopped().is_none() {
        assert!(!partition.is_done());
        partition.handle_nothing_fetched();
    }
    assert!(matches!(partition.stopped(), Some(Stopped::SourceEmpty { .. })));
}

#[test]
fn after_a_pause_one_batch_goes_first() {
    let now = start_of_time();
    let (mut partition, _) = streaming(now, 1);
    partition.handle_outcome(now, 2, acked(2));
    let later = now + Duration::from_secs(60);
    feed(&mut partition, later, 3);
    assert_eq!(
        sequences(&send_all(&mut partition, later)),
        [4],
        "the leader may have been restarted"
    );
    partition.handle_outcome(later, 4, acked(4));
    assert_eq!(sequences(&send_all(&mut partition, later)), [6, 8]);
}

/// The records are of 1970: a leader may have forgotten their producer whenever it looks.
#[test]
fn old_records_of_a_cleaned_topic_go_out_one_batch_at_a_time() {
    let now = start_of_time();
    for (is_cleaned, second) in [(true, vec![2]), (false, vec![2, 4])] {
        let mut partition = started(PartitionStart {
            is_cleaned,
            clock: WallClock::new(now, i64::MAX),
            ..remembered(1000)
        });
        feed(&mut partition, now, 3);
        assert_eq!(sequences(&send_all(&mut partition, now)), [0]);
        partition.handle_outcome(now, 0, acked(0));
        assert_eq!(
            sequences(&send_all(&mut partition, now)),
            second,
            "cleaned: {is_cleaned}"
        );
    }
}
