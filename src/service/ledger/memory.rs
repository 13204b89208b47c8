//! What the ledger remembers, put together from its records in the order of its log.

use std::collections::{BTreeMap, HashMap};

use crate::offsets::{Segment, SourceOffset, StoredSegment};
use crate::replication::ledger::{
    Checkpoint, FlowRecord, GroupRecord, LaneRecord, LedgerKey, LedgerRecord, OwnerId, OwnerRecord, SegmentName,
};

/// What the ledger remembers of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// Of the highest generation.
    pub checkpoint: Checkpoint,
    /// The last segment of the offset map.
    pub segment: Segment,
    pub segment_owner: Option<OwnerId>,
    /// All checkpoints' writers.
    pub checkpoints: Vec<OwnerId>,
    /// All segments, by their beginning.
    pub segments: Vec<SegmentName>,
}

impl Remembered {
    /// What the next owner's first checkpoint takes the place of: older checkpoints, and the last segment, which it carries
    /// on.
    pub fn superseded_by_the_next(&self, topic: &str, partition: i32) -> Vec<LedgerKey> {
        let checkpoint = |owner: &OwnerId| LedgerKey::Checkpoint {
            topic: topic.to_owned(),
            partition,
            owner: *owner,
        };
        let segment = self
            .segment_owner
            .zip(self.segment.start())
            .map(|(owner, source_start)| LedgerKey::Segment {
                topic: topic.to_owned(),
                partition,
                owner,
                source_start,
            });
        self.checkpoints.iter().map(checkpoint).chain(segment).collect()
    }
}

/// What the ledger says of a lane as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LaneMemory {
    /// Of the highest generation.
    pub owner: Option<OwnerRecord>,
    pub producer: Option<LaneRecord>,
}

/// By topic and partition of the source.
pub type Partitions = HashMap<(String, i32), Remembered>;

/// What a flow goes on from.
#[derive(Debug, Default)]
pub struct LedgerMemory {
    pub flow: Option<FlowRecord>,
    pub lanes: BTreeMap<i32, LaneMemory>,
    pub partitions: Partitions,
}

/// All that is in the ledger of a partition.
#[derive(Debug, Default)]
pub struct PartitionRecords {
    pub checkpoints: BTreeMap<OwnerId, Checkpoint>,
    pub segments: BTreeMap<(SourceOffset, OwnerId), StoredSegment>,
}

/// All of a ledger, as it was written.
#[derive(Debug, Default)]
pub struct LedgerRecords {
    pub flow: Option<FlowRecord>,
    /// By topic and partition of the source.
    pub partitions: BTreeMap<(String, i32), PartitionRecords>,
    /// By group, topic and partition.
    pub groups: BTreeMap<(String, String, i32), GroupRecord>,
}

impl LedgerMemory {
    /// `owner` is whoever reads this; what is told of owners is of those before.
    pub(super) fn new(lanes: impl IntoIterator<Item = (i32, LaneRecords)>, owner: OwnerId) -> Self {
        let mut memory = Self::default();
        for (lane, records) in lanes {
            memory.flow = memory.flow.or(records.flow);
            let before = records.owners.into_values().rfind(|record| record.owner != owner);
            let producer = records.producer;
            memory.lanes.insert(
                lane,
                LaneMemory {
                    owner: before,
                    producer,
                },
            );
            let partitions = records.partitions.into_iter();
            memory
                .partitions
                .extend(partitions.filter_map(|(key, records)| Some((key, records.finish()?))));
        }
        memory
    }
}

impl LedgerRecords {
    pub(super) fn new(lanes: impl IntoIterator<Item = LaneRecords>) -> Self {
        let mut all = Self::default();
        for records in lanes {
            all.flow = all.flow.or(records.flow);
            all.partitions.extend(records.partitions);
            all.groups.extend(records.groups);
        }
        all
    }
}

/// All that is in one lane of a ledger, so far as it was read.
#[derive(Debug, Default)]
pub(super) struct LaneRecords {
    flow: Option<FlowRecord>,
    owners: BTreeMap<OwnerId, OwnerRecord>,
    producer: Option<LaneRecord>,
    partitions: HashMap<(String, i32), PartitionRecords>,
    groups: BTreeMap<(String, String, i32), GroupRecord>,
    highest_generation: i32,
}

impl LaneRecords {
    pub(super) fn flow(&self) -> Option<&FlowRecord> {
        self.flow.as_ref()
    }

    /// Of all who have ever written.
    pub(super) fn highest_generation(&self) -> i32 {
        self.highest_generation
    }

    pub(super) fn take(&mut self, record: LedgerRecord) {
        match record {
            LedgerRecord::Flow(record) => self.flow = Some(record),
            LedgerRecord::Owner(record) => {
                self.note(record.owner);
                self.owners.insert(record.owner, record);
            }
            LedgerRecord::Lane(record) => self.producer = Some(record),
            LedgerRecord::Checkpoint {
                topic,
                partition,
                owner,
                checkpoint,
            } => {
                self.note(owner);
                let records = self.partitions.entry((topic, partition)).or_default();
                records.checkpoints.insert(owner, checkpoint);
            }
            LedgerRecord::Segment {
                topic,
                partition,
                owner,
                segment,
            } => {
                self.note(owner);
                if let Some(stored) = StoredSegment::new(&segment) {
                    let records = self.partitions.entry((topic, partition)).or_default();
                    records.segments.insert((stored.start(), owner), stored);
                }
            }
            LedgerRecord::Group {
                group,
                topic,
                partition,
                record,
            } => {
                self.groups.insert((group, topic, partition), record);
            }
            LedgerRecord::Gone(key) => self.forget(key),
        }
    }

    fn note(&mut self, owner: OwnerId) {
        self.highest_generation = self.highest_generation.max(owner.generation);
    }

    fn forget(&mut self, key: LedgerKey) {
        match key {
            LedgerKey::Flow | LedgerKey::Lane => {} // Nobody takes these back.
            LedgerKey::Owner { owner } => drop(self.owners.remove(&owner)),
            LedgerKey::Checkpoint {
                topic,
                partition,
                owner,
            } => {
                if let Some(records) = self.partitions.get_mut(&(topic, partition)) {
                    records.checkpoints.remove(&owner);
                }
            }
            LedgerKey::Segment {
                topic,
                partition,
                owner,
                source_start,
            } => {
                if let Some(records) = self.partitions.get_mut(&(topic, partition)) {
                    records.segments.remove(&(source_start, owner));
                }
            }
            LedgerKey::Group {
                group,
                topic,
                partition,
            } => {
                self.groups.remove(&(group, topic, partition));
            }
        }
    }

    /// All owners that are in the lane, but for one.
    pub(super) fn owners_besides(&self, owner: OwnerId) -> impl Iterator<Item = OwnerId> + '_ {
        self.owners.keys().copied().filter(move |other| *other != owner)
    }
}

impl PartitionRecords {
    fn finish(self) -> Option<Remembered> {
        let checkpoint = self.checkpoints.last_key_value()?.1.clone();
        let last = self.segments.last_key_value();
        Some(Remembered {
            checkpoint,
            segment: last.map(|(_, stored)| stored.load()).unwrap_or_default(),
            segment_owner: last.map(|((_, owner), _)| *owner),
            checkpoints: self.checkpoints.into_keys().collect(),
            segments: self
                .segments
                .into_iter()
                .map(|((start, owner), stored)| SegmentName {
                    start,
                    owner,
                    end: stored.end(),
                })
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::replication::epochs::EpochHistory;
    use uuid::Uuid;

    use super::*;
    use crate::offsets::{OffsetPair, Run, TargetOffset};

    fn owner(generation: i32) -> OwnerId {
        OwnerId {
            generation,
            instance: 7,
        }
    }

    fn checkpoint(generation: i32, position: i64) -> LedgerRecord {
        let zero = OffsetPair {
            source: SourceOffset(0),
            target: TargetOffset(0),
        };
        LedgerRecord::Checkpoint {
            topic: "t".into(),
            partition: 0,
            owner: owner(generation),
            checkpoint: Checkpoint {
                target_topic: "t".into(),
                source_topic_id: Uuid::nil(),
                target_topic_id: Uuid::nil(),
                start: zero,
                source_position: SourceOffset(position),
                source_leader_epoch: -1,
                source_mark: None,
                source_epochs: EpochHistory::default(),
                target_next: TargetOffset(position),
                producer_id: 1,
                producer_epoch: 0,
                next_sequence: 0,
                cuts: Vec::new(),
            },
        }
    }

    fn segment(generation: i32, start: i64, count: i64) -> LedgerRecord {
        let mut segment = Segment::default();
        segment.push(Run {
            source_start: SourceOffset(start),
            target_start: TargetOffset(start),
            count,
        });
        LedgerRecord::Segment {
            topic: "t".into(),
            partition: 0,
            owner: owner(generation),
            segment,
        }
    }

    fn held(generation: i32, released: bool) -> LedgerRecord {
        let owner = owner(generation);
        LedgerRecord::Owner(OwnerRecord { owner, released })
    }

    fn lane(records: Vec<LedgerRecord>) -> LaneRecords {
        let mut lane = LaneRecords::default();
        records.into_iter().for_each(|record| lane.take(record));
        lane
    }

    fn memory(records: Vec<LedgerRecord>) -> LedgerMemory {
        LedgerMemory::new([(0, lane(records))], owner(3))
    }

    #[test]
    fn what_an_older_owner_writes_late_does_not_count() {
        let memory = memory(vec![
            held(1, false),
            checkpoint(1, 10),
            held(2, false),
            checkpoint(2, 20),
            segment(2, 10, 10),
            checkpoint(1, 12),
            segment(1, 0, 12),
            held(1, true),
        ]);
        let remembered = &memory.partitions[&("t".to_owned(), 0)];
        assert_eq!(remembered.checkpoint.source_position, SourceOffset(20));
        assert_eq!(remembered.segment_owner, Some(owner(2)));
        assert_eq!(remembered.segments.len(), 2, "the map is of both");
        let before = memory.lanes[&0].owner.expect("somebody held it");
        assert_eq!((before.owner, before.released), (owner(2), false));
    }

    #[test]
    fn what_was_taken_back_is_gone() {
        let gone = |record: LedgerRecord| LedgerRecord::Gone(record.key());
        let memory = memory(vec![
            checkpoint(1, 10),
            segment(1, 0, 10),
            checkpoint(2, 20),
            gone(checkpoint(1, 10)),
            gone(segment(1, 0, 10)),
        ]);
        let remembered = &memory.partitions[&("t".to_owned(), 0)];
        assert_eq!(remembered.checkpoints, [owner(2)]);
        assert!(remembered.segments.is_empty() && remembered.segment.is_empty());
    }

    #[test]
    fn the_next_owner_is_above_all_who_have_written() {
        let lane = lane(vec![held(1, true), checkpoint(4, 10)]);
        assert_eq!(lane.highest_generation(), 4);
    }
}
