//! One partition on its way: fetched -> prepared -> produced -> acked -> checkpointed.
//!
//! Pure: events in by `handle_*`, batches to send out by [`PartitionReplicator::poll_batch`], time as a value.
//!
//! | state | new batches go out | left by |
//! |---|---|---|
//! | `Recovering` | no, nor is anything fetched: where the target's log stands is found out | the answer -> `AwaitingLedger` or `Streaming` |
//! | `AwaitingLedger` | no: a new mapping has to be in the ledger first | its checkpoint is written -> `Streaming` |
//! | `Streaming` | yes, at most [`MAX_UNACKED`] unacked | a batch that fails -> `Draining` |
//! | `Draining` | no: the outcome of each batch in flight is awaited | the last outcome -> `BackingOff` or `Recovering` |
//! | `BackingOff` | no | time -> `Streaming`, which sends the refused ones first, byte for byte |
//! | stopped | no, for good | a new start |
//!
//! Invariants: `checkpointed <= acked <= produced <= fetched`; batches go out in order, each under the sequence number
//! that it got first. A lost answer is [`ProduceOutcome::Unknown`], never a failure: it is never followed by a guess, but by
//! `Recovering`, which forgets what was sent and asks the target. Only what was refused for certain is sent again.

mod checkpointing;
mod fetching;
mod messages;
mod producing;
mod recovering;
#[cfg(test)]
pub(in crate::replication) mod tests;
mod trouble;
mod truncation;

use std::collections::VecDeque;
use std::time::Instant;

use uuid::Uuid;

pub use self::fetching::SourceLog;
pub use self::messages::{
    FetchStart, FetchTrouble, FetchWish, Incident, OnChange, OutgoingBatch, PartitionCheckpoint, PartitionStart,
    Policies, ProduceOutcome, Progress,
};
use self::trouble::Trouble;
use super::coalesce::SMALL;
use super::epochs::{BatchMark, Before, EpochHistory};
use super::ledger::{LedgerKey, SegmentName};
use super::prepare::PreparedBatch;
use super::recovery::{Beginning, FenceReason};
use super::stopped::Stopped;
use crate::offsets::{MAX_RUNS_PER_SEGMENT, Segment, SourceOffset, TargetOffset};

/// Batches of a partition that may be unacknowledged: a leader remembers the last five of a producer, and recognises
/// no older one as a repetition (KIP-98).
pub const MAX_UNACKED: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Recovering {
        under_way: bool,
        not_before: Option<Instant>,
    },
    AwaitingLedger {
        writing: bool,
    },
    Streaming,
    Draining(AfterDraining),
    BackingOff {
        until: Instant,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum AfterDraining {
    SendAgain,
    Recover,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// To be sent, again or for the first time.
    No,
    InFlight,
    Acked(TargetOffset),
}

/// The source's log is the one that was copied up to here only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parted {
    /// How far it goes is being asked.
    Asking(SourceOffset),
    /// It ends here within its epoch. That is where it parts if it has nothing below, which is being asked.
    AskingForNothing(SourceOffset),
    /// What is on its way comes to its end first.
    Draining(SourceOffset),
}

#[derive(Debug)]
struct Unacked {
    batch: PreparedBatch,
    sequence: i32,
    sent: Sent,
}

/// The state of one partition.
#[derive(Debug)]
pub struct PartitionReplicator {
    start: PartitionStart,
    phase: Phase,
    stopped: Option<Stopped>,
    /// Stopped for the target's sake: then what is unacked stays so.
    sending_stopped: bool,

    fetch_position: SourceOffset,
    fetched: Before,
    /// Of all that was fetched.
    epochs: EpochHistory,
    /// The source has answered, since it was away last, from where the copy goes on: its log is the one that was copied.
    is_validated: bool,
    /// Answers in a row that the position, which is within the log, is out of its range.
    out_of_range: u32,
    fetch_retry_at: Option<Instant>,
    fetch_failures: u32,
    /// Damaged answers in a row that brought nothing whole.
    damaged_fetches: u32,
    empty_fetches: u32,
    /// Those since the last records of which the log did not reach as far as the copy is to.
    short_fetches: u32,
    last_stable_offset: Option<SourceOffset>,
    source_log_start: SourceOffset,
    high_watermark: Option<SourceOffset>,
    parted: Option<Parted>,
    /// The copy begins anew with another topic, once what is in flight has its outcome.
    is_recreated: bool,

    prepared: VecDeque<PreparedBatch>,
    prepared_bytes: usize,
    unacked: VecDeque<Unacked>,
    in_flight: usize,
    /// The mapping: what goes out goes out under this id and epoch.
    producer: (i64, i16),
    next_sequence: i32,
    acked_sequence: i32,
    /// The mapping is not to be gone on with.
    must_fence: Option<FenceReason>,
    /// What the recovery to come goes on from.
    beginning: Beginning,
    is_quiet: bool,
    /// An earlier owner can't write under the mapping any more.
    is_alone: bool,
    /// When a recovery began last, and when the one began whose outcome is known.
    asked_at: Option<Instant>,
    recovered_at: Option<Instant>,
    /// The time of the latest record of the batch acked last, in milliseconds after 1970.
    acked_timestamp_ms: i64,
    /// A batch of this mapping may be on its way, or in the log, without our knowing.
    in_doubt: bool,
    /// Whether the leader has acked our producer id, and nothing has failed since. A leader takes any first sequence
    /// from an id that it has not seen, or has forgotten (old records, and it started again): until then only one batch
    /// may be on its way, since a second one that overtakes the first would be believed.
    is_known_to_leader: bool,
    last_ack: Option<Instant>,
    failures: u32,
    source_trouble: Trouble,
    target_trouble: Trouble,

    acked_position: SourceOffset,
    acked: Before,
    target_next: TargetOffset,
    open_segment: Segment,
    full_segments: Vec<Segment>,
    max_segment_runs: usize,
    /// Segments in the ledger that nothing is added to any more.
    closed_segments: VecDeque<SegmentName>,
    gone: Vec<LedgerKey>,
    checkpointed: Option<SourceOffset>,
    incidents: Vec<Incident>,
}

impl PartitionReplicator {
    /// `stopped` where it is known before the start that the partition can't be copied.
    pub fn new(mut start: PartitionStart, stopped: Option<Stopped>) -> Self {
        let is_remembered = start.beginning == Beginning::Remembered;
        let before = Before {
            epoch: start.leader_epoch,
            mark: start.mark.filter(|_| !start.is_compacted),
        };
        Self {
            phase: Phase::Recovering {
                under_way: false,
                not_before: None,
            },
            sending_stopped: stopped.is_some(),
            stopped,
            fetch_position: start.position,
            fetched: before,
            epochs: std::mem::take(&mut start.epochs),
            is_validated: !is_remembered,
            out_of_range: 0,
            fetch_retry_at: None,
            fetch_failures: 0,
            damaged_fetches: 0,
            empty_fetches: 0,
            short_fetches: 0,
            last_stable_offset: None,
            source_log_start: SourceOffset(0),
            high_watermark: None,
            parted: None,
            is_recreated: false,
            prepared: VecDeque::new(),
            prepared_bytes: 0,
            unacked: VecDeque::new(),
            in_flight: 0,
            producer: (start.producer_id, start.producer_epoch),
            next_sequence: start.next_sequence,
            acked_sequence: start.next_sequence,
            must_fence: None,
            beginning: start.beginning,
            is_quiet: start.is_quiet,
            is_alone: start.is_quiet,
            asked_at: None,
            recovered_at: None,
            acked_timestamp_ms: i64::MIN,
            in_doubt: is_remembered && !start.is_quiet,
            is_known_to_leader: false,
            last_ack: None,
            failures: 0,
            source_trouble: Trouble::default(),
            target_trouble: Trouble::default(),
            acked_position: start.position,
            acked: before,
            target_next: start.target_next,
            open_segment: std::mem::take(&mut start.segment),
            full_segments: Vec::new(),
            max_segment_runs: MAX_RUNS_PER_SEGMENT,
            closed_segments: std::mem::take(&mut start.segments).into(),
            gone: std::mem::take(&mut start.superseded),
            checkpointed: is_remembered.then_some(start.position),
            incidents: Vec::new(),
            start,
        }
    }

    /// Segments of the map are to have fewer runs than they may.
    pub fn limit_segments(&mut self, max_runs: usize) {
        self.max_segment_runs = max_runs.min(MAX_RUNS_PER_SEGMENT);
    }

    /// Segments that nothing is added to any more, and that are not in the ledger.
    pub fn unsaved_segments(&self) -> usize {
        self.full_segments.len()
    }

    pub fn source_topic_id(&self) -> Uuid {
        self.start.source_topic_id
    }

    pub fn target_topic_id(&self) -> Uuid {
        self.start.target_topic_id
    }

    pub fn policies(&self) -> Policies {
        self.start.policies
    }

    /// The copy goes on for ever.
    pub fn follows(&self) -> bool {
        self.start.end.is_none()
    }

    /// What has happened since this was asked last.
    pub fn take_incidents(&mut self) -> Vec<Incident> {
        std::mem::take(&mut self.incidents)
    }

    /// Where the next fetch begins.
    pub fn fetch_position(&self) -> SourceOffset {
        self.fetch_position
    }

    /// A cleaner changes batches.
    fn lasting(&self, before: Before) -> Before {
        Before {
            mark: before.mark.filter(|_| !self.start.is_compacted),
            ..before
        }
    }

    /// The batch before, which the next fetch is to bring as well, so that it is seen to be there still.
    pub fn unverified(&self) -> Option<BatchMark> {
        self.fetched.mark.filter(|_| !self.is_validated)
    }

    /// Everything below is on the target or was skipped for good.
    pub fn acked_position(&self) -> SourceOffset {
        self.acked_position
    }

    pub fn stopped(&self) -> Option<&Stopped> {
        self.stopped.as_ref()
    }

    /// Nothing is on its way to the target, nor has to be sent again.
    pub fn is_at_rest(&self) -> bool {
        self.in_flight == 0 && (self.sending_stopped || self.unacked.is_empty())
    }

    /// Nothing is fetched that is not acknowledged.
    pub fn is_idle(&self) -> bool {
        self.unacked.is_empty() && self.prepared.is_empty()
    }

    /// Nothing more will happen: done, or stopped and all that could still be sent has its outcome.
    pub fn is_settled(&self) -> bool {
        match self.stopped {
            Some(_) if self.sending_stopped => self.in_flight == 0,
            Some(_) => self.is_idle(),
            None => self.is_done(),
        }
    }

    /// All that was asked for is on the target, and what the last fetch brought beyond; and the partition is known to the
    /// ledger.
    pub fn is_done(&self) -> bool {
        let has_everything = self.start.end.is_some_and(|end| self.acked_position >= end);
        let is_certain = self.is_validated && self.beginning == Beginning::Remembered;
        is_certain && has_everything && self.is_idle() && !self.is_recovering()
    }

    /// Something is still to be fetched, or it is not certain so far that nothing is.
    pub fn needs_source(&self) -> bool {
        let goes_on = self.start.end.is_none_or(|end| self.fetch_position < end);
        self.stopped.is_none() && (goes_on || !self.is_validated)
    }

    /// Nothing of ours can come to the target's log late.
    pub fn is_quiet(&self) -> bool {
        !self.in_doubt && self.in_flight == 0
    }

    /// A new mapping waits to be written into the ledger.
    pub fn awaits_ledger(&self) -> bool {
        matches!(self.phase, Phase::AwaitingLedger { .. })
    }

    /// Where the target's log stands has to be found out, or is being.
    fn is_recovering(&self) -> bool {
        matches!(self.phase, Phase::Recovering { .. })
    }

    /// What the next fetch of the leader should ask for.
    pub fn fetch_wish(&self, now: Instant, max_prepared_bytes: usize) -> FetchWish {
        let is_held_up = self.parted.is_some() || self.is_recreated || self.fetch_retry_at.is_some_and(|at| at > now);
        if !self.needs_source() || is_held_up {
            return FetchWish::Nothing;
        }
        match self.phase {
            Phase::Recovering { under_way: true, .. } => FetchWish::Soon,
            Phase::Recovering { .. } if self.wants_recovery(now) => FetchWish::Soon,
            Phase::Recovering { .. } => FetchWish::Nothing,
            _ if self.prepared_bytes >= max_prepared_bytes || self.has_small_backlog() => FetchWish::Soon,
            _ => FetchWish::From(FetchStart {
                position: self.fetch_position,
                last_fetched_epoch: self.fetched.epoch,
                before: self.unverified(),
                topic_id: self.start.source_topic_id,
            }),
        }
    }

    /// Small batches wait to be sent, one by one. What has come to the source by the time that they are gone will come as a
    /// backlog, and can be put together.
    fn has_small_backlog(&self) -> bool {
        self.prepared.len() >= MAX_UNACKED && self.prepared_bytes < self.prepared.len() * SMALL
    }

    /// When a fetch that failed may be tried again.
    pub fn fetch_retry_at(&self) -> Option<Instant> {
        self.fetch_retry_at.filter(|_| self.stopped.is_none())
    }

    /// When a batch that failed may be sent again.
    pub fn produce_retry_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::BackingOff { until } if !self.sending_stopped => Some(until),
            Phase::Recovering { not_before, .. } if !self.sending_stopped => not_before,
            _ => None,
        }
    }

    /// Nothing more is fetched. What was fetched before still goes to the target.
    pub fn stop_fetching(&mut self, reason: Stopped) {
        self.stopped.get_or_insert(reason);
    }

    /// Nothing more is fetched or sent.
    pub fn stop(&mut self, reason: Stopped) {
        self.stopped.get_or_insert(reason);
        self.sending_stopped = true;
        self.prepared.clear();
        self.prepared_bytes = 0;
        self.forget_unsent();
    }

    /// From the first unsent batch on, nothing can be acked in order any more; what they hold is needed by others.
    fn forget_unsent(&mut self) {
        if let Some(first) = self.unacked.iter().position(|unacked| unacked.sent == Sent::No) {
            self.unacked.truncate(first);
        }
    }

    /// With nothing on its way, everything fetched is acked: skipped batches at the end move the position too.
    fn advance_when_idle(&mut self) {
        if self.is_idle() && !self.sending_stopped {
            self.acked_position = self.fetch_position;
            self.acked = self.fetched;
        }
        assert!(
            self.acked_position <= self.fetch_position,
            "acked past what was fetched"
        );
        self.part_when_idle();
    }
}
