//! What is in the ledger has to be so: checkpoints lie behind what the target holds, and every run is where it says.

use std::collections::BTreeMap;
use std::ops::Bound;

use kferry::offsets::{OffsetMap, OffsetPair, Segment, SourceOffset, StoredSegment, TargetOffset, TranslationState};
use kferry::record::{DecodeLimits, decode};
use kferry::replication::ledger::{Checkpoint, LedgerKey, LedgerRecord, OwnerId, OwnerRecord};
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
    segments: BTreeMap<(String, i32), BTreeMap<(SourceOffset, OwnerId), StoredSegment>>,
    /// The last owner of each lane.
    owners: BTreeMap<i32, OwnerRecord>,
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
                            if let LedgerRecord::Owner(record) = record {
                                self.owners.insert(lane, record);
                            }
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
                let known = self.checkpoints.entry(key.clone()).or_default();
                // An older owner does not know what the source has lost since, and nobody asks it.
                let has_lost = known
                    .range((Bound::Excluded(owner), Bound::Unbounded))
                    .any(|(_, newer)| newer.cuts != checkpoint.cuts);
                if let Some(judge) = partitions.get(&key).filter(|_| !has_lost) {
                    check_position(judge, &checkpoint)?;
                }
                known.insert(owner, checkpoint);
                Ok(())
            }
            LedgerRecord::Segment {
                topic,
                partition,
                segment,
                owner,
            } => {
                let key = (topic, partition);
                if let Some(judge) = partitions.get(&key) {
                    check_runs(judge, &segment)?;
                }
                if let Some((start, stored)) = segment.start().zip(StoredSegment::new(&segment)) {
                    self.segments.entry(key).or_default().insert((start, owner), stored);
                }
                Ok(())
            }
            LedgerRecord::Gone(LedgerKey::Checkpoint {
                topic,
                partition,
                owner,
            }) => {
                self.checkpoints.entry((topic, partition)).or_default().remove(&owner);
                Ok(())
            }
            LedgerRecord::Gone(LedgerKey::Segment {
                topic,
                partition,
                owner,
                source_start,
            }) => {
                let segments = self.segments.entry((topic, partition)).or_default();
                segments.remove(&(source_start, owner));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Whoever has given the flow up has said how far it came.
    pub(crate) fn conclude(&self, source: &Cluster, partitions: &Partitions) -> Result<(), Violation> {
        if !self.owners.values().all(|owner| owner.released) {
            return Ok(());
        }
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
            if let Some((_, checkpoint)) = latest {
                let log = &source.partition(&key.0, key.1).expect("a topic of ours").log;
                check_map(judge, &self.map(key, checkpoint), log.log_start_offset())?;
            }
        }
        Ok(())
    }

    pub(super) fn position_of_last_owner(&self, key: &(String, i32)) -> i64 {
        let latest = self.checkpoints.get(key).and_then(BTreeMap::last_key_value);
        let last = self.owners.values().map(|owner| owner.owner).max();
        let latest = latest.filter(|(owner, _)| Some(**owner) == last);
        latest.map_or(0, |(_, known)| known.source_position.0)
    }

    /// What anybody who asks is answered from.
    fn map(&self, key: &(String, i32), checkpoint: &Checkpoint) -> OffsetMap {
        let position = OffsetPair {
            source: checkpoint.source_position,
            target: checkpoint.target_next,
        };
        let segments = self.segments.get(key).into_iter().flatten();
        let segments = segments.map(|((_, owner), stored)| (*owner, stored.clone()));
        OffsetMap::new(checkpoint.start, position, &checkpoint.cuts, segments)
    }
}

/// Every offset that the source's log still has leads to a place on the target behind all that lies below it, and before
/// all that does not; and back. Where the cleaner has taken records before it was known where their copies are, it is
/// enough that nobody misses one.
fn check_map(judge: &PartitionJudge, map: &OffsetMap, log_start: i64) -> Result<(), Violation> {
    if judge.repeated() > 0 {
        return Ok(()); // There are two places.
    }
    let copies: Vec<(i64, i64)> = (judge.place_of_offset(log_start)..judge.committed().len())
        .filter_map(|place| Some((judge.committed()[place].offset, judge.copy_of(place)?)))
        .collect();
    let Some((_, first_copy)) = copies.first().copied() else {
        return Ok(());
    };
    let may_repeat = judge.rules().source_is_compacted;
    let is_right = |is_below: bool, is_below_answer: bool| is_below == is_below_answer || (may_repeat && is_below);
    let wrong = |side: &str, asked: i64, answer: String| {
        let text = format!("{}: {side} offset {asked} is {answer}", judge.name());
        violation(Invariant::Translation, text)
    };
    for asked in map.start().source.0.max(log_start)..map.position().source.0 {
        let answer = map.translate(SourceOffset(asked));
        let mut copies = copies.iter();
        let all_right = copies.all(|(source, target)| is_right(*source < asked, *target < answer.offset.0));
        if answer.state != TranslationState::Exact || !all_right {
            return wrong("source", asked, format!("{answer:?}"));
        }
    }
    for asked in map.start().target.0.max(first_copy)..map.position().target.0 {
        let answer = map.inverse(TargetOffset(asked));
        let mut copies = copies.iter();
        let all_right = copies.all(|(source, target)| is_right(*target < asked, *source < answer.offset.0));
        if answer.state != TranslationState::Exact || !all_right {
            return wrong("target", asked, format!("{answer:?}"));
        }
    }
    Ok(())
}

fn check_position(judge: &PartitionJudge, checkpoint: &Checkpoint) -> Result<(), Violation> {
    // What has not noticed yet that the source was cut back counts what was there before.
    if judge
        .parted_at()
        .is_some_and(|parted| checkpoint.source_position.0 > parted)
    {
        return Ok(());
    }
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
            let is_so = judge.was_orphaned(source, target)
                || judge.committed().get(place).is_some_and(|seen| seen.offset == source)
                    && judge.has_copy(place, target);
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
