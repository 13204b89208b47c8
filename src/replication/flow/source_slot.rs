//! What a slot of the source fetches.
//!
//! The shell keeps the list of what is fetched, as the broker does (KIP-227), and is told what changes. So a fetch costs what
//! has changed since the last one, however many partitions there are.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::{FetchJob, FlowLimits, FlowReplicator, Member, Slot, WantedPartition};
use crate::replication::budget::Budget;
use crate::replication::fate::FateContext;
use crate::replication::partition::{FetchStart, FetchWish};

/// How long a broker may wait for records before it answers that there are none. Whoever wants something meanwhile is asked for
/// in the next fetch.
const MAX_WAIT: Duration = Duration::from_millis(500);

/// The same, where somebody will want something soon, or waits for any answer. Doubled after each answer without records, so that
/// whoever never does is not waited for like this for long.
const MAX_WAIT_HURRIED: Duration = Duration::from_millis(5);

#[derive(Debug, Default)]
pub(super) struct SourceSlot {
    /// Whom the next fetch asks for. The same as [`Member::asked_by`].
    pub(super) asked: BTreeSet<usize>,
    /// Whose wishes may have changed.
    changed: BTreeSet<usize>,
    /// Those of `asked` that the next job describes, and those that it names as unwanted.
    news: BTreeSet<usize>,
    unwanted: BTreeSet<usize>,
    /// Who is led by another broker now, and in the fetch under way.
    leaving: BTreeSet<usize>,
    /// Those of `asked` to whom an answer means something even where there is nothing in it for them.
    heeding: BTreeSet<usize>,
    /// Who will want something soon.
    soon: BTreeSet<usize>,
    pub(super) is_fetching: bool,
    /// The broker was given less time than usual.
    is_hurried: bool,
    /// Answers without records in a row for which that was so.
    hurried_answers: u32,
    /// What one fetch asks for of one partition, as the shell was told last.
    partition_bytes: usize,
    /// What this slot's fetches hold; given back as batches are acked.
    window: Option<Budget>,
    pub(super) retry_at: Option<Instant>,
    pub(super) failures: u32,
}

impl FlowReplicator {
    pub(super) fn poll_slot_fetch(&mut self, now: Instant, slot: Slot, max_bytes: usize) -> Option<FetchJob> {
        let state = self.sources.get(&slot)?;
        if state.is_fetching || state.retry_at.is_some_and(|at| at > now) {
            return None;
        }
        self.take_wishes(now, slot);
        let state = self.sources.get_mut(&slot)?;
        if state.asked.is_empty() {
            return None;
        }
        let window_bytes = self.limits.slot_window_bytes;
        let window = state.window.get_or_insert_with(|| self.budget.part(window_bytes));
        let hold = window.try_reserve(max_bytes)?;
        (state.retry_at, state.is_fetching) = (None, true);
        let max_wait = state.max_wait();
        // Whoever is alone gets all.
        let share = max_bytes / state.asked.len();
        let partition_bytes = self.limits.partition_fetch_bytes.max(share).min(max_bytes);
        if partition_bytes != state.partition_bytes {
            // Only where there are few partitions, or had been, or where a rate is changed.
            state.partition_bytes = partition_bytes;
            state.news = state.asked.clone();
        }
        let news = std::mem::take(&mut state.news).into_iter();
        let wanted = news.filter_map(|index| self.members[index].wanted(now, index, partition_bytes, &self.limits));
        Some(FetchJob {
            slot,
            wanted: wanted.collect(),
            unwanted: std::mem::take(&mut state.unwanted).into_iter().collect(),
            max_bytes,
            max_wait,
            hold,
        })
    }

    /// Brings the list of what is fetched up to date.
    fn take_wishes(&mut self, now: Instant, slot: Slot) {
        let Some(state) = self.sources.get_mut(&slot) else {
            return;
        };
        for index in std::mem::take(&mut state.changed) {
            let member = &mut self.members[index];
            if member.asked_by.is_some_and(|other| other != slot) {
                continue; // The other slot's fetch is under way, and changes it when it ends.
            }
            let wish = member.replicator.fetch_wish(now, self.limits.partition_bytes);
            match wish {
                FetchWish::Soon => state.soon.insert(index),
                FetchWish::Nothing | FetchWish::From(_) => state.soon.remove(&index),
            };
            if !matches!(wish, FetchWish::From(_)) {
                if member.asked_by.take().is_some() {
                    state.drop(index);
                }
                continue;
            }
            member.asked_by = Some(slot);
            state.asked.insert(index);
            state.news.insert(index);
            state.unwanted.remove(&index);
            if member.replicator.heeds_answers() {
                state.heeding.insert(index);
            }
        }
    }

    /// What the partition wants of its source may have changed.
    pub(super) fn note_wish(&mut self, index: usize) {
        if let Some((slot, _)) = self.members[index].source {
            self.sources.entry(slot).or_default().changed.insert(index);
        }
    }

    /// An answer may mean something to the partition.
    pub(super) fn note_heeding(&mut self, index: usize) {
        let state = self.members[index]
            .asked_by
            .and_then(|slot| self.sources.get_mut(&slot));
        if let Some(state) = state {
            state.heeding.insert(index);
        }
    }

    /// To whom an answer means something. One without any records does to all that miss some.
    pub(super) fn take_heeding(&mut self, slot: Slot, nothing: bool) -> BTreeSet<usize> {
        let Some(state) = self.sources.get_mut(&slot) else {
            return BTreeSet::new();
        };
        let mut heeding = std::mem::take(&mut state.heeding);
        if nothing {
            let misses = |index: &&usize| self.members[**index].replicator.misses_records();
            heeding.extend(state.asked.iter().filter(misses));
        }
        heeding
    }

    /// The partition is led by another broker.
    pub(super) fn leave_source_slot(&mut self, index: usize, slot: Slot) {
        let Some(state) = self.sources.get_mut(&slot) else {
            return;
        };
        state.changed.remove(&index);
        state.soon.remove(&index);
        let member = &mut self.members[index];
        if member.asked_by != Some(slot) {
            return;
        }
        if state.is_fetching {
            state.leaving.insert(index);
        } else {
            state.drop(index);
            member.asked_by = None;
        }
    }

    /// The slot may fetch again; whoever has moved meanwhile may be asked for in its new slot.
    pub(super) fn end_fetch(&mut self, slot: Slot) {
        let Some(state) = self.sources.get_mut(&slot) else {
            return;
        };
        state.is_fetching = false;
        let leaving = std::mem::take(&mut state.leaving);
        for index in &leaving {
            state.drop(*index);
            self.members[*index].asked_by = None;
        }
        for index in leaving {
            self.note_wish(index);
        }
    }
}

impl SourceSlot {
    /// For the next fetch.
    fn max_wait(&mut self) -> Duration {
        let hurried = MAX_WAIT_HURRIED.saturating_mul(1 << self.hurried_answers.min(10));
        self.is_hurried = (!self.soon.is_empty() || !self.heeding.is_empty()) && hurried < MAX_WAIT;
        if self.is_hurried { hurried } else { MAX_WAIT }
    }

    /// Whether the broker had less time than usual for an answer.
    pub(super) fn note_answer(&mut self, is_empty: bool) -> bool {
        self.hurried_answers = match (is_empty, self.is_hurried) {
            (true, true) => self.hurried_answers + 1,
            (true, false) if !self.soon.is_empty() || !self.heeding.is_empty() => self.hurried_answers,
            _ => 0,
        };
        self.is_hurried
    }

    fn drop(&mut self, index: usize) {
        self.asked.remove(&index);
        self.news.remove(&index);
        self.heeding.remove(&index);
        self.unwanted.insert(index);
    }
}

impl Member {
    fn wanted(&self, now: Instant, index: usize, max_bytes: usize, limits: &FlowLimits) -> Option<WantedPartition> {
        let FetchWish::From(FetchStart {
            position,
            last_fetched_epoch,
            before,
            topic_id,
        }) = self.replicator.fetch_wish(now, limits.partition_bytes)
        else {
            return None;
        };
        Some(WantedPartition {
            index,
            leader_epoch: self.source.map_or(-1, |(_, epoch)| epoch),
            last_fetched_epoch,
            before,
            topic_id,
            max_bytes,
            context: FateContext {
                start_offset: position.0,
                max_batch_bytes: self.max_batch_bytes,
                keep_append_time: self.keep_append_time,
            },
            coalesce_below: limits.coalesce_below,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long the broker may wait, answer by answer without records.
    fn waits(slot: &mut SourceSlot, answers: usize) -> Vec<u128> {
        let wait = |_| {
            let wait = slot.max_wait().as_millis();
            slot.note_answer(true);
            wait
        };
        (0..answers).map(wait).collect()
    }

    #[test]
    fn whoever_wants_something_soon_does_not_wait_behind_those_that_have_nothing() {
        let mut slot = SourceSlot::default();
        assert_eq!(waits(&mut slot, 2), [500, 500]);
        slot.soon.insert(3);
        assert_eq!(waits(&mut slot, 9), [5, 10, 20, 40, 80, 160, 320, 500, 500]);
        slot.note_answer(false);
        assert_eq!(waits(&mut slot, 2), [5, 10]);
        slot.soon.clear();
        assert_eq!(waits(&mut slot, 1), [500]);
        slot.heeding.insert(3);
        assert_eq!(waits(&mut slot, 2), [5, 10], "once nobody has waited, it begins anew");
    }

    #[test]
    fn an_answer_says_whether_there_was_time_for_records() {
        let mut slot = SourceSlot::default();
        slot.max_wait();
        assert!(!slot.note_answer(true));
        slot.soon.insert(3);
        slot.max_wait();
        assert!(slot.note_answer(true));
    }
}
