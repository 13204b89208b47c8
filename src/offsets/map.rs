//! All runs of a partition, and the two questions to them: where on the target, where at the source.
//!
//! For a committed offset `c` the answer is *exact* if every record before `c` lies before the answer, and the answer is not
//! past the first record at or after `c`: nothing is skipped, nothing read again. In a gap that leaves a choice, and the
//! answer is its beginning.
//!
//! Runs are held as they are written, as varints of gaps and counts, in blocks of [`RUNS_PER_BLOCK`]: some four to six bytes
//! a run. A question decodes one block.

use super::merge::merge;
use super::{Run, SourceOffset, StoredSegment, TargetOffset};
use crate::protocol::primitives::{Reader, put_varlong};

/// A question decodes so many runs at most.
const RUNS_PER_BLOCK: usize = 256;

/// The same place on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetPair {
    pub source: SourceOffset,
    pub target: TargetOffset,
}

/// How much an answer is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TranslationState {
    Exact,
    /// Not replicated so far: the offset is where it will go, or later.
    Pending,
    /// Older than what the flow began with; the offset is the flow's first.
    BeforeStart,
}

/// An offset on the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Translation<T> {
    pub offset: T,
    pub state: TranslationState,
}

/// The exact offset map of a partition.
#[derive(Debug, Clone)]
pub struct OffsetMap {
    start: OffsetPair,
    position: OffsetPair,
    blocks: Vec<Block>,
    runs: usize,
}

/// Runs that follow each other.
#[derive(Debug, Clone)]
struct Block {
    source_start: SourceOffset,
    target_start: TargetOffset,
    /// For each run the gaps before it on both sides, and its count; the first has none.
    bytes: Box<[u8]>,
}

impl OffsetMap {
    /// The map of a partition with which the flow began at `start` and which has come to `position`, from the segments that
    /// the flow's owners have written, in any order. Where two say different things of a source offset, the one with the
    /// higher priority counts, and what `cuts` have made void does not. What lies at or past the position is left out: whoever wrote it was not the last owner.
    pub fn new<P: Ord + Copy>(
        start: OffsetPair,
        position: OffsetPair,
        cuts: &[OffsetPair],
        segments: impl IntoIterator<Item = (P, StoredSegment)>,
    ) -> Self {
        let mut map = Self {
            start,
            position,
            blocks: Vec::new(),
            runs: 0,
        };
        let mut open = OpenBlock::default();
        merge(segments, cuts, |run| {
            let below = (position.source.0 - run.source_start.0).min(position.target.0 - run.target_start.0);
            let count = run.count.min(below);
            if count > 0 {
                map.push(&mut open, Run { count, ..run });
            }
        });
        map.close(open);
        map
    }

    fn push(&mut self, open: &mut OpenBlock, run: Run) {
        if let Some(last) = &mut open.last {
            if run.source_start < last.source_end() || run.target_start < last.target_end() {
                return; // Not in order on both sides: nothing that was copied in order.
            }
            if last.source_end() == run.source_start && last.target_end() == run.target_start {
                last.count += run.count;
                return;
            }
        }
        if open.runs == RUNS_PER_BLOCK {
            let full = std::mem::take(open);
            open.floor = full.last.map(|last| (last.source_end(), last.target_end()));
            self.close(full);
        }
        if open
            .floor
            .is_some_and(|(source, target)| run.source_start < source || run.target_start < target)
        {
            return;
        }
        open.push(run);
    }

    fn close(&mut self, mut open: OpenBlock) {
        open.settle();
        if let Some((source_start, target_start)) = open.start {
            self.runs += open.runs;
            self.blocks.push(Block {
                source_start,
                target_start,
                bytes: open.bytes.into(),
            });
        }
    }

    /// The first pair: where the flow began.
    pub fn start(&self) -> OffsetPair {
        self.start
    }

    /// Everything below is on the target, or was skipped for good.
    pub fn position(&self) -> OffsetPair {
        self.position
    }

    pub fn len(&self) -> usize {
        self.runs
    }

    pub fn is_empty(&self) -> bool {
        self.runs == 0
    }

    /// Bytes that the runs take in memory.
    pub fn memory(&self) -> usize {
        self.blocks
            .iter()
            .map(|block| size_of::<Block>() + block.bytes.len())
            .sum()
    }

    /// All runs, in order.
    pub fn iter(&self) -> impl Iterator<Item = Run> + '_ {
        self.blocks.iter().flat_map(Block::iter)
    }

    /// Where on the target a consumer goes on that has read everything below `offset` at the source.
    pub fn translate(&self, offset: SourceOffset) -> Translation<TargetOffset> {
        let OffsetPair { source, target } = self.position;
        if offset > source {
            return pending(target);
        }
        if offset < self.start.source {
            return before_start(self.start.target);
        }
        if offset == source {
            return exact(target);
        }
        let block = self.blocks.partition_point(|block| block.source_start <= offset);
        let run = block.checked_sub(1).and_then(|block| {
            self.blocks[block]
                .iter()
                .take_while(|run| run.source_start <= offset)
                .last()
        });
        exact(run.map_or(self.start.target, |run| {
            TargetOffset(run.target_start.0 + (offset.0 - run.source_start.0).min(run.count))
        }))
    }

    /// Where at the source a consumer goes on that has read everything below `offset` on the target.
    pub fn inverse(&self, offset: TargetOffset) -> Translation<SourceOffset> {
        let OffsetPair { source, target } = self.position;
        if offset > target {
            return pending(source);
        }
        if offset < self.start.target {
            return before_start(self.start.source);
        }
        if offset == target {
            return exact(source);
        }
        let block = self.blocks.partition_point(|block| block.target_start <= offset);
        let run = block.checked_sub(1).and_then(|block| {
            self.blocks[block]
                .iter()
                .take_while(|run| run.target_start <= offset)
                .last()
        });
        exact(run.map_or(self.start.source, |run| {
            SourceOffset(run.source_start.0 + (offset.0 - run.target_start.0).min(run.count))
        }))
    }
}

fn exact<T>(offset: T) -> Translation<T> {
    let state = TranslationState::Exact;
    Translation { offset, state }
}

fn pending<T>(offset: T) -> Translation<T> {
    let state = TranslationState::Pending;
    Translation { offset, state }
}

fn before_start<T>(offset: T) -> Translation<T> {
    let state = TranslationState::BeforeStart;
    Translation { offset, state }
}

/// A block to which runs are added.
#[derive(Debug, Default)]
struct OpenBlock {
    start: Option<(SourceOffset, TargetOffset)>,
    /// Where the runs end that are written down.
    end: (i64, i64),
    bytes: Vec<u8>,
    runs: usize,
    /// Not written down so far: it may still grow.
    last: Option<Run>,
    /// Where the block before ends.
    floor: Option<(SourceOffset, TargetOffset)>,
}

impl OpenBlock {
    fn push(&mut self, run: Run) {
        self.settle();
        if self.start.is_none() {
            self.start = Some((run.source_start, run.target_start));
            self.end = (run.source_start.0, run.target_start.0);
        }
        self.runs += 1;
        self.last = Some(run);
    }

    fn settle(&mut self) {
        if let Some(run) = self.last.take() {
            put_varlong(&mut self.bytes, run.source_start.0 - self.end.0);
            put_varlong(&mut self.bytes, run.target_start.0 - self.end.1);
            put_varlong(&mut self.bytes, run.count);
            self.end = (run.source_end().0, run.target_end().0);
        }
    }
}

impl Block {
    fn iter(&self) -> impl Iterator<Item = Run> + '_ {
        let mut reader = Reader::new(&self.bytes);
        let (mut source_end, mut target_end) = (self.source_start.0, self.target_start.0);
        std::iter::from_fn(move || {
            if reader.is_empty() {
                return None;
            }
            let mut next = || reader.varlong().expect("we wrote it");
            let (source_gap, target_gap, count) = (next(), next(), next());
            let run = Run {
                source_start: SourceOffset(source_end + source_gap),
                target_start: TargetOffset(target_end + target_gap),
                count,
            };
            (source_end, target_end) = (run.source_end().0, run.target_end().0);
            Some(run)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::offsets::Segment;

    fn of<P: Ord + Copy>(
        start: OffsetPair,
        position: OffsetPair,
        segments: impl IntoIterator<Item = (P, Segment)>,
    ) -> OffsetMap {
        let stored = segments
            .into_iter()
            .filter_map(|(owner, segment)| Some((owner, StoredSegment::new(&segment)?)));
        OffsetMap::new(start, position, &[], stored)
    }

    fn run(source: i64, target: i64, count: i64) -> Run {
        Run {
            source_start: SourceOffset(source),
            target_start: TargetOffset(target),
            count,
        }
    }

    fn pair(source: i64, target: i64) -> OffsetPair {
        OffsetPair {
            source: SourceOffset(source),
            target: TargetOffset(target),
        }
    }

    fn segment(runs: &[Run]) -> Segment {
        let mut segment = Segment::default();
        for run in runs {
            assert_eq!(segment.push(*run), None);
        }
        segment
    }

    /// Began at 5 and 2; a marker at 8, two foreign records on the target at 7.
    fn map() -> OffsetMap {
        let runs = segment(&[run(5, 2, 3), run(9, 5, 2), run(11, 9, 4)]);
        of(pair(5, 2), pair(20, 13), [(1, runs)])
    }

    #[test]
    fn every_source_offset_has_its_target_offset() {
        let map = map();
        let translated: Vec<_> = (0..24)
            .map(|offset| {
                let Translation { offset, state } = map.translate(SourceOffset(offset));
                (offset.0, state)
            })
            .collect();
        use TranslationState::{BeforeStart, Exact, Pending};
        let mut expected = vec![(2, BeforeStart); 5];
        expected.extend([2, 3, 4, 5, 5, 6, 9, 10, 11, 12, 13, 13, 13, 13, 13, 13].map(|offset| (offset, Exact)));
        expected.extend([(13, Pending); 3]);
        assert_eq!(translated, expected);
    }

    #[test]
    fn every_target_offset_has_its_source_offset() {
        let map = map();
        let inverted: Vec<_> = (0..15)
            .map(|offset| {
                let Translation { offset, state } = map.inverse(TargetOffset(offset));
                (offset.0, state)
            })
            .collect();
        use TranslationState::{BeforeStart, Exact, Pending};
        let mut expected = vec![(5, BeforeStart); 2];
        expected.extend([5, 6, 7, 9, 10, 11, 11, 11, 12, 13, 14, 20].map(|offset| (offset, Exact)));
        expected.push((20, Pending));
        assert_eq!(inverted, expected);
    }

    #[test]
    fn a_partition_of_which_nothing_was_copied_has_a_map() {
        let map = of::<i32>(pair(7, 3), pair(7, 3), []);
        assert_eq!(map.translate(SourceOffset(7)), exact(TargetOffset(3)));
        assert_eq!(map.translate(SourceOffset(8)), pending(TargetOffset(3)));
        assert_eq!(map.translate(SourceOffset(6)), before_start(TargetOffset(3)));
    }

    #[test]
    fn what_lies_past_the_position_does_not_count() {
        let map = of(pair(0, 0), pair(6, 6), [(1, segment(&[run(0, 0, 10)]))]);
        assert_eq!(map.iter().collect::<Vec<_>>(), [run(0, 0, 6)]);
    }

    #[test]
    fn many_runs_are_found_in_any_block() {
        let runs: Vec<Run> = (0..10_000).map(|i| run(i * 3, i * 2, 2)).collect();
        let segments = runs.chunks(4096).map(|runs| (1, segment(runs)));
        let map = of(pair(0, 0), pair(30_000, 20_000), segments);
        assert_eq!(map.len(), 10_000);
        for i in 0..10_000 {
            assert_eq!(map.translate(SourceOffset(i * 3)).offset, TargetOffset(i * 2));
            assert_eq!(map.translate(SourceOffset(i * 3 + 2)).offset, TargetOffset(i * 2 + 2));
            assert_eq!(map.inverse(TargetOffset(i * 2 + 1)).offset, SourceOffset(i * 3 + 1));
        }
        assert!(map.memory() < 16 * map.len(), "{} bytes", map.memory());
    }

    /// What happens at the source and on the target, in order.
    #[derive(Debug, Clone)]
    enum Happening {
        Records(i64),
        /// A marker, an aborted transaction, what the cleaner took: no record of these is copied.
        SourceGap(i64),
        /// Another writer, our own fence.
        TargetGap(i64),
        /// A new owner goes on; what it had not read of its predecessor's map it finds again.
        Restart {
            forgets: usize,
        },
    }

    fn happenings() -> impl Strategy<Value = Vec<Happening>> {
        let happening = prop_oneof![
            4 => (1_i64..6).prop_map(Happening::Records),
            2 => (1_i64..4).prop_map(Happening::SourceGap),
            1 => (1_i64..4).prop_map(Happening::TargetGap),
            1 => (0_usize..6).prop_map(|forgets| Happening::Restart { forgets }),
        ];
        prop::collection::vec(happening, 0..80)
    }

    proptest! {
        /// Against a list of all records, by the definition of exactness itself.
        #[test]
        fn every_offset_both_ways(history in happenings(), start in (0_i64..9, 0_i64..9)) {
            let (mut source, mut target) = start;
            let mut records: Vec<(i64, i64)> = Vec::new();
            let (mut owner, mut written) = (1, 0);
            let mut segments: Vec<(i32, Segment)> = Vec::new();
            let write = |segments: &mut Vec<(i32, Segment)>, owner: i32, records: &[(i64, i64)]| {
                let mut segment = Segment::default();
                for (source, target) in records {
                    segment.push(run(*source, *target, 1));
                }
                segments.push((owner, segment));
            };
            for happening in history {
                match happening {
                    Happening::Records(count) => {
                        records.extend((0..count).map(|i| (source + i, target + i)));
                        (source, target) = (source + count, target + count);
                    }
                    Happening::SourceGap(count) => source += count,
                    Happening::TargetGap(count) => target += count,
                    Happening::Restart { forgets } => {
                        write(&mut segments, owner, &records[written..]);
                        owner += 1;
                        written = records.len().saturating_sub(forgets);
                    }
                }
            }
            write(&mut segments, owner, &records[written..]);
            let map = of(pair(start.0, start.1), pair(source, target), segments);

            for offset in start.0..=source {
                let answer = map.translate(SourceOffset(offset));
                prop_assert_eq!(answer.state, TranslationState::Exact);
                let split = records.partition_point(|(source, _)| *source < offset);
                prop_assert!(records[..split].iter().all(|(_, target)| *target < answer.offset.0));
                prop_assert!(records[split..].iter().all(|(_, target)| answer.offset.0 <= *target));
            }
            for offset in start.1..=target {
                let answer = map.inverse(TargetOffset(offset));
                prop_assert_eq!(answer.state, TranslationState::Exact);
                let split = records.partition_point(|(_, target)| *target < offset);
                prop_assert!(records[..split].iter().all(|(source, _)| *source < answer.offset.0));
                prop_assert!(records[split..].iter().all(|(source, _)| answer.offset.0 <= *source));
            }
        }

        #[test]
        fn no_segments_panic(segments in prop::collection::vec(
            (0_i32..4, prop::collection::vec((0_i64..20, 0_i64..20, 1_i64..9), 0..6)), 0..6))
        {
            let segments = segments.into_iter().map(|(owner, gaps)| {
                let (mut source, mut target) = (0, 0);
                let mut segment = Segment::default();
                for (source_gap, target_gap, count) in gaps {
                    segment.push(run(source + source_gap, target + target_gap, count));
                    (source, target) = (source + source_gap + count, target + target_gap + count);
                }
                (owner, segment)
            });
            let map = of(pair(0, 0), pair(100, 100), segments);
            let runs: Vec<Run> = map.iter().collect();
            prop_assert!(runs.windows(2).all(|pair| pair[0].source_end() <= pair[1].source_start
                && pair[0].target_end() <= pair[1].target_start));
        }
    }
}
