//! What a flow does, event by event.

use std::sync::Arc;

use uuid::Uuid;

use super::*;
use crate::offsets::TargetOffset;
use crate::record::{BatchBuilder, BatchOptions};
use crate::replication::budget::Reservation;
use crate::replication::coalesce::Coalescing;
use crate::replication::forgetting::WallClock;
use crate::replication::partition::tests::{as_known, remembered};
use crate::replication::partition::{PartitionStart, SourceLog};
use crate::replication::prepare::{FetchedRecords, prepare};

#[expect(
    clippy::disallowed_methods,
    reason = "an Instant has no other beginning; nothing depends on it"
)]
pub(super) fn start_of_time() -> Instant {
    Instant::now()
}

/// Of a broker near by, with a little memory.
pub(super) fn limits(lanes: i32) -> FlowLimits {
    FlowLimits::new(&Conditions {
        memory: 64 << 20,
        source_brokers: 1,
        partitions: 1,
        lanes,
        source_round_trip: Duration::ZERO,
        target_round_trip: Duration::ZERO,
        coalescing: Coalescing::Auto,
    })
}

/// One partition between two brokers; nothing else is ever due.
fn flow(limits: FlowLimits) -> FlowReplicator {
    flow_of(limits, None)
}

fn flow_of(limits: FlowLimits, stopped: Option<Stopped>) -> FlowReplicator {
    let now = start_of_time();
    owned(Tenure::new(now, now, true), WallClock::new(now, 0), limits, stopped)
}

fn owned(tenure: Tenure, clock: WallClock, limits: FlowLimits, stopped: Option<Stopped>) -> FlowReplicator {
    let partition = FlowPartition {
        start: PartitionStart {
            is_quiet: tenure.undisputed_at == tenure.confirmed_at,
            clock,
            ..remembered(1000)
        },
        stopped,
        max_batch_bytes: 1 << 20,
        keep_append_time: true,
    };
    FlowReplicator::new(tenure, limits, Budget::new(64 << 20), None, vec![partition])
}

/// Carries out what is asked for, but for fetches and produces: these are returned.
fn next_job(flow: &mut FlowReplicator, now: Instant) -> Option<Action> {
    loop {
        match flow.poll_action(now)? {
            Action::RefreshMetadata(end) => {
                let leaders = vec![known_leader()];
                flow.handle(now, Event::Leaders { end, leaders });
            }
            Action::Checkpoint(_) => flow.handle(
                now,
                Event::Checkpointed {
                    failed: CheckpointJob { lanes: BTreeMap::new() },
                    cause: None,
                },
            ),
            Action::Recover(job) => {
                for (index, known) in job.partitions {
                    let outcome = Ok(as_known(&known));
                    flow.handle(now, Event::Recovered { index, outcome });
                }
                flow.handle(now, Event::RecoveryEnded { lane: job.lane });
            }
            Action::ConfirmOwnership => flow.handle(now, Event::Ownership { confirmed: true }),
            job => return Some(job),
        }
    }
}

fn next_fetch(flow: &mut FlowReplicator, now: Instant) -> FetchJob {
    match next_job(flow, now) {
        Some(Action::Fetch(job)) => job,
        other => panic!("a fetch is due, not {other:?}"),
    }
}

fn next_produce(flow: &mut FlowReplicator, now: Instant) -> ProduceJob {
    match next_job(flow, now) {
        Some(Action::Produce(job)) => job,
        other => panic!("a batch is due, not {other:?}"),
    }
}

/// Leads all there is.
pub(super) fn known_leader() -> Leader {
    Leader::Known {
        broker: 1,
        epoch: 0,
        topic_id: Uuid::nil(),
    }
}

/// Answers a fetch with batches of one large record each.
fn answer_fetch(flow: &mut FlowReplicator, now: Instant, job: FetchJob, batches: i64) {
    let part = answer_part(&job.wanted[0], batches, &Arc::new(job.hold));
    flow.handle(
        now,
        Event::Fetched {
            slot: job.slot,
            partitions: vec![part],
            held_back: false,
        },
    );
}

pub(super) fn answer_part(wanted: &WantedPartition, batches: i64, hold: &Arc<Reservation>) -> FetchedPart {
    let context = wanted.context;
    let mut records = Vec::new();
    for base_offset in context.start_offset..context.start_offset + batches {
        let mut batch = BatchBuilder::new(BatchOptions {
            base_offset,
            ..BatchOptions::default()
        });
        batch.push(0, None, Some(&[0; 1000]), &[]);
        records.extend_from_slice(&batch.build().expect("a batch"));
    }
    let prepared = prepare(
        FetchedRecords {
            records: records.into(),
            aborted: Vec::new(),
            high_watermark: i64::MAX,
            before: None,
        },
        context,
        hold,
    );
    FetchedPart {
        index: wanted.index,
        asked: SourceOffset(context.start_offset),
        fetch: PartitionFetch::Records {
            prepared,
            log: SourceLog {
                last_stable_offset: SourceOffset(1000),
                high_watermark: SourceOffset(1000),
                log_start_offset: SourceOffset(0),
            },
        },
    }
}

#[test]
fn a_partition_that_was_full_is_fetched_again_as_soon_as_it_sends() {
    let now = start_of_time();
    let limits = FlowLimits {
        partition_bytes: 1000,
        ..limits(1)
    };
    let mut flow = flow(limits);
    let job = next_fetch(&mut flow, now);
    answer_fetch(&mut flow, now, job, 2);
    let first = next_produce(&mut flow, now);
    assert!(
        next_job(&mut flow, now).is_none(),
        "the partition is full, and a new producer id waits for its ack"
    );

    let base_offset = TargetOffset(0);
    let outcomes = vec![(0, first.batches[0].sequence, ProduceOutcome::Acked { base_offset })];
    flow.handle(
        now,
        Event::Produced {
            slot: first.slot,
            outcomes,
        },
    );

    assert!(
        matches!(next_job(&mut flow, now), Some(Action::Produce(_))),
        "the second batch"
    );
    assert!(
        matches!(next_job(&mut flow, now), Some(Action::Fetch(_))),
        "and room for a third"
    );
}

#[test]
fn what_is_stopped_from_the_start_keeps_its_checkpoint() {
    let now = start_of_time();
    let limits = limits(8);
    let mut flow = flow_of(limits, Some(Stopped::SourceRecreated));
    while let Some(action) = flow.poll_action(now) {
        assert!(matches!(action, Action::RefreshMetadata(_)), "{action:?}");
    }
    assert!(flow.is_finished());
    assert_eq!(flow.take_newly_stopped(), [0]);
}

#[test]
fn a_drained_flow_ends_when_all_on_its_way_has_arrived() {
    let now = start_of_time();
    let mut flow = flow(limits(8));
    let job = next_fetch(&mut flow, now);
    answer_fetch(&mut flow, now, job, 3);
    let job = next_produce(&mut flow, now);
    flow.drain();
    assert!(!flow.is_finished(), "a batch is on its way");
    let outcomes = vec![(
        0,
        job.batches[0].sequence,
        ProduceOutcome::Acked {
            base_offset: TargetOffset(0),
        },
    )];
    flow.handle(
        now,
        Event::Produced {
            slot: job.slot,
            outcomes,
        },
    );
    let later = now + Duration::from_secs(5);
    while let Some(job) = next_job(&mut flow, later) {
        assert!(
            !matches!(job, Action::Produce(_)),
            "what was not sent stays at the source"
        );
    }
    assert!(flow.is_finished());
    assert_eq!(flow.partition(0).acked_position(), SourceOffset(1));
}

#[test]
fn a_source_that_moves_is_fetched_from_its_new_leader() {
    let now = start_of_time();
    let mut flow = flow(limits(8));
    let job = next_fetch(&mut flow, now);
    let moved = vec![Leader::Known {
        broker: 2,
        epoch: 1,
        topic_id: Uuid::nil(),
    }];
    flow.handle(
        now,
        Event::Leaders {
            end: End::Source,
            leaders: moved,
        },
    );
    assert!(
        next_job(&mut flow, now).is_none(),
        "the old leader's answer is still awaited"
    );
    let cause = "gone".to_owned();
    flow.handle(now, Event::FetchFailed { slot: job.slot, cause });
    let job = next_fetch(&mut flow, now);
    assert_eq!(job.slot.broker, 2);
    assert_eq!(job.wanted[0].leader_epoch, 1);
}

#[test]
fn nothing_is_sent_by_whoever_is_not_sure_to_own_the_flow() {
    let now = start_of_time();
    let mut flow = flow(limits(8));
    let job = next_fetch(&mut flow, now);
    answer_fetch(&mut flow, now, job, 3);
    let woken = now + LEASE;
    let asks = std::iter::from_fn(|| flow.poll_action(woken)).any(|action| {
        assert!(!matches!(action, Action::Produce(_)), "the lease is over");
        matches!(action, Action::ConfirmOwnership)
    });
    assert!(asks);
    flow.handle(woken, Event::Ownership { confirmed: true });
    assert!(matches!(next_job(&mut flow, woken), Some(Action::Produce(_))));
}

/// Whose records are of 1970, so that a leader may forget them at any time.
#[test]
fn old_records_wait_until_no_earlier_owner_sends_any() {
    let now = start_of_time();
    let (tenure, clock) = (Tenure::new(now, now, false), WallClock::new(now, i64::MAX));
    let mut flow = owned(tenure, clock, limits(8), None);
    let job = next_fetch(&mut flow, now);
    answer_fetch(&mut flow, now, job, 1);
    let job = next_fetch(&mut flow, now); // And nothing is sent.

    let mut later = now;
    while later < tenure.undisputed_at {
        let waits = flow.poll_timeout(later).expect("it waits for a time");
        later = waits.min(tenure.undisputed_at);
        assert!(!matches!(next_job(&mut flow, later), Some(Action::Produce(_))));
    }
    // What was found out before that does not count: the earlier owner may have sent the batch since.
    answer_fetch(&mut flow, later, job, 1);
    let job = loop {
        later = flow.poll_timeout(later).expect("it is found out once more");
        match next_job(&mut flow, later) {
            Some(Action::Fetch(job)) => break job,
            job => assert!(job.is_none(), "{job:?}"),
        }
    };
    answer_fetch(&mut flow, later, job, 1);
    assert!(matches!(next_job(&mut flow, later), Some(Action::Produce(_))));
}

#[test]
fn new_records_wait_for_nobody() {
    let now = start_of_time();
    let (tenure, clock) = (Tenure::new(now, now, false), WallClock::new(now, 0));
    let mut flow = owned(tenure, clock, limits(8), None);
    let job = next_fetch(&mut flow, now);
    answer_fetch(&mut flow, now, job, 1);
    assert!(matches!(next_job(&mut flow, now), Some(Action::Produce(_))));
}

/// To an instance that slept the range is a gap that another one has copied and that retention has then taken.
#[test]
fn a_gap_is_believed_by_whoever_still_owns_the_flow() {
    let now = start_of_time();
    let gap = Event::SourceRange {
        partition: 0,
        log_start: SourceOffset(5),
        log_end: SourceOffset(9),
    };
    let mut flow = flow(limits(8));
    while next_job(&mut flow, now).is_some() {}
    flow.handle(now, gap);
    assert!(flow.partition(0).stopped().is_none(), "nobody has been asked");
    let asked = std::iter::from_fn(|| flow.poll_action(now)).any(|action| matches!(action, Action::ConfirmOwnership));
    assert!(asked, "at once");
    flow.handle(now, Event::Ownership { confirmed: true });
    let Some(Stopped::SourceGap { from, to }) = flow.partition(0).stopped() else {
        panic!("{:?}", flow.partition(0).stopped())
    };
    assert_eq!((*from, *to), (SourceOffset(0), SourceOffset(5)));
}

#[test]
fn whoever_is_superseded_stops_and_writes_nothing_more() {
    let now = start_of_time();
    let mut flow = flow(limits(8));
    let job = next_fetch(&mut flow, now);
    answer_fetch(&mut flow, now, job, 1);
    flow.handle(now, Event::Superseded { generation: 3 });
    assert!(std::iter::from_fn(|| flow.poll_action(now)).all(|action| !matches!(action, Action::Produce(_))));
    assert!(flow.is_finished());
    assert!(matches!(
        flow.partition(0).stopped(),
        Some(Stopped::Superseded { generation: 3 })
    ));
}

#[test]
fn a_checkpoint_that_came_too_late_is_not_tried_again() {
    let now = start_of_time();
    let mut flow = flow(limits(8));
    let job = next_fetch(&mut flow, now);
    answer_fetch(&mut flow, now, job, 1);
    let job = next_produce(&mut flow, now);
    let base_offset = TargetOffset(1000);
    let acked = vec![(0, job.batches[0].sequence, ProduceOutcome::Acked { base_offset })];
    flow.handle(
        now,
        Event::Produced {
            slot: job.slot,
            outcomes: acked,
        },
    );
    while flow.poll_action(now).is_some() {}
    let later = now + Duration::from_secs(1);
    let checkpoint = std::iter::from_fn(|| flow.poll_action(later)).find_map(|action| match action {
        Action::Checkpoint(job) => Some(job),
        _ => None,
    });

    flow.handle(later, Event::Superseded { generation: 3 });
    let failed = checkpoint.expect("what was acked is written down");
    flow.handle(later, Event::Checkpointed { failed, cause: None });

    assert!(flow.is_finished());
    assert!(
        !flow.is_quiet(),
        "nobody may believe the last checkpoint to be the last word"
    );
}

#[test]
fn a_lane_is_recovered_once_at_a_time() {
    let now = start_of_time();
    let mut flow = flow(limits(8));
    let job = std::iter::from_fn(|| flow.poll_action(now)).find_map(|action| match action {
        Action::Recover(job) => Some(job),
        Action::RefreshMetadata(_) => None,
        other => panic!("{other:?} before it is known where the target stands"),
    });
    assert!(job.is_none(), "there is no leader to ask so far");
    let leaders = vec![known_leader()];
    flow.handle(
        now,
        Event::Leaders {
            end: End::Target,
            leaders,
        },
    );
    let Some(Action::Recover(job)) = flow.poll_action(now) else {
        panic!("the target is asked")
    };
    let failed = Err(RecoveryFailure::Later("away".into()));
    flow.handle(
        now,
        Event::Recovered {
            index: 0,
            outcome: failed,
        },
    );
    let later = now + Duration::from_secs(1);
    assert!(std::iter::from_fn(|| flow.poll_action(later)).all(|action| !matches!(action, Action::Recover(_))));
    flow.handle(later, Event::RecoveryEnded { lane: job.lane });
    assert!(matches!(flow.poll_action(later), Some(Action::Recover(_))));
}

/// A ledger that takes nothing must not fill the memory with what it is to be told.
#[test]
fn nothing_more_is_sent_while_too_much_of_the_map_is_not_in_the_ledger() {
    let now = start_of_time();
    let limits = FlowLimits {
        segment_runs: 1,
        unsaved_segments: 2,
        ..limits(8)
    };
    let mut flow = flow(limits);
    let job = next_fetch(&mut flow, now);
    answer_fetch(&mut flow, now, job, 4);
    let write = |flow: &mut FlowReplicator, at: Instant| loop {
        match flow.poll_action(at) {
            Some(Action::Produce(job)) => {
                // Somebody else writes in between, so that each batch is a run of its own.
                let base_offset = TargetOffset(10 * i64::from(job.batches[0].sequence));
                let outcomes = vec![(0, job.batches[0].sequence, ProduceOutcome::Acked { base_offset })];
                let slot = job.slot;
                flow.handle(at, Event::Produced { slot, outcomes });
            }
            Some(Action::Checkpoint(job)) => break job,
            Some(_) => {}
            None => panic!("{:?} is not written down", flow.partition(0).acked_position()),
        }
    };
    let failed = write(&mut flow, now);
    assert_eq!(flow.partition(0).acked_position(), SourceOffset(3), "before its time");
    let cause = Some("away".to_owned());
    flow.handle(now, Event::Checkpointed { failed, cause });
    assert!(!std::iter::from_fn(|| flow.poll_action(now)).any(|action| matches!(action, Action::Checkpoint(_))));

    let later = now + Duration::from_secs(1);
    let again = write(&mut flow, later);
    assert_eq!(flow.partition(0).acked_position(), SourceOffset(3), "and no further");
    assert_eq!(
        again
            .lanes
            .values()
            .flatten()
            .map(|(_, it)| it.segments.len())
            .sum::<usize>(),
        3
    );
    let (failed, cause) = (CheckpointJob { lanes: BTreeMap::new() }, None);
    flow.handle(later, Event::Checkpointed { failed, cause });
    write(&mut flow, later + Duration::from_secs(1));
    assert_eq!(flow.partition(0).acked_position(), SourceOffset(4), "on again");
}
