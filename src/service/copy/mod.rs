//! One `kferry copy`: from connecting to the summary.
//!
//! In this order, so that nothing is written before everything that can be refused has been: connect, compare the
//! clusters, choose topics, open the ledger, create what is missing, find each partition's start and end, run.

mod starting;

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;

use self::starting::{Survey, flow_partitions};
use super::flow_map::{FlowMap, FlowMapError};
use super::groups::{self, GroupRow};
use super::ledger::{LedgerMemory, LedgerStore, LedgerStoreError, Partitions};
use super::now;
use super::progress::Progress;
use super::recovering::LaneProducers;
use super::runner::{FlowOutcome, FlowRunner, RunError, asked_to_stop};
use super::topics::{apply, source_topics, target_partitions};
use crate::cluster::{BufferPool, Cluster, ClusterConfig, ClusterError, CoordinatorKind};
use crate::config::Patterns;
use crate::protocol::error_code::ErrorCode;
use crate::reconcile::topics::{SourceTopic, TopicChange, TopicSelection, plan_topics};
use crate::replication::budget::Budget;
use crate::replication::coalesce::Coalescing;
use crate::replication::flow::{Conditions, FlowLimits, FlowReplicator};
use crate::replication::forgetting::WallClock;
use crate::replication::ledger::{lane_transactional_id, ledger_topic};
use crate::replication::partition::Policies;
use crate::replication::rate::RateLimit;
use crate::replication::stopped::chain;

/// How long a side may fail without a break before a copy that has an end gives up on a partition.
const PATIENCE: Duration = Duration::from_secs(120);

/// The part of the memory, one in so many, that may lie in buffers which wait to be used again. What fetches hold leaves a
/// quarter free.
const IDLE_SHARE: usize = 8;

/// Where a partition begins that the ledger does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartFrom {
    Earliest,
    Latest,
    /// Milliseconds since 1970.
    Timestamp(i64),
}

#[derive(Debug, Clone)]
pub struct CopyRequest {
    pub source: ClusterConfig,
    pub target: ClusterConfig,
    pub topics: TopicSelection,
    pub start: StartFrom,
    /// Goes on at the ends.
    pub follow: bool,
    /// -1 for the target's default.
    pub replication_factor: i16,
    /// Whether topics and partitions may be created.
    pub create: bool,
    /// Bytes a second.
    pub max_rate: Option<u64>,
    /// Bytes for everything fetched and not acked.
    pub memory: usize,
    pub coalescing: Coalescing,
    pub policies: Policies,
    /// Groups whose offsets are written afterwards.
    pub groups: Option<Patterns>,
    /// Tells this process from all others that may run the same flow.
    pub instance: u64,
}

/// What a copy came to.
#[derive(Debug)]
pub struct CopySummary {
    pub topics: usize,
    pub partitions: usize,
    pub outcome: FlowOutcome,
    /// Why exactly-once does not hold; `None` where it does.
    pub weakness: Option<String>,
    pub groups: Vec<GroupRow>,
}

#[derive(Debug, Error)]
pub enum CopyError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(
        "source and target are the same cluster ({0}) and the names would be the same: every record would be copied for \
         ever; give another target, or other names with --prefix"
    )]
    SameCluster(String),
    #[error("source: no topic matches --topics (internal topics and ledgers are never copied)")]
    NoTopics,
    #[error("target: {0} is missing there, or has too few partitions, and --no-create was given")]
    MissingTopics(String),
    #[error(
        "target: topic {topic} is gone, but the ledger {ledger} says that it was copied before: delete that topic to begin anew, or give this flow another name with --flow"
    )]
    TargetTopicGone { topic: String, ledger: String },
    #[error(
        "source: the configs of topic {topic} can't be read (DESCRIBE_CONFIGS is needed), so it can't be created on the \
         target as it is: create it there first"
    )]
    UnknownConfigs { topic: String },
    #[error(
        "target: exactly-once can't be had: {0}; without --guarantee exactly-once the copy is at least once where it is \
         interrupted"
    )]
    NoExactlyOnce(String),
    #[error("all is copied, but the groups' offsets could not be moved")]
    Groups(#[source] ClusterError),
    #[error("all is copied, but the groups' offsets could not be moved")]
    GroupMap(#[source] FlowMapError),
    #[error("stopped before anything was copied")]
    Interrupted,
    #[error("target")]
    Ledger(#[from] LedgerStoreError),
    #[error(transparent)]
    Run(#[from] RunError),
}

impl CopyError {
    /// The request itself is wrong; nothing was touched.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::SameCluster(_) | Self::Cluster(ClusterError::BadAddress { .. })
        )
    }
}

/// How often a topic that the ledger knows is looked for on the target.
const LOOKS_FOR_TOPICS: u32 = 5;
const LOOK_WAIT: Duration = Duration::from_millis(200);

/// Copies until the ends are reached, or until `shutdown` turns true.
pub async fn copy(
    request: CopyRequest,
    progress: &Arc<Progress>,
    mut shutdown: watch::Receiver<bool>,
) -> Result<CopySummary, CopyError> {
    let ready = tokio::select! {
        biased;
        ready = make_ready(request, progress) => ready?,
        () = asked_to_stop(&mut shutdown) => return Err(CopyError::Interrupted),
    };
    let outcome = ready.runner.spawn(Arc::clone(progress), shutdown).await?;
    let groups = match ready.groups {
        Some(groups) if !outcome.is_superseded() => groups.move_all().await?,
        _ => Vec::new(),
    };
    Ok(CopySummary {
        topics: ready.topics,
        partitions: ready.partitions,
        weakness: outcome.weakness.clone().or(ready.weakness),
        outcome,
        groups,
    })
}

/// What it takes to move groups.
struct GroupMove {
    source: Cluster,
    target: Cluster,
    ledger: LedgerStore,
    patterns: Patterns,
}

impl GroupMove {
    /// By the map as it is now: what was copied before under the flow's name counts as well.
    async fn move_all(self) -> Result<Vec<GroupRow>, CopyError> {
        let flow = FlowMap::load(&self.target, self.source.alias(), self.target.alias()).await;
        let flow = flow.map_err(CopyError::GroupMap)?;
        let committed = groups::committed(&self.source, &self.patterns)
            .await
            .map_err(CopyError::Groups)?;
        let written = groups::write(&self.target, &self.ledger, &flow, committed).await;
        written.map_err(CopyError::Groups)
    }
}

/// A copy that may begin.
struct Ready {
    runner: FlowRunner,
    topics: usize,
    partitions: usize,
    weakness: Option<String>,
    groups: Option<GroupMove>,
}

async fn make_ready(mut request: CopyRequest, progress: &Progress) -> Result<Ready, CopyError> {
    let buffers = BufferPool::new(request.memory / IDLE_SHARE);
    (request.source.buffers, request.target.buffers) = (buffers.clone(), buffers);
    let (source, target) = tokio::try_join!(
        Cluster::connect(request.source.clone()),
        Cluster::connect(request.target.clone())
    )?;
    let mut selection = request.topics.clone();
    selection.same_cluster = source.cluster_id() == target.cluster_id();
    if selection.same_cluster && selection.prefix.is_empty() {
        return Err(CopyError::SameCluster(source.cluster_id().to_owned()));
    }
    let topics = source_topics(&source, &selection).await?;
    if topics.is_empty() {
        return Err(CopyError::NoTopics);
    }

    if !request.create {
        let missing = plan(&target, &topics).await?;
        if !missing.is_empty() {
            return Err(CopyError::MissingTopics(names_of(&missing)));
        }
    }
    let ledger_name = ledger_topic(source.alias(), target.alias());
    let (ledger, memory) = LedgerStore::open(
        target.clone(),
        &ledger_name,
        source.cluster_id(),
        request.replication_factor,
        request.instance,
    )
    .await?;
    let LedgerMemory {
        lanes,
        partitions: memory,
        ..
    } = memory;
    let (weakness, changes) = tokio::join!(
        weakness(&target, &ledger),
        changes_now(&target, &topics, &memory, &ledger_name)
    );
    if let Some(reason) = weakness.clone().filter(|_| request.policies.exactly_once) {
        return Err(CopyError::NoExactlyOnce(reason));
    }
    let changes = changes?;
    refuse_unknown_configs(&topics, &changes)?;
    apply(&target, changes, request.replication_factor).await?;

    let survey = Survey::take(&source, &target, &topics, &request).await?;
    let remembered = lanes
        .iter()
        .filter_map(|(lane, memory)| Some((*lane, memory.producer?)));
    let producers = LaneProducers::new(remembered.collect());
    let clock = WallClock::new(now(), target.time_ms());
    let partitions = flow_partitions(&topics, &survey, &lanes, &ledger, memory, &request, clock);
    let total = partitions
        .iter()
        .filter_map(|p| Some(p.start.end?.0 - p.start.position.0))
        .filter(|n| *n > 0)
        .sum::<i64>();
    progress.set_total(total as u64);

    let (topic_count, partition_count) = (topics.len(), partitions.len());
    let conditions = Conditions {
        memory: request.memory,
        source_brokers: source.metadata().brokers.len(),
        partitions: partitions.len(),
        lanes: ledger.lanes(),
        source_round_trip: source.round_trip(),
        target_round_trip: target.round_trip(),
        coalescing: request.coalescing,
    };
    let limits = FlowLimits {
        patience: (!request.follow).then_some(PATIENCE),
        ..FlowLimits::new(&conditions)
    };
    let (budget, rate) = (Budget::new(request.memory), request.max_rate.map(RateLimit::new));
    let groups = request.groups.map(|patterns| GroupMove {
        source: source.clone(),
        target: target.clone(),
        ledger: ledger.clone(),
        patterns,
    });
    let tenure = ledger.tenure();
    let runner = FlowRunner::new(source, target, ledger, producers, partitions, |partitions| {
        FlowReplicator::new(tenure, limits, budget, rate, partitions)
    });
    Ok(Ready {
        runner,
        topics: topic_count,
        partitions: partition_count,
        weakness,
        groups,
    })
}

/// What the target lacks for exactly-once, by what it can do and lets us do.
async fn weakness(target: &Cluster, ledger: &LedgerStore) -> Option<String> {
    let partition = vec![(Arc::clone(ledger.topic()), 0)];
    let id = lane_transactional_id(ledger.topic(), 0);
    let (producers, coordinator) = tokio::join!(
        target.describe_producers(partition),
        target.find_coordinator(CoordinatorKind::Transaction, &id)
    );
    for (_, active) in producers {
        if let Err(error) = active
            && (error.is_unsupported() || error.code() == Some(ErrorCode::TopicAuthorizationFailed))
        {
            return Some(format!(
                "where the target's log stands can't be asked ({})",
                chain(&error)
            ));
        }
    }
    match coordinator {
        Err(error) if error.code() == Some(ErrorCode::TransactionalIdAuthorizationFailed) => Some(format!(
            "older writers can't be fenced: the principal needs WRITE on the transactional ids {}-*",
            ledger.topic()
        )),
        _ => None, // What may pass is tried again when it is needed.
    }
}

fn names_of(changes: &[TopicChange]) -> String {
    let names: Vec<&str> = changes
        .iter()
        .map(|change| match change {
            TopicChange::Create { name, .. } | TopicChange::Grow { name, .. } => name.as_str(),
        })
        .collect();
    names.join(", ")
}

/// What the target lacks now.
async fn plan(target: &Cluster, topics: &[SourceTopic]) -> Result<Vec<TopicChange>, CopyError> {
    let names = topics.iter().map(|topic| topic.target_name.clone()).collect();
    Ok(plan_topics(topics, &target_partitions(target, names).await?))
}

/// What the target lacks, once the ledger is read. Another kferry may have made the topics since they were looked for, and
/// brokers hear of them one after the other.
async fn changes_now(
    target: &Cluster,
    topics: &[SourceTopic],
    memory: &Partitions,
    ledger: &str,
) -> Result<Vec<TopicChange>, CopyError> {
    let mut looks = 0;
    loop {
        let changes = plan(target, topics).await?;
        looks += 1;
        match refuse_lost_topics(topics, &changes, memory, ledger) {
            Ok(()) => return Ok(changes),
            Err(lost) if looks == LOOKS_FOR_TOPICS => return Err(lost),
            Err(_) => tokio::time::sleep(LOOK_WAIT).await,
        }
    }
}

/// A target topic that was copied to and is gone now is not made anew in silence: consumers have lost it.
fn refuse_lost_topics(
    topics: &[SourceTopic],
    changes: &[TopicChange],
    memory: &Partitions,
    ledger: &str,
) -> Result<(), CopyError> {
    let remembered = |topic: &SourceTopic| memory.keys().any(|(name, _)| *name == topic.name);
    for change in changes {
        let TopicChange::Create { name, .. } = change else {
            continue;
        };
        if topics
            .iter()
            .any(|topic| topic.target_name == *name && remembered(topic))
        {
            return Err(CopyError::TargetTopicGone {
                topic: name.clone(),
                ledger: ledger.to_owned(),
            });
        }
    }
    Ok(())
}

/// A topic is not created with other configs than the source's: a compacted one would lose what it was given.
fn refuse_unknown_configs(topics: &[SourceTopic], changes: &[TopicChange]) -> Result<(), CopyError> {
    for change in changes {
        let TopicChange::Create { name, .. } = change else {
            continue;
        };
        let unknown = |topic: &&SourceTopic| topic.target_name == *name && topic.configs.is_none();
        if let Some(topic) = topics.iter().find(unknown) {
            return Err(CopyError::UnknownConfigs {
                topic: topic.name.clone(),
            });
        }
    }
    Ok(())
}
