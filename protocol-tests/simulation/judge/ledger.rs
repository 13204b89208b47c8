//! What is in the ledger has to be so: checkpoints lie behind what the target holds, and every run is where it says.

use std::collections::BTreeMap;

use kferry::offsets::Segment;
use kferry::record::{DecodeLimits, decode};
use kferry::replication::ledger::{Checkpoint, LedgerRecord, OwnerId};
use kferry::sandbox::core::Cluster;

use super::{Invariant, PartitionJudge, Violation, batches_from, violation};
use crate::announcements::tell;

type Partitions = BTreeMap<(String, i32), PartitionJudge>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct LedgerJudge {
    scanned: BTreeMap<i32, i64>,
    /// What was written late by an older owner does not count.
    checkpoints: BTreeMap<(String, i32), BTreeMap<OwnerId, Checkpoint>>,
}

impl LedgerJudge {
    pub(crate) fn look(&mut self, target: &Cluster, topic: &str, partitions: &Partitions) -> Result<(), Violation> {
        let lanes = target.topics().get(topic).map_or(0, |topic| topic.partitions.len());
        for lane in 0..i32::try_from(lanes).expect("few lanes") {
            let log = &target.partition(topic, lane).expect("a lane").log;
            let scanned = self.scanned.entry(lane).or_insert(0);
            if log.end_offset() == *scanned {
                continue;
            }
            let batches = batches_from(log, *scanned);
            *scanned = log.end_offset();
            for batch in batches.into_iter().filter(|batch| !batch.header.is_control()) {
                let decoded = decode(&batch.to_raw(), &DecodeLimits::default()).expect("a batch that the sandbox took");
                for record in decoded.records() {
                    let record = record.expect("a whole record");
                    let key = record.key.unwrap_or_default();
                    match LedgerRecord::decode(key, record.value) {
                        Ok(record) => {
                            tell(|| format!("ledger {lane}: {record:?}"));
                            self.check(record, partitions)?;
                        }
                        Err(error) => return violation(Invariant::Sound, format!("the ledger: {error}")),
                    }
                }
            }
        }
        Ok(())
    }

    fn check(&mut self, record: LedgerRecord, partitions: &Partitions) -> Result<(), Violation> {
        match record {
            LedgerRecord::Checkpoint {
                topic,
                partition,
                owner,
                checkpoint,
            } => {
                let key = (topic, partition);
                if let Some(judge) = partitions.get(&key) {
                    check_position(judge, &checkpoint)?;
                }
                self.checkpoints.entry(key).or_default().insert(owner, checkpoint);
                Ok(())
            }
            LedgerRecord::Segment {
                topic,
                partition,
                segment,
                ..
            } => match partitions.get(&(topic, partition)) {
                Some(judge) => check_runs(judge, &segment),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Whatever ended in good order has said how far it came.
    pub(crate) fn conclude(&self, partitions: &Partitions) -> Result<(), Violation> {
        for (key, judge) in partitions {
            let latest = self.checkpoints.get(key).and_then(BTreeMap::last_key_value);
            let position = latest.map_or(0, |(_, known)| known.source_position.0);
            let known = judge.place_of_offset(position);
            if known < judge.arrived() {
                return violation(
                    Invariant::Checkpoint,
                    format!(
                        "{}: {} records are on the target, the last checkpoint knows of {known}",
                        judge.name(),
                        judge.arrived()
                    ),
                );
            }
        }
        Ok(())
    }
}

fn check_position(judge: &PartitionJudge, checkpoint: &Checkpoint) -> Result<(), Violation> {
    let below = judge.place_of_offset(checkpoint.source_position.0);
    // What a cleaner has taken is not there to be copied.
    if below > judge.arrived() && !judge.rules().source_is_compacted {
        return violation(
            Invariant::Checkpoint,
            format!(
                "{}: {checkpoint:?} lies behind {below} records, of which {} are on the target",
                judge.name(),
                judge.arrived()
            ),
        );
    }
    let last_copy = (0..below).rev().find_map(|place| judge.copy_of(place));
    if judge.repeated() == 0 && last_copy.is_some_and(|copy| copy >= checkpoint.target_next.0) {
        return violation(
            Invariant::Checkpoint,
            format!(
                "{}: {checkpoint:?} has a record below at target offset {last_copy:?}",
                judge.name()
            ),
        );
    }
    Ok(())
}

fn check_runs(judge: &PartitionJudge, segment: &Segment) -> Result<(), Violation> {
    for run in segment.runs() {
        let first = judge.place_of_offset(run.source_start.0);
        for i in 0..run.count {
            let (source, target) = (run.source_start.0 + i, run.target_start.0 + i);
            let place = first + usize::try_from(i).expect("a count");
            let is_so =
                judge.committed().get(place).is_some_and(|seen| seen.offset == source) && judge.has_copy(place, target);
            if !is_so {
                return violation(
                    Invariant::Translation,
                    format!(
                        "{}: {run:?} says that source offset {source} is at target offset {target}; the record there is {:?}, \
                         its copy at {:?}",
                        judge.name(),
                        judge.committed().get(place),
                        judge.copy_of(place)
                    ),
                );
            }
        }
    }
    Ok(())
}
