//! All partitions of a flow: which of them fetch and produce together on which connection, and when.
//!
//! Pure: the shell carries out [`Action`]s and brings [`Event`]s back. A *slot* is one connection to one broker; a
//! partition is pinned to one slot on each side, so its batches stay in order. A slot of the source has one fetch under
//! way at a time, for all of its partitions that want one; a slot of the target has up to
//! [`MAX_REQUESTS_IN_FLIGHT`] requests, each with at most one batch of a partition (brokers refuse more).
//!
//! What bounds it: the [`Budget`] over everything fetched, [`FlowLimits::slot_window_bytes`] for a slot,
//! [`FlowLimits::partition_bytes`] for a partition.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::budget::{Budget, Reservation};
use super::fate::FateContext;
use super::ledger::lane_of;
use super::partition::{
    FetchTrouble, OutgoingBatch, PartitionCheckpoint, PartitionReplicator, PartitionStart, ProduceOutcome,
};
use super::prepare::{PrepareError, Prepared};
use super::rate::RateLimit;
use super::stopped::Stopped;
use crate::offsets::SourceOffset;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::fetch_response::EpochEnd;

/// Requests of a target slot whose answers are awaited. Brokers work off one at a time for a connection; the others
/// hide the way there and back.
pub const MAX_REQUESTS_IN_FLIGHT: usize = 5;

/// The payload bytes of a produce request, save for a batch that is larger by itself.
const MAX_REQUEST_BYTES: usize = 8 << 20;

/// Metadata is not asked for more often than this, whatever fails.
const REFRESH_INTERVAL: Duration = Duration::from_millis(250);

/// Metadata is asked for this often when nothing calls for it.
const REFRESH_AGE: Duration = Duration::from_secs(60);

/// A broker that has just started may not know a topic for a while; this much later it is gone.
const MISSING_BELIEVED: Duration = Duration::from_secs(30);

/// After a fetch that failed as a whole.
const SLOT_BACKOFF_MIN: Duration = Duration::from_millis(50);
const SLOT_BACKOFF_MAX: Duration = Duration::from_secs(5);

/// One connection to one broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    pub broker: i32,
    pub connection: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Source,
    Target,
}

#[derive(Debug, Clone)]
pub struct FlowLimits {
    pub source_connections: u16,
    pub target_connections: u16,
    /// What one fetch asks for.
    pub fetch_bytes: usize,
    /// What one fetch asks for of one partition.
    pub partition_fetch_bytes: usize,
    /// What a partition may have fetched and not sent before it pauses.
    pub partition_bytes: usize,
    /// What a source slot may have fetched and not acked before it pauses.
    pub slot_window_bytes: usize,
    pub checkpoint_interval: Duration,
    /// How long a partition's target may take nothing before the partition stops; `None` to try for ever.
    pub patience: Option<Duration>,
    pub lanes: i32,
}

impl FlowLimits {
    /// Limits for a budget of `memory` bytes between `source_brokers` and the target.
    pub fn for_memory(memory: usize, source_brokers: usize, lanes: i32) -> Self {
        const FETCH_BYTES_MAX: usize = 8 << 20;
        const FETCH_BYTES_MIN: usize = 64 << 10;
        let source_connections = 2;
        let slots = source_brokers.max(1) * usize::from(source_connections);
        let fetch_bytes = (memory / (4 * slots)).clamp(FETCH_BYTES_MIN, FETCH_BYTES_MAX);
        Self {
            source_connections,
            target_connections: 2,
            fetch_bytes,
            partition_fetch_bytes: (fetch_bytes / 4).max(FETCH_BYTES_MIN),
            partition_bytes: fetch_bytes / 2,
            slot_window_bytes: 3 * fetch_bytes,
            checkpoint_interval: Duration::from_secs(1),
            patience: None,
            lanes,
        }
    }
}

/// A partition, and what its batches must look like on the target.
#[derive(Debug, Clone)]
pub struct FlowPartition {
    pub start: PartitionStart,
    /// Why it can't be copied, where that is known before the start.
    pub stopped: Option<Stopped>,
    pub max_batch_bytes: usize,
    pub keep_append_time: bool,
}

/// Who leads a partition, and which topic the name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leader {
    Known {
        broker: i32,
        epoch: i32,
        topic_id: Uuid,
    },
    /// An election is under way.
    Absent,
    /// The topic or the partition does not exist.
    Missing,
}

#[derive(Debug)]
pub enum Action {
    Fetch(FetchJob),
    Produce(ProduceJob),
    RefreshMetadata(End),
    /// Ask where the source's log begins and ends.
    AskSourceRange(usize),
    Checkpoint(CheckpointJob),
}

#[derive(Debug)]
pub struct FetchJob {
    pub slot: Slot,
    pub partitions: Vec<WantedPartition>,
    pub max_bytes: usize,
    pub hold: Reservation,
}

#[derive(Debug, Clone, Copy)]
pub struct WantedPartition {
    pub index: usize,
    pub leader_epoch: i32,
    pub last_fetched_epoch: i32,
    pub max_bytes: usize,
    pub context: FateContext,
}

#[derive(Debug)]
pub struct ProduceJob {
    pub slot: Slot,
    pub batches: Vec<OutgoingBatch>,
}

/// What one checkpoint writes, by lane.
#[derive(Debug)]
pub struct CheckpointJob {
    pub lanes: BTreeMap<i32, Vec<(usize, PartitionCheckpoint)>>,
}

#[derive(Debug)]
pub enum Event {
    /// A fetch came to its end. Partitions that are not listed had nothing.
    Fetched {
        slot: Slot,
        partitions: Vec<(usize, PartitionFetch)>,
        held_back: bool,
    },
    FetchFailed {
        slot: Slot,
        cause: String,
    },
    /// The outcome of each batch of a request: partition, sequence, outcome.
    Produced {
        slot: Slot,
        outcomes: Vec<(usize, i32, ProduceOutcome)>,
    },
    Leaders {
        end: End,
        leaders: Vec<Leader>,
    },
    RefreshFailed(End),
    SourceRange {
        partition: usize,
        log_start: SourceOffset,
        log_end: SourceOffset,
    },
    Checkpointed,
    CheckpointFailed {
        job: CheckpointJob,
        cause: String,
    },
}

/// What a fetch brought for one partition.
#[derive(Debug)]
pub enum PartitionFetch {
    Records { prepared: Prepared, last_stable_offset: SourceOffset },
    Refused(ErrorCode),
    Diverged(EpochEnd),
}

impl PartitionFetch {
    fn is_empty(&self) -> bool {
        matches!(self, Self::Records { prepared, .. } if prepared.is_empty())
    }

    /// Brokers answer with one whole batch at least, if there is any (KIP-74). Where none came for anybody, a part of
    /// one is damage: its length, which no checksum covers, is wrong.
    fn expect_whole_batches(&mut self) {
        if let Self::Records { prepared, .. } = self
            && prepared.partial_tail > 0
        {
            let (position, bytes) = (prepared.next_position.0, prepared.partial_tail);
            prepared.damage = Some(PrepareError::NeverWhole { position, bytes });
        }
    }
}

/// What was done since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    pub records: u64,
    pub bytes: u64,
    pub patched: u64,
    pub reencoded: u64,
    pub skipped: u64,
    /// Source offsets left behind, of copied and of skipped records alike.
    pub offsets: u64,
}

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
    fetching: bool,
    /// Is in its target slot's `ready`.
    queued: bool,
}

#[derive(Debug, Default)]
struct SourceSlot {
    members: Vec<usize>,
    /// The partitions of the fetch under way.
    fetching: Option<Vec<usize>>,
    /// What this slot's fetches hold; given back as batches are acked.
    window: Option<Budget>,
    retry_at: Option<Instant>,
    failures: u32,
    /// Nobody wanted anything when last asked, and nothing has changed since.
    quiet: bool,
    /// Where the next fetch's list begins, so that none is always last.
    rotation: usize,
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
    members: Vec<Member>,
    sources: BTreeMap<Slot, SourceSlot>,
    targets: BTreeMap<Slot, TargetSlot>,
    /// Partitions whose failed batches wait for their time.
    delayed: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Partitions whose failed fetches wait for their time.
    delayed_fetches: BinaryHeap<Reverse<(Instant, usize)>>,
    unsettled: usize,
    ask_range: Vec<usize>,
    refresh: [Refresh; 2],
    dirty: BTreeSet<usize>,
    checkpoint_at: Option<Instant>,
    checkpointing: bool,
    draining: bool,
    totals: Totals,
    newly_stopped: Vec<usize>,
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
        self.last.map(|last| last + if self.wanted { REFRESH_INTERVAL } else { REFRESH_AGE })
    }
}

impl FlowReplicator {
    pub fn new(
        limits: FlowLimits,
        budget: Budget,
        rate: Option<RateLimit>,
        partitions: Vec<FlowPartition>,
    ) -> Self {
        let members: Vec<Member> = partitions
            .into_iter()
            .map(|partition| Member {
                lane: lane_of(&partition.start.topic, partition.start.partition, limits.lanes),
                replicator: PartitionReplicator::new(partition.start, partition.stopped),
                max_batch_bytes: partition.max_batch_bytes,
                keep_append_time: partition.keep_append_time,
                source: None,
                target: None,
                missing_since: [None; 2],
                fetching: false,
                queued: false,
            })
            .collect();
        let newly_stopped: Vec<usize> =
            (0..members.len()).filter(|index| members[*index].replicator.stopped().is_some()).collect();
        let unsettled = members.iter().filter(|member| !member.replicator.is_settled()).count();
        Self {
            limits,
            budget,
            rate,
            dirty: (0..members.len()).collect(),
            members,
            sources: BTreeMap::new(),
            targets: BTreeMap::new(),
            delayed: BinaryHeap::new(),
            delayed_fetches: BinaryHeap::new(),
            unsettled,
            ask_range: Vec::new(),
            refresh: [Refresh::default(); 2],
            checkpoint_at: None,
            checkpointing: false,
            draining: false,
            totals: Totals::default(),
            newly_stopped,
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

    /// Stops fetching; what is on its way to the target still arrives.
    pub fn drain(&mut self) {
        self.draining = true;
        self.members.iter_mut().for_each(|member| member.replicator.abandon_prepared());
    }

    /// Everything has come to its end, the ledger included.
    pub fn is_finished(&self) -> bool {
        let at_rest = if self.draining {
            self.members.iter().all(|member| member.replicator.is_at_rest())
        } else {
            self.unsettled == 0
        };
        at_rest && self.dirty.is_empty() && !self.checkpointing
    }

    // ---- Actions.

    /// The next thing to do, if there is one now.
    pub fn poll_action(&mut self, now: Instant) -> Option<Action> {
        self.wake_delayed(now);
        self.poll_refresh(now)
            .or_else(|| self.ask_range.pop().map(Action::AskSourceRange))
            .or_else(|| self.poll_produce(now))
            .or_else(|| self.poll_fetch(now))
            .or_else(|| self.poll_checkpoint(now))
    }

    /// When [`Self::poll_action`] is worth another try, though no event has come. What was due at `now`, when
    /// `poll_action` was asked last, waits for an event.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let refreshes = self.refresh.iter().filter(|refresh| !refresh.under_way).filter_map(Refresh::due);
        let slots = self.sources.values().filter_map(|slot| slot.retry_at);
        let rate = self.rate.as_ref().and_then(|rate| rate.wait_until(now));
        let checkpoint = self.checkpoint_at.filter(|_| !self.checkpointing && !self.dirty.is_empty());
        let delayed = [&self.delayed, &self.delayed_fetches].into_iter().filter_map(|heap| Some(heap.peek()?.0.0));
        refreshes.chain(slots).chain(rate).chain(checkpoint).chain(delayed).filter(|at| *at > now).min()
    }

    fn wake_delayed(&mut self, now: Instant) {
        while let Some(Reverse((_, index))) = self.delayed.pop_if_due(now) {
            self.enqueue(now, index);
        }
        while let Some(Reverse((_, index))) = self.delayed_fetches.pop_if_due(now) {
            self.rouse(index);
        }
    }

    fn poll_refresh(&mut self, now: Instant) -> Option<Action> {
        for (refresh, end) in self.refresh.iter_mut().zip([End::Source, End::Target]) {
            if !refresh.under_way && refresh.due().is_none_or(|at| at <= now) {
                *refresh = Refresh { wanted: false, under_way: true, last: Some(now) };
                return Some(Action::RefreshMetadata(end));
            }
        }
        None
    }

    fn poll_produce(&mut self, now: Instant) -> Option<Action> {
        let slots: Vec<Slot> = self.targets.keys().copied().collect();
        slots.into_iter().find_map(|slot| self.poll_slot_produce(now, slot)).map(Action::Produce)
    }

    fn poll_slot_produce(&mut self, now: Instant, slot: Slot) -> Option<ProduceJob> {
        let state = self.targets.get(&slot)?;
        if state.requests >= MAX_REQUESTS_IN_FLIGHT {
            return None;
        }
        let (mut batches, mut bytes) = (Vec::new(), 0);
        for _ in 0..state.ready.len() {
            let index = self.targets.get_mut(&slot)?.ready.pop_front()?;
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
        Some(ProduceJob { slot, batches })
    }

    /// The partition's next batch; what waits behind it takes its place at the end of the queue.
    fn poll_partition_batch(&mut self, now: Instant, index: usize) -> Option<OutgoingBatch> {
        let member = &mut self.members[index];
        member.queued = false;
        let was_full = member.replicator.prepared_bytes() >= self.limits.partition_bytes;
        let batch = member.replicator.poll_batch(now, index);
        if was_full && member.replicator.prepared_bytes() < self.limits.partition_bytes {
            self.rouse(index);
        }
        self.enqueue(now, index);
        batch
    }

    fn poll_fetch(&mut self, now: Instant) -> Option<Action> {
        if self.draining || self.rate.as_ref().is_some_and(|rate| rate.wait_until(now).is_some()) {
            return None;
        }
        let max_bytes = self.rate.as_ref().map_or(usize::MAX, RateLimit::fetch_bytes).min(self.limits.fetch_bytes);
        let slots: Vec<Slot> = self.sources.keys().copied().collect();
        slots.into_iter().find_map(|slot| self.poll_slot_fetch(now, slot, max_bytes)).map(Action::Fetch)
    }

    fn poll_slot_fetch(&mut self, now: Instant, slot: Slot, max_bytes: usize) -> Option<FetchJob> {
        let state = self.sources.get_mut(&slot)?;
        if state.fetching.is_some() || state.quiet || state.retry_at.is_some_and(|at| at > now) {
            return None;
        }
        let window_bytes = self.limits.slot_window_bytes;
        let window = state.window.get_or_insert_with(|| self.budget.part(window_bytes));
        let hold = window.try_reserve(max_bytes)?;
        state.retry_at = None;
        state.rotation = state.rotation.wrapping_add(1);
        let rotation = state.rotation.checked_rem(state.members.len()).unwrap_or(0);
        let (before, after) = state.members.split_at(rotation);
        let wanted: Vec<usize> = after
            .iter()
            .chain(before)
            .copied()
            .filter(|index| {
                let member = &self.members[*index];
                !member.fetching && member.replicator.wants_fetch(now, self.limits.partition_bytes)
            })
            .collect();
        if wanted.is_empty() {
            state.quiet = true;
            return None;
        }
        let partition_bytes = self.limits.partition_fetch_bytes.min(max_bytes);
        let partitions = wanted
            .iter()
            .map(|index| {
                let member = &mut self.members[*index];
                member.fetching = true;
                member.wanted(*index, partition_bytes)
            })
            .collect();
        state.fetching = Some(wanted);
        Some(FetchJob { slot, partitions, max_bytes, hold })
    }

    fn poll_checkpoint(&mut self, now: Instant) -> Option<Action> {
        if self.checkpointing || self.dirty.is_empty() {
            return None;
        }
        let last_one = self.unsettled == 0 || (self.draining && self.members.iter().all(|m| m.replicator.is_at_rest()));
        let due = *self.checkpoint_at.get_or_insert(now + self.limits.checkpoint_interval);
        if now < due && !last_one {
            return None;
        }
        self.checkpoint_at = Some(now + self.limits.checkpoint_interval);
        let mut lanes: BTreeMap<i32, Vec<(usize, PartitionCheckpoint)>> = BTreeMap::new();
        for index in std::mem::take(&mut self.dirty) {
            let member = &mut self.members[index];
            if let Some(checkpoint) = member.replicator.poll_checkpoint() {
                lanes.entry(member.lane).or_default().push((index, checkpoint));
            }
        }
        if lanes.is_empty() {
            return None;
        }
        self.checkpointing = true;
        Some(Action::Checkpoint(CheckpointJob { lanes }))
    }

    // ---- Events.

    pub fn handle(&mut self, now: Instant, event: Event) {
        match event {
            Event::Fetched { slot, partitions, held_back } => self.handle_fetched(now, slot, partitions, held_back),
            Event::FetchFailed { slot, cause } => self.handle_fetch_failed(now, slot, &cause),
            Event::Produced { slot, outcomes } => self.handle_produced(now, slot, outcomes),
            Event::Leaders { end, leaders } => self.handle_leaders(now, end, leaders),
            Event::SourceRange { partition, log_start, log_end } => {
                self.update(now, partition, |replicator| replicator.handle_source_range(log_start, log_end));
            }
            Event::RefreshFailed(end) => {
                let refresh = &mut self.refresh[end as usize];
                (refresh.wanted, refresh.under_way) = (true, false);
            }
            Event::Checkpointed => self.checkpointing = false,
            Event::CheckpointFailed { job, .. } => {
                self.checkpointing = false;
                for (index, checkpoint) in job.lanes.into_values().flatten() {
                    self.members[index].replicator.handle_checkpoint_failed(checkpoint);
                    self.dirty.insert(index);
                }
            }
        }
    }

    fn handle_fetched(
        &mut self,
        now: Instant,
        slot: Slot,
        mut partitions: Vec<(usize, PartitionFetch)>,
        held_back: bool,
    ) {
        let asked = self.end_fetch(slot);
        if let Some(state) = self.sources.get_mut(&slot) {
            state.failures = 0;
        }
        if self.draining {
            return; // What comes now will be fetched again.
        }
        let nothing = !held_back && partitions.iter().all(|(_, fetch)| fetch.is_empty());
        if nothing {
            partitions.iter_mut().for_each(|(_, fetch)| fetch.expect_whole_batches());
        }
        for (index, fetch) in partitions {
            self.handle_partition_fetch(now, index, fetch);
        }
        if nothing {
            for index in asked {
                self.update(now, index, PartitionReplicator::handle_nothing_fetched);
            }
        }
    }

    fn handle_partition_fetch(&mut self, now: Instant, index: usize, fetch: PartitionFetch) {
        match fetch {
            PartitionFetch::Records { prepared, last_stable_offset } => {
                self.totals.bytes += prepared.bytes as u64;
                self.totals.skipped += prepared.skipped;
                if let Some(rate) = &mut self.rate {
                    rate.take(now, prepared.bytes);
                }
                self.update(now, index, |replicator| replicator.handle_fetched(now, prepared, last_stable_offset));
            }
            PartitionFetch::Refused(code) => {
                let mut trouble = None;
                self.update(now, index, |replicator| trouble = replicator.handle_fetch_refused(now, code));
                match trouble {
                    Some(FetchTrouble::OutOfRange) => self.ask_range.push(index),
                    Some(FetchTrouble::Leader) => self.refresh[0].wanted = true,
                    None => {}
                }
                self.lose_patience(now, index);
            }
            PartitionFetch::Diverged(EpochEnd { epoch, end_offset }) => self.update(now, index, |replicator| {
                let position = replicator.fetch_position();
                replicator.stop_fetching(Stopped::SourceDiverged { position, epoch, end: SourceOffset(end_offset) });
            }),
        }
    }

    fn handle_fetch_failed(&mut self, now: Instant, slot: Slot, cause: &str) {
        self.refresh[0].wanted = true;
        for index in self.end_fetch(slot) {
            self.update(now, index, |replicator| replicator.handle_fetch_failed(now, cause));
            self.lose_patience(now, index);
        }
        if let Some(state) = self.sources.get_mut(&slot) {
            state.failures += 1;
            let wait = SLOT_BACKOFF_MIN.saturating_mul(1 << state.failures.min(10)).min(SLOT_BACKOFF_MAX);
            state.retry_at = Some(now + wait);
        }
    }

    /// The slot may fetch again; says for whom the fetch was.
    fn end_fetch(&mut self, slot: Slot) -> Vec<usize> {
        let Some(state) = self.sources.get_mut(&slot) else { return Vec::new() };
        state.quiet = false;
        let asked = state.fetching.take().unwrap_or_default();
        for index in &asked {
            self.members[*index].fetching = false;
        }
        for index in &asked {
            self.rouse(*index); // A partition that has moved meanwhile could not be asked for in its new slot.
        }
        asked
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
            self.update(now, index, |replicator| progress = replicator.handle_outcome(now, sequence, outcome));
            self.lose_patience(now, index);
            self.totals.records += progress.records;
            self.totals.patched += progress.patched;
            self.totals.reencoded += progress.reencoded;
        }
    }

    fn lose_patience(&mut self, now: Instant, index: usize) {
        if let Some(patience) = self.limits.patience {
            self.update(now, index, |replicator| replicator.give_up(now, patience));
        }
    }

    fn handle_leaders(&mut self, now: Instant, end: End, leaders: Vec<Leader>) {
        self.refresh[end as usize].under_way = false;
        for (index, leader) in leaders.into_iter().enumerate().take(self.members.len()) {
            match end {
                End::Source => self.handle_source_leader(now, index, leader),
                End::Target => self.handle_target_leader(now, index, leader),
            }
        }
    }

    fn handle_source_leader(&mut self, now: Instant, index: usize, leader: Leader) {
        let Some((broker, epoch)) = self.believe(now, index, End::Source, leader) else { return };
        let connection = (index % usize::from(self.limits.source_connections)) as u16;
        let slot = Slot { broker, connection };
        let member = &mut self.members[index];
        let moved = member.source.is_none_or(|(old, _)| old != slot);
        let old = member.source.replace((slot, epoch)).map(|(old, _)| old);
        if moved {
            if let Some(state) = old.and_then(|old| self.sources.get_mut(&old)) {
                state.members.retain(|other| *other != index);
            }
            self.sources.entry(slot).or_default().members.push(index);
        }
        self.rouse(index);
    }

    fn handle_target_leader(&mut self, now: Instant, index: usize, leader: Leader) {
        let Some((broker, _)) = self.believe(now, index, End::Target, leader) else { return };
        let connection = (index % usize::from(self.limits.target_connections)) as u16;
        let slot = Slot { broker, connection };
        let member = &mut self.members[index];
        if member.target != Some(slot) {
            if let Some(old) = member.target.replace(slot) {
                member.replicator.handle_target_leader_changed();
                if std::mem::take(&mut member.queued) {
                    self.targets.entry(old).or_default().ready.retain(|other| *other != index);
                }
            }
        }
        self.enqueue(now, index);
    }

    /// The leader to go on with, if there is one. A topic that is gone, or another one under its name, stops the
    /// partition.
    fn believe(&mut self, now: Instant, index: usize, end: End, leader: Leader) -> Option<(i32, i32)> {
        let member = &mut self.members[index];
        let (known, recreated, deleted) = match end {
            End::Source => (member.replicator.source_topic_id(), Stopped::SourceRecreated, Stopped::SourceDeleted),
            End::Target => (member.replicator.target_topic_id(), Stopped::TargetRecreated, Stopped::TargetDeleted),
        };
        let missing_since = &mut member.missing_since[end as usize];
        if !matches!(leader, Leader::Missing) {
            *missing_since = None;
        }
        let reason = match leader {
            Leader::Known { broker, epoch, topic_id } if topic_id == known || topic_id.is_nil() || known.is_nil() => {
                if end == End::Target {
                    self.update(now, index, |replicator| replicator.handle_target_leader(now, true));
                }
                return Some((broker, epoch));
            }
            Leader::Known { .. } => recreated,
            Leader::Missing if now >= *missing_since.get_or_insert(now) + MISSING_BELIEVED => deleted,
            Leader::Absent | Leader::Missing => {
                self.refresh[end as usize].wanted = true;
                self.update(now, index, |replicator| match end {
                    End::Source => replicator.handle_fetch_failed(now, "no leader"),
                    End::Target => replicator.handle_target_leader(now, false),
                });
                self.lose_patience(now, index);
                return None;
            }
        };
        self.update(now, index, |replicator| match end {
            End::Source => replicator.stop_fetching(reason),
            End::Target => replicator.stop(reason),
        });
        None
    }

    /// Changes a partition and puts it where its new state belongs: the one place that keeps the queues true.
    fn update(&mut self, now: Instant, index: usize, change: impl FnOnce(&mut PartitionReplicator)) {
        let limit = self.limits.partition_bytes;
        let replicator = &mut self.members[index].replicator;
        let (was_settled, was_at) = (replicator.is_settled(), replicator.acked_position());
        let (was_stopped, wanted) = (replicator.stopped().is_some(), replicator.wants_fetch(now, limit));
        change(replicator);
        if replicator.acked_position() != was_at {
            self.dirty.insert(index);
            self.totals.offsets += (replicator.acked_position().0 - was_at.0) as u64;
        }
        if !was_stopped && replicator.stopped().is_some() {
            self.newly_stopped.push(index);
        }
        match (was_settled, replicator.is_settled()) {
            (false, true) => self.unsettled -= 1,
            (true, false) => self.unsettled += 1,
            _ => {}
        }
        let roused = !wanted && replicator.wants_fetch(now, limit);
        if let Some(at) = replicator.fetch_retry_at().filter(|at| *at > now) {
            self.delayed_fetches.push(Reverse((at, index)));
        }
        if let Some(at) = replicator.produce_retry_at().filter(|at| *at > now) {
            self.delayed.push(Reverse((at, index)));
        }
        if roused {
            self.rouse(index);
        }
        self.enqueue(now, index);
    }

    /// The partition may want a fetch again.
    fn rouse(&mut self, index: usize) {
        if let Some(state) = self.members[index].source.and_then(|(slot, _)| self.sources.get_mut(&slot)) {
            state.quiet = false;
        }
    }

    /// The partition may have a batch to send.
    fn enqueue(&mut self, now: Instant, index: usize) {
        let member = &mut self.members[index];
        let Some(slot) = member.target else { return };
        if !member.queued && member.replicator.can_send(now) {
            member.queued = true;
            self.targets.entry(slot).or_default().ready.push_back(index);
        }
    }
}

impl Member {
    fn wanted(&self, index: usize, max_bytes: usize) -> WantedPartition {
        WantedPartition {
            index,
            leader_epoch: self.source.map_or(-1, |(_, epoch)| epoch),
            last_fetched_epoch: self.replicator.last_fetched_epoch(),
            max_bytes,
            context: FateContext {
                start_offset: self.replicator.fetch_position().0,
                max_batch_bytes: self.max_batch_bytes,
                keep_append_time: self.keep_append_time,
            },
        }
    }
}

trait PopIfDue {
    fn pop_if_due(&mut self, now: Instant) -> Option<Reverse<(Instant, usize)>>;
}

impl PopIfDue for BinaryHeap<Reverse<(Instant, usize)>> {
    fn pop_if_due(&mut self, now: Instant) -> Option<Reverse<(Instant, usize)>> {
        self.peek().is_some_and(|Reverse((at, _))| *at <= now).then(|| self.pop())?
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::prepare::prepare;
    use super::*;
    use crate::offsets::{Segment, TargetOffset};
    use crate::record::{BatchBuilder, BatchOptions};

    #[expect(clippy::disallowed_methods, reason = "an Instant has no other beginning; nothing depends on it")]
    fn start_of_time() -> Instant {
        Instant::now()
    }

    /// One partition between two brokers; nothing else is ever due.
    fn flow(limits: FlowLimits) -> FlowReplicator {
        let start = PartitionStart {
            topic: "t".into(),
            target_topic: "t".into(),
            partition: 0,
            source_topic_id: Uuid::nil(),
            target_topic_id: Uuid::nil(),
            position: SourceOffset(0),
            leader_epoch: -1,
            target_next: TargetOffset(0),
            end: Some(SourceOffset(1000)),
            segment: Segment::default(),
            producer_id: 7,
            producer_epoch: 0,
        };
        let partition = FlowPartition { start, stopped: None, max_batch_bytes: 1 << 20, keep_append_time: true };
        FlowReplicator::new(limits, Budget::new(64 << 20), None, vec![partition])
    }

    /// Carries out what is asked for, but for fetches and produces: these are returned.
    fn next_job(flow: &mut FlowReplicator, now: Instant) -> Option<Action> {
        loop {
            match flow.poll_action(now)? {
                Action::RefreshMetadata(end) => {
                    let leaders = vec![Leader::Known { broker: 1, epoch: 0, topic_id: Uuid::nil() }];
                    flow.handle(now, Event::Leaders { end, leaders });
                }
                Action::Checkpoint(_) => flow.handle(now, Event::Checkpointed),
                job => return Some(job),
            }
        }
    }

    /// Answers a fetch with batches of one large record each.
    fn answer_fetch(flow: &mut FlowReplicator, now: Instant, job: FetchJob, batches: i64) {
        let context = job.partitions[0].context;
        let mut records = Vec::new();
        for base_offset in context.start_offset..context.start_offset + batches {
            let mut batch = BatchBuilder::new(BatchOptions { base_offset, ..BatchOptions::default() });
            batch.push(0, None, Some(&[0; 1000]), &[]);
            records.extend_from_slice(&batch.build().expect("a batch"));
        }
        let prepared = prepare(records.into(), Vec::new(), context, &Arc::new(job.hold));
        let fetch = PartitionFetch::Records { prepared, last_stable_offset: SourceOffset(1000) };
        flow.handle(now, Event::Fetched { slot: job.slot, partitions: vec![(0, fetch)], held_back: false });
    }

    #[test]
    fn a_partition_that_was_full_is_fetched_again_as_soon_as_it_sends() {
        let now = start_of_time();
        let limits = FlowLimits { partition_bytes: 1000, ..FlowLimits::for_memory(64 << 20, 1, 1) };
        let mut flow = flow(limits);
        let Some(Action::Fetch(job)) = next_job(&mut flow, now) else { panic!("a fetch") };
        answer_fetch(&mut flow, now, job, 2);
        let Some(Action::Produce(first)) = next_job(&mut flow, now) else { panic!("the first batch") };
        assert!(next_job(&mut flow, now).is_none(), "the partition is full, and a new producer id waits for its ack");

        let base_offset = TargetOffset(0);
        let outcomes = vec![(0, first.batches[0].sequence, ProduceOutcome::Acked { base_offset })];
        flow.handle(now, Event::Produced { slot: first.slot, outcomes });

        assert!(matches!(next_job(&mut flow, now), Some(Action::Produce(_))), "the second batch");
        assert!(matches!(next_job(&mut flow, now), Some(Action::Fetch(_))), "and room for a third");
    }
}
