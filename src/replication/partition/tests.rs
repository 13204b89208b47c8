//! What a partition does, event by event.

use super::producing::sequence_after;
use std::time::Duration;

use super::*;
use crate::offsets::Run;
use crate::record::{BatchBuilder, BatchHeader, BatchOptions, ReencodeError};
use crate::replication::budget::Budget;
use crate::replication::fate::FateContext;
use crate::replication::prepare::{FetchedRecords, PrepareError, Prepared, prepare};
use crate::replication::recovery::{Known, Recovered};

#[expect(
    clippy::disallowed_methods,
    reason = "an Instant has no other beginning; nothing depends on it"
)]
fn start_of_time() -> Instant {
    Instant::now()
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
    }
}

/// The target has what the ledger says, and no more.
pub(in crate::replication) fn as_known(known: &Known) -> Recovered {
    Recovered {
        position: known.position,
        leader_epoch: known.leader_epoch,
        target_next: known.target_next,
        producer_id: known.producer_id,
        producer_epoch: known.producer_epoch,
        next_sequence: known.next_sequence,
        runs: Vec::new(),
        is_new_mapping: false,
        is_known_to_leader: false,
        perhaps_repeated: None,
    }
}

/// A partition whose leader has not acked anything so far.
fn partition(end: i64) -> PartitionReplicator {
    started(remembered(end))
}

fn started(start: PartitionStart) -> PartitionReplicator {
    let now = start_of_time();
    let mut partition = PartitionReplicator::new(start, None);
    let known = partition.poll_recovery(now).expect("the target is asked first");
    partition.handle_recovered(now, as_known(&known));
    partition
}

fn log(last_stable_offset: i64) -> SourceLog {
    SourceLog {
        last_stable_offset: SourceOffset(last_stable_offset),
        log_start_offset: SourceOffset(0),
    }
}

fn lost() -> ProduceOutcome {
    ProduceOutcome::Unknown { cause: "lost".into() }
}

fn run(source: i64, target: i64, count: i64) -> Run {
    Run {
        source_start: SourceOffset(source),
        target_start: TargetOffset(target),
        count,
    }
}

/// `count` batches of two records each, from `base_offset` on.
fn fetched(base_offset: i64, count: i64) -> Prepared {
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
        },
        context,
        &hold,
    )
}

fn feed(partition: &mut PartitionReplicator, now: Instant, batches: i64) {
    let at = partition.fetch_position().0;
    partition.handle_fetched(now, fetched(at, batches), log(1000));
}

fn send_all(partition: &mut PartitionReplicator, now: Instant) -> Vec<OutgoingBatch> {
    std::iter::from_fn(|| partition.poll_batch(now, 0)).collect()
}

fn acked(base_offset: i64) -> ProduceOutcome {
    ProduceOutcome::Acked {
        base_offset: TargetOffset(base_offset),
    }
}

fn refused(code: ErrorCode) -> ProduceOutcome {
    ProduceOutcome::Refused { code, message: None }
}

fn sequences(batches: &[OutgoingBatch]) -> Vec<i32> {
    batches.iter().map(|batch| batch.sequence).collect()
}

/// A partition whose producer id the leader knows, with `batches` sent and unacked.
fn streaming(now: Instant, batches: i64) -> (PartitionReplicator, Vec<OutgoingBatch>) {
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
fn a_lost_answer_is_asked_about_and_never_guessed() {
    let now = start_of_time();
    let (mut partition, _) = streaming(now, 3);
    partition.handle_outcome(now, 2, lost());
    assert!(partition.poll_recovery(now).is_none() && send_all(&mut partition, now).is_empty());
    partition.handle_outcome(now, 4, acked(4));
    partition.handle_outcome(now, 6, refused(ErrorCode::NotLeaderOrFollower));

    let later = partition.produce_retry_at().expect("backing off");
    assert!(partition.poll_recovery(now).is_none());
    assert!(
        !partition.wants_fetch(later, usize::MAX),
        "it is not known from where on"
    );
    let known = partition.poll_recovery(later).expect("all have their outcomes");
    assert!(partition.poll_recovery(later).is_none(), "asked once");
    assert_eq!(
        (known.position, known.target_next, known.next_sequence),
        (SourceOffset(2), TargetOffset(2), 2),
        "what is acked in order; the rest may be there or not"
    );

    let found = Recovered {
        position: SourceOffset(6),
        target_next: TargetOffset(6),
        next_sequence: 6,
        runs: vec![run(2, 2, 4)],
        is_known_to_leader: true,
        ..as_known(&known)
    };
    partition.handle_recovered(later, found);
    assert_eq!(partition.fetch_position(), SourceOffset(6));
    let written = partition.poll_checkpoint().expect("the position has moved");
    assert_eq!(written.segments[0].runs(), [run(0, 0, 6)]);
    feed(&mut partition, later, 2);
    assert_eq!(sequences(&send_all(&mut partition, later)), [6, 8]);
}

#[test]
fn an_answer_to_an_old_fetch_is_not_taken_for_a_new_one() {
    let now = start_of_time();
    let (mut partition, _) = streaming(now, 1);
    let asked = partition.fetch_position();
    partition.handle_outcome(now, 2, lost());
    assert!(!partition.is_current(asked));
    let later = partition.produce_retry_at().expect("backing off");
    let known = partition.poll_recovery(later).expect("due");
    partition.handle_recovered(later, as_known(&known));
    assert!(!partition.is_current(asked) && partition.is_current(SourceOffset(2)));
}

#[test]
fn a_new_mapping_is_in_the_ledger_before_the_first_batch() {
    let now = start_of_time();
    let start = PartitionStart {
        beginning: Beginning::New,
        ..remembered(1000)
    };
    let mut partition = PartitionReplicator::new(start, None);
    let known = partition.poll_recovery(now).expect("the target is asked first");
    assert_eq!(partition.poll_checkpoint(), None, "the mapping is not known so far");
    let recovered = Recovered {
        producer_id: 9,
        producer_epoch: 4,
        is_new_mapping: true,
        ..as_known(&known)
    };
    partition.handle_recovered(now, recovered);
    feed(&mut partition, now, 1);
    assert!(send_all(&mut partition, now).is_empty() && partition.awaits_ledger());

    let written = partition.poll_checkpoint().expect("the mapping");
    assert_eq!(
        (
            written.checkpoint.producer_id,
            written.checkpoint.producer_epoch,
            written.checkpoint.next_sequence
        ),
        (9, 4, 0)
    );
    partition.handle_checkpoint_failed(written);
    assert!(send_all(&mut partition, now).is_empty());
    partition.handle_checkpointed();
    assert!(send_all(&mut partition, now).is_empty(), "that was not the mapping's");
    partition.poll_checkpoint().expect("again");
    partition.handle_checkpointed();
    assert_eq!(sequences(&send_all(&mut partition, now)), [0]);
}

#[test]
fn a_partition_without_records_is_done_once_the_ledger_knows_it() {
    let now = start_of_time();
    let start = PartitionStart {
        beginning: Beginning::New,
        ..remembered(0)
    };
    let mut partition = PartitionReplicator::new(start, None);
    assert!(!partition.is_done());
    let known = partition.poll_recovery(now).expect("the target is asked first");
    partition.handle_recovered(
        now,
        Recovered {
            is_new_mapping: true,
            ..as_known(&known)
        },
    );
    partition.poll_checkpoint().expect("the mapping");
    partition.handle_checkpointed();
    assert!(partition.is_done());
    assert!(PartitionReplicator::new(remembered(0), None).is_done());
}

#[test]
fn a_refused_mapping_ends() {
    for code in [
        ErrorCode::InvalidProducerEpoch,
        ErrorCode::ProducerFenced,
        ErrorCode::UnknownProducerId,
    ] {
        let now = start_of_time();
        let (mut partition, _) = streaming(now, 1);
        partition.handle_outcome(now, 2, refused(code));
        let later = partition.produce_retry_at().expect("backing off");
        assert!(partition.poll_recovery(later).expect("due").is_refused, "{code:?}");
    }
}

#[test]
fn what_cannot_be_found_again_is_told_or_stops() {
    let now = start_of_time();
    let lost_range = Some((SourceOffset(2), SourceOffset(9)));
    let recover = |start| {
        let mut partition = PartitionReplicator::new(start, None);
        let known = partition.poll_recovery(now).expect("due");
        partition.handle_recovered(
            now,
            Recovered {
                perhaps_repeated: lost_range,
                ..as_known(&known)
            },
        );
        partition
    };
    let mut partition = recover(remembered(1000));
    assert_eq!(
        partition.take_incidents(),
        [Incident::PerhapsRepeated(SourceOffset(2), SourceOffset(9))]
    );
    assert!(partition.stopped().is_none());
    let policies = Policies {
        exactly_once: true,
        ..Policies::default()
    };
    let partition = recover(PartitionStart {
        policies,
        ..remembered(1000)
    });
    assert!(matches!(partition.stopped(), Some(Stopped::Unmatched { .. })));
}

#[test]
fn what_may_come_late_is_not_given_up() {
    let now = start_of_time();
    let (mut partition, _) = streaming(now, 1);
    assert!(!partition.is_quiet(), "a batch is on its way");
    partition.handle_outcome(now, 2, lost());
    assert!(!partition.is_quiet(), "it still may be");
    let later = partition.produce_retry_at().expect("backing off");
    let known = partition.poll_recovery(later).expect("due");
    partition.handle_recovered(later, as_known(&known));
    assert!(partition.is_quiet());
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
fn out_of_order_without_a_reason_is_asked_about() {
    let now = start_of_time();
    let (mut partition, _) = streaming(now, 1);
    partition.handle_outcome(now, 2, refused(ErrorCode::OutOfOrderSequenceNumber));
    let later = partition.produce_retry_at().expect("backing off");
    let known = partition.poll_recovery(later).expect("due");
    assert_eq!((known.position, known.is_refused), (SourceOffset(2), false));
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
fn by_policy_a_gap_is_told_and_passed() {
    let now = start_of_time();
    let policies = Policies {
        gap: OnChange::Continue,
        ..Policies::default()
    };
    let mut partition = started(PartitionStart {
        policies,
        ..remembered(1000)
    });
    partition.handle_source_range(now, SourceOffset(17), SourceOffset(50));
    assert_eq!(
        partition.take_incidents(),
        [Incident::Gap(SourceOffset(0), SourceOffset(17))]
    );
    assert_eq!(
        (partition.fetch_position(), partition.acked_position()),
        (SourceOffset(17), SourceOffset(17))
    );
}

#[test]
fn by_policy_a_truncated_source_is_gone_on_with_under_a_new_mapping() {
    let now = start_of_time();
    let policies = Policies {
        truncation: OnChange::Continue,
        ..Policies::default()
    };
    let mut partition = started(PartitionStart {
        policies,
        ..remembered(1000)
    });
    feed(&mut partition, now, 3);
    assert_eq!(sequences(&send_all(&mut partition, now)), [0]);
    assert!(partition.handle_diverged(3, SourceOffset(1)));
    partition.handle_source_range(now, SourceOffset(0), SourceOffset(5));
    assert!(
        send_all(&mut partition, now).is_empty() && !partition.wants_fetch(now, usize::MAX),
        "what is on its way comes to its end first"
    );
    partition.handle_outcome(now, 0, acked(0));
    let later = partition.produce_retry_at().expect("backing off");
    let known = partition.poll_recovery(later).expect("due");
    assert_eq!((known.beginning, known.position), (Beginning::Restart, SourceOffset(1)));
    partition.handle_recovered(
        later,
        Recovered {
            target_next: TargetOffset(3),
            producer_epoch: 1,
            next_sequence: 0,
            is_new_mapping: true,
            ..as_known(&known)
        },
    );
    assert_eq!(
        partition.take_incidents(),
        [Incident::Truncated(SourceOffset(1), SourceOffset(6))]
    );
    let written = partition.poll_checkpoint().expect("the mapping");
    let cut = OffsetPair {
        source: SourceOffset(1),
        target: TargetOffset(3),
    };
    assert_eq!(written.checkpoint.cuts, [cut]);
    assert_eq!(written.checkpoint.source_position, SourceOffset(1));
    assert_eq!(
        written.segments.len(),
        1,
        "the map of before, to which nothing is added"
    );
    partition.handle_checkpointed();
    feed(&mut partition, later, 1);
    assert_eq!(sequences(&send_all(&mut partition, later)), [0]);
    partition.handle_outcome(later, 0, acked(3));
    let written = partition.poll_checkpoint().expect("new");
    assert_eq!(written.segments[0].runs(), [run(1, 3, 2)]);
}

#[test]
fn what_the_source_no_longer_has_needs_no_translation() {
    let now = start_of_time();
    let name = |start, end| SegmentName {
        start: SourceOffset(start),
        owner: OwnerId {
            generation: 1,
            instance: 9,
        },
        end: SourceOffset(end),
    };
    let mut partition = started(PartitionStart {
        position: SourceOffset(100),
        segments: vec![name(0, 40), name(40, 80)],
        ..remembered(1000)
    });
    let log = SourceLog {
        last_stable_offset: SourceOffset(1000),
        log_start_offset: SourceOffset(50),
    };
    partition.handle_fetched(now, fetched(100, 1), log);
    send_all(&mut partition, now);
    partition.handle_outcome(now, 0, acked(0));
    let written = partition.poll_checkpoint().expect("new");
    assert_eq!(written.gone, [name(0, 40).key("t", 0)]);
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
