//! Takes partitions over: asks the target's leaders where their logs stand, reads what has to be read, fences where that is
//! decided. What is decided from the answers is `replication::recovery`'s.
//!
//! One job is one lane's. It begins with the question who owns the flow: an instance that was superseded fences nobody.

mod fencing;
mod reading;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use self::fencing::Fenced;
use super::ledger::{LedgerStore, LedgerStoreError};
use super::routes::{Route, Routes};
use crate::cluster::{Cluster, ClusterError, Isolation, OffsetSpec};
use crate::offsets::{SourceOffset, TargetOffset};
use crate::protocol::error_code::ErrorCode;
use crate::replication::epochs::Before;
use crate::replication::flow::{Event, RecoverJob, RecoveryFailure};
use crate::replication::ledger::{LaneRecord, LedgerRecord, lane_transactional_id};
use crate::replication::recovery::matching::Match;
use crate::replication::recovery::{Beginning, FenceReason, Known, Recovered, Situation, Takeover, decide};
use crate::replication::stopped::{Stopped, chain};

/// What recoveries work with.
#[derive(Debug, Clone)]
pub(super) struct Recovering {
    pub(super) source: Cluster,
    pub(super) target: Cluster,
    pub(super) ledger: LedgerStore,
    pub(super) routes: Arc<Routes>,
    pub(super) producers: LaneProducers,
    pub(super) events: mpsc::Sender<Event>,
    /// What was logged already: a broker that is away is the same for all that it leads.
    pub(super) logged: Arc<Mutex<BTreeSet<String>>>,
}

/// The producer that each lane's new mappings begin with.
#[derive(Debug, Clone, Default)]
pub(super) struct LaneProducers(Arc<Mutex<BTreeMap<i32, LaneRecord>>>);

impl LaneProducers {
    pub(super) fn new(remembered: BTreeMap<i32, LaneRecord>) -> Self {
        Self(Arc::new(Mutex::new(remembered)))
    }

    fn of(&self, lane: i32) -> Option<LaneRecord> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&lane)
            .copied()
    }

    fn set(&self, lane: i32, record: LaneRecord) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(lane, record);
    }

    /// Some lane's writers cannot be fenced.
    pub(super) fn any_unfenced(&self) -> bool {
        let records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        records.values().any(|record| !record.is_transactional)
    }
}

/// A partition, what is known of it, and what was found out.
#[derive(Debug, Clone, Copy)]
struct Case {
    index: usize,
    known: Known,
    situation: Situation,
}

type Outcome = Result<Recovered, RecoveryFailure>;

fn later(error: &dyn std::error::Error) -> RecoveryFailure {
    RecoveryFailure::Later(chain(error))
}

/// What a question to a leader of the target has come to.
fn unasked(error: &ClusterError) -> RecoveryFailure {
    match error.code() {
        Some(code @ ErrorCode::TopicAuthorizationFailed) => RecoveryFailure::Stop(Stopped::TargetUnreadable { code }),
        _ => later(error),
    }
}

impl Recovering {
    pub(super) async fn run(self, job: RecoverJob) {
        let lane = job.lane;
        match self.ledger.confirm().await {
            Ok(()) => self.recover(job).await,
            Err(LedgerStoreError::Superseded { by, .. }) => {
                let generation = by.generation;
                self.send(Event::Superseded { generation }).await;
            }
            Err(error) => {
                for (index, _) in job.partitions {
                    self.report(index, Err(later(&error))).await;
                }
            }
        }
        self.send(Event::RecoveryEnded { lane }).await;
    }

    async fn send(&self, event: Event) {
        let _ = self.events.send(event).await; // No receiver: the flow has ended.
    }

    fn log(&self, index: usize, cause: &str) {
        let Route { topic, partition, .. } = self.routes.route(index);
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.insert(cause.to_owned()) {
            tracing::warn!(%topic, partition, "where the target's log stands could not be found out, trying again: {cause}");
        } else {
            tracing::debug!(%topic, partition, "nor could this one's");
        }
    }

    async fn report(&self, index: usize, outcome: Outcome) {
        if let Err(RecoveryFailure::Later(cause)) = &outcome {
            self.log(index, cause);
        }
        let event = match outcome {
            // Whoever has one lane will have them all.
            Err(RecoveryFailure::Stop(Stopped::Superseded { generation })) => Event::Superseded { generation },
            outcome => Event::Recovered { index, outcome },
        };
        self.send(event).await;
    }

    async fn recover(&self, RecoverJob { lane, partitions }: RecoverJob) {
        let (mut begun, mut fenced) = (Vec::new(), Vec::new());
        for case in self.survey(partitions).await {
            let Case {
                index,
                known,
                situation,
            } = case;
            let outcome = match decide(&known, &situation) {
                Takeover::Resume { is_known_to_leader } => Ok(Recovered::as_known(&known, is_known_to_leader)),
                Takeover::Count(written) => match self.count(&case, written).await {
                    Ok(Some(recovered)) => Ok(recovered),
                    Ok(None) => {
                        fenced.push((case, FenceReason::SourceEpoch));
                        continue;
                    }
                    Err(failure) => Err(failure),
                },
                Takeover::Begin => {
                    begun.push(case);
                    continue;
                }
                Takeover::Fence(reason) => {
                    fenced.push((case, reason));
                    continue;
                }
                Takeover::TargetTruncated => Err(RecoveryFailure::Stop(Stopped::TargetTruncated {
                    expected: known.target_next,
                    log_end: situation.high_watermark,
                })),
            };
            self.report(index, outcome).await;
        }
        if !begun.is_empty() {
            self.begin(lane, begun).await;
        }
        if !fenced.is_empty() {
            self.fence_all(lane, fenced).await;
        }
    }

    /// Asks both sides about all partitions at once. Those that can't be asked about are reported.
    async fn survey(&self, partitions: Vec<(usize, Known)>) -> Vec<Case> {
        let of_target = |index: usize| {
            let route = self.routes.route(index);
            (Arc::clone(&route.target_topic), route.partition)
        };
        let of_source = |index: usize| {
            let route = self.routes.route(index);
            (Arc::clone(&route.topic), route.partition)
        };
        let ours: Vec<_> = partitions.iter().map(|(index, _)| of_source(*index)).collect();
        let theirs: Vec<_> = partitions.iter().map(|(index, _)| of_target(*index)).collect();
        let latest = OffsetSpec::Latest(Isolation::ReadUncommitted);
        // The producers first: what they show is below the high watermark of later, or will be.
        let mut producers: HashMap<_, _> = self
            .target
            .describe_producers(theirs.clone())
            .await
            .into_iter()
            .collect();
        let mut ends: HashMap<_, _> = self.target.list_offsets(theirs, latest).await.into_iter().collect();
        let mut starts: HashMap<_, _> = self
            .source
            .list_offsets(ours, OffsetSpec::Earliest)
            .await
            .into_iter()
            .collect();
        let mut cases = Vec::new();
        for (index, known) in partitions {
            let end = ends.remove(&of_target(index)).expect("each is answered");
            let start = starts.remove(&of_source(index)).expect("each is answered");
            let active = producers.remove(&of_target(index)).expect("each is answered");
            let (end, start) = match (end, start) {
                (Ok(end), Ok(start)) => (end, start),
                (Err(error), _) | (_, Err(error)) => {
                    self.report(index, Err(later(&error))).await;
                    continue;
                }
            };
            let high_watermark = TargetOffset(end.offset);
            let producer = match active {
                Ok(active) => Ok(active
                    .iter()
                    .find(|producer| producer.producer_id == known.producer_id)
                    .map(|producer| (producer.producer_epoch, producer.last_sequence))),
                // Brokers before 2.8: the log itself has to tell.
                Err(error) if error.is_unsupported() => self.last_in_log(index, &known, high_watermark).await,
                Err(error) => Err(unasked(&error)),
            };
            match producer {
                Ok(producer) => cases.push(Case {
                    index,
                    known,
                    situation: Situation {
                        producer,
                        high_watermark,
                        source_log_start: SourceOffset(start.offset),
                    },
                }),
                Err(failure) => self.report(index, Err(failure)).await,
            }
        }
        cases
    }

    /// New mappings, at the partitions' positions, under the lane's producer.
    async fn begin(&self, lane: i32, cases: Vec<Case>) {
        let producer = match self.lane_producer(lane).await {
            Ok(producer) => producer,
            Err(failure) => return self.report_all(cases.iter(), &failure).await,
        };
        for Case { index, known, .. } in cases {
            let recovered = Recovered {
                producer_id: producer.producer_id,
                producer_epoch: producer.producer_epoch,
                next_sequence: 0,
                is_new_mapping: true,
                ..Recovered::as_known(&known, false)
            };
            self.report(index, Ok(recovered)).await;
        }
    }

    async fn lane_producer(&self, lane: i32) -> Result<LaneRecord, RecoveryFailure> {
        if let Some(record) = self.producers.of(lane) {
            return Ok(record);
        }
        let fenced = self.fence(lane, Vec::new()).await?;
        self.keep_producer(lane, &fenced).await
    }

    /// Puts the lane's producer down before it is used.
    async fn keep_producer(&self, lane: i32, fenced: &Fenced) -> Result<LaneRecord, RecoveryFailure> {
        let record = LaneRecord {
            producer_id: fenced.producer.0,
            producer_epoch: fenced.producer.1,
            is_transactional: fenced.is_transactional,
        };
        let written = self
            .ledger
            .write(BTreeMap::from([(lane, vec![LedgerRecord::Lane(record)])]))
            .await;
        match written.into_values().next() {
            Some(Err(LedgerStoreError::Superseded { by, .. })) => {
                let generation = by.generation;
                return Err(RecoveryFailure::Stop(Stopped::Superseded { generation }));
            }
            Some(Err(error)) => return Err(later(&error)),
            Some(Ok(())) | None => {}
        }
        self.producers.set(lane, record);
        Ok(record)
    }

    async fn fence_all(&self, lane: i32, cases: Vec<(Case, FenceReason)>) {
        for (case, reason) in &cases {
            let route = self.routes.route(case.index);
            tracing::info!(topic = %route.topic, partition = route.partition, ?reason, "fencing older writers");
        }
        let indices = cases.iter().map(|(case, _)| case.index).collect();
        let fenced = match self.fence_and_keep(lane, indices).await {
            Ok(fenced) => fenced,
            Err(failure) => return self.report_all(cases.iter().map(|(case, _)| case), &failure).await,
        };
        self.wait_for_old_producers(&cases, &fenced).await;
        for (case, _) in cases {
            let outcome = match fenced.partitions.contains(&case.index) {
                true => self.find_again(&case, &fenced).await,
                false => Err(RecoveryFailure::Later("the partition could not be fenced".to_owned())),
            };
            self.report(case.index, outcome).await;
        }
    }

    async fn fence_and_keep(&self, lane: i32, indices: Vec<usize>) -> Result<Fenced, RecoveryFailure> {
        let fenced = self.fence(lane, indices).await?;
        self.keep_producer(lane, &fenced).await?;
        Ok(fenced)
    }

    /// One failure for all.
    async fn report_all(&self, cases: impl Iterator<Item = &Case>, failure: &RecoveryFailure) {
        for case in cases {
            self.report(case.index, Err(failure.clone())).await;
        }
    }

    /// Behind a fence: the target's own records are found again at the source.
    async fn find_again(&self, case: &Case, fenced: &Fenced) -> Outcome {
        let Case { index, known, .. } = case;
        let target_next = self.target_end(*index).await?;
        let recovered = Recovered {
            target_next,
            producer_id: fenced.producer.0,
            producer_epoch: fenced.producer.1,
            next_sequence: 0,
            is_new_mapping: true,
            is_alone: true, // As far as it can be had.
            ..Recovered::as_known(known, fenced.is_transactional)
        };
        match known.beginning {
            Beginning::Remembered => {}
            Beginning::New => return Ok(recovered),
            Beginning::Restart => {
                let orphans = self.own_records(case, target_next).await?;
                return Ok(Recovered { orphans, ..recovered });
            }
        }
        let tail = self.match_tail(case, target_next, fenced.producer.0).await?;
        let (position, before, perhaps_repeated, orphans) = match tail.found {
            Match::Found { position, before } => (position, before, None, 0),
            Match::Lost { from, records, .. } if tail.is_cut_back => (from, Before::UNKNOWN, None, records),
            Match::Lost { from, to, .. } => (from, Before::UNKNOWN, Some((from, to)), 0),
        };
        Ok(Recovered {
            position,
            before,
            runs: tail.runs,
            perhaps_repeated,
            orphans,
            epochs: tail.epochs,
            ..recovered
        })
    }

    async fn target_end(&self, index: usize) -> Result<TargetOffset, RecoveryFailure> {
        self.target_offset(index, OffsetSpec::Latest(Isolation::ReadUncommitted))
            .await
    }

    async fn target_start(&self, index: usize) -> Result<TargetOffset, RecoveryFailure> {
        self.target_offset(index, OffsetSpec::Earliest).await
    }

    async fn target_offset(&self, index: usize, spec: OffsetSpec) -> Result<TargetOffset, RecoveryFailure> {
        let route = self.routes.route(index);
        let partition = vec![(Arc::clone(&route.target_topic), route.partition)];
        match self.target.list_offsets(partition, spec).await.into_iter().next() {
            Some((_, Ok(listed))) => Ok(TargetOffset(listed.offset)),
            Some((_, Err(error))) => Err(later(&error)),
            None => Err(RecoveryFailure::Later("the question was not answered".to_owned())),
        }
    }

    fn transactional_id(&self, lane: i32) -> String {
        lane_transactional_id(self.ledger.topic(), lane)
    }
}
