//! All partitions of a flow: which of them fetch and produce together on which connection, and when.
//!
//! Pure: the shell carries out [`Action`]s and brings [`Event`]s back. A *slot* is one connection to one broker; a
//! partition is pinned to one slot on each side, so its batches stay in order. A slot of the source has one fetch under
//! way at a time, for all of its partitions that want one; a slot of the target has up to
//! [`MAX_REQUESTS_IN_FLIGHT`] requests, each with at most one batch of a partition (brokers refuse more).
//!
//! What bounds it: the [`Budget`] over everything fetched, [`FlowLimits::slot_window_bytes`] for a slot,
//! [`FlowLimits::partition_bytes`] for a partition.

mod fetching;
mod leaders;
mod limits;
mod members;
mod messages;
mod ownership;
mod polling;
#[cfg(test)]
mod scale_tests;
mod source_slot;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

pub use limits::{Conditions, FlowLimits};
pub use messages::{
    Action, CheckpointJob, End, Event, FetchJob, FetchedPart, FlowPartition, Leader, PartitionFetch, ProduceJob,
    RecoverJob, RecoveryFailure, Slot, Totals, WantedPartition,
};

pub use ownership::{LEASE, Tenure};

use self::members::Members;
use self::ownership::Ownership;
use self::source_slot::SourceSlot;
use super::budget::Budget;
use super::ledger::lane_of;
use super::partition::{Incident, PartitionReplicator, ProduceOutcome};
use super::rate::RateLimit;
use super::recovery::Recovered;
use super::stopped::Stopped;
use crate::offsets::SourceOffset;

/// Requests of a target slot whose answers are awaited. Brokers work off one at a time for a connection; the others
/// hide the way there and back.
pub const MAX_REQUESTS_IN_FLIGHT: usize = 5;

/// The payload bytes of a produce request, save for a batch that is larger by itself.
const MAX_REQUEST_BYTES: usize = 8 << 20;

/// Metadata is not asked for more often than this, whatever fails.
const REFRESH_INTERVAL: Duration = Duration::from_millis(250);

/// Metadata is asked for this often when nothing calls for it.
const REFRESH_AGE: Duration = Duration::from_secs(60);

/// After a fetch that failed as a whole.
const SLOT_BACKOFF_MIN: Duration = Duration::from_millis(50);
const SLOT_BACKOFF_MAX: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Member {
    replicator: PartitionReplicator,
    max_batch_bytes: usize,
    keep_append_time: bool,
    lane: i32,
    source: Option<(Slot, i32)>,
    target: Option<Slot>,
    /// Since when source and target have said that there is no such topic.
    missing_since: [Option<Instant>; 2],
    /// The slot whose fetches ask for it.
    asked_by: Option<Slot>,
    /// Is in its target slot's `ready`.
    queued: bool,
}

#[derive(Debug, Default)]
struct TargetSlot {
    ready: VecDeque<usize>,
    requests: usize,
}

/// The state of a flow.
#[derive(Debug)]
pub struct FlowReplicator {
    limits: FlowLimits,
    budget: Budget,
    rate: Option<RateLimit>,
    members: Members,
    sources: BTreeMap<Slot, SourceSlot>,
    targets: BTreeMap<Slot, TargetSlot>,
    /// Partitions whose failed batches wait for their time.
    delayed: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Partitions whose failed fetches wait for their time.
    delayed_fetches: BinaryHeap<Reverse<(Instant, usize)>>,
    unsettled: usize,
    /// How many partitions are not at rest.
    restless: usize,
    /// Full segments of the map that are not in the ledger.
    unsaved_segments: usize,
    ask_range: Vec<usize>,
    refresh: [Refresh; 2],
    dirty: BTreeSet<usize>,
    checkpoint_at: Option<Instant>,
    /// The partitions of the checkpoint that is being written.
    checkpointing: BTreeSet<usize>,
    checkpoint_failed: bool,
    ownership: Ownership,
    /// An earlier owner may still be at work.
    is_disputed: bool,
    /// Partitions to be looked at once more since it can't be.
    unsure: BTreeSet<usize>,
    /// Source ranges that count if the flow was still ours when they were asked for: whoever is superseded finds gaps where
    /// another one has copied and retention has come after it.
    unconfirmed_ranges: BTreeMap<usize, UnconfirmedRange>,
    /// Partitions that want to be recovered, by lane.
    unrecovered: BTreeMap<i32, BTreeSet<usize>>,
    /// Lanes with a recovery under way. A fence is the whole lane's, so there is one at a time.
    recovering: BTreeSet<i32>,
    draining: bool,
    /// Another instance has the flow. What it writes into the ledger is newer than whatever we know.
    superseded: bool,
    totals: Totals,
    newly_stopped: Vec<usize>,
    incidents: Vec<(usize, Incident)>,
}

/// Where a partition's log begins and ends at the source.
#[derive(Debug, Clone, Copy)]
struct UnconfirmedRange {
    since: Instant,
    log_start: SourceOffset,
    log_end: SourceOffset,
}

/// When metadata is asked for.
#[derive(Debug, Clone, Copy, Default)]
struct Refresh {
    wanted: bool,
    under_way: bool,
    last: Option<Instant>,
}

impl Refresh {
    /// `None` for at once.
    fn due(&self) -> Option<Instant> {
        self.last
            .map(|last| last + if self.wanted { REFRESH_INTERVAL } else { REFRESH_AGE })
    }
}

impl FlowReplicator {
    /// A flow that is owned.
    pub fn new(
        tenure: Tenure,
        limits: FlowLimits,
        budget: Budget,
        rate: Option<RateLimit>,
        partitions: Vec<FlowPartition>,
    ) -> Self {
        let replicator = |start, stopped| {
            let mut replicator = PartitionReplicator::new(start, stopped);
            replicator.limit_segments(limits.segment_runs);
            replicator
        };
        let members: Vec<Member> = partitions
            .into_iter()
            .map(|partition| Member {
                lane: lane_of(&partition.start.topic, partition.start.partition, limits.lanes),
                replicator: replicator(partition.start, partition.stopped),
                max_batch_bytes: partition.max_batch_bytes,
                keep_append_time: partition.keep_append_time,
                source: None,
                target: None,
                missing_since: [None; 2],
                asked_by: None,
                queued: false,
            })
            .collect();
        let newly_stopped: Vec<usize> = (0..members.len())
            .filter(|index| members[*index].replicator.stopped().is_some())
            .collect();
        let unsettled = members.iter().filter(|member| !member.replicator.is_settled()).count();
        let restless = members.iter().filter(|member| !member.replicator.is_at_rest()).count();
        Self {
            limits,
            budget,
            rate,
            dirty: BTreeSet::new(),
            members: Members::new(members),
            sources: BTreeMap::new(),
            targets: BTreeMap::new(),
            delayed: BinaryHeap::new(),
            delayed_fetches: BinaryHeap::new(),
            unsettled,
            restless,
            unsaved_segments: 0,
            ask_range: Vec::new(),
            refresh: [Refresh::default(); 2],
            checkpoint_at: None,
            checkpointing: BTreeSet::new(),
            checkpoint_failed: false,
            ownership: Ownership::new(tenure),
            is_disputed: true,
            unsure: BTreeSet::new(),
            unconfirmed_ranges: BTreeMap::new(),
            unrecovered: BTreeMap::new(),
            recovering: BTreeSet::new(),
            draining: false,
            superseded: false,
            totals: Totals::default(),
            newly_stopped,
            incidents: Vec::new(),
        }
    }

    pub fn totals(&self) -> Totals {
        self.totals
    }

    pub fn partition(&self, index: usize) -> &PartitionReplicator {
        &self.members[index].replicator
    }

    /// The partitions that have stopped since this was asked last.
    pub fn take_newly_stopped(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.newly_stopped)
    }

    /// What has happened to partitions since this was asked last.
    pub fn take_incidents(&mut self) -> Vec<(usize, Incident)> {
        std::mem::take(&mut self.incidents)
    }

    /// Nothing of ours, or of an earlier owner's, can come to the target late: whoever owns the flow next need not reckon with it.
    pub fn is_quiet(&self) -> bool {
        // Whoever is superseded has not written down how far it came.
        !self.superseded
            && self
                .members
                .iter()
                .all(|member| member.replicator.is_quiet() && self.is_certain(member))
    }

    /// No earlier owner can have changed what is known of the target's log.
    fn is_certain(&self, member: &Member) -> bool {
        member.replicator.is_certain_since(self.ownership.undisputed_at())
    }

    /// Stops fetching; what is on its way to the target still arrives.
    pub fn drain(&mut self) {
        self.draining = true;
        self.members
            .iter_mut()
            .for_each(|member| member.replicator.abandon_prepared());
    }

    /// Everything has come to its end, the ledger included.
    pub fn is_finished(&self) -> bool {
        let at_rest = match (self.draining, self.is_disputed) {
            (true, _) => self.restless == 0,
            (false, true) => self.unsettled == 0 && self.uncertain().next().is_none(),
            (false, false) => self.unsettled == 0 && self.unsure.is_empty(),
        };
        at_rest && self.dirty.is_empty() && self.checkpointing.is_empty()
    }

    /// Partitions with which the copy is not at its end before they are looked at once more.
    fn uncertain(&self) -> impl Iterator<Item = usize> + '_ {
        let is_uncertain = |member: &Member| member.replicator.stopped().is_none() && !self.is_certain(member);
        (0..self.members.len()).filter(move |index| is_uncertain(&self.members[*index]))
    }

    pub fn handle(&mut self, now: Instant, event: Event) {
        match event {
            Event::Fetched {
                slot,
                partitions,
                held_back,
            } => self.handle_fetched(now, slot, partitions, held_back),
            Event::FetchFailed { slot, cause } => self.handle_fetch_failed(now, slot, &cause),
            Event::Produced { slot, outcomes } => self.handle_produced(now, slot, outcomes),
            Event::Leaders { end, leaders } => self.handle_leaders(now, end, leaders),
            Event::SourceRange {
                partition,
                log_start,
                log_end,
            } => {
                let range = UnconfirmedRange {
                    since: now,
                    log_start,
                    log_end,
                };
                self.unconfirmed_ranges.entry(partition).or_insert(range);
                self.ownership.ask(now);
            }
            Event::RefreshFailed(end) => {
                let refresh = &mut self.refresh[end as usize];
                (refresh.wanted, refresh.under_way) = (true, false);
            }
            Event::Recovered { index, outcome } => self.handle_recovered(now, index, outcome),
            Event::RecoveryEnded { lane } => {
                self.recovering.remove(&lane);
            }
            Event::Ownership { confirmed } => self.handle_ownership(now, confirmed),
            Event::Superseded { generation } => {
                for index in 0..self.members.len() {
                    self.update(now, index, |replicator| {
                        replicator.stop(Stopped::Superseded { generation })
                    });
                }
                self.superseded = true;
            }
            Event::Checkpointed { failed, .. } => self.handle_checkpointed(now, failed),
        }
        if self.superseded {
            self.dirty.clear();
        }
    }

    fn handle_checkpointed(&mut self, now: Instant, failed: CheckpointJob) {
        self.checkpoint_failed = !failed.lanes.is_empty();
        let mut written = std::mem::take(&mut self.checkpointing);
        for (index, checkpoint) in failed.lanes.into_values().flatten() {
            written.remove(&index);
            let replicator = &mut self.members[index].replicator;
            let unsaved = replicator.unsaved_segments();
            replicator.handle_checkpoint_failed(checkpoint);
            self.unsaved_segments = self.unsaved_segments + replicator.unsaved_segments() - unsaved;
            self.dirty.insert(index);
        }
        for index in written {
            self.update(now, index, PartitionReplicator::handle_checkpointed);
        }
    }

    fn handle_recovered(&mut self, now: Instant, index: usize, outcome: Result<Recovered, RecoveryFailure>) {
        let mut records = 0;
        self.update_and_ask(now, index, |replicator| {
            match outcome {
                Ok(recovered) => records = replicator.handle_recovered(now, recovered).records,
                Err(RecoveryFailure::Later(cause)) => replicator.handle_recovery_failed(now, &cause),
                Err(RecoveryFailure::Stop(reason)) => replicator.stop(reason),
                Err(RecoveryFailure::Truncated(truncation)) => return replicator.handle_truncated(truncation),
            }
            false
        });
        self.totals.records += records;
        self.lose_patience(now, index);
    }

    fn handle_produced(&mut self, now: Instant, slot: Slot, outcomes: Vec<(usize, i32, ProduceOutcome)>) {
        if let Some(state) = self.targets.get_mut(&slot) {
            state.requests -= 1;
        }
        for (index, sequence, outcome) in outcomes {
            if !matches!(outcome, ProduceOutcome::Acked { .. }) {
                self.refresh[1].wanted = true;
            }
            let mut progress = Default::default();
            self.update(now, index, |replicator| {
                progress = replicator.handle_outcome(now, sequence, outcome)
            });
            self.lose_patience(now, index);
            self.totals.records += progress.records;
            self.totals.patched += progress.patched;
            self.totals.reencoded += progress.reencoded;
            self.totals.coalesced += progress.coalesced;
        }
    }

    fn lose_patience(&mut self, now: Instant, index: usize) {
        if let Some(patience) = self.limits.patience {
            self.update(now, index, |replicator| replicator.give_up(now, patience));
        }
    }

    /// Changes a partition and puts it where its new state belongs: the one place that keeps the queues true.
    fn update(&mut self, now: Instant, index: usize, change: impl FnOnce(&mut PartitionReplicator)) {
        let limit = self.limits.partition_bytes;
        let replicator = &mut self.members[index].replicator;
        let (was_settled, was_at) = (replicator.is_settled(), replicator.acked_position());
        let (was_stopped, wished) = (replicator.stopped().is_some(), replicator.fetch_wish(now, limit));
        let (was_at_rest, retried) = (
            replicator.is_at_rest(),
            (replicator.fetch_retry_at(), replicator.produce_retry_at()),
        );
        let unsaved = replicator.unsaved_segments();
        change(replicator);
        self.unsaved_segments = self.unsaved_segments + replicator.unsaved_segments() - unsaved;
        if self.unsure.contains(&index) {
            let undisputed_at = self.ownership.undisputed_at();
            if replicator.stopped().is_some() || replicator.is_certain_since(undisputed_at) {
                self.unsure.remove(&index);
            } else {
                replicator.recover_again(now);
            }
        }
        if replicator.acked_position() != was_at {
            self.dirty.insert(index);
            // A source that was cut back takes the position back as well.
            self.totals.offsets += u64::try_from(replicator.acked_position().0 - was_at.0).unwrap_or(0);
        }
        if replicator.awaits_ledger() && !self.checkpointing.contains(&index) && self.dirty.insert(index) {
            self.checkpoint_at = Some(now);
        }
        let incidents = replicator.take_incidents().into_iter();
        self.incidents.extend(incidents.map(|incident| (index, incident)));
        if !was_stopped && replicator.stopped().is_some() {
            self.newly_stopped.push(index);
        }
        match (was_settled, replicator.is_settled()) {
            (false, true) => self.unsettled -= 1,
            (true, false) => self.unsettled += 1,
            _ => {}
        }
        let (wishes, is_at_rest) = (replicator.fetch_wish(now, limit), replicator.is_at_rest());
        let heeds_answers = replicator.heeds_answers();
        let retries = (replicator.fetch_retry_at(), replicator.produce_retry_at());
        if let Some(at) = retries.0.filter(|at| *at > now && retries.0 != retried.0) {
            self.delayed_fetches.push(Reverse((at, index)));
        }
        if let Some(at) = retries.1.filter(|at| *at > now && retries.1 != retried.1) {
            self.delayed.push(Reverse((at, index)));
        }
        match (was_at_rest, is_at_rest) {
            (false, true) => self.restless -= 1,
            (true, false) => self.restless += 1,
            _ => {}
        }
        if wishes != wished {
            self.note_wish(index);
        }
        if heeds_answers {
            self.note_heeding(index);
        }
        self.enqueue(now, index);
    }

    /// The same, of a change that says whether the range of the partition's log at the source has to be asked.
    fn update_and_ask(&mut self, now: Instant, index: usize, change: impl FnOnce(&mut PartitionReplicator) -> bool) {
        let mut asks = false;
        self.update(now, index, |replicator| asks = change(replicator));
        if asks {
            self.ask_range.push(index);
        }
    }

    /// The partition may have a batch to send, or be in want of recovery.
    fn enqueue(&mut self, now: Instant, index: usize) {
        let member = &mut self.members[index];
        let Some(slot) = member.target else { return };
        if member.replicator.wants_recovery(now) {
            self.unrecovered.entry(member.lane).or_default().insert(index);
        }
        if !member.queued && member.replicator.can_send(now) {
            member.queued = true;
            self.targets.entry(slot).or_default().ready.push_back(index);
        }
    }
}
