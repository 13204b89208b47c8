//! Where each partition of a copy begins and ends: by the ledger, where that knows it, and by what both sides say.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use uuid::Uuid;

use super::{CopyRequest, StartFrom};
use crate::cluster::{Cluster, ClusterError, Isolation, ListedOffset, Metadata, OffsetSpec};
use crate::offsets::{OffsetPair, Segment, SourceOffset, TargetOffset};
use crate::reconcile::configs::BatchConfigs;
use crate::reconcile::topics::SourceTopic;
use crate::replication::epochs::EpochHistory;
use crate::replication::flow::FlowPartition;
use crate::replication::forgetting::WallClock;
use crate::replication::ledger::lane_of;
use crate::replication::partition::{Incident, OnChange, PartitionStart};
use crate::replication::recovery::Beginning;
use crate::replication::stopped::Stopped;
use crate::service::incidents::announce;
use crate::service::ledger::{LaneMemory, LedgerStore, Partitions, Remembered};
use crate::service::topics::{all, batch_configs};

type Offsets = HashMap<(Arc<str>, i32), ListedOffset>;

/// What both sides say of the partitions before the copy begins.
pub(super) struct Survey {
    source: Arc<Metadata>,
    target: Arc<Metadata>,
    /// Last stable offsets: where the copy ends.
    stable: Offsets,
    starts: Offsets,
    target_ends: Offsets,
    batch_configs: HashMap<String, BatchConfigs>,
}

impl Survey {
    pub(super) async fn take(
        source: &Cluster,
        target: &Cluster,
        topics: &[SourceTopic],
        request: &CopyRequest,
    ) -> Result<Self, ClusterError> {
        let partitions_of = |name: fn(&SourceTopic) -> &String| -> Vec<(Arc<str>, i32)> {
            let topics = topics
                .iter()
                .map(|topic| (Arc::<str>::from(name(topic).as_str()), topic.partitions));
            topics
                .flat_map(|(name, count)| (0..count).map(move |partition| (Arc::clone(&name), partition)))
                .collect()
        };
        let ours = partitions_of(|topic| &topic.name);
        let theirs = partitions_of(|topic| &topic.target_name);
        let target_names: Vec<String> = topics.iter().map(|topic| topic.target_name.clone()).collect();
        let ((stable, starts), (target_metadata, target_ends, batch_configs)) = tokio::try_join!(
            source_offsets(source, ours, request.start),
            survey_target(target, theirs, target_names)
        )?;
        Ok(Self {
            source: source.metadata(),
            target: target_metadata,
            stable,
            starts,
            target_ends,
            batch_configs,
        })
    }

    fn source_id(&self, topic: &str) -> Uuid {
        self.source.topics.get(topic).map_or(Uuid::nil(), |topic| topic.id)
    }

    fn target_id(&self, topic: &str) -> Uuid {
        self.target.topics.get(topic).map_or(Uuid::nil(), |topic| topic.id)
    }
}

/// Last stable offsets, and where partitions begin that the ledger does not know.
async fn source_offsets(
    source: &Cluster,
    partitions: Vec<(Arc<str>, i32)>,
    start: StartFrom,
) -> Result<(Offsets, Offsets), ClusterError> {
    let of = async |spec| all(source.list_offsets(partitions.clone(), spec).await);
    let stable = of(OffsetSpec::Latest(Isolation::ReadCommitted));
    match start {
        StartFrom::Earliest => tokio::try_join!(stable, of(OffsetSpec::Earliest)),
        StartFrom::Timestamp(ms) => tokio::try_join!(stable, of(OffsetSpec::Timestamp(ms))),
        StartFrom::Latest => stable.await.map(|stable| (stable.clone(), stable)),
    }
}

/// Leaders, ends and what each topic asks of its batches.
async fn survey_target(
    target: &Cluster,
    partitions: Vec<(Arc<str>, i32)>,
    names: Vec<String>,
) -> Result<(Arc<Metadata>, Offsets, HashMap<String, BatchConfigs>), ClusterError> {
    let metadata = target.await_leaders(names.clone()).await?;
    let all_written = OffsetSpec::Latest(Isolation::ReadUncommitted);
    let (ends, configs) = tokio::join!(
        target.list_offsets(partitions, all_written),
        batch_configs(target, names)
    );
    Ok((metadata, all(ends)?, configs))
}

pub(super) fn flow_partitions(
    topics: &[SourceTopic],
    survey: &Survey,
    lanes: &BTreeMap<i32, LaneMemory>,
    ledger: &LedgerStore,
    mut memory: Partitions,
    request: &CopyRequest,
    clock: WallClock,
) -> Vec<FlowPartition> {
    let is_released = |lane: i32| {
        lanes
            .get(&lane)
            .and_then(|lane| lane.owner)
            .is_some_and(|owner| owner.released)
    };
    let mut partitions = Vec::new();
    for topic in topics {
        let (name, target_name) = (
            Arc::<str>::from(topic.name.as_str()),
            Arc::<str>::from(topic.target_name.as_str()),
        );
        let default = BatchConfigs::from_entries([]);
        let configs = survey.batch_configs.get(&topic.target_name).copied().unwrap_or(default);
        for partition in 0..topic.partitions {
            let remembered = memory.remove(&(topic.name.clone(), partition));
            let key = (Arc::clone(&name), partition);
            let target_end = survey
                .target_ends
                .get(&(Arc::clone(&target_name), partition))
                .map_or(0, |end| end.offset);
            let stable = survey.stable[&key];
            // No record at or after the timestamp: begin at the end.
            let begin = survey.starts.get(&key).filter(|start| start.offset >= 0);
            let begin = begin.copied().unwrap_or(stable);
            let position = SourceOffset(begin.offset);
            let target_next = TargetOffset(target_end);
            let mut start = PartitionStart {
                topic: Arc::clone(&name),
                target_topic: Arc::clone(&target_name),
                partition,
                source_topic_id: survey.source_id(&name),
                target_topic_id: survey.target_id(&target_name),
                position,
                leader_epoch: begin.leader_epoch,
                mark: None,
                epochs: EpochHistory::default(),
                target_next,
                end: (!request.follow).then_some(SourceOffset(stable.offset)),
                is_compacted: topic.is_compacted,
                is_cleaned: topic.is_compacted || configs.is_compacted,
                keeps_time: !configs.is_log_append_time,
                beginning: Beginning::New,
                is_quiet: true,
                producer_id: -1,
                producer_epoch: -1,
                next_sequence: 0,
                flow_start: OffsetPair {
                    source: position,
                    target: target_next,
                },
                cuts: Vec::new(),
                owner: ledger.owner(),
                segment: Segment::default(),
                segments: Vec::new(),
                superseded: Vec::new(),
                policies: request.policies,
                clock,
            };
            let stopped = remembered.and_then(|remembered| {
                start.is_quiet = is_released(lane_of(&topic.name, partition, ledger.lanes()));
                resume(&mut start, remembered)
            });
            partitions.push(FlowPartition {
                start,
                stopped,
                max_batch_bytes: configs.max_message_bytes,
                keep_append_time: !configs.is_log_append_time,
            });
        }
    }
    partitions
}

/// Goes on where the ledger says, unless either side has changed under it: that is never healed in silence. What retention
/// has taken of the source is found by the first fetch.
fn resume(start: &mut PartitionStart, remembered: Remembered) -> Option<Stopped> {
    start.superseded = remembered.superseded_by_the_next(&start.topic, start.partition);
    let Remembered {
        checkpoint,
        segment,
        segment_owner,
        segments,
        ..
    } = remembered;
    let position = checkpoint.source_position;
    let target_log_end = start.target_next;
    let target_topic_id = start.target_topic_id;
    let source_topic_id = start.source_topic_id;
    start.beginning = Beginning::Remembered;
    start.position = position;
    start.leader_epoch = checkpoint.source_leader_epoch;
    start.mark = checkpoint.source_mark;
    start.epochs = checkpoint.source_epochs;
    start.target_next = checkpoint.target_next;
    start.flow_start = checkpoint.start;
    (start.producer_id, start.producer_epoch) = (checkpoint.producer_id, checkpoint.producer_epoch);
    start.next_sequence = checkpoint.next_sequence;
    start.cuts = checkpoint.cuts;
    let open = segment_owner.zip(segment.start());
    start.segments = segments;
    start.segments.retain(|name| open != Some((name.owner, name.start)));
    // The map may go further than the position: another owner had come further, or a crash parted two batches.
    start.segment = segment.cut(position, checkpoint.target_next);
    let other = |before: Uuid, now: Uuid| !before.is_nil() && !now.is_nil() && before != now;
    if other(checkpoint.target_topic_id, target_topic_id) {
        Some(Stopped::TargetRecreated)
    } else if target_log_end < checkpoint.target_next {
        Some(Stopped::TargetTruncated {
            expected: checkpoint.target_next,
            log_end: target_log_end,
        })
    } else if other(checkpoint.source_topic_id, source_topic_id) {
        if start.policies.recreation == OnChange::Stop {
            return Some(Stopped::SourceRecreated);
        }
        announce(&start.topic, start.partition, &Incident::Recreated(position));
        start.beginning = Beginning::Restart;
        (start.position, start.leader_epoch) = (SourceOffset(0), -1);
        (start.mark, start.epochs) = (None, EpochHistory::default());
        None
    } else {
        None
    }
}
