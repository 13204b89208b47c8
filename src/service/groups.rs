//! Moves consumer groups: reads where they stand at the source, writes where that is on the target.

use std::collections::{BTreeMap, BTreeSet};

use super::flow_map::FlowMap;
use super::ledger::LedgerStore;
use crate::cluster::{Cluster, ClusterError, GroupOffset, ListedGroup};
use crate::config::Patterns;
use crate::offsets::{SourceOffset, TargetOffset};
use crate::protocol::error_code::ErrorCode;
use crate::reconcile::groups::{GroupDecision, TargetGroup, WrittenBefore, decide};
use crate::replication::ledger::{GroupRecord, LedgerRecord, lane_of};
use crate::replication::stopped::chain;

/// What became of a group in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRow {
    pub group: String,
    /// Of the target.
    pub topic: String,
    pub partition: i32,
    /// Where the group stands at the source.
    pub source_offset: i64,
    /// What that is on the target.
    pub translated: i64,
    /// Where it stands on the target now; -1 if nowhere.
    pub offset: i64,
    pub state: GroupState,
    pub reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupState {
    Written,
    Kept,
    Active,
    Pending,
    Failed,
}

impl GroupState {
    pub fn name(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Kept => "kept",
            Self::Active => "active",
            Self::Pending => "pending",
            Self::Failed => "failed",
        }
    }
}

/// A group's place in one partition of the source, and the source topic's name.
#[derive(Debug, Clone)]
pub struct Committed {
    pub group: String,
    pub topic: String,
    pub partition: i32,
    pub offset: SourceOffset,
    pub metadata: Option<String>,
}

/// Where the source's consumer groups stand that match.
pub async fn committed(source: &Cluster, groups: &Patterns) -> Result<Vec<Committed>, ClusterError> {
    let mut committed = Vec::new();
    for listed in source.list_groups().await? {
        if !groups.matches(&listed.name) || target_group(Some(&listed)) == TargetGroup::OtherKind {
            continue;
        }
        for offset in source.fetch_group_offsets(&listed.name).await? {
            committed.push(Committed {
                group: listed.name.clone(),
                topic: offset.topic,
                partition: offset.partition,
                offset: SourceOffset(offset.offset),
                metadata: offset.metadata,
            });
        }
    }
    Ok(committed)
}

fn target_group(listed: Option<&ListedGroup>) -> TargetGroup {
    listed.map_or(TargetGroup::Free, |group| {
        TargetGroup::new(&group.protocol_type, &group.state, &group.kind)
    })
}

/// What is to be written for one group, and what is known without writing.
struct Planned {
    rows: Vec<GroupRow>,
    /// By their place among the rows.
    writes: Vec<(usize, Committed, TargetOffset)>,
}

/// Says for each committed offset what would become of it, without writing anything.
pub async fn plan(target: &Cluster, flow: &FlowMap, committed: Vec<Committed>) -> Result<Vec<GroupRow>, ClusterError> {
    let planned = plan_all(target, flow, committed).await?;
    Ok(planned.into_values().flat_map(|planned| planned.rows).collect())
}

async fn plan_all(
    target: &Cluster,
    flow: &FlowMap,
    committed: Vec<Committed>,
) -> Result<BTreeMap<String, Planned>, ClusterError> {
    let listed: BTreeMap<String, ListedGroup> = target
        .list_groups()
        .await?
        .into_iter()
        .map(|group| (group.name.clone(), group))
        .collect();
    let groups: BTreeSet<String> = committed.iter().map(|committed| committed.group.clone()).collect();
    let mut there: BTreeMap<(String, String, i32), i64> = BTreeMap::new();
    for group in groups.iter().filter(|group| listed.contains_key(*group)) {
        for offset in target.fetch_group_offsets(group).await? {
            there.insert((group.clone(), offset.topic, offset.partition), offset.offset);
        }
    }
    let mut planned: BTreeMap<String, Planned> = BTreeMap::new();
    for committed in committed {
        let Some(known) = flow.by_source(&committed.topic, committed.partition) else {
            continue; // Of a topic that the flow does not copy.
        };
        let Committed {
            group,
            topic,
            partition,
            offset,
            ..
        } = &committed;
        let translated = known.map.translate(*offset);
        let target_topic = known.checkpoint.target_topic.clone();
        let current = there.get(&(group.clone(), target_topic.clone(), *partition)).copied();
        let before = flow.groups.get(&(group.clone(), topic.clone(), *partition));
        let before = before.map(|record| WrittenBefore {
            source: record.source_offset,
            target: record.target_offset,
        });
        let of_target = target_group(listed.get(group));
        let decision = decide(of_target, *offset, translated, current.map(TargetOffset), before);
        let of_group = planned.entry(group.clone()).or_insert_with(|| Planned {
            rows: Vec::new(),
            writes: Vec::new(),
        });
        let (state, reason) = match decision {
            GroupDecision::Write(_) => (GroupState::Written, ""),
            GroupDecision::WritePending(_) => (
                GroupState::Pending,
                "the group has read more than is replicated: written at the target's end",
            ),
            GroupDecision::Keep => (GroupState::Kept, "the target's offset is as far or further"),
            GroupDecision::Active => (GroupState::Active, "the group has members on the target"),
            GroupDecision::OtherKind => (
                GroupState::Failed,
                "the target has a group of another kind under that name",
            ),
        };
        if let GroupDecision::Write(offset) | GroupDecision::WritePending(offset) = decision {
            of_group.writes.push((of_group.rows.len(), committed.clone(), offset));
        }
        of_group.rows.push(GroupRow {
            group: committed.group,
            topic: target_topic,
            partition: committed.partition,
            source_offset: committed.offset.0,
            translated: translated.offset.0,
            offset: current.unwrap_or(-1),
            state,
            reason: reason.to_owned(),
        });
    }
    Ok(planned)
}

/// Writes the groups' offsets, translated, where that may be done; says what became of each.
pub async fn write(
    target: &Cluster,
    ledger: &LedgerStore,
    flow: &FlowMap,
    committed: Vec<Committed>,
) -> Result<Vec<GroupRow>, ClusterError> {
    let mut rows = Vec::new();
    for (group, mut planned) in plan_all(target, flow, committed).await? {
        planned
            .writes
            .sort_by(|one, other| (&one.1.topic, one.1.partition).cmp(&(&other.1.topic, other.1.partition)));
        let offsets: Vec<GroupOffset> = planned
            .writes
            .iter()
            .map(|(row, committed, offset)| GroupOffset {
                topic: planned.rows[*row].topic.clone(),
                partition: committed.partition,
                offset: offset.0,
                metadata: committed.metadata.clone(),
            })
            .collect();
        if !offsets.is_empty() {
            match target.commit_group_offsets(&group, &offsets).await {
                Ok(codes) => {
                    for ((row, committed, offset), code) in planned.writes.iter().zip(codes) {
                        take_outcome(&mut planned.rows[*row], committed, *offset, code);
                    }
                    remember(ledger, &planned).await;
                }
                Err(error) => {
                    for (row, ..) in &planned.writes {
                        (planned.rows[*row].state, planned.rows[*row].reason) = (GroupState::Failed, chain(&error));
                    }
                }
            }
        }
        rows.append(&mut planned.rows);
    }
    Ok(rows)
}

fn take_outcome(row: &mut GroupRow, committed: &Committed, offset: TargetOffset, code: ErrorCode) {
    match code {
        ErrorCode::None => {
            tracing::info!(
                group = %committed.group, topic = %row.topic, partition = row.partition,
                "group offset {} written as {offset}", committed.offset
            );
            row.offset = offset.0;
        }
        // A member has joined since the group was looked at; the broker knows best.
        ErrorCode::UnknownMemberId
        | ErrorCode::IllegalGeneration
        | ErrorCode::RebalanceInProgress
        | ErrorCode::FencedInstanceId => {
            row.state = GroupState::Active;
            "the group has members on the target".clone_into(&mut row.reason);
        }
        code => {
            row.state = GroupState::Failed;
            row.reason = format!("refused with {}", code.name());
        }
    }
}

/// Puts down what was written. Where that can't be done, a later run is more careful than it has to be.
async fn remember(ledger: &LedgerStore, planned: &Planned) {
    let mut lanes: BTreeMap<i32, Vec<LedgerRecord>> = BTreeMap::new();
    for (row, committed, offset) in &planned.writes {
        if matches!(planned.rows[*row].state, GroupState::Written | GroupState::Pending) {
            let lane = lane_of(&committed.topic, committed.partition, ledger.lanes());
            lanes.entry(lane).or_default().push(LedgerRecord::Group {
                group: committed.group.clone(),
                topic: committed.topic.clone(),
                partition: committed.partition,
                record: GroupRecord {
                    source_offset: committed.offset,
                    target_offset: *offset,
                },
            });
        }
    }
    for (lane, result) in ledger.write(lanes).await {
        if let Err(error) = result {
            tracing::warn!(lane, error = %chain(&error), "what was written for groups was not remembered");
        }
    }
}
