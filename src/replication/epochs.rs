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

/// A batch of the source, by what tells it from any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchMark {
    pub base_offset: SourceOffset,
    pub crc: u32,
}

/// What lies before a position of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before {
    /// The leader epoch of the last batch, or -1.
    pub epoch: i32,
    /// That batch, where it is known and no cleaner may change it.
    pub mark: Option<BatchMark>,
}

impl Before {
    pub const UNKNOWN: Self = Self { epoch: -1, mark: None };
}

/// What says that the source's log is not the one that was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truncation {
    /// The newest epoch that the leader knows, and is not above ours, ends here.
    EpochEnds(EpochEnd),
    /// The log ends below what was copied, and no newer epoch began there: a broker has lost its end. Below, too, other records may
    /// have come since.
    LogEnds(SourceOffset),
    /// The offset is within the log, and the leader does not know the epoch of what was copied last.
    EpochUnknown,
}

impl Truncation {
    /// What a leader of this epoch means by a diverging epoch.
    pub fn told(end: EpochEnd, leader_epoch: i32) -> Self {
        // Its own epoch ends where its log does.
        match leader_epoch >= 0 && end.epoch >= leader_epoch {
            true => Self::LogEnds(SourceOffset(end.end_offset)),
            false => Self::EpochEnds(end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(entries: &[(i32, i64)]) -> EpochHistory {
        let mut history = EpochHistory::default();
        for &(epoch, start) in entries {
            let start = SourceOffset(start);
            history.take(EpochStart { epoch, start });
        }
        history
    }

    /// Of a flow that began at offset 0.
    fn parted(entries: &[(i32, i64)], epoch: i32, end_offset: i64) -> Option<i64> {
        let end = EpochEnd { epoch, end_offset };
        history(entries).parted(end, SourceOffset(0)).map(|parted| parted.0)
    }

    #[test]
    fn an_epoch_begins_once() {
        let history = history(&[(3, 0), (3, 5), (-1, 7), (5, 10), (4, 12), (5, 20)]);
        let entries: Vec<_> = history
            .entries()
            .iter()
            .map(|entry| (entry.epoch, entry.start.0))
            .collect();
        assert_eq!(entries, [(3, 0), (5, 10)]);
        assert_eq!(history.last_epoch(), 5);
    }

    #[test]
    fn what_is_cut_is_forgotten() {
        let mut history = history(&[(3, 0), (5, 10)]);
        assert_eq!(history.below(SourceOffset(10)).last_epoch(), 3);
        history.cut(SourceOffset(11));
        assert_eq!(history.last_epoch(), 5);
        history.cut(SourceOffset(0));
        assert_eq!(history.last_epoch(), -1);
    }

    #[test]
    fn a_log_that_was_cut_back_in_our_epoch_parts_where_that_ends() {
        assert_eq!(parted(&[(3, 0), (5, 10)], 5, 12), Some(12));
    }

    #[test]
    fn a_log_that_never_had_our_epoch_parts_where_that_began() {
        assert_eq!(parted(&[(3, 0), (5, 10)], 4, 15), Some(10), "it has others up to 15");
        assert_eq!(parted(&[(3, 0), (5, 10)], 3, 7), Some(7));
        assert_eq!(parted(&[(3, 0), (5, 10)], 2, 7), Some(0));
    }

    #[test]
    fn what_lies_before_all_that_is_remembered_is_not_guessed() {
        assert_eq!(parted(&[(3, 50), (5, 100)], 2, 70), None);
        assert_eq!(parted(&[(3, 50), (5, 100)], 4, 110), Some(100));
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let many: Vec<_> = (0..MAX_EPOCHS as i32 + 6)
            .map(|epoch| (epoch, i64::from(epoch)))
            .collect();
        assert_eq!(history(&many).entries().len(), MAX_EPOCHS);
        assert_eq!(parted(&many, 3, 4), None);
    }
}
