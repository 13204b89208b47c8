//! The offset maps of a flow, as its ledger has them: for questions, for groups, for comparing. The target is all that it
//! takes, and nothing is written.

use std::collections::BTreeMap;
use std::sync::Arc;

use thiserror::Error;

use super::ledger::{LedgerStoreError, PartitionRecords, read_ledger};
use super::topics::exists;
use crate::cluster::{Cluster, ClusterError, TopicSelection};
use crate::offsets::{OffsetMap, OffsetPair};
use crate::replication::ledger::{Checkpoint, FlowRecord, GroupRecord, is_ledger_topic, ledger_topic};

/// A flow's memory, in order to ask it.
#[derive(Debug)]
pub struct FlowMap {
    pub ledger: Arc<str>,
    /// Bytes of keys and values in it, those included that compaction has still to take.
    pub ledger_bytes: u64,
    pub flow: FlowRecord,
    /// By topic and partition of the source.
    pub partitions: BTreeMap<(String, i32), PartitionMap>,
    /// By group, topic and partition.
    pub groups: BTreeMap<(String, String, i32), GroupRecord>,
}

/// A partition's map, and how far it has come.
#[derive(Debug)]
pub struct PartitionMap {
    pub checkpoint: Checkpoint,
    pub map: OffsetMap,
}

#[derive(Debug, Error)]
pub enum FlowMapError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("target: there is no ledger {ledger}, so this flow has copied nothing there{others}")]
    NoLedger { ledger: String, others: String },
    #[error("target: the ledger {0} says of no flow: it was begun and never written")]
    Unwritten(Arc<str>),
    #[error("target")]
    Ledger(#[from] LedgerStoreError),
}

impl FlowMap {
    /// Reads the ledger of the flow `source->target`, by their aliases.
    pub async fn load(target: &Cluster, source_alias: &str, target_alias: &str) -> Result<Self, FlowMapError> {
        let ledger: Arc<str> = ledger_topic(source_alias, target_alias).into();
        let metadata = target.refresh_metadata(TopicSelection::All).await?;
        if !exists(&metadata, &ledger) {
            let names = metadata.topics.keys().map(AsRef::as_ref);
            let others: Vec<&str> = names.filter(|name: &&str| is_ledger_topic(name)).collect();
            return Err(FlowMapError::NoLedger {
                ledger: ledger.to_string(),
                others: match others.is_empty() {
                    true => String::new(),
                    false => format!("; the ledgers there are {}", others.join(", ")),
                },
            });
        }
        let (records, ledger_bytes) = read_ledger(target, &ledger).await?;
        Ok(Self {
            flow: records
                .flow
                .ok_or_else(|| FlowMapError::Unwritten(Arc::clone(&ledger)))?,
            ledger,
            ledger_bytes,
            partitions: records
                .partitions
                .into_iter()
                .filter_map(|(key, records)| Some((key, PartitionMap::new(records)?)))
                .collect(),
            groups: records.groups,
        })
    }

    /// The partition of that name at the source.
    pub fn by_source(&self, topic: &str, partition: i32) -> Option<&PartitionMap> {
        self.partitions.get(&(topic.to_owned(), partition))
    }

    /// The source's topic, and the partition, of that name on the target.
    pub fn by_target(&self, topic: &str, partition: i32) -> Option<(&str, &PartitionMap)> {
        let found = self
            .partitions
            .iter()
            .find(|((_, number), map)| *number == partition && map.checkpoint.target_topic == topic);
        found.map(|((name, _), map)| (name.as_str(), map))
    }
}

impl PartitionMap {
    fn new(records: PartitionRecords) -> Option<Self> {
        let checkpoint = records.checkpoints.into_values().next_back()?;
        let position = OffsetPair {
            source: checkpoint.source_position,
            target: checkpoint.target_next,
        };
        let segments = records.segments.into_iter().map(|((_, owner), stored)| (owner, stored));
        let map = OffsetMap::new(checkpoint.start, position, &checkpoint.cuts, segments);
        Some(Self { checkpoint, map })
    }
}
