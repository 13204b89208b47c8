//! What a broker takes, and what it does to it.

use kferry::protocol::error_code::ErrorCode;
use kferry::record::codec::Codec;
use kferry::record::encode::{BatchBuilder, BatchOptions};

use crate::batches::{TIMESTAMP, at, batch, batch_with, with, with_attributes};
use crate::broker::Case;
use crate::client::{Fetch, batches, headers};

/// The claim that a batch is refused, with this error, and leaves no trace.
#[track_caller]
fn assert_refused(case: &mut Case, batch: &[u8], error: ErrorCode) {
    let answer = case.produce(batch);
    assert_eq!(ErrorCode::from_wire(answer.error_code), error);
    assert_eq!(answer.base_offset, -1);
    assert_eq!(case.offset_at(-1, false), 0);
}

pub(crate) fn a_dense_batch_is_appended_at_the_end(case: &mut Case) {
    case.create_topic(&[]);

    for base_offset in [0, 3] {
        let answer = case.produce(&batch(3));
        assert_eq!((answer.error_code, answer.base_offset), (0, base_offset));
        assert_eq!((answer.log_append_time_ms, answer.log_start_offset), (-1, 0));
    }
    assert_eq!(case.offset_at(-1, false), 6);
}

pub(crate) fn every_codec_is_stored_as_it_came(case: &mut Case) {
    case.create_topic(&[]);
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let sent = batch_with(
            BatchOptions {
                codec,
                ..BatchOptions::default()
            },
            10,
        );
        let base_offset = case.produce(&sent).base_offset;

        let stored = &batches(&case.fetch(Fetch::from(base_offset)))[0];

        assert_eq!(stored.header.base_offset(), base_offset);
        assert_eq!(stored.header.codec().expect("a codec"), codec);
        assert_eq!(stored.bytes[at::CRC..], sent[at::CRC..], "{codec:?}");
    }
}

pub(crate) fn a_base_offset_other_than_zero_is_refused(case: &mut Case) {
    case.create_topic(&[]);
    for base_offset in [5_i64, -1] {
        let wrong = with(batch(3), at::BASE_OFFSET, &base_offset.to_be_bytes());
        assert_refused(case, &wrong, ErrorCode::InvalidRecord);
    }
}

pub(crate) fn gaps_between_offsets_are_refused(case: &mut Case) {
    case.create_topic(&[]);
    let mut sparse = BatchBuilder::new(BatchOptions::default());
    for offset in [0, 3, 5] {
        sparse.push_at(offset, TIMESTAMP, Some(b"key"), None, &[]);
    }
    assert_refused(case, &sparse.build().expect("a batch"), ErrorCode::InvalidRecord);
}

pub(crate) fn a_batch_without_records_is_refused(case: &mut Case) {
    case.create_topic(&[]);
    let mut empty = batch(1);
    empty.truncate(61);
    empty[8..12].copy_from_slice(&49_u32.to_be_bytes());
    let empty = with(empty, at::RECORD_COUNT, &0_i32.to_be_bytes());
    assert_refused(case, &empty, ErrorCode::InvalidRecord);
}

pub(crate) fn a_wrong_record_count_is_refused(case: &mut Case) {
    case.create_topic(&[]);
    for (count, last) in [(4_i32, 3_i32), (2, 1)] {
        let wrong = with(batch(3), at::RECORD_COUNT, &count.to_be_bytes());
        let wrong = with(wrong, at::LAST_OFFSET_DELTA, &last.to_be_bytes());
        assert_refused(case, &wrong, ErrorCode::InvalidRecord);
    }
}

pub(crate) fn control_batches_are_refused(case: &mut Case) {
    case.create_topic(&[]);
    assert_refused(case, &with_attributes(batch(1), 0x20), ErrorCode::InvalidRecord);
}

pub(crate) fn transactional_batches_need_a_transactional_id(case: &mut Case) {
    case.create_topic(&[]);
    let wrong = with_attributes(batch(1), 0x10);
    assert_refused(case, &wrong, ErrorCode::TransactionalIdAuthorizationFailed);
}

pub(crate) fn two_batches_for_a_partition_are_refused(case: &mut Case) {
    case.create_topic(&[]);
    assert_refused(case, &[batch(1), batch(1)].concat(), ErrorCode::InvalidRecord);
}

pub(crate) fn bytes_after_a_batch_are_dropped_in_silence(case: &mut Case) {
    case.create_topic(&[]);
    let whole = batch(2);

    let answer = case.produce(&[&whole[..], &whole[..50]].concat());

    assert_eq!((answer.error_code, answer.base_offset), (0, 0));
    assert_eq!(case.offset_at(-1, false), 2);
}

pub(crate) fn no_batch_at_all_is_refused(case: &mut Case) {
    case.create_topic(&[]);
    assert_refused(case, &[], ErrorCode::InvalidRecord);
    assert_refused(case, &batch(2)[..80], ErrorCode::InvalidRecord);
}

pub(crate) fn a_wrong_crc_is_refused(case: &mut Case) {
    case.create_topic(&[]);
    let mut wrong = batch(3);
    *wrong.last_mut().expect("bytes") ^= 1;
    assert_refused(case, &wrong, ErrorCode::CorruptMessage);
}

pub(crate) fn zstd_needs_a_new_enough_request(case: &mut Case) {
    case.create_topic(&[]);
    let zstd = batch_with(
        BatchOptions {
            codec: Codec::Zstd,
            ..BatchOptions::default()
        },
        3,
    );

    let answer = case.produce_as(6, None, &zstd);

    assert_eq!(
        ErrorCode::from_wire(answer.error_code),
        ErrorCode::UnsupportedCompressionType
    );
}

pub(crate) fn a_batch_may_have_the_maximum_size_and_no_byte_more(case: &mut Case) {
    let largest = batch(10);
    let limit = largest.len().to_string();
    case.create_topic(&[("max.message.bytes", &limit)]);
    let of_value = |bytes| {
        let mut one = BatchBuilder::new(BatchOptions::default());
        one.push(TIMESTAMP, None, Some(&vec![0; bytes]), &[]);
        one.build().expect("a batch")
    };
    let larger = (0..)
        .map(of_value)
        .find(|batch| batch.len() > largest.len())
        .expect("some size");
    assert_eq!(larger.len(), largest.len() + 1, "this case is about a single byte");

    assert_refused(case, &larger, ErrorCode::MessageTooLarge);
    assert_eq!(case.produce(&largest).error_code, 0);
}

pub(crate) fn a_compacted_topic_takes_no_record_without_a_key(case: &mut Case) {
    case.create_topic(&[("cleanup.policy", "compact")]);
    let mut keyless = BatchBuilder::new(BatchOptions::default());
    keyless.push(TIMESTAMP, Some(b"key"), None, &[]);
    keyless.push(TIMESTAMP, None, Some(b"value"), &[]);
    let keyless = keyless.build().expect("a batch");

    assert_refused(case, &keyless, ErrorCode::InvalidRecord);
    let answer = case.produce(&keyless);
    let indices: Vec<i32> = answer.record_errors.iter().map(|error| error.batch_index).collect();
    assert_eq!(indices, [1], "the record is named");
}

pub(crate) fn the_delete_horizon_bit_is_stored(case: &mut Case) {
    case.create_topic(&[]);
    assert_eq!(case.produce(&with_attributes(batch(1), 0x40)).error_code, 0);
    assert!(headers(&case.fetch(Fetch::from(0)))[0].has_delete_horizon());
}

pub(crate) fn the_leader_epoch_is_the_brokers(case: &mut Case) {
    case.create_topic(&[]);
    let other = with(batch(1), at::PARTITION_LEADER_EPOCH, &12_345_i32.to_be_bytes());
    assert_eq!(case.produce(&other).error_code, 0);
    assert_eq!(headers(&case.fetch(Fetch::from(0)))[0].partition_leader_epoch(), 0);
}

pub(crate) fn a_wrong_maximum_timestamp_is_put_right(case: &mut Case) {
    case.create_topic(&[]);
    for wrong in [TIMESTAMP - 5000, TIMESTAMP + 500_000] {
        let wrong = with(batch(3), at::MAX_TIMESTAMP, &wrong.to_be_bytes());
        let base_offset = case.produce(&wrong).base_offset;
        let stored = batches(&case.fetch(Fetch::from(base_offset))).remove(0);
        assert_eq!(stored.header.max_timestamp(), TIMESTAMP + 2000);
        stored.verify_crc().expect("a new CRC");
    }
}

pub(crate) fn a_log_append_time_topic_stamps_and_takes_no_stamp(case: &mut Case) {
    case.create_topic(&[("message.timestamp.type", "LogAppendTime")]);
    assert_refused(case, &with_attributes(batch(1), 0x08), ErrorCode::InvalidTimestamp);

    let answer = case.produce(&batch(2));

    assert!(answer.log_append_time_ms > TIMESTAMP);
    let stored = headers(&case.fetch(Fetch::from(0))).remove(0);
    assert_eq!(stored.max_timestamp(), answer.log_append_time_ms);
    assert_ne!(stored.attributes() & 0x08, 0);
}

pub(crate) fn an_unknown_topic_is_refused(case: &mut Case) {
    let answer = case.produce(&batch(1));
    assert_eq!(
        ErrorCode::from_wire(answer.error_code),
        ErrorCode::UnknownTopicOrPartition
    );
}

pub(crate) fn acks_are_none_one_or_all(case: &mut Case) {
    case.create_topic(&[]);
    let request = case.produce_request(None, &batch(1)).with_acks(2);
    let answer = case.call(8, &request).responses.remove(0).partition_responses.remove(0);
    assert_eq!(ErrorCode::from_wire(answer.error_code), ErrorCode::InvalidRequiredAcks);
}
