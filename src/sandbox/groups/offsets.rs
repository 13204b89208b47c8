//! A group's committed offsets, and those of transactions that have not ended.

use std::collections::BTreeMap;

use kafka_protocol::protocol::StrBytes;

use super::str_bytes;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CommittedOffset {
    pub(super) offset: i64,
    pub(super) leader_epoch: i32,
    metadata: String,
    /// Where it stands among all commits.
    position: u64,
}

type ByPartition = BTreeMap<String, BTreeMap<i32, CommittedOffset>>;

/// Invariant: no topic's map is empty.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    committed: ByPartition,
    /// By producer id.
    pending: BTreeMap<i64, ByPartition>,
}

impl CommittedOffset {
    pub(super) fn new(offset: i64, leader_epoch: i32, metadata: Option<&StrBytes>, position: u64) -> Self {
        Self {
            offset,
            leader_epoch,
            metadata: metadata.map(|metadata| metadata.to_string()).unwrap_or_default(),
            position,
        }
    }

    pub(super) fn metadata(&self) -> StrBytes {
        str_bytes(&self.metadata)
    }
}

impl Offsets {
    pub(super) fn commit(&mut self, topic: &str, partition: i32, offset: CommittedOffset) {
        put(&mut self.committed, topic, partition, offset);
    }

    pub(super) fn commit_pending(&mut self, producer_id: i64, topic: &str, partition: i32, offset: CommittedOffset) {
        put(self.pending.entry(producer_id).or_default(), topic, partition, offset);
    }

    pub(super) fn committed(&self, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.committed.get(topic)?.get(&partition)
    }

    pub(super) fn all_committed(&self) -> &BTreeMap<String, BTreeMap<i32, CommittedOffset>> {
        &self.committed
    }

    pub(super) fn is_pending(&self, topic: &str, partition: i32) -> bool {
        let of_topic = self.pending.values().filter_map(|offsets| offsets.get(topic));
        of_topic
            .into_iter()
            .any(|partitions| partitions.contains_key(&partition))
    }

    pub(super) fn complete_transaction(&mut self, producer_id: i64, committed: bool) {
        let Some(pending) = self.pending.remove(&producer_id) else {
            return;
        };
        if !committed {
            return;
        }
        for (topic, partitions) in pending {
            for (partition, offset) in partitions {
                let current = self.committed(&topic, partition);
                if current.is_none_or(|current| current.position < offset.position) {
                    self.commit(&topic, partition, offset);
                }
            }
        }
    }

    pub(super) fn forget(&mut self, topic: &str, partition: i32) {
        for offsets in self.pending.values_mut().chain([&mut self.committed]) {
            if let Some(partitions) = offsets.get_mut(topic) {
                partitions.remove(&partition);
                if partitions.is_empty() {
                    offsets.remove(topic);
                }
            }
        }
    }

    pub(super) fn forget_topic(&mut self, topic: &str) {
        for offsets in self.pending.values_mut().chain([&mut self.committed]) {
            offsets.remove(topic);
        }
    }
}

fn put(offsets: &mut ByPartition, topic: &str, partition: i32, offset: CommittedOffset) {
    // Looked up first: the topic's name is copied once, not for every partition.
    match offsets.get_mut(topic) {
        Some(partitions) => partitions.insert(partition, offset),
        None => offsets.entry(topic.to_owned()).or_default().insert(partition, offset),
    };
}
