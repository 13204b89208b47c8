//! What a flow does for one partition costs the same, however many others there are. Counted are looks at partitions, and
//! what jobs name; not time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::tests::{answer_part, known_leader, limits, start_of_time};
use super::*;
use crate::offsets::TargetOffset;
use crate::replication::forgetting::WallClock;
use crate::replication::partition::tests::{as_known, remembered};
use crate::replication::partition::{OutgoingBatch, PartitionStart};

/// Partitions of one topic between two brokers.
struct Bench {
    flow: FlowReplicator,
    now: Instant,
    count: usize,
    /// Fetches under way, and what the shell would ask for in the next ones.
    fetches: Vec<FetchJob>,
    asked: BTreeMap<usize, WantedPartition>,
}

impl Bench {
    /// They end behind their first record, or never.
    fn new(count: usize, end: Option<i64>, was_given_up: bool) -> Self {
        let now = start_of_time();
        let tenure = Tenure::new(now, now, was_given_up);
        let partition = |index: usize| FlowPartition {
            start: PartitionStart {
                partition: index as i32,
                end: end.map(SourceOffset),
                is_quiet: was_given_up,
                clock: WallClock::new(now, 0),
                ..remembered(0)
            },
            stopped: None,
            max_batch_bytes: 1 << 20,
            keep_append_time: true,
        };
        let partitions = (0..count).map(partition).collect();
        Self {
            flow: FlowReplicator::new(tenure, limits(8), Budget::new(64 << 20), None, partitions),
            now,
            count,
            fetches: Vec::new(),
            asked: BTreeMap::new(),
        }
    }

    /// Carries out all that is asked for but fetches, which are kept. Everything that is sent is acked.
    fn settle(&mut self) {
        while let Some(action) = self.flow.poll_action(self.now) {
            let event = match action {
                Action::RefreshMetadata(end) => Event::Leaders {
                    end,
                    leaders: vec![known_leader(); self.count],
                },
                Action::Recover(job) => {
                    for (index, known) in job.partitions {
                        let outcome = Ok(as_known(&known));
                        self.flow.handle(self.now, Event::Recovered { index, outcome });
                    }
                    Event::RecoveryEnded { lane: job.lane }
                }
                Action::Checkpoint(_) => Event::Checkpointed {
                    failed: CheckpointJob { lanes: BTreeMap::new() },
                    cause: None,
                },
                Action::ConfirmOwnership => Event::Ownership { confirmed: true },
                Action::Produce(job) => {
                    let acked = |batch: &OutgoingBatch| {
                        let base_offset = TargetOffset(i64::from(batch.sequence));
                        (batch.partition, batch.sequence, ProduceOutcome::Acked { base_offset })
                    };
                    Event::Produced {
                        slot: job.slot,
                        outcomes: job.batches.iter().map(acked).collect(),
                    }
                }
                Action::Fetch(job) => {
                    self.asked.retain(|index, _| !job.unwanted.contains(index));
                    self.asked
                        .extend(job.wanted.iter().map(|wanted| (wanted.index, *wanted)));
                    self.fetches.push(job);
                    continue;
                }
                Action::AskSourceRange(index) => panic!("partition {index} has lost something"),
            };
            self.flow.handle(self.now, event);
        }
    }

    /// The source has one more record in each of these partitions, or nothing came for so long that it says so.
    fn arrive(&mut self, partitions: &[usize]) {
        let connections = usize::from(self.flow.limits.source_connections);
        for job in std::mem::take(&mut self.fetches) {
            let is_of_slot = |index: &&usize| (**index % connections) as u16 == job.slot.connection;
            let ours: Vec<usize> = partitions.iter().filter(is_of_slot).copied().collect();
            if ours.is_empty() && !partitions.is_empty() {
                self.fetches.push(job);
                continue;
            }
            let hold = Arc::new(job.hold);
            let parts = ours.iter().map(|index| answer_part(&self.asked[index], 1, &hold));
            let event = Event::Fetched {
                slot: job.slot,
                partitions: parts.collect(),
                held_back: false,
            };
            self.flow.handle(self.now, event);
        }
        self.settle();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.settle();
    }
}

#[test]
fn a_record_costs_the_same_among_few_and_among_many_partitions() {
    let cost = |count| {
        let mut bench = Bench::new(count, None, true);
        bench.settle();
        bench.arrive(&[0]); // All are validated by their first answer.
        bench.pass(Duration::from_secs(2));
        bench.flow.members.take_looks();
        bench.arrive(&[0]);
        bench.pass(Duration::from_secs(2));
        let next = bench.fetches.last().expect("what comes next is asked for");
        let named = next.wanted.len() + next.unwanted.len();
        (bench.flow.members.take_looks(), named)
    };
    let few = cost(20);
    assert!(few.1 > 0 && few.0 < 200, "{few:?}");
    assert_eq!(few, cost(5_000));
}

#[test]
fn an_answer_without_records_costs_one_look_at_each_at_most() {
    let count = 5_000;
    let mut bench = Bench::new(count, None, true);
    bench.settle();
    bench.arrive(&[]);
    bench.flow.members.take_looks();
    bench.arrive(&[]);
    let looks = bench.flow.members.take_looks();
    assert!(looks <= count, "{looks}");
    assert!(
        bench.fetches.iter().all(|job| job.wanted.is_empty()),
        "nothing has changed"
    );
}

/// From the first metadata to the last checkpoint, also where an earlier owner may still be at work.
#[test]
fn a_whole_copy_costs_the_same_for_each_of_few_and_of_many_partitions() {
    let cost = |count: usize, was_given_up| {
        let mut bench = Bench::new(count, Some(1), was_given_up);
        bench.settle();
        let all: Vec<usize> = (0..count).collect();
        for part in all.chunks(5) {
            bench.arrive(part);
        }
        while !bench.flow.is_finished() {
            bench.pass(Duration::from_millis(500));
            bench.arrive(&[]);
        }
        let position = |index| bench.flow.partition(index).acked_position();
        assert!((0..count).all(|index| position(index) == SourceOffset(1)));
        bench.flow.members.take_looks() / count
    };
    for was_given_up in [true, false] {
        let (few, many) = (cost(50, was_given_up), cost(5_000, was_given_up));
        assert!(many <= few + few / 4 && few < 250, "{few} {many}");
    }
}

#[test]
fn a_stop_costs_the_same_for_each_of_few_and_of_many_partitions() {
    let cost = |count: usize| {
        let mut bench = Bench::new(count, None, true);
        bench.settle();
        let all: Vec<usize> = (0..count).collect();
        bench.arrive(&all);
        bench.flow.members.take_looks();
        bench.flow.drain();
        bench.pass(Duration::from_secs(2));
        assert!(bench.flow.is_finished());
        bench.flow.members.take_looks() / count
    };
    let (few, many) = (cost(50), cost(5_000));
    assert!(many <= few + few / 4, "{few} {many}");
}
