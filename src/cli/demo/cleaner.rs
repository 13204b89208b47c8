//! Has the source's log cleaner run, and remembers what it removes.
//!
//! The flow may have carried a record before the cleaner removed it: then the target has it, and nobody but this knows
//! that it is right.

use std::collections::BTreeMap;

use super::content::Content;
use super::reading::Reading;
use super::traffic::{PROFILES, TOPICS};
use crate::sandbox::Sandbox;
use crate::sandbox::core::Cluster;

#[derive(Debug, Default)]
pub(super) struct Cleaner {
    /// What has been removed of each partition of profiles, by offset.
    removed: BTreeMap<i32, BTreeMap<i64, Content>>,
}

impl Cleaner {
    /// Compacts profiles. Returns how many records were removed.
    pub(super) fn clean(&mut self, source: &Sandbox) -> anyhow::Result<u64> {
        let topic = &TOPICS[PROFILES];
        let mut count = 0;
        for partition in 0..topic.partitions {
            let removed = source.with_core(|core| -> anyhow::Result<_> {
                let mut before = records(core, topic.name, partition)?;
                core.compact(topic.name, partition)?;
                for offset in records(core, topic.name, partition)?.keys() {
                    before.remove(offset);
                }
                Ok(before)
            })?;
            count += removed.len() as u64;
            self.removed.entry(partition).or_default().extend(removed);
        }
        Ok(count)
    }

    /// What was removed of a partition, by offset.
    pub(super) fn removed(&self, topic: usize, partition: i32) -> impl Iterator<Item = (i64, &Content)> {
        let of_topic = self.removed.get(&partition).filter(|_| topic == PROFILES);
        of_topic
            .into_iter()
            .flatten()
            .map(|(offset, content)| (*offset, content))
    }
}

fn records(core: &Cluster, topic: &str, partition: i32) -> anyhow::Result<BTreeMap<i64, Content>> {
    let mut reading = Reading::default();
    for batch in core.batches(topic, partition)? {
        reading.push(&batch.to_raw())?;
    }
    Ok(reading.committed)
}
