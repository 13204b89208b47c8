//! What becomes of what was fetched.

use super::*;
use crate::record::{BatchBuilder, BatchOptions, Codec, ProducerStamp, TimestampType, control_batch};
use crate::replication::budget::Budget;

const ONE: i64 = 11;
const TWO: i64 = 22;

fn context(start_offset: i64) -> FateContext {
    FateContext {
        start_offset,
        max_batch_bytes: 1 << 20,
        keep_append_time: true,
    }
}

fn batch(base_offset: i64, deltas: &[i32], transaction_of: Option<i64>) -> Bytes {
    let producer = transaction_of.map(|producer_id| ProducerStamp {
        producer_id,
        producer_epoch: 0,
        base_sequence: 0,
    });
    let transactional = transaction_of.is_some();
    let mut builder = BatchBuilder::new(BatchOptions {
        base_offset,
        producer,
        transactional,
        ..BatchOptions::default()
    });
    for delta in deltas {
        builder.push_at(*delta, i64::from(*delta), None, Some(b"value"), &[]);
    }
    builder.build().expect("small")
}

fn marker(offset: i64, producer_id: i64, end: ControlType) -> Bytes {
    control_batch(offset, producer_id, 0, end, 0, 0)
}

fn fetched(records: Bytes, aborted: Vec<AbortedTransaction>) -> FetchedRecords {
    FetchedRecords {
        records,
        aborted,
        high_watermark: 100,
        before: None,
    }
}

fn run(batches: &[Bytes], aborted: &[(i64, i64)], context: FateContext) -> Prepared {
    let aborted = aborted
        .iter()
        .map(|(producer_id, first_offset)| AbortedTransaction {
            producer_id: *producer_id,
            first_offset: *first_offset,
        })
        .collect();
    let hold = Arc::new(Budget::new(1).try_reserve(1).expect("free"));
    prepare(fetched(batches.concat().into(), aborted), context, &hold)
}

fn starts(prepared: &Prepared) -> Vec<i64> {
    prepared.batches.iter().map(|batch| batch.first_offset().0).collect()
}

#[test]
fn aborted_data_and_markers_are_skipped_and_the_rest_is_not() {
    let log = [
        batch(0, &[0, 1], Some(ONE)),
        batch(2, &[0], Some(TWO)),
        marker(3, ONE, ControlType::Abort),
        batch(4, &[0], Some(ONE)), // The producer's next transaction, which commits.
        marker(5, TWO, ControlType::Commit),
        batch(6, &[0], None),
        marker(7, ONE, ControlType::Commit),
    ];
    let prepared = run(&log, &[(ONE, 0)], context(0));
    assert_eq!(starts(&prepared), [2, 4, 6]);
    assert_eq!((prepared.next_position, prepared.skipped), (SourceOffset(8), 4));
}

/// From offset 2 on, after `before`.
fn run_after(before: &Bytes, log: &[Bytes], aborted: Vec<AbortedTransaction>) -> Prepared {
    let mut fetched = fetched(log.concat().into(), aborted);
    fetched.before = before_next(&BatchHeader::parse(before).expect("a batch")).mark;
    let hold = Arc::new(Budget::new(1).try_reserve(1).expect("free"));
    prepare(fetched, context(2), &hold)
}

#[test]
fn the_batch_before_counts_for_transactions_only() {
    let before = marker(1, ONE, ControlType::Abort);
    let aborted = AbortedTransaction {
        producer_id: ONE,
        first_offset: 0,
    };
    let log = [
        before.clone(),
        batch(2, &[0], Some(ONE)),
        marker(3, ONE, ControlType::Commit),
    ];
    let prepared = run_after(&before, &log, vec![aborted]);
    assert_eq!(starts(&prepared), [2], "of the producer's next transaction");
    assert_eq!((prepared.is_verified, prepared.skipped), (true, 1));
}

#[test]
fn another_batch_in_the_place_of_the_one_before_is_noticed() {
    let before = batch(0, &[0, 1], None);
    let other = batch(0, &[0, 1], Some(ONE));
    let prepared = run_after(&before, &[other, batch(2, &[0], None)], Vec::new());
    assert!(matches!(
        prepared.damage,
        Some(PrepareError::Altered { base_offset: 0 })
    ));
    assert!(prepared.batches.is_empty() && !prepared.is_verified);
    let prepared = run_after(&before, &[batch(2, &[0], None)], Vec::new());
    assert!(matches!(prepared.damage, Some(PrepareError::Altered { .. })));
}

#[test]
fn an_unsorted_list_of_aborted_transactions_leaks_nothing() {
    let log = [
        batch(0, &[0], Some(ONE)),
        marker(1, ONE, ControlType::Abort),
        batch(2, &[0], Some(ONE)),
        marker(3, ONE, ControlType::Abort),
        batch(4, &[0], Some(TWO)),
        marker(5, TWO, ControlType::Abort),
    ];
    let prepared = run(&log, &[(TWO, 4), (ONE, 2), (ONE, 0)], context(0));
    assert!(prepared.batches.is_empty());
    assert_eq!(prepared.next_position, SourceOffset(6));
}

#[test]
fn a_batch_that_is_as_it_should_be_keeps_its_payload_where_it_is() {
    let log = batch(5, &[0, 1, 2], None);
    let hold = Arc::new(Budget::new(1).try_reserve(1).expect("free"));
    let prepared = prepare(fetched(log.clone(), Vec::new()), context(5), &hold);
    let only = &prepared.batches[0];
    assert_eq!(only.payload.as_ptr(), log[61..].as_ptr());
    assert_eq!((only.copied, only.next_position), (Copied::Patched, SourceOffset(8)));
}

#[test]
fn a_compacted_batch_is_written_anew_with_its_source_offsets() {
    let prepared = run(&[batch(10, &[1, 2, 5], None)], &[], context(10));
    let only = &prepared.batches[0];
    assert_eq!((only.copied, only.record_count()), (Copied::Reencoded, 3));
    assert_eq!(
        only.source_offsets,
        SourceOffsets::Ranges(vec![
            OffsetRange { start: 11, count: 2 },
            OffsetRange { start: 15, count: 1 }
        ])
    );
    assert!(!only.header.has_offset_gaps());
}

#[test]
fn what_lies_before_the_start_is_left_out() {
    let prepared = run(&[batch(2, &[0, 1, 2], None)], &[], context(4));
    assert_eq!(starts(&prepared), [4]);
    assert_eq!(prepared.batches[0].record_count(), 1);
}

#[test]
fn a_batch_out_of_its_place_is_damage() {
    let misplaced = [
        ("before the start", vec![batch(0, &[0, 1], None)], context(4)),
        (
            "before its neighbour's end",
            vec![batch(4, &[0, 1], None), batch(3, &[0], None)],
            context(4),
        ),
        (
            "past the high watermark",
            vec![batch(4, &[0], None), batch(99, &[0, 1], None)],
            context(4),
        ),
    ];
    for (place, log, context) in misplaced {
        let prepared = run(&log, &[], context);
        assert!(
            matches!(prepared.damage, Some(PrepareError::Misplaced { .. })),
            "{place}"
        );
        assert!(prepared.next_position.0 <= 6, "{place}");
    }
}

#[test]
fn a_batch_that_is_too_large_is_split_and_each_piece_moves_the_position() {
    let mut builder = BatchBuilder::new(BatchOptions {
        codec: Codec::None,
        ..BatchOptions::default()
    });
    for _ in 0..10 {
        builder.push(0, None, Some(&[b'x'; 1000]), &[]);
    }
    let log = builder.build().expect("small");
    let small = FateContext {
        max_batch_bytes: 4000,
        ..context(0)
    };
    let prepared = run(&[log], &[], small);
    assert!(prepared.batches.len() > 2);
    assert!(prepared.batches.iter().all(|batch| batch.header.size() <= 4000));
    let mut expected = 0;
    for batch in &prepared.batches {
        assert_eq!(batch.first_offset(), SourceOffset(expected));
        expected += batch.record_count();
        assert_eq!(batch.next_position, SourceOffset(expected));
    }
    assert_eq!(expected, 10);
}

#[test]
fn append_time_is_written_down_only_where_the_target_keeps_times() {
    let mut builder = BatchBuilder::new(BatchOptions {
        timestamp_type: TimestampType::LogAppendTime,
        ..BatchOptions::default()
    });
    builder.push(5, None, Some(b"v"), &[]);
    let log = builder.build().expect("small");
    let kept = run(std::slice::from_ref(&log), &[], context(0));
    assert_eq!(kept.batches[0].copied, Copied::Reencoded);
    let stamped_anew = run(
        &[log],
        &[],
        FateContext {
            keep_append_time: false,
            ..context(0)
        },
    );
    assert_eq!(stamped_anew.batches[0].copied, Copied::Patched);
}

#[test]
fn damage_ends_the_walk_and_keeps_what_came_before() {
    let mut damaged = batch(2, &[0], None).to_vec();
    *damaged.last_mut().expect("not empty") ^= 1;
    let prepared = run(
        &[batch(0, &[0, 1], None), damaged.into(), batch(3, &[0], None)],
        &[],
        context(0),
    );
    assert_eq!(starts(&prepared), [0]);
    assert_eq!(prepared.next_position, SourceOffset(2));
    assert!(matches!(prepared.damage, Some(PrepareError::Crc(_))));
}

#[test]
fn nothing_moves_nothing() {
    let prepared = run(&[], &[], context(42));
    assert_eq!(
        (prepared.next_position, prepared.last_leader_epoch()),
        (SourceOffset(42), None)
    );
}
