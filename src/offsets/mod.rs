//! The offset map: which target offset a source offset has become.
//!
//! Order within a partition is kept, so the map is a list of [`Run`]s, stretches in which both offsets go up together.
//! A new run starts only where the source has a gap (a control record, an aborted transaction, compaction) or the
//! target has one (another writer). Runs are kept in bounded [`Segment`]s, which is also how the ledger stores them.

mod map;
mod merge;
mod segment;

use std::fmt;

pub use map::{OffsetMap, OffsetPair, Translation, TranslationState};
pub use segment::{MAX_RUNS_PER_SEGMENT, Segment, SegmentError, StoredSegment};

/// An offset in a partition of the source cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceOffset(pub i64);

/// An offset in a partition of the target cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetOffset(pub i64);

impl fmt::Display for SourceOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for TargetOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A stretch of records that lie without a gap on both clusters: record `i` of it has the offsets
/// `source_start + i` and `target_start + i`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    pub source_start: SourceOffset,
    pub target_start: TargetOffset,
    /// Number of records, at least 1.
    pub count: i64,
}

impl Run {
    /// The source offset just past the run.
    pub fn source_end(&self) -> SourceOffset {
        SourceOffset(self.source_start.0 + self.count)
    }

    /// The target offset just past the run.
    pub fn target_end(&self) -> TargetOffset {
        TargetOffset(self.target_start.0 + self.count)
    }

    /// The run without its first `count` records.
    pub fn after(&self, count: i64) -> Self {
        Self {
            source_start: SourceOffset(self.source_start.0 + count),
            target_start: TargetOffset(self.target_start.0 + count),
            count: self.count - count,
        }
    }

    /// Whether `next` goes on where this run ends, on both clusters.
    fn is_continued_by(&self, next: &Self) -> bool {
        self.source_end() == next.source_start && self.target_end() == next.target_start
    }
}
