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

/// A ledger that is being read.
#[derive(Debug, Default)]
pub(super) struct Loading {
    flow: Option<FlowRecord>,
    owners: BTreeMap<i32, BTreeMap<OwnerId, OwnerRecord>>,
    producers: BTreeMap<i32, LaneRecord>,
    partitions: HashMap<(String, i32), PartitionRecords>,
    groups: BTreeMap<(String, String, i32), GroupRecord>,
    highest_generation: i32,
}

impl Loading {
    pub(super) fn flow(&self) -> Option<&FlowRecord> {
        self.flow.as_ref()
    }

    /// Of all who have ever written.
    pub(super) fn highest_generation(&self) -> i32 {
        self.highest_generation
    }

    pub(super) fn take(&mut self, lane: i32, record: LedgerRecord) {
        match record {
            LedgerRecord::Flow(record) => self.flow = Some(record),
            LedgerRecord::Owner(record) => {
                self.note(record.owner);
                self.owners.entry(lane).or_default().insert(record.owner, record);
            }
            LedgerRecord::Lane(record) => drop(self.producers.insert(lane, record)),
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
            LedgerRecord::Gone(key) => self.forget(lane, key),
        }
    }

    fn note(&mut self, owner: OwnerId) {
        self.highest_generation = self.highest_generation.max(owner.generation);
    }

    fn forget(&mut self, lane: i32, key: LedgerKey) {
        match key {
            LedgerKey::Flow | LedgerKey::Lane => {} // Nobody takes these back.
            LedgerKey::Owner { owner } => drop(self.owners.entry(lane).or_default().remove(&owner)),
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

    /// All of it, as it was written.
    pub(super) fn into_records(self) -> LedgerRecords {
        LedgerRecords {
            flow: self.flow,
            partitions: self.partitions.into_iter().collect(),
            groups: self.groups,
        }
    }

    /// All owners of a lane that are in the ledger, but for one.
    pub(super) fn owners_besides(&self, lane: i32, owner: OwnerId) -> impl Iterator<Item = OwnerId> + '_ {
        let owners = self.owners.get(&lane).into_iter().flat_map(BTreeMap::keys).copied();
        owners.filter(move |other| *other != owner)
    }

    /// What a flow goes on from. `owner` is whoever reads this; what is told of owners is of those before.
    pub(super) fn finish(self, owner: OwnerId) -> LedgerMemory {
        let partitions = self.partitions.into_iter();
        let mut lanes: BTreeMap<i32, LaneMemory> = BTreeMap::new();
        for (lane, owners) in self.owners {
            let before = owners.into_values().rfind(|record| record.owner != owner);
            lanes.entry(lane).or_default().owner = before;
        }
        for (lane, producer) in self.producers {
            lanes.entry(lane).or_default().producer = Some(producer);
        }
        LedgerMemory {
            flow: self.flow,
            lanes,
            partitions: partitions
                .filter_map(|(key, records)| Some((key, records.finish()?)))
                .collect(),
        }
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

    fn loaded(records: Vec<LedgerRecord>) -> Loading {
        let mut loading = Loading::default();
        records.into_iter().for_each(|record| loading.take(0, record));
        loading
    }

    #[test]
    fn what_an_older_owner_writes_late_does_not_count() {
        let memory = loaded(vec![
            held(1, false),
            checkpoint(1, 10),
            held(2, false),
            checkpoint(2, 20),
            segment(2, 10, 10),
            checkpoint(1, 12),
            segment(1, 0, 12),
            held(1, true),
        ])
        .finish(owner(3));
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
        let memory = loaded(vec![
            checkpoint(1, 10),
            segment(1, 0, 10),
            checkpoint(2, 20),
            gone(checkpoint(1, 10)),
            gone(segment(1, 0, 10)),
        ])
        .finish(owner(3));
        let remembered = &memory.partitions[&("t".to_owned(), 0)];
        assert_eq!(remembered.checkpoints, [owner(2)]);
        assert!(remembered.segments.is_empty() && remembered.segment.is_empty());
    }

    #[test]
    fn the_next_owner_is_above_all_who_have_written() {
        let loading = loaded(vec![held(1, true), checkpoint(4, 10)]);
        assert_eq!(loading.highest_generation(), 4);
    }
}
