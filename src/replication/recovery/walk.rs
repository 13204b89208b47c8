//! Counts committed records at the source, from the checkpoint on.

use crate::offsets::{Run, SourceOffset, TargetOffset};
use crate::replication::epochs::Before;
use crate::replication::prepare::PreparedBatch;

/// A stretch of the records that the target has from the checkpoint on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Records between the checkpoint and the first one of it, in the order in which they were sent.
    pub before: i64,
    pub target_start: TargetOffset,
    pub count: i64,
}

/// A walk over so many records.
#[derive(Debug)]
pub struct SourceWalk {
    position: SourceOffset,
    before: Before,
    /// What was counted was written under a newer epoch than the checkpoint knows.
    is_newer: bool,
    remaining: i64,
    walked: Vec<(SourceOffset, i64)>,
}

impl SourceWalk {
    pub fn new(position: SourceOffset, before: Before, records: i32) -> Self {
        Self {
            position,
            before,
            is_newer: false,
            remaining: records.into(),
            walked: Vec::new(),
        }
    }

    pub fn is_done(&self) -> bool {
        self.remaining == 0
    }

    /// Just past the last record counted.
    pub fn position(&self) -> SourceOffset {
        self.position
    }

    /// The last batch counted.
    pub fn before(&self) -> Before {
        self.before
    }

    /// Something was counted that may have come later, in the place of what was sent (KIP-101: only under a newer epoch).
    pub fn is_newer(&self) -> bool {
        self.is_newer
    }

    /// Takes batches that follow on those before. What is left over when the count is full is for the copy to come.
    pub fn take(&mut self, batches: &[PreparedBatch]) {
        for batch in batches {
            if self.is_done() {
                return;
            }
            let whole = batch.record_count() <= self.remaining;
            for (start, count) in batch.source_ranges() {
                let count = count.min(self.remaining);
                if count > 0 {
                    self.push(start, count);
                }
            }
            if whole {
                self.position = batch.next_position;
            }
            self.is_newer |= batch.source.epoch > self.before.epoch;
            self.before = batch.source;
        }
    }

    /// Nothing that is a record lies below.
    pub fn skip_to(&mut self, position: SourceOffset) {
        if !self.is_done() {
            self.position = self.position.max(position);
        }
    }

    fn push(&mut self, start: SourceOffset, count: i64) {
        self.remaining -= count;
        self.position = SourceOffset(start.0 + count);
        match self.walked.last_mut() {
            Some((last, length)) if last.0 + *length == start.0 => *length += count,
            _ => self.walked.push((start, count)),
        }
    }

    /// Source offsets, from and to (exclusive), around the first records counted that no stretch has.
    pub fn missing(&self, stretches: &[Stretch]) -> Option<(SourceOffset, SourceOffset)> {
        let mut expected = 0;
        for stretch in stretches {
            if stretch.before > expected {
                return Some((self.offset_of(expected)?, self.offset_of(stretch.before)?));
            }
            expected = expected.max(stretch.before + stretch.count);
        }
        Some((self.offset_of(expected)?, self.position))
    }

    /// The source offset of the record before which so many were counted.
    fn offset_of(&self, mut before: i64) -> Option<SourceOffset> {
        for &(start, count) in &self.walked {
            if before < count {
                return Some(SourceOffset(start.0 + before));
            }
            before -= count;
        }
        None
    }

    /// Where the records that were counted are on the target.
    pub fn runs(&self, stretches: &[Stretch]) -> Vec<Run> {
        let mut runs = Vec::new();
        let mut stretches = stretches.iter().copied().peekable();
        let mut before = 0;
        for &(start, count) in &self.walked {
            let end = before + count;
            while let Some(stretch) = stretches.peek().copied() {
                let (from, to) = (before.max(stretch.before), end.min(stretch.before + stretch.count));
                if from < to {
                    runs.push(Run {
                        source_start: SourceOffset(start.0 + from - before),
                        target_start: TargetOffset(stretch.target_start.0 + from - stretch.before),
                        count: to - from,
                    });
                }
                if stretch.before + stretch.count > end {
                    break;
                }
                stretches.next();
            }
            before = end;
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BatchBuilder, BatchOptions};

    /// A batch whose records have these source offsets.
    fn batch(ranges: &[(i64, u32)], next_position: i64) -> PreparedBatch {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        for _ in 0..ranges.iter().map(|(_, count)| *count).sum() {
            builder.push(0, None, Some(b"v"), &[]);
        }
        PreparedBatch {
            next_position: SourceOffset(next_position),
            ..PreparedBatch::built(builder, ranges, 4)
        }
    }

    fn run(source: i64, target: i64, count: i64) -> Run {
        Run {
            source_start: SourceOffset(source),
            target_start: TargetOffset(target),
            count,
        }
    }

    fn stretch(before: i64, target: i64, count: i64) -> Stretch {
        Stretch {
            before,
            target_start: TargetOffset(target),
            count,
        }
    }

    #[test]
    fn a_walk_ends_behind_the_last_record_counted() {
        let mut walk = SourceWalk::new(SourceOffset(10), Before { epoch: 3, mark: None }, 7);
        walk.take(&[batch(&[(10, 3)], 14), batch(&[(14, 2), (20, 5)], 30)]);
        assert!(walk.is_done());
        assert_eq!(walk.position(), SourceOffset(22));
        assert!(walk.is_newer(), "the batches are of epoch 4");
        assert_eq!(
            walk.runs(&[stretch(0, 100, 7)]),
            [run(10, 100, 3), run(14, 103, 2), run(20, 105, 2)]
        );
    }

    #[test]
    fn a_walk_that_ends_with_a_batch_passes_what_follows_in_it() {
        let mut walk = SourceWalk::new(SourceOffset(10), Before { epoch: 3, mark: None }, 3);
        walk.take(&[batch(&[(10, 3)], 14), batch(&[(14, 2)], 16)]);
        assert_eq!(walk.position(), SourceOffset(14));
    }

    #[test]
    fn gaps_on_the_target_part_runs() {
        let mut walk = SourceWalk::new(SourceOffset(0), Before { epoch: -1, mark: None }, 10);
        walk.take(&[batch(&[(0, 10)], 10)]);
        assert_eq!(
            walk.runs(&[stretch(0, 50, 4), stretch(4, 60, 6)]),
            [run(0, 50, 4), run(4, 60, 6)]
        );
        assert_eq!(
            walk.runs(&[stretch(2, 52, 2), stretch(6, 60, 4)]),
            [run(2, 52, 2), run(6, 60, 4)],
            "what the target's cleaner has taken has no place"
        );
    }

    #[test]
    fn records_that_no_stretch_has_are_missing() {
        let mut walk = SourceWalk::new(SourceOffset(0), Before { epoch: -1, mark: None }, 6);
        walk.take(&[batch(&[(0, 2), (5, 2)], 8), batch(&[(8, 2)], 10)]);
        let missing = |stretches: &[Stretch]| walk.missing(stretches).map(|(from, to)| (from.0, to.0));
        assert_eq!(missing(&[stretch(0, 10, 3), stretch(3, 20, 3)]), None);
        assert_eq!(missing(&[stretch(3, 20, 3)]), Some((0, 6)));
        assert_eq!(missing(&[stretch(0, 10, 3), stretch(5, 20, 1)]), Some((6, 9)));
        assert_eq!(missing(&[stretch(0, 10, 4)]), Some((8, 10)));
        assert_eq!(missing(&[]), Some((0, 10)));
    }

    #[test]
    fn gaps_on_both_sides_part_runs() {
        let mut walk = SourceWalk::new(SourceOffset(0), Before { epoch: -1, mark: None }, 6);
        walk.take(&[batch(&[(0, 2), (5, 2)], 8), batch(&[(8, 2)], 10)]);
        assert_eq!(
            walk.runs(&[stretch(0, 10, 3), stretch(3, 20, 3)]),
            [run(0, 10, 2), run(5, 12, 1), run(6, 20, 1), run(8, 21, 2)]
        );
    }
}
