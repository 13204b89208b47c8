//! A bounded piece of the offset map, as it is held in memory and as the ledger stores it.
//!
//! The encoded form is a version byte and, for each run, three zigzag varints: the source gap before it, the target
//! gap before it, and its count. Most runs take three to six bytes. Gaps and not starts are written, so that a long
//! partition costs no more than a short one.

use thiserror::Error;

use super::{OffsetPair, Run, SourceOffset, TargetOffset};
use crate::protocol::primitives::{Reader, WireError, put_varlong};

/// Runs in a segment. A checkpoint rewrites the last segment, so this bounds what one checkpoint writes for a
/// partition: about 20 KiB in the worst case, a few bytes in the usual one.
pub const MAX_RUNS_PER_SEGMENT: usize = 4096;

const FORMAT: u8 = 1;

/// Consecutive runs of one partition, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Segment {
    runs: Vec<Run>,
}

impl Segment {
    /// The runs, in order of source and target offsets alike.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Where the segment begins; it never changes while runs are added, so it names the segment in the ledger.
    pub fn start(&self) -> Option<SourceOffset> {
        self.runs.first().map(|run| run.source_start)
    }

    /// Where the last run ends at the source.
    pub fn end(&self) -> Option<SourceOffset> {
        self.runs.last().map(Run::source_end)
    }

    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Adds a run behind the others. A run that goes on where the last one ends makes that one longer.
    ///
    /// Returns the run where the segment is full; it then starts the next segment.
    ///
    /// # Panics
    /// If the run lies before the end of the last one: acks are taken in order, so that would be our own mistake.
    pub fn push(&mut self, run: Run) -> Option<Run> {
        self.push_within(run, MAX_RUNS_PER_SEGMENT)
    }

    /// The same, of a segment that is full with fewer runs.
    pub fn push_within(&mut self, run: Run, max_runs: usize) -> Option<Run> {
        if let Some(last) = self.runs.last_mut() {
            assert!(
                last.source_end() <= run.source_start && last.target_end() <= run.target_start,
                "runs out of order: {last:?} then {run:?}"
            );
            if last.is_continued_by(&run) {
                last.count += run.count;
                return None;
            }
        }
        if self.runs.len() >= max_runs {
            return Some(run);
        }
        self.runs.push(run);
        None
    }

    /// The part below both offsets.
    pub fn cut(mut self, source_end: SourceOffset, target_end: TargetOffset) -> Self {
        for run in &mut self.runs {
            let below = (source_end.0 - run.source_start.0).min(target_end.0 - run.target_start.0);
            run.count = run.count.min(below);
        }
        self.runs.retain(|run| run.count > 0);
        self
    }

    /// What is left where everything is void that lies at or past the pair's source offset and below its target offset.
    pub fn without(mut self, cut: OffsetPair) -> Self {
        let pieces = |run: &Run| {
            let from = (cut.source.0 - run.source_start.0).clamp(0, run.count);
            let to = (cut.target.0 - run.target_start.0).clamp(from, run.count);
            [Run { count: from, ..*run }, run.after(to)]
        };
        self.runs = self.runs.iter().flat_map(pieces).filter(|run| run.count > 0).collect();
        self
    }

    /// The segment as the ledger stores it.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        let (mut source_end, mut target_end) = (0, 0);
        for run in &self.runs {
            put_varlong(&mut bytes, run.source_start.0 - source_end);
            put_varlong(&mut bytes, run.target_start.0 - target_end);
            put_varlong(&mut bytes, run.count);
            (source_end, target_end) = (run.source_end().0, run.target_end().0);
        }
        bytes
    }

    /// Reads what [`Segment::encode`] wrote. Anything else is an error, never a panic.
    pub fn decode(bytes: &[u8]) -> Result<Self, SegmentError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            FORMAT => {}
            other => return Err(SegmentError::Format(other)),
        }
        let mut runs = Vec::new();
        let (mut source_end, mut target_end) = (0_i64, 0_i64);
        while !reader.is_empty() {
            if runs.len() == MAX_RUNS_PER_SEGMENT {
                return Err(SegmentError::TooManyRuns);
            }
            let run = decode_run(&mut reader, source_end, target_end)?;
            (source_end, target_end) = (run.source_end().0, run.target_end().0);
            runs.push(run);
        }
        Ok(Self { runs })
    }
}

fn decode_run(reader: &mut Reader<'_>, source_end: i64, target_end: i64) -> Result<Run, SegmentError> {
    let (source_gap, target_gap, count) = (reader.varlong()?, reader.varlong()?, reader.varlong()?);
    if source_gap < 0 || target_gap < 0 || count < 1 {
        return Err(SegmentError::BadRun {
            source_gap,
            target_gap,
            count,
        });
    }
    let starts = source_end
        .checked_add(source_gap)
        .zip(target_end.checked_add(target_gap));
    starts
        .filter(|(source, target)| source.checked_add(count).is_some() && target.checked_add(count).is_some())
        .map(|(source, target)| Run {
            source_start: SourceOffset(source),
            target_start: TargetOffset(target),
            count,
        })
        .ok_or(SegmentError::BadRun {
            source_gap,
            target_gap,
            count,
        })
}

/// A segment as it is kept where many are: encoded, with its ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSegment {
    start: SourceOffset,
    end: SourceOffset,
    bytes: Box<[u8]>,
}

impl StoredSegment {
    /// `None` of an empty segment.
    pub fn new(segment: &Segment) -> Option<Self> {
        Some(Self {
            start: segment.start()?,
            end: segment.end()?,
            bytes: segment.encode().into(),
        })
    }

    pub fn start(&self) -> SourceOffset {
        self.start
    }

    pub fn end(&self) -> SourceOffset {
        self.end
    }

    pub fn load(&self) -> Segment {
        Segment::decode(&self.bytes).expect("it was encoded here")
    }
}

/// Why bytes are not a segment.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SegmentError {
    #[error("offset map segment has format {0}, this kferry reads {FORMAT}")]
    Format(u8),
    #[error("offset map segment holds more than {MAX_RUNS_PER_SEGMENT} runs")]
    TooManyRuns,
    #[error("offset map run is impossible: source gap {source_gap}, target gap {target_gap}, count {count}")]
    BadRun {
        source_gap: i64,
        target_gap: i64,
        count: i64,
    },
    #[error("offset map segment is damaged")]
    Wire(#[from] WireError),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(source: i64, target: i64, count: i64) -> Run {
        Run {
            source_start: SourceOffset(source),
            target_start: TargetOffset(target),
            count,
        }
    }

    #[test]
    fn a_run_that_goes_on_is_merged() {
        let mut segment = Segment::default();
        assert_eq!(segment.push(run(10, 0, 5)), None);
        assert_eq!(segment.push(run(15, 5, 5)), None);
        assert_eq!(segment.runs(), [run(10, 0, 10)]);
    }

    #[test]
    fn a_gap_on_either_side_starts_a_run() {
        let mut segment = Segment::default();
        segment.push(run(0, 0, 5));
        segment.push(run(6, 5, 5)); // A marker at the source.
        segment.push(run(11, 12, 5)); // Another writer on the target.
        assert_eq!(segment.runs(), [run(0, 0, 5), run(6, 5, 5), run(11, 12, 5)]);
    }

    #[test]
    fn a_full_segment_hands_the_run_back() {
        let mut segment = Segment::default();
        for i in 0..MAX_RUNS_PER_SEGMENT as i64 {
            assert_eq!(segment.push(run(i * 2, i, 1)), None);
        }
        let next = run(1 << 20, 1 << 19, 1);
        assert_eq!(segment.push(next), Some(next));
    }

    #[test]
    #[should_panic(expected = "runs out of order")]
    fn runs_out_of_order_are_our_own_mistake() {
        let mut segment = Segment::default();
        segment.push(run(10, 10, 5));
        segment.push(run(12, 20, 1));
    }

    #[test]
    fn what_lies_past_an_end_is_cut_off() {
        let mut segment = Segment::default();
        segment.push(run(0, 0, 5));
        segment.push(run(6, 5, 5));
        segment.push(run(20, 10, 5));
        assert_eq!(
            segment.cut(SourceOffset(8), TargetOffset(12)).runs(),
            [run(0, 0, 5), run(6, 5, 2)]
        );
    }

    #[test]
    fn what_a_source_has_lost_is_void_until_the_target_goes_on() {
        let mut segment = Segment::default();
        segment.push(run(0, 0, 10));
        segment.push(run(12, 10, 10));
        let cut = OffsetPair {
            source: SourceOffset(6),
            target: TargetOffset(14),
        };
        assert_eq!(segment.without(cut).runs(), [run(0, 0, 6), run(16, 14, 6)]);
    }

    #[test]
    fn golden_bytes() {
        let mut segment = Segment::default();
        segment.push(run(100, 7, 3));
        segment.push(run(104, 10, 1));
        let golden = [
            1, // format
            0xc8, 0x01, 14, 6, // source gap 100, target gap 7, count 3
            2, 0, 2, // source gap 1, target gap 0, count 1
        ];
        assert_eq!(segment.encode(), golden);
        assert_eq!(Segment::decode(&golden), Ok(segment));
    }

    #[test]
    fn damage_is_an_error() {
        assert_eq!(Segment::decode(&[2]), Err(SegmentError::Format(2)));
        assert!(matches!(Segment::decode(&[]), Err(SegmentError::Wire(_))));
        assert!(matches!(
            Segment::decode(&[1, 2, 2, 0]),
            Err(SegmentError::BadRun { count: 0, .. })
        ));
        assert!(matches!(Segment::decode(&[1, 2, 2]), Err(SegmentError::Wire(_))));
        let mut overflow = vec![1];
        for value in [i64::MAX, 0, 1] {
            put_varlong(&mut overflow, value);
        }
        assert!(matches!(Segment::decode(&overflow), Err(SegmentError::BadRun { .. })));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(gaps in prop::collection::vec((0_i64..1000, 0_i64..1000, 1_i64..1_000_000), 0..200)) {
            let mut segment = Segment::default();
            let (mut source, mut target) = (0, 0);
            for (source_gap, target_gap, count) in gaps {
                segment.push(run(source + source_gap, target + target_gap, count));
                (source, target) = (source + source_gap + count, target + target_gap + count);
            }
            prop_assert_eq!(Segment::decode(&segment.encode()), Ok(segment));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Segment::decode(&bytes);
        }
    }
}
