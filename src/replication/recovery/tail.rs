//! Finds our own records in the end of the target's log: from the checkpoint's target offset on.
//!
//! What is ours is told by the producer id in a batch's header, which the cleaner leaves as it is; so it does the base
//! offset, the first sequence number and the last offset delta. How many records a batch had is therefore told by the
//! latter: we send batches without gaps, the cleaner makes them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::sequence_distance;
use super::walk::Stretch;
use crate::offsets::TargetOffset;
use crate::record::{DecodeLimits, RawBatch, RecordError, ScanError, Scanned, decode, scan};
use crate::replication::recovery::matching::{Fingerprint, fingerprint};

/// Records of ours from the last checkpoint on whose fingerprints are held: some 64 MiB. A second's worth is far less.
pub const MAX_TAIL_RECORDS: usize = 4 << 20;

/// Why the end of the target's log tells nothing.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    #[error("the target's records can't be found")]
    Scan(#[from] ScanError),
    #[error("the target's batch at offset {base_offset} can't be read")]
    Record { base_offset: i64, source: RecordError },
    #[error("more than {MAX_TAIL_RECORDS} records lie behind the last checkpoint")]
    TooLong,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OwnBatch {
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    base_offset: TargetOffset,
    /// Records that it was sent with.
    count: i32,
}

/// What was found.
#[derive(Debug)]
pub struct TargetTail {
    producers: BTreeSet<i64>,
    /// Whether records are looked at; with their times or without.
    fingerprints: Option<WithTime>,
    next: TargetOffset,
    own: Vec<OwnBatch>,
    records: Vec<(Fingerprint, TargetOffset)>,
    has_others: bool,
}

/// Whether a record's time is part of what it is told by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WithTime(pub bool);

impl TargetTail {
    /// Of the records that these producers have written, from `from` on.
    pub fn new(from: TargetOffset, producers: BTreeSet<i64>, fingerprints: Option<WithTime>) -> Self {
        Self {
            producers,
            fingerprints,
            next: from,
            own: Vec::new(),
            records: Vec::new(),
            has_others: false,
        }
    }

    /// Where the next fetch begins.
    pub fn next(&self) -> TargetOffset {
        self.next
    }

    /// Somebody else has written to the partition.
    pub fn has_others(&self) -> bool {
        self.has_others
    }

    /// Our records in order, where they were looked at.
    pub fn records(&self) -> &[(Fingerprint, TargetOffset)] {
        &self.records
    }

    /// How many records of ours there are, those too that a cleaner has taken.
    pub fn own_records(&self) -> u64 {
        self.own
            .iter()
            .map(|batch| batch.count.unsigned_abs())
            .map(u64::from)
            .sum()
    }

    /// Takes records as fetched from [`TargetTail::next`] on. What lies at or past `end` is another owner's business.
    pub fn take(&mut self, records: Bytes, end: TargetOffset) -> Result<(), TailError> {
        for scanned in scan(records) {
            match scanned? {
                Scanned::Batch(batch) if batch.header.base_offset() >= end.0 => return Ok(()),
                Scanned::Batch(batch) => self.take_batch(&batch)?,
                Scanned::Legacy(entry) => {
                    self.has_others = true;
                    self.next = self.next.max(TargetOffset(entry.next_offset()));
                }
            }
        }
        Ok(())
    }

    fn take_batch(&mut self, batch: &RawBatch) -> Result<(), TailError> {
        let header = &batch.header;
        let next = TargetOffset(header.next_offset());
        if next <= self.next {
            return Ok(()); // A fetch answers with the whole batch that holds its offset.
        }
        let from = std::mem::replace(&mut self.next, next);
        if header.is_control() {
            return Ok(());
        }
        if !self.producers.contains(&header.producer_id()) {
            self.has_others |= header.record_count() > 0;
            return Ok(());
        }
        self.own.push(OwnBatch {
            producer_id: header.producer_id(),
            producer_epoch: header.producer_epoch(),
            base_sequence: header.base_sequence(),
            base_offset: TargetOffset(header.base_offset()),
            count: header.last_offset_delta().saturating_add(1),
        });
        match self.fingerprints {
            Some(with_time) => self.take_records(batch, from, with_time),
            None => Ok(()),
        }
    }

    fn take_records(&mut self, batch: &RawBatch, from: TargetOffset, with_time: WithTime) -> Result<(), TailError> {
        let base_offset = batch.header.base_offset();
        let unreadable = |source| TailError::Record { base_offset, source };
        let decoded = decode(batch, &DecodeLimits::default()).map_err(unreadable)?;
        for record in decoded.records() {
            let record = record.map_err(unreadable)?;
            let offset = TargetOffset(decoded.offset(&record));
            if offset < from {
                continue;
            }
            if self.records.len() == MAX_TAIL_RECORDS {
                return Err(TailError::TooLong);
            }
            let fingerprint = fingerprint(&decoded, &record, with_time).map_err(unreadable)?;
            self.records.push((fingerprint, offset));
        }
        Ok(())
    }

    /// The last sequence number of a mapping, if any of its batches was found.
    pub fn last_sequence(&self, producer_id: i64, producer_epoch: i16) -> Option<i32> {
        let of_mapping = |batch: &&OwnBatch| (batch.producer_id, batch.producer_epoch) == (producer_id, producer_epoch);
        let last = self.own.iter().rev().find(of_mapping)?;
        Some(last.base_sequence.wrapping_add(last.count - 1) & i32::MAX)
    }

    /// The highest epoch of a producer that was found, and its last sequence number.
    pub fn newest(&self, producer_id: i64) -> Option<(i16, i32)> {
        let of_producer = self.own.iter().filter(|batch| batch.producer_id == producer_id);
        let epoch = of_producer.map(|batch| batch.producer_epoch).max()?;
        Some((epoch, self.last_sequence(producer_id, epoch)?))
    }

    /// Where on the target the records of a mapping are, from the one with `next_sequence` on.
    pub fn stretches(&self, producer_id: i64, producer_epoch: i16, next_sequence: i32) -> Vec<Stretch> {
        let mut stretches: Vec<Stretch> = Vec::new();
        for batch in &self.own {
            let before = i64::from(sequence_distance(next_sequence, batch.base_sequence));
            if (batch.producer_id, batch.producer_epoch) != (producer_id, producer_epoch)
                || before > i64::from(super::MAX_AHEAD)
            {
                continue; // Of another mapping, or below the checkpoint.
            }
            stretches.push(Stretch {
                before,
                target_start: batch.base_offset,
                count: batch.count.into(),
            });
        }
        stretches
    }

    /// How many records were sent from the checkpoint on, those included that the target's cleaner has taken since.
    pub fn sent(&self, producer_id: i64, producer_epoch: i16, next_sequence: i32) -> i64 {
        let mut last: BTreeMap<(i64, i16), i64> = BTreeMap::new();
        for batch in &self.own {
            let mapping = (batch.producer_id, batch.producer_epoch);
            let begun = if mapping == (producer_id, producer_epoch) {
                next_sequence
            } else {
                0
            };
            let before = sequence_distance(begun, batch.base_sequence);
            if before <= super::MAX_AHEAD {
                let end = i64::from(before) + i64::from(batch.count);
                last.entry(mapping)
                    .and_modify(|sent| *sent = end.max(*sent))
                    .or_insert(end);
            }
        }
        last.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BatchBuilder, BatchOptions, ControlType, ProducerStamp, control_batch};

    fn batch(producer: (i64, i16), base_sequence: i32, base_offset: i64, values: &[&str]) -> Bytes {
        let (producer_id, producer_epoch) = producer;
        let mut builder = BatchBuilder::new(BatchOptions {
            base_offset,
            producer: Some(ProducerStamp {
                producer_id,
                producer_epoch,
                base_sequence,
            }),
            ..BatchOptions::default()
        });
        for value in values {
            builder.push(5, None, Some(value.as_bytes()), &[]);
        }
        builder.build().unwrap()
    }

    const END: TargetOffset = TargetOffset(1000);

    fn tail(batches: &[Bytes]) -> TargetTail {
        let mut tail = TargetTail::new(TargetOffset(10), BTreeSet::from([7]), Some(WithTime(true)));
        tail.take(batches.concat().into(), END).unwrap();
        tail
    }

    #[test]
    fn what_lies_past_the_end_is_left_out() {
        let batches = [batch((7, 1), 0, 10, &["a"]), batch((7, 1), 1, 11, &["b"])];
        let mut tail = TargetTail::new(TargetOffset(10), BTreeSet::from([7]), None);
        tail.take(batches.concat().into(), TargetOffset(11)).unwrap();
        assert_eq!(tail.newest(7), Some((1, 0)));
    }

    #[test]
    fn own_batches_are_told_by_their_producer() {
        let tail = tail(&[
            batch((7, 0), 20, 10, &["a", "b"]),
            batch((8, 0), 0, 12, &["x"]),
            batch((7, 0), 22, 13, &["c"]),
        ]);
        assert_eq!(tail.next(), TargetOffset(14));
        assert!(tail.has_others());
        assert_eq!(tail.last_sequence(7, 0), Some(22));
        assert_eq!(
            tail.stretches(7, 0, 20),
            [
                Stretch {
                    before: 0,
                    target_start: TargetOffset(10),
                    count: 2
                },
                Stretch {
                    before: 2,
                    target_start: TargetOffset(13),
                    count: 1
                },
            ]
        );
        let offsets: Vec<i64> = tail.records().iter().map(|(_, offset)| offset.0).collect();
        assert_eq!(offsets, [10, 11, 13]);
        assert_eq!(tail.sent(7, 0, 20), 3);
    }

    #[test]
    fn markers_are_nobodys_records() {
        let marker = control_batch(12, 7, 1, ControlType::Commit, 0, 5);
        let tail = tail(&[batch((7, 0), 20, 10, &["a", "b"]), marker]);
        assert_eq!(tail.next(), TargetOffset(13));
        assert!(!tail.has_others());
        assert_eq!(tail.newest(7), Some((0, 21)));
    }

    #[test]
    fn what_lies_below_the_beginning_does_not_count() {
        let tail = tail(&[batch((7, 0), 18, 8, &["a", "b"]), batch((7, 0), 20, 10, &["c"])]);
        assert_eq!(tail.records().len(), 1);
        assert_eq!(tail.sent(7, 0, 20), 1);
    }

    #[test]
    fn every_mapping_counts_from_its_own_beginning() {
        let tail = tail(&[batch((7, 0), 20, 10, &["a"]), batch((7, 1), 0, 12, &["b", "c"])]);
        assert_eq!(tail.sent(7, 0, 20), 3);
        assert_eq!(tail.newest(7), Some((1, 1)));
    }
}
