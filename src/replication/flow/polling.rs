//! What a flow does next: metadata first, then what is ready for the target, then fetches, then the ledger.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Instant;

use super::{
    Action, CheckpointJob, End, FlowReplicator, MAX_REQUEST_BYTES, MAX_REQUESTS_IN_FLIGHT, ProduceJob, RecoverJob,
    Refresh, Slot,
};
use crate::replication::partition::{OutgoingBatch, PartitionCheckpoint};

impl FlowReplicator {
    /// The next thing to do, if there is one now.
    pub fn poll_action(&mut self, now: Instant) -> Option<Action> {
        self.wake_delayed(now);
        self.make_certain(now);
        self.poll_refresh(now)
            .or_else(|| self.ownership.poll(now).then_some(Action::ConfirmOwnership))
            .or_else(|| self.poll_recover(now))
            .or_else(|| self.ask_range.pop().map(Action::AskSourceRange))
            .or_else(|| self.poll_produce(now))
            .or_else(|| self.poll_fetch(now))
            .or_else(|| self.poll_checkpoint(now))
    }

    /// When [`Self::poll_action`] is worth another try, though no event has come. What was due at `now`, when
    /// `poll_action` was asked last, waits for an event.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let refreshes = self
            .refresh
            .iter()
            .filter(|refresh| !refresh.under_way)
            .filter_map(Refresh::due);
        let slots = self.sources.values().filter_map(|slot| slot.retry_at);
        let rate = self.rate.as_ref().and_then(|rate| rate.wait_until(now));
        let checkpoint = self
            .checkpoint_at
            .filter(|_| self.checkpointing.is_empty() && !self.dirty.is_empty());
        let delayed = [&self.delayed, &self.delayed_fetches]
            .into_iter()
            .filter_map(|heap| Some(heap.peek()?.0.0));
        refreshes
            .chain(slots)
            .chain(rate)
            .chain(checkpoint)
            .chain(delayed)
            .chain(self.ownership.timeouts())
            .filter(|at| *at > now)
            .min()
    }

    fn wake_delayed(&mut self, now: Instant) {
        while let Some(Reverse((_, index))) = self.delayed.pop_if_due(now) {
            self.enqueue(now, index);
        }
        while let Some(Reverse((_, index))) = self.delayed_fetches.pop_if_due(now) {
            self.note_wish(index);
        }
    }

    /// When no earlier owner can be at work any more, all is looked at once more: it may have come further than was known,
    /// and the leaders may have forgotten that. And what could not be sent before may be now.
    fn make_certain(&mut self, now: Instant) {
        if self.is_disputed && now >= self.ownership.undisputed_at() {
            self.is_disputed = false;
            self.unsure = self.uncertain().collect();
            (0..self.members.len()).for_each(|index| self.update(now, index, |_| {}));
        }
    }

    fn poll_refresh(&mut self, now: Instant) -> Option<Action> {
        for (refresh, end) in self.refresh.iter_mut().zip([End::Source, End::Target]) {
            if !refresh.under_way && refresh.due().is_none_or(|at| at <= now) {
                *refresh = Refresh {
                    wanted: false,
                    under_way: true,
                    last: Some(now),
                };
                return Some(Action::RefreshMetadata(end));
            }
        }
        None
    }

    fn poll_recover(&mut self, now: Instant) -> Option<Action> {
        if self.draining {
            return None;
        }
        let lane = *self.unrecovered.keys().find(|lane| !self.recovering.contains(lane))?;
        let wanted = self.unrecovered.remove(&lane)?;
        let partitions: Vec<_> = wanted
            .into_iter()
            .filter_map(|index| Some((index, self.members[index].replicator.poll_recovery(now)?)))
            .collect();
        if partitions.is_empty() {
            return self.poll_recover(now);
        }
        self.recovering.insert(lane);
        Some(Action::Recover(RecoverJob { lane, partitions }))
    }

    fn poll_produce(&mut self, now: Instant) -> Option<Action> {
        if self.unsaved_segments >= self.limits.unsaved_segments {
            return None; // Until the ledger has them.
        }
        let slots: Vec<Slot> = self.targets.keys().copied().collect();
        slots
            .into_iter()
            .find_map(|slot| self.poll_slot_produce(now, slot))
            .map(Action::Produce)
    }

    fn poll_slot_produce(&mut self, now: Instant, slot: Slot) -> Option<ProduceJob> {
        let state = self.targets.get(&slot)?;
        if state.requests >= MAX_REQUESTS_IN_FLIGHT {
            return None;
        }
        let (mut batches, mut bytes) = (Vec::new(), 0);
        let send_before = self.ownership.lease(now)?;
        for _ in 0..state.ready.len() {
            let index = self.targets.get_mut(&slot)?.ready.pop_front()?;
            if !self.may_send(now, index) {
                self.members[index].queued = false; // Until the partition changes, or no other owner can be at work.
                continue;
            }
            if let Some(batch) = self.poll_partition_batch(now, index) {
                bytes += batch.payload.len();
                batches.push(batch);
            }
            if bytes >= MAX_REQUEST_BYTES {
                break;
            }
        }
        if batches.is_empty() {
            return None;
        }
        self.targets.get_mut(&slot)?.requests += 1;
        Some(ProduceJob {
            slot,
            batches,
            send_before,
        })
    }

    /// Whether the partition's next batch may go out, although an earlier owner may still be at work, from which sequence
    /// numbers may not part us.
    fn may_send(&mut self, now: Instant, index: usize) -> bool {
        let member = &self.members[index];
        let is_forgettable = member.replicator.sends_forgettable(now);
        !is_forgettable || (now >= self.ownership.undisputed_at() && self.is_certain(member))
    }

    /// The partition's next batch; what waits behind it takes its place at the end of the queue.
    fn poll_partition_batch(&mut self, now: Instant, index: usize) -> Option<OutgoingBatch> {
        self.members[index].queued = false;
        let mut batch = None;
        self.update(now, index, |replicator| batch = replicator.poll_batch(now, index));
        batch
    }

    fn poll_fetch(&mut self, now: Instant) -> Option<Action> {
        if self.draining || self.rate.as_ref().is_some_and(|rate| rate.wait_until(now).is_some()) {
            return None;
        }
        let max_bytes = self
            .rate
            .as_ref()
            .map_or(usize::MAX, |rate| rate.fetch_bytes(self.sources.len()))
            .min(self.limits.fetch_bytes);
        let slots: Vec<Slot> = self.sources.keys().copied().collect();
        slots
            .into_iter()
            .find_map(|slot| self.poll_slot_fetch(now, slot, max_bytes))
            .map(Action::Fetch)
    }

    fn poll_checkpoint(&mut self, now: Instant) -> Option<Action> {
        if !self.checkpointing.is_empty() || self.dirty.is_empty() {
            return None;
        }
        let last_one = self.unsettled == 0 || (self.draining && self.restless == 0);
        let is_full = self.unsaved_segments >= self.limits.unsaved_segments / 2;
        let due = *self.checkpoint_at.get_or_insert(now + self.limits.checkpoint_interval);
        if now < due && (!(last_one || is_full) || self.checkpoint_failed) {
            return None;
        }
        self.checkpoint_at = Some(now + self.limits.checkpoint_interval);
        let mut lanes: BTreeMap<i32, Vec<(usize, PartitionCheckpoint)>> = BTreeMap::new();
        for index in std::mem::take(&mut self.dirty) {
            let member = &mut self.members[index];
            let unsaved = member.replicator.unsaved_segments();
            if let Some(checkpoint) = member.replicator.poll_checkpoint() {
                self.unsaved_segments -= unsaved;
                lanes.entry(member.lane).or_default().push((index, checkpoint));
                self.checkpointing.insert(index);
            }
        }
        if lanes.is_empty() {
            return None;
        }
        Some(Action::Checkpoint(CheckpointJob { lanes }))
    }
}

trait PopIfDue {
    fn pop_if_due(&mut self, now: Instant) -> Option<Reverse<(Instant, usize)>>;
}

impl PopIfDue for BinaryHeap<Reverse<(Instant, usize)>> {
    fn pop_if_due(&mut self, now: Instant) -> Option<Reverse<(Instant, usize)>> {
        self.peek()
            .is_some_and(|Reverse((at, _))| *at <= now)
            .then(|| self.pop())?
    }
}
