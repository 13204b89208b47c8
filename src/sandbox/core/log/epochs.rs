//! Where each leader epoch began: what truncation checks (KIP-320) are answered from.

/// The epochs of one log, oldest first. Both epochs and start offsets only grow.
#[derive(Debug, Clone, Default)]
pub(super) struct EpochHistory(Vec<EpochStart>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct EpochStart {
    epoch: i32,
    start_offset: i64,
}

/// The largest known epoch not above the one asked for, and the first offset that is not its own any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    pub epoch: i32,
    pub end_offset: i64,
}

impl EpochHistory {
    /// Notes that `epoch` begins at `start_offset`. Epochs that turn out to be without records are forgotten.
    pub(super) fn begin(&mut self, epoch: i32, start_offset: i64) {
        if self.0.last().is_some_and(|last| last.epoch == epoch) {
            return;
        }
        self.0
            .retain(|entry| entry.epoch < epoch && entry.start_offset < start_offset);
        self.0.push(EpochStart { epoch, start_offset });
    }

    /// Forgets what lies at or after `end_offset`.
    pub(super) fn truncate_to(&mut self, end_offset: i64) {
        self.0.retain(|entry| entry.start_offset < end_offset);
    }

    /// Forgets the epochs wholly below `log_start_offset`; the one that covers it begins there now.
    pub(super) fn truncate_from(&mut self, log_start_offset: i64) {
        let covering = self.0.partition_point(|entry| entry.start_offset <= log_start_offset);
        self.0.drain(..covering.saturating_sub(1));
        if let Some(first) = self.0.first_mut() {
            first.start_offset = first.start_offset.max(log_start_offset);
        }
    }

    /// `None` where the epoch is newer than any the log knows.
    pub(super) fn end_of(&self, epoch: i32, log_end_offset: i64) -> Option<EpochEnd> {
        if self.0.last().is_some_and(|last| last.epoch == epoch) {
            return Some(EpochEnd {
                epoch,
                end_offset: log_end_offset,
            });
        }
        let higher = self.0.partition_point(|entry| entry.epoch <= epoch);
        let end_offset = self.0.get(higher)?.start_offset;
        let floor = higher.checked_sub(1).map_or(epoch, |floor| self.0[floor].epoch);
        Some(EpochEnd {
            epoch: floor,
            end_offset,
        })
    }

    /// The epoch that the record at `offset` was written in.
    pub(super) fn at(&self, offset: i64) -> Option<i32> {
        let after = self.0.partition_point(|entry| entry.start_offset <= offset);
        after.checked_sub(1).map(|index| self.0[index].epoch)
    }

    pub(super) fn latest(&self) -> Option<i32> {
        self.0.last().map(|entry| entry.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(entries: &[(i32, i64)]) -> EpochHistory {
        let mut history = EpochHistory::default();
        for &(epoch, start_offset) in entries {
            history.begin(epoch, start_offset);
        }
        history
    }

    fn end(epoch: i32, end_offset: i64) -> Option<EpochEnd> {
        Some(EpochEnd { epoch, end_offset })
    }

    #[test]
    fn an_epoch_ends_where_the_next_one_begins() {
        let history = history(&[(0, 0), (2, 15), (3, 20)]);

        assert_eq!(history.end_of(0, 40), end(0, 15));
        assert_eq!(history.end_of(2, 40), end(2, 20));
        assert_eq!(history.end_of(3, 40), end(3, 40));
    }

    #[test]
    fn an_epoch_in_a_gap_is_answered_by_the_one_below() {
        assert_eq!(history(&[(0, 0), (2, 15)]).end_of(1, 40), end(0, 15));
        assert_eq!(history(&[(3, 7)]).end_of(1, 40), end(1, 7));
    }

    #[test]
    fn an_epoch_newer_than_any_has_no_end() {
        assert_eq!(history(&[(0, 0), (2, 15)]).end_of(3, 40), None);
    }

    #[test]
    fn an_epoch_without_records_leaves_no_trace() {
        let history = history(&[(0, 0), (1, 10), (2, 10)]);

        assert_eq!(history.end_of(1, 20), end(0, 10));
        assert_eq!(history.at(10), Some(2));
    }

    #[test]
    fn deleted_records_take_their_epochs_along() {
        let mut history = history(&[(0, 0), (1, 10), (2, 20)]);
        history.truncate_from(15);

        assert_eq!(history.at(14), None);
        assert_eq!(history.at(15), Some(1));
        assert_eq!(history.end_of(0, 40), end(0, 15));
    }
}
