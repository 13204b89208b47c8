//! One partition on its way: fetched -> prepared -> produced -> acked -> checkpointed.
//!
//! Pure: events in by `handle_*`, batches to send out by [`PartitionReplicator::poll_batch`], time as a value.
//!
//! | state | new batches go out | left by |
//! |---|---|---|
//! | `Streaming` | yes, at most [`MAX_UNACKED`] unacked | a batch that fails -> `Draining` |
//! | `Draining` | no: the outcome of each batch in flight is awaited | the last outcome -> `BackingOff` |
//! | `BackingOff` | no | time -> `Streaming`, which sends the failed ones first, byte for byte |
//! | stopped | no, for good | a new start |
//!
//! Invariants: `checkpointed <= acked <= produced <= fetched`; batches go out in order, each under the sequence number
//! that it got first, so what was appended without our knowing is recognised by the broker; a lost answer is
//! [`ProduceOutcome::Unknown`], never a failure.

mod fetching;
mod producing;
#[cfg(test)]
mod tests;
mod trouble;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use uuid::Uuid;

use self::trouble::Trouble;
use super::ledger::{Checkpoint, FlowStart, LedgerKey};
use super::prepare::PreparedBatch;
use super::stopped::Stopped;
use crate::offsets::{Segment, SourceOffset, TargetOffset};
use crate::protocol::error_code::ErrorCode;
use crate::record::HEADER_LEN;

/// Batches of a partition that may be unacknowledged: a leader remembers the last five of a producer, and recognises
/// no older one as a repetition (KIP-98).
pub const MAX_UNACKED: usize = 5;

/// Names and ids, and where the copy begins and ends.
#[derive(Debug, Clone)]
pub struct PartitionStart {
    pub topic: Arc<str>,
    pub target_topic: Arc<str>,
    pub partition: i32,
    pub source_topic_id: Uuid,
    pub target_topic_id: Uuid,
    pub position: SourceOffset,
    /// The leader epoch of the last batch below `position`, or -1.
    pub leader_epoch: i32,
    /// Where the target's log ends, as far as is known.
    pub target_next: TargetOffset,
    /// Where to stop; `None` to follow.
    pub end: Option<SourceOffset>,
    /// The source topic is compacted, as far as is known.
    pub is_compacted: bool,
    /// Where the flow began with this partition.
    pub flow_start: FlowStart,
    /// The last segment of the offset map in the ledger.
    pub segment: Segment,
    /// What the ledger says of the partition and the first checkpoint takes the place of.
    pub superseded: Vec<LedgerKey>,
    pub producer_id: i64,
    pub producer_epoch: i16,
}

/// One batch to be produced: the patched header and the payload that it came with.
#[derive(Debug, Clone)]
pub struct OutgoingBatch {
    pub partition: usize,
    pub sequence: i32,
    pub header: [u8; HEADER_LEN],
    pub payload: Bytes,
}

/// What became of a batch that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProduceOutcome {
    Acked {
        base_offset: TargetOffset,
    },
    Refused {
        code: ErrorCode,
        message: Option<String>,
    },
    /// No answer came: the batch may be in the target's log or not.
    Unknown {
        cause: String,
    },
}

/// What a fetch error asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchTrouble {
    /// The leader is elsewhere, or not ready.
    Leader,
    /// The offset is not in the source's log: ask where the log begins and ends.
    OutOfRange,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Streaming,
    Draining,
    BackingOff { until: Instant },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// To be sent, again or for the first time.
    No,
    InFlight,
    Acked(TargetOffset),
}

#[derive(Debug)]
struct Unacked {
    batch: PreparedBatch,
    sequence: i32,
    sent: Sent,
    /// Was sent before, and no answer came.
    in_doubt: bool,
}

/// What was copied by one ack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    pub records: u64,
    pub patched: u64,
    pub reencoded: u64,
    /// Source offsets that may be on the target twice: sent again to a leader that had forgotten this producer.
    pub perhaps_repeated: Option<(SourceOffset, SourceOffset)>,
}

/// What a checkpoint of the partition writes to the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionCheckpoint {
    pub checkpoint: Checkpoint,
    pub segments: Vec<Segment>,
    /// What holds no longer, once the rest is written.
    pub gone: Vec<LedgerKey>,
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
    last_fetched_epoch: i32,
    fetch_retry_at: Option<Instant>,
    fetch_failures: u32,
    /// Damaged answers in a row that brought nothing whole.
    damaged_fetches: u32,
    empty_fetches: u32,
    last_stable_offset: Option<SourceOffset>,

    prepared: VecDeque<PreparedBatch>,
    prepared_bytes: usize,
    unacked: VecDeque<Unacked>,
    in_flight: usize,
    next_sequence: i32,
    acked_sequence: i32,
    /// Whether the leader has acked our producer id, and nothing has failed since. A leader takes any first sequence
    /// from an id that it has not seen, or has forgotten (old records, and it started again): until then only one batch
    /// may be on its way, since a second one that overtakes the first would be believed.
    is_known_to_leader: bool,
    last_ack: Option<Instant>,
    failures: u32,
    source_trouble: Trouble,
    target_trouble: Trouble,

    acked_position: SourceOffset,
    acked_epoch: i32,
    target_next: TargetOffset,
    open_segment: Segment,
    full_segments: Vec<Segment>,
    gone: Vec<LedgerKey>,
    checkpointed: Option<SourceOffset>,
}

impl PartitionReplicator {
    /// `stopped` where it is known before the start that the partition can't be copied.
    pub fn new(start: PartitionStart, stopped: Option<Stopped>) -> Self {
        Self {
            phase: Phase::Streaming,
            sending_stopped: stopped.is_some(),
            stopped,
            fetch_position: start.position,
            last_fetched_epoch: start.leader_epoch,
            fetch_retry_at: None,
            fetch_failures: 0,
            damaged_fetches: 0,
            empty_fetches: 0,
            last_stable_offset: None,
            prepared: VecDeque::new(),
            prepared_bytes: 0,
            unacked: VecDeque::new(),
            in_flight: 0,
            next_sequence: 0,
            acked_sequence: 0,
            is_known_to_leader: false,
            last_ack: None,
            failures: 0,
            source_trouble: Trouble::default(),
            target_trouble: Trouble::default(),
            acked_position: start.position,
            acked_epoch: start.leader_epoch,
            target_next: start.target_next,
            open_segment: start.segment.clone(),
            full_segments: Vec::new(),
            gone: start.superseded.clone(),
            checkpointed: None,
            start,
        }
    }

    pub fn source_topic_id(&self) -> Uuid {
        self.start.source_topic_id
    }

    pub fn target_topic_id(&self) -> Uuid {
        self.start.target_topic_id
    }

    /// Where the next fetch begins.
    pub fn fetch_position(&self) -> SourceOffset {
        self.fetch_position
    }

    /// The leader epoch of the last batch fetched, or -1 (KIP-320).
    pub fn last_fetched_epoch(&self) -> i32 {
        self.last_fetched_epoch
    }

    /// Everything below is on the target or was skipped for good.
    pub fn acked_position(&self) -> SourceOffset {
        self.acked_position
    }

    pub fn stopped(&self) -> Option<&Stopped> {
        self.stopped.as_ref()
    }

    /// Bytes fetched and not sent so far.
    pub fn prepared_bytes(&self) -> usize {
        self.prepared_bytes
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

    /// All that was asked for is on the target.
    pub fn is_done(&self) -> bool {
        self.start.end.is_some_and(|end| self.acked_position >= end)
    }

    /// Something is still to be fetched.
    pub fn needs_source(&self) -> bool {
        self.stopped.is_none() && self.start.end.is_none_or(|end| self.fetch_position < end)
    }

    /// Whether the next fetch of the leader should ask for this partition.
    pub fn wants_fetch(&self, now: Instant, max_prepared_bytes: usize) -> bool {
        self.needs_source()
            && self.prepared_bytes < max_prepared_bytes
            && self.fetch_retry_at.is_none_or(|at| at <= now)
    }

    /// When a fetch that failed may be tried again.
    pub fn fetch_retry_at(&self) -> Option<Instant> {
        self.fetch_retry_at.filter(|_| self.stopped.is_none())
    }

    /// When a batch that failed may be sent again.
    pub fn produce_retry_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::BackingOff { until } if !self.sending_stopped => Some(until),
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
            self.acked_epoch = self.last_fetched_epoch;
        }
        assert!(
            self.acked_position <= self.fetch_position,
            "acked past what was fetched"
        );
    }

    /// What the ledger should say now, if that is not what it says.
    pub fn poll_checkpoint(&mut self) -> Option<PartitionCheckpoint> {
        if self.checkpointed == Some(self.acked_position) {
            return None;
        }
        let mut segments = std::mem::take(&mut self.full_segments);
        if !self.open_segment.is_empty() {
            segments.push(self.open_segment.clone());
        }
        self.checkpointed = Some(self.acked_position);
        Some(PartitionCheckpoint {
            checkpoint: Checkpoint {
                target_topic: self.start.target_topic.to_string(),
                source_topic_id: self.start.source_topic_id,
                target_topic_id: self.start.target_topic_id,
                start: self.start.flow_start,
                source_position: self.acked_position,
                source_leader_epoch: self.acked_epoch,
                target_next: self.target_next,
                producer_id: self.start.producer_id,
                producer_epoch: self.start.producer_epoch,
                next_sequence: self.acked_sequence,
                cuts: Vec::new(),
            },
            segments,
            gone: std::mem::take(&mut self.gone),
        })
    }

    /// The ledger did not take it: the next checkpoint writes it again.
    pub fn handle_checkpoint_failed(&mut self, mut written: PartitionCheckpoint) {
        written
            .segments
            .retain(|segment| segment.start() != self.open_segment.start());
        written.segments.append(&mut self.full_segments);
        self.full_segments = written.segments;
        written.gone.append(&mut self.gone);
        self.gone = written.gone;
        self.checkpointed = None;
    }
}
