//! Which leader epochs the source's records were written under, as a follower remembers them (KIP-101): where a log was cut
//! back, this tells from which offset on it has become another.

use crate::offsets::SourceOffset;
use crate::protocol::fetch_response::EpochEnd;

/// Changes of epoch that are remembered. Logs that part before the oldest are not gone on with.
pub const MAX_EPOCHS: usize = 64;

/// The records from `start` on, up to the next one's, were written under `epoch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochStart {
    pub epoch: i32,
    pub start: SourceOffset,
}

/// Epochs and offsets ascend.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EpochHistory(Vec<EpochStart>);

impl EpochHistory {
    pub fn entries(&self) -> &[EpochStart] {
        &self.0
    }

    /// Batches of this epoch lie at `start` and above. Of messages that have none (-1) nothing is remembered.
    pub fn take(&mut self, next: EpochStart) {
        let is_newer = |last: &EpochStart| next.epoch > last.epoch && next.start >= last.start;
        if next.epoch < 0 || !self.0.last().is_none_or(is_newer) {
            return;
        }
        if self.0.len() == MAX_EPOCHS {
            self.0.remove(0);
        }
        self.0.push(next);
    }

    pub fn take_all(&mut self, entries: &[EpochStart]) {
        entries.iter().for_each(|entry| self.take(*entry));
    }

    /// Of the last record; -1 if it is not known.
    pub fn last_epoch(&self) -> i32 {
        self.0.last().map_or(-1, |last| last.epoch)
    }

    /// Forgets what lies at `position` and above.
    pub fn cut(&mut self, position: SourceOffset) {
        self.0.truncate(self.0.partition_point(|entry| entry.start < position));
    }

    pub fn below(&self, position: SourceOffset) -> Self {
        let mut below = self.clone();
        below.cut(position);
        below
    }

    /// Up to where a log is the one that was copied, of which the leader says that the newest epoch not above ours ends at
    /// `end`. It may have been written under other epochs than ours before that: then it is the next to be asked about.
    /// `None` where that lies before all that is remembered, of a flow that began at `flow_start`.
    pub fn parted(&self, end: EpochEnd, flow_start: SourceOffset) -> Option<SourceOffset> {
        let theirs = SourceOffset(end.end_offset);
        let newer = self.0.partition_point(|entry| entry.epoch <= end.epoch);
        match self.0.get(newer) {
            None => Some(theirs),
            Some(first) if newer == 0 && first.start > flow_start => None,
            Some(first) => Some(theirs.min(first.start)),
        }
    }
}

/// What says that the source's log is not the one that was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truncation {
    /// The newest epoch that the leader knows, and is not above ours, ends here.
    EpochEnds(EpochEnd),
    /// The log ends below what was copied.
    LogEnds(SourceOffset),
    /// The offset is within the log, and the leader does not know the epoch of what was copied last.
    EpochUnknown,
}
