//! Compares source and target record by record through the offset map (`kferry verify`).
//!
//! An independent reading: of the data path it shares the decoding of records, and nothing else. Partitions are read side
//! by side, a few at a time, in windows of some megabytes.

mod committed;
pub mod compare;
mod stream;

use std::collections::BTreeMap;
use std::sync::Arc;

use thiserror::Error;
use tokio::task::JoinSet;

use self::compare::{Comparison, Findings, Sides, Wants, within};
use self::stream::RecordStream;
use super::flow_map::{FlowMap, FlowMapError, PartitionMap};
use super::progress::{Progress, ProgressNumbers};
use super::reader::ReadError;
use super::topics::all;
use crate::cluster::{Cluster, ClusterConfig, ClusterError, Isolation, OffsetSpec};
use crate::config::Patterns;
use crate::offsets::{OffsetPair, SourceOffset, TargetOffset};
use crate::record::RecordError;

/// Partitions that are compared at the same time.
const PARTITIONS_AT_ONCE: usize = 4;

/// Source offsets of one sample.
const SAMPLE_OFFSETS: i64 = 1000;

#[derive(Debug, Clone)]
pub struct VerifyRequest {
    pub source: ClusterConfig,
    pub target: ClusterConfig,
    pub source_alias: String,
    pub target_alias: String,
    /// Topics of the source; all of the flow's where there are none.
    pub topics: Option<Patterns>,
    /// So many samples of each partition, in place of all of it.
    pub samples: Option<u32>,
}

/// What was found of a partition.
#[derive(Debug, Clone)]
pub struct VerifiedPartition {
    pub topic: String,
    pub target_topic: String,
    pub partition: i32,
    pub findings: Findings,
    pub compares_time: bool,
    /// Offsets of the target that lie past the last checkpoint, and are not judged.
    pub unjudged: i64,
}

#[derive(Debug, Error)]
pub enum VerifyError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Map(#[from] FlowMapError),
    #[error("no topic of the flow matches --topics; its ledger knows {0}")]
    NoTopics(String),
    #[error(
        "source: this is cluster {found}, and the flow copies from {expected}: compare with the cluster that it copies from"
    )]
    OtherSource { found: String, expected: String },
    #[error("{side}")]
    Read {
        side: &'static str,
        #[source]
        cause: ReadError,
    },
    #[error("{side}: {topic} partition {partition} holds a batch at offset {offset} that can't be read")]
    Record {
        side: &'static str,
        topic: Arc<str>,
        partition: i32,
        offset: i64,
        #[source]
        cause: RecordError,
    },
    #[error("{side}: {topic} partition {partition} answers nothing from offset {offset} on, although its log goes on")]
    Silent {
        side: &'static str,
        topic: Arc<str>,
        partition: i32,
        offset: i64,
    },
}

/// One partition, ready to be compared.
struct Case {
    topic: Arc<str>,
    target_topic: Arc<str>,
    partition: i32,
    known: PartitionMap,
    sides: Sides,
    target_end: i64,
}

/// Compares all partitions that were asked for.
pub async fn verify(request: VerifyRequest, progress: &Progress) -> Result<Vec<VerifiedPartition>, VerifyError> {
    let (source, target) = tokio::try_join!(
        Cluster::connect(request.source.clone()),
        Cluster::connect(request.target.clone())
    )?;
    let mut flow = FlowMap::load(&target, &request.source_alias, &request.target_alias).await?;
    if flow.flow.source_cluster_id != source.cluster_id() {
        return Err(VerifyError::OtherSource {
            found: source.cluster_id().to_owned(),
            expected: flow.flow.source_cluster_id,
        });
    }
    let is_wanted = |topic: &str| request.topics.as_ref().is_none_or(|topics| topics.matches(topic));
    let partitions: Vec<_> = std::mem::take(&mut flow.partitions)
        .into_iter()
        .filter(|((topic, _), _)| is_wanted(topic))
        .collect();
    if partitions.is_empty() {
        let reloaded = FlowMap::load(&target, &request.source_alias, &request.target_alias).await?;
        let mut known: Vec<String> = reloaded.partitions.into_keys().map(|(topic, _)| topic).collect();
        known.dedup();
        return Err(VerifyError::NoTopics(known.join(", ")));
    }
    let cases = survey(&source, &target, partitions).await?;
    let total = cases
        .iter()
        .map(|case| case.known.map.position().source.0 - case.known.map.start().source.0);
    progress.set_total(total.sum::<i64>().max(0) as u64);

    let mut waiting = cases.into_iter();
    let mut comparing = JoinSet::new();
    let (mut verified, mut numbers) = (Vec::new(), ProgressNumbers::default());
    loop {
        while comparing.len() < PARTITIONS_AT_ONCE
            && let Some(case) = waiting.next()
        {
            comparing.spawn(compare(source.clone(), target.clone(), case, request.samples));
        }
        let Some(done) = comparing.join_next().await else { break };
        let (partition, offsets) = done.expect("a comparison does not panic")?;
        numbers.records += partition.findings.compared;
        numbers.offsets += offsets;
        progress.publish(numbers);
        verified.push(partition);
    }
    verified.sort_by(|one, other| (&one.topic, one.partition).cmp(&(&other.topic, other.partition)));
    Ok(verified)
}

async fn survey(
    source: &Cluster,
    target: &Cluster,
    partitions: Vec<((String, i32), PartitionMap)>,
) -> Result<Vec<Case>, VerifyError> {
    let ours: Vec<(Arc<str>, i32)> = partitions
        .iter()
        .map(|((topic, partition), _)| (Arc::from(topic.as_str()), *partition))
        .collect();
    let theirs: Vec<(Arc<str>, i32)> = partitions
        .iter()
        .map(|((_, partition), known)| (Arc::from(known.checkpoint.target_topic.as_str()), *partition))
        .collect();
    let names = |partitions: &[(Arc<str>, i32)]| {
        let mut names: Vec<String> = partitions.iter().map(|(topic, _)| topic.to_string()).collect();
        names.dedup();
        names
    };
    source.describe_topics(names(&ours)).await?;
    target.describe_topics(names(&theirs)).await?;
    let latest = OffsetSpec::Latest(Isolation::ReadUncommitted);
    let source_starts = all(source.list_offsets(ours.clone(), OffsetSpec::Earliest).await)?;
    let target_starts = all(target.list_offsets(theirs.clone(), OffsetSpec::Earliest).await)?;
    let target_ends = all(target.list_offsets(theirs.clone(), latest).await)?;
    let source_configs = cleaning(source, names(&ours)).await;
    let target_configs = cleaning(target, names(&theirs)).await;
    let cases = partitions.into_iter().zip(ours).zip(theirs);
    let cases = cases.map(|((((_, partition), known), ours), theirs)| {
        let of_target = target_configs.get(theirs.0.as_ref()).copied().unwrap_or_default();
        Case {
            sides: Sides {
                source_log_start: SourceOffset(source_starts[&ours].offset),
                target_log_start: TargetOffset(target_starts[&theirs].offset),
                source_is_compacted: source_configs
                    .get(ours.0.as_ref())
                    .is_some_and(|configs| configs.is_compacted),
                target_is_compacted: of_target.is_compacted,
                compares_time: !of_target.stamps_anew,
            },
            target_end: target_ends[&theirs].offset,
            topic: ours.0,
            target_topic: theirs.0,
            partition,
            known,
        }
    });
    Ok(cases.collect())
}

#[derive(Debug, Clone, Copy, Default)]
struct TopicConfigs {
    is_compacted: bool,
    stamps_anew: bool,
}

/// Configs that can't be read are taken for the defaults.
async fn cleaning(cluster: &Cluster, topics: Vec<String>) -> BTreeMap<String, TopicConfigs> {
    let described = cluster.topic_configs(topics).await.into_iter();
    let of_topic = |(topic, entries): (String, Result<Vec<crate::cluster::ConfigEntry>, ClusterError>)| {
        let entries = entries.unwrap_or_default();
        let value = |name: &str| entries.iter().find(|entry| entry.name == name)?.value.clone();
        let configs = TopicConfigs {
            is_compacted: value("cleanup.policy").is_some_and(|policy| policy.contains("compact")),
            stamps_anew: value("message.timestamp.type").is_some_and(|kind| kind == "LogAppendTime"),
        };
        (topic, configs)
    };
    described.map(of_topic).collect()
}

/// Compares one partition; says, too, how many source offsets that were.
async fn compare(
    source: Cluster,
    target: Cluster,
    case: Case,
    samples: Option<u32>,
) -> Result<(VerifiedPartition, u64), VerifyError> {
    let (start, position) = (case.known.map.start(), case.known.map.position());
    let ranges = match samples {
        None => vec![(start, position)],
        Some(samples) => sampled(&case, samples),
    };
    let mut findings: Option<Findings> = None;
    let mut offsets = 0;
    for (from, to) in ranges {
        offsets += (to.source.0 - from.source.0) as u64;
        let found = compare_range(&source, &target, &case, from, to).await?;
        findings = Some(match findings {
            None => found,
            Some(before) => before.with(found),
        });
    }
    let empty = || Comparison::new(case.sides, std::iter::empty(), std::iter::empty()).finish();
    Ok((
        VerifiedPartition {
            topic: case.topic.to_string(),
            target_topic: case.target_topic.to_string(),
            partition: case.partition,
            findings: findings.unwrap_or_else(empty),
            compares_time: case.sides.compares_time,
            unjudged: (case.target_end - position.target.0).max(0),
        },
        offsets,
    ))
}

/// Ranges of the source chosen by chance, and what lies between on the target, in order and apart.
fn sampled(case: &Case, samples: u32) -> Vec<(OffsetPair, OffsetPair)> {
    let map = &case.known.map;
    let (first, end) = (map.start().source.0, map.position().source.0);
    let pair = |source: i64| OffsetPair {
        source: SourceOffset(source),
        target: map.translate(SourceOffset(source)).offset,
    };
    let windows = ((end - first).max(0) as u64).div_ceil(SAMPLE_OFFSETS as u64);
    let mut chosen: Vec<u64> = match u64::from(samples) >= windows {
        true => (0..windows).collect(),
        false => (0..samples).map(|_| fastrand::u64(0..windows)).collect(),
    };
    chosen.sort_unstable();
    chosen.dedup();
    let range = |window: u64| {
        let from = first + window as i64 * SAMPLE_OFFSETS;
        (pair(from), pair((from + SAMPLE_OFFSETS).min(end)))
    };
    chosen.into_iter().map(range).collect()
}

async fn compare_range(
    source: &Cluster,
    target: &Cluster,
    case: &Case,
    from: OffsetPair,
    to: OffsetPair,
) -> Result<Findings, VerifyError> {
    let runs = || within(case.known.map.iter(), from, to);
    let mut comparison = Comparison::new(case.sides, runs(), runs());
    let source_from = from.source.max(case.sides.source_log_start).0;
    let target_from = from.target.max(case.sides.target_log_start).0;
    let (topic, partition) = (Arc::clone(&case.topic), case.partition);
    let mut ours = RecordStream::new(source, topic, partition, (source_from, to.source.0));
    let topic = Arc::clone(&case.target_topic);
    let mut theirs = RecordStream::new(target, topic, partition, (target_from, to.target.0));
    loop {
        match comparison.wants() {
            Wants::Source => comparison.source(ours.next().await?),
            Wants::Target => comparison.target(theirs.next().await?),
            Wants::Nothing => return Ok(comparison.finish()),
        }
    }
}
