//! Compares two streams of records through the offset map, without I/O: what the source has committed, and whatever lies in
//! the flow's range on the target.
//!
//! | found | is |
//! |---|---|
//! | a committed record and its counterpart | compared, field by field |
//! | a committed record without a counterpart | missing; on a compacted target taken by the cleaner; below the target's log start expired |
//! | a target record whose source record is not committed | extra: aborted, or invented; on a compacted source taken by the cleaner; below the source's log start expired |
//! | a target record that no run speaks of | extra: somebody else's |
//!
//! The target's records have to come in the order of the runs, so order is compared with all else.

#[cfg(test)]
mod tests;

use std::iter::Peekable;

use crate::offsets::{OffsetPair, Run, SourceOffset, TargetOffset};

/// A record, as consumers get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// What a partition's sides are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sides {
    pub source_log_start: SourceOffset,
    pub target_log_start: TargetOffset,
    pub source_is_compacted: bool,
    pub target_is_compacted: bool,
    /// The target keeps the times that it is given.
    pub compares_time: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Missing,
    /// On the target, and no committed record of the source.
    NotCommitted,
    /// On the target, and not written by the flow.
    Foreign,
    Different(Field),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    Key,
    Value,
    Headers,
    Timestamp,
}

/// A difference, with the places where it was found, as far as each side has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    pub kind: Kind,
    pub source: Option<SourceOffset>,
    pub target: Option<TargetOffset>,
}

/// What a comparison has found so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    pub compared: u64,
    pub compacted: u64,
    pub expired: u64,
    pub missing: u64,
    pub extra: u64,
    pub different: u64,
    pub first: Option<Difference>,
    /// Of the compared records, as each side has them.
    pub source_digest: Digest,
    pub target_digest: Digest,
}

impl Findings {
    pub fn is_equal(&self) -> bool {
        self.first.is_none()
    }

    /// Together with what was found behind it.
    pub fn with(mut self, next: Self) -> Self {
        self.compared += next.compared;
        self.compacted += next.compacted;
        self.expired += next.expired;
        self.missing += next.missing;
        self.extra += next.extra;
        self.different += next.different;
        self.first = self.first.or(next.first);
        self.source_digest.bytes(&next.source_digest.0.to_be_bytes());
        self.target_digest.bytes(&next.target_digest.0.to_be_bytes());
        self
    }
}

/// FNV-1a of 64 bits over the records in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub u64);

impl Digest {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// Null is not empty, and lengths part what follows each other.
    fn nullable(&mut self, bytes: Option<&[u8]>) {
        self.bytes(&bytes.map_or(-1, |bytes| bytes.len() as i64).to_be_bytes());
        self.bytes(bytes.unwrap_or_default());
    }

    fn record(&mut self, record: &Seen, with_time: bool) {
        self.nullable(record.key.as_deref());
        self.nullable(record.value.as_deref());
        self.bytes(&(record.headers.len() as u64).to_be_bytes());
        for (key, value) in &record.headers {
            self.nullable(Some(key));
            self.nullable(value.as_deref());
        }
        if with_time {
            self.bytes(&record.timestamp.to_be_bytes());
        }
    }
}

/// One partition's comparison. Records go in by side, each side's in order; [`Comparison::wants`] says whose is next.
pub struct Comparison<R: Iterator<Item = Run>> {
    sides: Sides,
    /// By source offsets, for the source's records.
    runs: Peekable<R>,
    /// The same again, by target offsets, for the target's.
    target_runs: Peekable<R>,
    source: Option<Seen>,
    source_ended: bool,
    target: Option<Seen>,
    target_ended: bool,
    findings: Findings,
}

/// Whose record a comparison waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wants {
    Source,
    Target,
    Nothing,
}

impl<R: Iterator<Item = Run>> Comparison<R> {
    /// `runs` twice: the map, in order.
    pub fn new(sides: Sides, runs: R, runs_again: R) -> Self {
        let basis = Digest(0xcbf2_9ce4_8422_2325);
        Self {
            sides,
            runs: runs.peekable(),
            target_runs: runs_again.peekable(),
            source: None,
            source_ended: false,
            target: None,
            target_ended: false,
            findings: Findings {
                compared: 0,
                compacted: 0,
                expired: 0,
                missing: 0,
                extra: 0,
                different: 0,
                first: None,
                source_digest: basis,
                target_digest: basis,
            },
        }
    }

    pub fn wants(&self) -> Wants {
        if self.source.is_none() && !self.source_ended {
            Wants::Source
        } else if self.target.is_none() && !self.target_ended {
            Wants::Target
        } else {
            Wants::Nothing
        }
    }

    /// The source's next committed record, or none any more.
    pub fn source(&mut self, record: Option<Seen>) {
        self.source_ended = record.is_none();
        self.source = record;
        self.settle();
    }

    /// The target's next record, or none any more.
    pub fn target(&mut self, record: Option<Seen>) {
        self.target_ended = record.is_none();
        self.target = record;
        self.settle();
    }

    pub fn finish(self) -> Findings {
        self.findings
    }

    /// Takes whichever of the two records at hand comes first by the map.
    fn settle(&mut self) {
        if self.wants() != Wants::Nothing {
            return;
        }
        let due = self.source.as_ref().map(|record| SourceOffset(record.offset));
        let due = due.map(|offset| (offset, self.counterpart(offset)));
        let there = self.target.as_ref().map(|record| TargetOffset(record.offset));
        match (due, there) {
            (None, None) => {}
            (Some((offset, None)), _) => {
                self.source = None;
                self.find_missing(offset, None);
            }
            (Some((_, Some(expected))), Some(there)) if expected == there => self.compare(),
            (Some((offset, Some(expected))), there) if there.is_none_or(|there| expected < there) => {
                self.source = None;
                self.find_missing(offset, Some(expected));
            }
            (_, Some(there)) => {
                self.target = None;
                self.find_extra(there);
            }
            (Some(_), None) => unreachable!("a counterpart without a target record is missing"),
        }
    }

    fn counterpart(&mut self, offset: SourceOffset) -> Option<TargetOffset> {
        while self.runs.next_if(|run| run.source_end() <= offset).is_some() {}
        let run = self.runs.peek().filter(|run| run.source_start <= offset)?;
        Some(TargetOffset(run.target_start.0 + offset.0 - run.source_start.0))
    }

    fn origin(&mut self, offset: TargetOffset) -> Option<SourceOffset> {
        while self.target_runs.next_if(|run| run.target_end() <= offset).is_some() {}
        let run = self.target_runs.peek().filter(|run| run.target_start <= offset)?;
        Some(SourceOffset(run.source_start.0 + offset.0 - run.target_start.0))
    }

    fn compare(&mut self) {
        let (Some(source), Some(target)) = (self.source.take(), self.target.take()) else {
            return;
        };
        self.findings.compared += 1;
        let with_time = self.sides.compares_time;
        self.findings.source_digest.record(&source, with_time);
        self.findings.target_digest.record(&target, with_time);
        let field = match () {
            () if source.key != target.key => Field::Key,
            () if source.value != target.value => Field::Value,
            () if source.headers != target.headers => Field::Headers,
            () if with_time && source.timestamp != target.timestamp => Field::Timestamp,
            () => return,
        };
        self.findings.different += 1;
        self.note(Difference {
            kind: Kind::Different(field),
            source: Some(SourceOffset(source.offset)),
            target: Some(TargetOffset(target.offset)),
        });
    }

    fn find_missing(&mut self, source: SourceOffset, expected: Option<TargetOffset>) {
        match expected {
            Some(expected) if expected < self.sides.target_log_start => self.findings.expired += 1,
            // Also where no run speaks of it: a copy that was taken over finds the records that the cleaner has left.
            _ if self.sides.target_is_compacted => self.findings.compacted += 1,
            target => {
                self.findings.missing += 1;
                self.note(Difference {
                    kind: Kind::Missing,
                    source: Some(source),
                    target,
                });
            }
        }
    }

    fn find_extra(&mut self, target: TargetOffset) {
        let source = self.origin(target);
        match source {
            Some(source) if source < self.sides.source_log_start => self.findings.expired += 1,
            Some(_) if self.sides.source_is_compacted => self.findings.compacted += 1,
            _ => {
                self.findings.extra += 1;
                self.note(Difference {
                    kind: match source {
                        Some(_) => Kind::NotCommitted,
                        None => Kind::Foreign,
                    },
                    source,
                    target: Some(target),
                });
            }
        }
    }

    fn note(&mut self, difference: Difference) {
        self.findings.first.get_or_insert(difference);
    }
}

/// What of a map lies within a range of both sides.
pub fn within(runs: impl Iterator<Item = Run>, from: OffsetPair, to: OffsetPair) -> impl Iterator<Item = Run> {
    runs.filter_map(move |run| {
        let skip = (from.source.0 - run.source_start.0).max(from.target.0 - run.target_start.0);
        let run = run.after(skip.clamp(0, run.count));
        let count = run
            .count
            .min(to.source.0 - run.source_start.0)
            .min(to.target.0 - run.target_start.0);
        (count > 0).then_some(Run { count, ..run })
    })
}
