//! What fetches bring, and what becomes of those that bring nothing.

use std::collections::BTreeSet;
use std::time::Instant;

use super::{FetchedPart, FlowReplicator, PartitionFetch, SLOT_BACKOFF_MAX, SLOT_BACKOFF_MIN, Slot, UnconfirmedRange};
use crate::replication::partition::FetchTrouble;

impl FlowReplicator {
    pub(super) fn handle_fetched(&mut self, now: Instant, slot: Slot, partitions: Vec<FetchedPart>, held_back: bool) {
        if let Some(state) = self.sources.get_mut(&slot) {
            state.failures = 0;
        }
        if !self.draining {
            // Otherwise what comes now will be fetched again.
            self.take_answer(now, slot, partitions, held_back);
        }
        self.end_fetch(slot);
    }

    fn take_answer(&mut self, now: Instant, slot: Slot, mut partitions: Vec<FetchedPart>, held_back: bool) {
        let is_empty = partitions.iter().all(|part| part.fetch.is_empty());
        let is_hurried = self
            .sources
            .get_mut(&slot)
            .is_some_and(|state| state.note_answer(is_empty));
        // Where there was time enough.
        let nothing = is_empty && !held_back && !is_hurried;
        if nothing {
            partitions.iter_mut().for_each(|part| part.fetch.expect_whole_batches());
        }
        let mut refused = BTreeSet::new();
        for FetchedPart { index, asked, fetch } in partitions {
            if !self.members[index].replicator.is_current(asked) {
                refused.insert(index); // The partition has begun anew elsewhere.
                continue;
            }
            if !matches!(fetch, PartitionFetch::Records { .. }) {
                refused.insert(index);
            }
            self.handle_partition_fetch(now, index, fetch);
        }
        for index in self.take_heeding(slot, nothing) {
            if refused.contains(&index) {
                self.note_heeding(index);
                continue;
            }
            self.update_and_ask(now, index, |replicator| {
                replicator.handle_source_well();
                if nothing {
                    return replicator.handle_nothing_fetched();
                }
                if !is_empty || held_back {
                    replicator.handle_others_fetched();
                }
                false
            });
        }
    }

    fn handle_partition_fetch(&mut self, now: Instant, index: usize, fetch: PartitionFetch) {
        match fetch {
            PartitionFetch::Records { prepared, log } => {
                self.totals.bytes += prepared.bytes as u64;
                self.totals.skipped += prepared.skipped;
                if let Some(rate) = &mut self.rate {
                    rate.take(now, prepared.bytes);
                }
                self.update(now, index, |replicator| replicator.handle_fetched(now, prepared, log));
            }
            PartitionFetch::Refused(code) => {
                let mut trouble = None;
                self.update(now, index, |replicator| {
                    trouble = replicator.handle_fetch_refused(now, code)
                });
                match trouble {
                    Some(FetchTrouble::OutOfRange) => self.ask_range.push(index),
                    Some(FetchTrouble::Leader) => self.refresh[0].wanted = true,
                    None => {}
                }
                self.lose_patience(now, index);
            }
            PartitionFetch::Truncated(truncation) => {
                self.update_and_ask(now, index, |replicator| replicator.handle_truncated(truncation));
            }
        }
    }

    pub(super) fn handle_fetch_failed(&mut self, now: Instant, slot: Slot, cause: &str) {
        self.refresh[0].wanted = true;
        let asked = self.sources.get(&slot).map(|state| state.asked.clone());
        for index in asked.into_iter().flatten() {
            self.update(now, index, |replicator| replicator.handle_fetch_failed(now, cause));
            self.lose_patience(now, index);
        }
        self.end_fetch(slot);
        if let Some(state) = self.sources.get_mut(&slot) {
            state.failures += 1;
            let wait = SLOT_BACKOFF_MIN
                .saturating_mul(1 << state.failures.min(10))
                .min(SLOT_BACKOFF_MAX);
            state.retry_at = Some(now + wait);
        }
    }

    pub(super) fn handle_ownership(&mut self, now: Instant, confirmed: bool) {
        self.ownership.handle(now, confirmed);
        let held = |range: &UnconfirmedRange| self.ownership.held_at(range.since);
        let ranges = self.unconfirmed_ranges.iter().map(|(index, range)| (*index, *range));
        let ranges: Vec<_> = ranges.filter(|(_, range)| held(range)).collect();
        for (index, range) in ranges {
            self.unconfirmed_ranges.remove(&index);
            self.update_and_ask(now, index, |replicator| {
                replicator.handle_source_range(now, range.log_start, range.log_end)
            });
        }
        if confirmed && !self.unconfirmed_ranges.is_empty() {
            self.ownership.ask(now);
        }
    }
}
