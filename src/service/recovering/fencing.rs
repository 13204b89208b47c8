//! Carries out a fence, and makes sure that it stands: a partition counts as fenced when its own leader shows the epoch.

use std::sync::Arc;
use std::time::Duration;

use super::{Case, Recovering, later};
use crate::cluster::{ClusterError, CoordinatorKind};
use crate::replication::fence::{Fence, FenceEnd, FenceStep, FenceTrouble};
use crate::replication::flow::{LEASE, RecoveryFailure};
use crate::replication::recovery::FenceReason;

/// How long a coordinator waits before it ends a fence's transaction itself.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);

/// How often a leader is asked whether it shows the epoch: the coordinator says that markers are written before each of
/// them is.
const VERIFICATIONS: u32 = 20;
const VERIFICATION_WAIT: Duration = Duration::from_millis(100);

/// What a fence has come to.
#[derive(Debug)]
pub(super) struct Fenced {
    pub(super) producer: (i64, i16),
    /// Behind it, nobody else can write under the lane's older epochs. Otherwise the producer id is merely a new one.
    pub(super) is_transactional: bool,
    pub(super) partitions: Vec<usize>,
}

impl Recovering {
    /// Raises the lane's epoch, on these partitions where they have a leader. Where the transactional id may not be used,
    /// takes a new producer id.
    pub(super) async fn fence(&self, lane: i32, partitions: Vec<usize>) -> Result<Fenced, RecoveryFailure> {
        let mut fence = Fence::new(
            partitions
                .iter()
                .copied()
                .filter(|index| self.has_target_leader(*index)),
        );
        match self.carry_out(&mut fence, &self.transactional_id(lane)).await {
            FenceEnd::Fenced { producer, partitions } => Ok(Fenced {
                producer,
                is_transactional: true,
                partitions: self.verified(producer, partitions).await,
            }),
            FenceEnd::NotAllowed(code) => {
                tracing::warn!(
                    lane,
                    code = code.name(),
                    "the transactional id {} may not be used: older writers can't be fenced",
                    self.transactional_id(lane)
                );
                Ok(Fenced {
                    producer: self.target.init_producer_id().await.map_err(|error| later(&error))?,
                    is_transactional: false,
                    partitions,
                })
            }
            // The next try asks first who owns the flow.
            FenceEnd::Overtaken => Err(RecoveryFailure::Later(
                "another writer has raised the lane's epoch meanwhile".to_owned(),
            )),
            FenceEnd::Failed(cause) => Err(RecoveryFailure::Later(format!("no fence: {cause}"))),
        }
    }

    async fn carry_out(&self, fence: &mut Fence, transactional_id: &str) -> FenceEnd {
        let mut coordinator = -1;
        loop {
            match fence.poll() {
                FenceStep::Done(end) => return end,
                FenceStep::Wait(wait) => tokio::time::sleep(wait).await,
                FenceStep::FindCoordinator => {
                    let found = self
                        .target
                        .find_coordinator(CoordinatorKind::Transaction, transactional_id)
                        .await;
                    fence.handle_coordinator(found.map(|broker| coordinator = broker).map_err(trouble));
                }
                FenceStep::InitProducerId => {
                    let producer = self
                        .target
                        .init_transactional_producer(coordinator, transactional_id, TRANSACTION_TIMEOUT)
                        .await;
                    fence.handle_producer(producer.map_err(trouble));
                }
                FenceStep::AddPartitions { producer, partitions } => {
                    let named: Vec<(Arc<str>, i32)> = partitions
                        .iter()
                        .map(|index| {
                            let route = self.routes.route(*index);
                            (Arc::clone(&route.target_topic), route.partition)
                        })
                        .collect();
                    let added = self
                        .target
                        .add_partitions_to_txn(coordinator, transactional_id, producer, &named)
                        .await;
                    let answers = added.map_err(trouble).map(|answers| {
                        let of_index = answers.into_iter().filter_map(|((topic, partition), code)| {
                            Some((self.routes.by_target(&topic, partition)?, code))
                        });
                        of_index.collect()
                    });
                    fence.handle_added(answers);
                }
                FenceStep::EndTxn { producer } => {
                    let ended = self.target.end_txn(coordinator, transactional_id, producer, true).await;
                    fence.handle_ended(ended.map_err(trouble));
                }
            }
        }
    }

    /// The partitions whose leaders show the epoch.
    async fn verified(&self, producer: (i64, i16), partitions: Vec<usize>) -> Vec<usize> {
        let (mut open, mut verified) = (partitions, Vec::new());
        for _ in 0..VERIFICATIONS {
            if open.is_empty() {
                break;
            }
            let named = open.iter().map(|index| {
                let route = self.routes.route(*index);
                (Arc::clone(&route.target_topic), route.partition)
            });
            for ((topic, partition), active) in self.target.describe_producers(named.collect()).await {
                let shows = match active {
                    Ok(active) => active
                        .iter()
                        .any(|shown| shown.producer_id == producer.0 && shown.producer_epoch >= producer.1),
                    // There the coordinator has to be believed: it has said that the transaction is complete.
                    Err(error) => error.is_unsupported(),
                };
                if let Some(index) = self.routes.by_target(&topic, partition).filter(|_| shows) {
                    verified.push(index);
                }
            }
            open.retain(|index| !verified.contains(index));
            if !open.is_empty() {
                tokio::time::sleep(VERIFICATION_WAIT).await;
            }
        }
        verified
    }

    /// A marker refuses older epochs of its own producer id. Where the mapping's was another (it had expired, ran out of
    /// epochs, or could not be fenced), whoever writes under that one has to have given up: its lease ends by itself.
    pub(super) async fn wait_for_old_producers(&self, cases: &[(Case, FenceReason)], fenced: &Fenced) {
        let may_write = |case: &Case| !case.known.is_quiet && case.known.producer_id != fenced.producer.0;
        if cases.iter().any(|(case, _)| may_write(case)) {
            tokio::time::sleep(LEASE).await;
        }
    }

    fn has_target_leader(&self, index: usize) -> bool {
        let route = self.routes.route(index);
        let metadata = self.target.metadata();
        let topic = metadata.topics.get(&route.target_topic);
        topic
            .and_then(|topic| topic.partition(route.partition)?.leader)
            .is_some()
    }
}

fn trouble(error: ClusterError) -> FenceTrouble {
    if error.is_unsupported() {
        return FenceTrouble::Unsupported;
    }
    match error.code() {
        Some(code) => FenceTrouble::Refused(code),
        None => FenceTrouble::Unknown(crate::replication::stopped::chain(&error)),
    }
}
