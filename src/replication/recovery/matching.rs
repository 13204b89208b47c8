//! Finds the target's own records again at the source, by content, and so the place where the copy has come to.
//!
//! Batches tell nothing: the cleaner rewrites those that it keeps, on either side. Records are told by a fingerprint over
//! time, key, value and headers. On a log that nobody cleans, each of our records has to be the next one of the source.
//! Where a cleaner is at work, either side may lack what the other has, but what both have is in the same order.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};

use super::tail::WithTime;
use crate::offsets::{Run, SourceOffset, TargetOffset};
use crate::record::{DecodeLimits, Decoded, Record, RecordError, decode_payload};
use crate::replication::epochs::Before;
use crate::replication::prepare::PreparedBatch;

/// What a record is told by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(u64);

/// The fingerprint of a record of `batch`.
pub fn fingerprint(batch: &Decoded, record: &Record<'_>, with_time: WithTime) -> Result<Fingerprint, RecordError> {
    let mut hasher = DefaultHasher::new();
    if with_time.0 {
        hasher.write_i64(batch.timestamp(record)?);
    }
    // Key, value and headers are copied as they are written; lengths are part of that, and null is not empty.
    hasher.write(record.after_offset_delta);
    Ok(Fingerprint(hasher.finish()))
}

/// Looks for the target's records at the source, in their order.
#[derive(Debug)]
pub struct Matching<'a> {
    target: &'a [(Fingerprint, TargetOffset)],
    /// Where each fingerprint is among them.
    places: BTreeMap<Fingerprint, Vec<u32>>,
    /// The first of them that is not found so far.
    next: usize,
    missing: Missing,
    with_time: WithTime,
    /// Records of the source that may still have been sent.
    remaining: i64,
    last: Option<(SourceOffset, Before)>,
    walked_to: SourceOffset,
    mismatch: bool,
    runs: Vec<Run>,
}

/// What the search has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// The copy has come to this source offset; the leader epoch is of the batch before it.
    Found { position: SourceOffset, before: Before },
    /// Of records that lie on the target the last so many were not found. All below `from` were; the copy may have come as
    /// far as `to`.
    Lost {
        from: SourceOffset,
        to: SourceOffset,
        records: u64,
    },
}

/// Which records of ours may rightly be on one side only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    None,
    /// Retention has taken the first ones from the source.
    AtHead,
    /// A cleaner is at work on one of the sides.
    Anywhere,
}

impl<'a> Matching<'a> {
    /// `target` are our records from the checkpoint on, of which `sent` were sent.
    pub fn new(target: &'a [(Fingerprint, TargetOffset)], sent: i64, missing: Missing, with_time: WithTime) -> Self {
        let mut places: BTreeMap<Fingerprint, Vec<u32>> = BTreeMap::new();
        if missing != Missing::None {
            for (place, (fingerprint, _)) in (0..).zip(target) {
                places.entry(*fingerprint).or_default().push(place);
            }
        }
        Self {
            target,
            places,
            next: 0,
            missing,
            with_time,
            remaining: sent,
            last: None,
            walked_to: SourceOffset(0),
            mismatch: false,
            runs: Vec::new(),
        }
    }

    /// No more of the source needs to be looked at.
    pub fn is_done(&self) -> bool {
        // After a mismatch the rest is only counted, to know how far the copy may have come.
        self.remaining <= 0 || (self.next == self.target.len() && !self.mismatch)
    }

    /// Takes batches of the source, from the checkpoint on.
    pub fn take(&mut self, batches: &[PreparedBatch]) -> Result<(), RecordError> {
        for batch in batches {
            if self.is_done() {
                return Ok(());
            }
            let decoded = decode_payload(batch.header, batch.payload.clone(), &DecodeLimits::default())?;
            let mut records = decoded.records();
            for (start, count) in batch.source_ranges() {
                for offset in start.0..start.0 + count {
                    let Some(record) = records.next() else { break };
                    let found = fingerprint(&decoded, &record?, self.with_time)?;
                    self.take_record(SourceOffset(offset), batch.source, found);
                    if self.is_done() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn take_record(&mut self, offset: SourceOffset, before: Before, found: Fingerprint) {
        self.remaining -= 1;
        self.walked_to = SourceOffset(offset.0 + 1);
        let place = match self.missing {
            _ if self.mismatch => None,
            Missing::AtHead | Missing::Anywhere => self.places.get(&found).and_then(|places| {
                let after = places.partition_point(|place| (*place as usize) < self.next);
                places.get(after).map(|place| *place as usize)
            }),
            Missing::None if self.target[self.next].0 == found => Some(self.next),
            Missing::None => {
                self.mismatch = true;
                None
            }
        };
        if let Some(place) = place {
            self.next = place + 1;
            self.last = Some((offset, before));
            self.push(offset, self.target[place].1);
        }
    }

    fn push(&mut self, source: SourceOffset, target: TargetOffset) {
        match self.runs.last_mut() {
            Some(last) if last.source_end() == source && last.target_end() == target => last.count += 1,
            _ => self.runs.push(Run {
                source_start: source,
                target_start: target,
                count: 1,
            }),
        }
    }

    /// The runs that were found, and where the copy goes on: behind the last record that both sides have.
    pub fn finish(self, position: SourceOffset, before: Before) -> (Vec<Run>, Match) {
        let is_whole = self.next == self.target.len();
        // A cleaner may have taken the source's copy of our last records, but not of all of them.
        let is_found = is_whole || (self.missing == Missing::Anywhere && self.last.is_some());
        let found = match (is_found, self.last) {
            (true, Some((offset, before))) => Match::Found {
                position: SourceOffset(offset.0 + 1),
                before,
            },
            (true, None) => Match::Found { position, before },
            (false, last) => {
                let from = last.map_or(position, |(offset, _)| SourceOffset(offset.0 + 1));
                Match::Lost {
                    from,
                    to: self.walked_to.max(from),
                    records: (self.target.len() - self.next) as u64,
                }
            }
        };
        (self.runs, found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BatchBuilder, BatchOptions};

    /// Records from this source offset on, one for each letter.
    fn source(start: i64, letters: &str) -> PreparedBatch {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        for letter in letters.chars() {
            builder.push(9, Some(b"k"), Some(letter.to_string().as_bytes()), &[]);
        }
        PreparedBatch::built(builder, &[(start, letters.len() as u32)], 2)
    }

    fn target(start: i64, letters: &str) -> Vec<(Fingerprint, TargetOffset)> {
        let batch = source(0, letters);
        let decoded = decode_payload(batch.header, batch.payload, &DecodeLimits::default()).unwrap();
        decoded
            .records()
            .zip(start..)
            .map(|(record, offset)| {
                let found = fingerprint(&decoded, &record.unwrap(), WithTime(true)).unwrap();
                (found, TargetOffset(offset))
            })
            .collect()
    }

    fn search(
        target: &[(Fingerprint, TargetOffset)],
        sent: i64,
        missing: Missing,
        batches: &[PreparedBatch],
    ) -> (Vec<Run>, Match) {
        let mut matching = Matching::new(target, sent, missing, WithTime(true));
        matching.take(batches).unwrap();
        matching.finish(SourceOffset(100), Before { epoch: 1, mark: None })
    }

    fn run(source: i64, target: i64, count: i64) -> Run {
        Run {
            source_start: SourceOffset(source),
            target_start: TargetOffset(target),
            count,
        }
    }

    fn found(position: i64) -> Match {
        Match::Found {
            position: SourceOffset(position),
            before: Before { epoch: 2, mark: None },
        }
    }

    fn lost(from: i64, to: i64, records: u64) -> Match {
        Match::Lost {
            from: SourceOffset(from),
            to: SourceOffset(to),
            records,
        }
    }

    #[test]
    fn the_copy_goes_on_behind_the_last_record_that_the_target_has() {
        let (runs, end) = search(
            &target(50, "abc"),
            3,
            Missing::None,
            &[source(100, "ab"), source(103, "cde")],
        );
        assert_eq!(end, found(104));
        assert_eq!(runs, [run(100, 50, 2), run(103, 52, 1)]);
    }

    #[test]
    fn a_target_without_records_of_ours_has_nothing_to_find() {
        let (runs, end) = search(&[], 0, Missing::None, &[source(100, "ab")]);
        assert_eq!(
            end,
            Match::Found {
                position: SourceOffset(100),
                before: Before { epoch: 1, mark: None }
            }
        );
        assert_eq!(runs, []);
    }

    #[test]
    fn a_record_that_is_not_the_next_one_is_no_match() {
        let (_, end) = search(&target(50, "abxy"), 4, Missing::None, &[source(100, "abcdef")]);
        assert_eq!(end, lost(102, 104, 2));
    }

    #[test]
    fn a_cleaned_source_may_lack_what_the_target_has() {
        let (runs, end) = search(
            &target(50, "abcd"),
            4,
            Missing::Anywhere,
            &[source(101, "b"), source(103, "def")],
        );
        assert_eq!(end, found(104));
        assert_eq!(runs, [run(101, 51, 1), run(103, 53, 1)]);
    }

    #[test]
    fn a_cleaned_target_may_lack_what_the_source_has() {
        let (_, end) = search(&target(50, "bd"), 4, Missing::Anywhere, &[source(100, "abcdef")]);
        assert_eq!(end, found(104));
    }

    #[test]
    fn a_record_that_the_source_has_lost_was_the_last_one() {
        // "d" was sent and is gone from the source; "e" was not sent.
        let (_, end) = search(
            &target(50, "abcd"),
            4,
            Missing::Anywhere,
            &[source(100, "abc"), source(104, "efgh")],
        );
        assert_eq!(end, found(103));
    }

    #[test]
    fn what_is_missing_behind_a_record_that_is_there_was_not_taken_by_retention() {
        let (runs, end) = search(&target(50, "abcd"), 4, Missing::AtHead, &[source(102, "cdef")]);
        assert_eq!((runs, end), (vec![run(102, 52, 2)], found(104)));
        let (_, end) = search(&target(50, "abcd"), 4, Missing::AtHead, &[source(102, "cxyz")]);
        assert_eq!(end, lost(103, 106, 1));
    }

    #[test]
    fn no_more_is_looked_at_than_was_sent() {
        let mut matching_all = Matching::new(&[], 0, Missing::Anywhere, WithTime(true));
        assert!(matching_all.is_done());
        matching_all.take(&[source(0, "a")]).unwrap();
        let letters = target(50, "z");
        let (_, end) = search(&letters, 2, Missing::Anywhere, &[source(100, "abcdefz")]);
        assert_eq!(end, lost(100, 102, 1));
    }

    #[test]
    fn equal_records_are_taken_in_their_order() {
        let (runs, end) = search(&target(50, "aaa"), 3, Missing::None, &[source(100, "aaaaa")]);
        assert_eq!(end, found(103));
        assert_eq!(runs, [run(100, 50, 3)]);
    }
}
