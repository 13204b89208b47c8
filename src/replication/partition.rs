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

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use uuid::Uuid;

use super::ledger::Checkpoint;
use super::prepare::{Copied, PrepareError, Prepared, PreparedBatch, SourceOffsets};
use super::stopped::Stopped;
use crate::offsets::{Run, Segment, SourceOffset, TargetOffset};
use crate::protocol::error_code::ErrorCode;
use crate::record::{HEADER_LEN, ProducerStamp, ReencodeError, patch};

/// Batches of a partition that may be unacknowledged: a leader remembers the last five of a producer, and recognises
/// no older one as a repetition (KIP-98).
pub const MAX_UNACKED: usize = 5;

const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

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
    /// The last segment of the offset map in the ledger.
    pub segment: Segment,
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
}

/// What was copied by one ack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    pub records: u64,
    pub patched: u64,
    pub reencoded: u64,
}

/// What a checkpoint of the partition writes to the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionCheckpoint {
    pub checkpoint: Checkpoint,
    pub segments: Vec<Segment>,
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
    empty_fetches: u32,
    last_stable_offset: Option<SourceOffset>,

    prepared: VecDeque<PreparedBatch>,
    prepared_bytes: usize,
    unacked: VecDeque<Unacked>,
    in_flight: usize,
    next_sequence: i32,
    acked_sequence: i32,
    /// A producer id that the leader has not seen so far: it takes any first sequence, so only one batch may be on
    /// its way (a second one overtaking the first would be believed).
    first_ack_seen: bool,
    failures: u32,
    source_trouble: Trouble,
    target_trouble: Trouble,

    acked_position: SourceOffset,
    acked_epoch: i32,
    target_next: TargetOffset,
    open_segment: Segment,
    full_segments: Vec<Segment>,
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
            empty_fetches: 0,
            last_stable_offset: None,
            prepared: VecDeque::new(),
            prepared_bytes: 0,
            unacked: VecDeque::new(),
            in_flight: 0,
            next_sequence: 0,
            acked_sequence: 0,
            first_ack_seen: false,
            failures: 0,
            source_trouble: Trouble::default(),
            target_trouble: Trouble::default(),
            acked_position: start.position,
            acked_epoch: start.leader_epoch,
            target_next: start.target_next,
            open_segment: start.segment.clone(),
            full_segments: Vec::new(),
            checkpointed: None,
            start,
        }
    }

    pub fn topic(&self) -> &Arc<str> {
        &self.start.topic
    }

    pub fn target_topic(&self) -> &Arc<str> {
        &self.start.target_topic
    }

    pub fn partition(&self) -> i32 {
        self.start.partition
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

    pub fn end(&self) -> Option<SourceOffset> {
        self.start.end
    }

    /// Bytes fetched and not sent so far.
    pub fn prepared_bytes(&self) -> usize {
        self.prepared_bytes
    }

    pub fn has_in_flight(&self) -> bool {
        self.in_flight > 0
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

    /// Whether the next fetch of the leader should ask for this partition.
    pub fn wants_fetch(&self, now: Instant, max_prepared_bytes: usize) -> bool {
        self.stopped.is_none()
            && self.start.end.is_none_or(|end| self.fetch_position < end)
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

    // ---- Source side.

    /// Takes what a fetch from [`Self::fetch_position`] brought.
    pub fn handle_fetched(&mut self, now: Instant, prepared: Prepared, last_stable_offset: SourceOffset) {
        assert!(prepared.next_position >= self.fetch_position, "a fetch went backwards");
        self.last_stable_offset = Some(last_stable_offset);
        self.source_trouble.clear();
        if prepared.damage.is_none() {
            self.fetch_failures = 0;
        }
        if prepared.last_leader_epoch.is_some() {
            self.empty_fetches = 0;
        }
        self.fetch_retry_at = None;
        self.fetch_position = prepared.next_position;
        if let Some(epoch) = prepared.last_leader_epoch {
            self.last_fetched_epoch = epoch;
        }
        for batch in prepared.batches {
            self.prepared_bytes += batch.payload.len() + HEADER_LEN;
            self.prepared.push_back(batch);
        }
        self.advance_when_idle();
        if let Some(damage) = prepared.damage {
            self.handle_damage(now, damage);
        }
    }

    /// What was damaged on the way heals by fetching again; what is damaged on the source's disk does not.
    fn handle_damage(&mut self, now: Instant, damage: PrepareError) {
        const MAX_DAMAGED_FETCHES: u32 = 3;
        if let PrepareError::Reencode { source: ReencodeError::RecordTooLarge { offset, size, limit }, .. } = damage {
            return self.stop_fetching(Stopped::RecordTooLarge { offset, size, limit });
        }
        self.fetch_failures += 1;
        self.fetch_retry_at = Some(now + backoff(self.fetch_failures));
        if self.fetch_failures >= MAX_DAMAGED_FETCHES {
            self.stop_fetching(Stopped::SourceUnreadable { position: self.fetch_position, cause: Arc::new(damage) });
        }
    }

    /// A fetch that was not held back by a quota and asked for this partition brought no records for anybody.
    ///
    /// Then there are none between here and the last stable offset: compaction can leave the end of a log without
    /// a batch. Believed the third time only.
    pub fn handle_nothing_fetched(&mut self) {
        const BELIEVED: u32 = 3;
        let Some(end) = self.start.end.filter(|_| self.fetch_failures == 0) else { return };
        if self.fetch_position < end && self.last_stable_offset.is_some_and(|stable| stable >= end) {
            self.empty_fetches += 1;
            if self.empty_fetches >= BELIEVED {
                self.fetch_position = end;
                self.advance_when_idle();
            }
        }
    }

    /// Forgets what was fetched and not sent: it will be fetched again.
    pub fn abandon_prepared(&mut self) {
        if !self.prepared.is_empty() {
            self.prepared.clear();
            self.prepared_bytes = 0;
            self.fetch_position = self.unacked.back().map_or(self.acked_position, |last| last.batch.next_position);
        }
    }

    /// A fetch for this partition came to nothing.
    pub fn handle_fetch_failed(&mut self, now: Instant, cause: &str) {
        self.source_trouble.note(now, cause);
    }

    /// Takes a partition's error in a fetch response; says what has to be found out before the next try.
    pub fn handle_fetch_refused(&mut self, now: Instant, code: ErrorCode) -> Option<FetchTrouble> {
        self.fetch_failures += 1;
        self.fetch_retry_at = Some(now + backoff(self.fetch_failures));
        self.source_trouble.note(now, code.name());
        match code {
            ErrorCode::OffsetOutOfRange => Some(FetchTrouble::OutOfRange),
            ErrorCode::TopicAuthorizationFailed => {
                self.stop_fetching(Stopped::SourceRefused { code });
                None
            }
            _ => Some(FetchTrouble::Leader),
        }
    }

    /// Where the source's log begins and ends, asked after an OFFSET_OUT_OF_RANGE. Nothing is skipped by itself.
    pub fn handle_source_range(&mut self, log_start: SourceOffset, log_end: SourceOffset) {
        if self.fetch_position < log_start {
            self.stop_fetching(Stopped::SourceGap { from: self.fetch_position, to: log_start });
        } else if self.fetch_position > log_end {
            self.stop_fetching(Stopped::SourceTruncated { position: self.fetch_position, log_end });
        }
        // Within range after all (a follower answered, or an election was under way): the next fetch tells.
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
    }

    // ---- Target side.

    /// Whether [`Self::poll_batch`] would give a batch now.
    pub fn can_send(&self, now: Instant) -> bool {
        if self.sending_stopped || self.in_flight >= self.window() {
            return false;
        }
        match self.phase {
            Phase::Draining => false,
            Phase::BackingOff { until } if now < until => false,
            Phase::BackingOff { .. } | Phase::Streaming => {
                self.unacked.iter().any(|unacked| unacked.sent == Sent::No)
                    || (!self.prepared.is_empty() && self.unacked.len() < self.window())
            }
        }
    }

    /// The next batch to send, if one may go now. `index` names this partition in the request.
    pub fn poll_batch(&mut self, now: Instant, index: usize) -> Option<OutgoingBatch> {
        if !self.can_send(now) {
            return None;
        }
        self.phase = Phase::Streaming;
        let position = match self.unacked.iter().position(|unacked| unacked.sent == Sent::No) {
            Some(position) => position,
            None => self.take_prepared(),
        };
        self.in_flight += 1;
        let stamp_of = self.producer_stamp();
        let unacked = &mut self.unacked[position];
        unacked.sent = Sent::InFlight;
        Some(OutgoingBatch {
            partition: index,
            sequence: unacked.sequence,
            header: patch::for_produce(&unacked.batch.header, stamp_of(unacked.sequence)),
            payload: unacked.batch.payload.clone(),
        })
    }

    /// Gives the next prepared batch its sequence numbers, for good.
    fn take_prepared(&mut self) -> usize {
        let batch = self.prepared.pop_front().expect("can_send saw one");
        self.prepared_bytes -= batch.payload.len() + HEADER_LEN;
        let sequence = self.next_sequence;
        self.next_sequence = sequence_after(sequence, batch.record_count());
        self.unacked.push_back(Unacked { batch, sequence, sent: Sent::No });
        self.unacked.len() - 1
    }

    fn producer_stamp(&self) -> impl Fn(i32) -> ProducerStamp + use<> {
        let (producer_id, producer_epoch) = (self.start.producer_id, self.start.producer_epoch);
        move |base_sequence| ProducerStamp { producer_id, producer_epoch, base_sequence }
    }

    /// The leader is now another one: what is in flight has to come to an end before anything goes to the new one.
    pub fn handle_target_leader_changed(&mut self) {
        if self.in_flight > 0 {
            self.phase = Phase::Draining;
        }
    }

    /// Takes what became of the batch that went out under `sequence`.
    ///
    /// # Panics
    /// If no such batch is in flight: answers are matched by the connection, so that would be our own mistake.
    pub fn handle_outcome(&mut self, now: Instant, sequence: i32, outcome: ProduceOutcome) -> Progress {
        let position = self
            .unacked
            .iter()
            .position(|unacked| unacked.sequence == sequence && unacked.sent == Sent::InFlight)
            .expect("an outcome belongs to a batch in flight");
        self.in_flight -= 1;
        let mut progress = Progress::default();
        match outcome {
            ProduceOutcome::Acked { base_offset } => {
                self.unacked[position].sent = Sent::Acked(base_offset);
                self.first_ack_seen = true;
                self.failures = 0;
                self.target_trouble.clear();
                progress = self.settle();
            }
            ProduceOutcome::Unknown { cause } => self.fail(now, position, cause),
            ProduceOutcome::Refused { code, message } => self.handle_refused(now, position, code, message),
        }
        if self.phase == Phase::Draining && self.in_flight == 0 {
            self.phase = Phase::BackingOff { until: now + backoff(self.failures) };
        }
        progress
    }

    fn handle_refused(&mut self, now: Instant, position: usize, code: ErrorCode, message: Option<String>) {
        let follows_a_failed_one = self.unacked.iter().take(position).any(|earlier| earlier.sent == Sent::No);
        match refusal(code) {
            Refusal::Retry => self.fail(now, position, code.name().to_owned()),
            Refusal::OutOfOrder if follows_a_failed_one => self.fail(now, position, code.name().to_owned()),
            Refusal::OutOfOrder | Refusal::Stop => {
                let batch = &self.unacked[position].batch;
                let stopped = Stopped::TargetRefused {
                    code,
                    message,
                    from: batch.first_offset(),
                    to: batch.next_position,
                    size: batch.header.size(),
                };
                self.unacked[position].sent = Sent::No;
                self.stop(stopped);
            }
        }
    }

    /// The batch has to be sent again, as it is, once all that is in flight has come to an end.
    fn fail(&mut self, now: Instant, position: usize, cause: String) {
        self.unacked[position].sent = Sent::No;
        if self.phase == Phase::Streaming {
            self.failures += 1;
        }
        self.phase = Phase::Draining;
        self.target_trouble.note(now, &cause);
    }

    /// Whether the target has a leader for the partition.
    pub fn handle_target_leader(&mut self, now: Instant, present: bool) {
        match present {
            false => self.target_trouble.note(now, "no leader"),
            true if self.failures == 0 => self.target_trouble.clear(),
            true => {}
        }
    }

    /// Gives up on a side that has failed for `patience` without a break.
    pub fn give_up(&mut self, now: Instant, patience: Duration) {
        let position = self.acked_position;
        if let Some((waited, cause)) = self.source_trouble.longer_than(now, patience) {
            self.stop_fetching(Stopped::SourceUnavailable { position, waited, cause });
        }
        if let Some((waited, cause)) = self.target_trouble.longer_than(now, patience).filter(|_| self.in_flight == 0) {
            self.stop(Stopped::TargetUnavailable { position, waited, cause });
        }
    }

    /// Takes the acked batches from the front into the offset map.
    fn settle(&mut self) -> Progress {
        let mut progress = Progress::default();
        while let Some(Unacked { sent: Sent::Acked(base_offset), .. }) = self.unacked.front() {
            let base_offset = *base_offset;
            if base_offset < self.target_next {
                self.stop(Stopped::TargetWentBack { expected: self.target_next, answered: base_offset });
                break;
            }
            let Unacked { batch, sequence, .. } = self.unacked.pop_front().expect("seen");
            self.record_runs(&batch, base_offset);
            progress.records += batch.record_count() as u64;
            match batch.copied {
                Copied::Patched => progress.patched += 1,
                Copied::Reencoded => progress.reencoded += 1,
            }
            self.target_next = TargetOffset(base_offset.0 + batch.record_count());
            self.acked_sequence = sequence_after(sequence, batch.record_count());
            self.acked_position = batch.next_position;
            self.acked_epoch = batch.leader_epoch;
        }
        self.advance_when_idle();
        progress
    }

    fn record_runs(&mut self, batch: &PreparedBatch, base_offset: TargetOffset) {
        let mut push = |run: Run| {
            if let Some(run) = self.open_segment.push(run) {
                self.full_segments.push(std::mem::take(&mut self.open_segment));
                self.open_segment.push(run);
            }
        };
        match &batch.source_offsets {
            SourceOffsets::From(start) => {
                push(Run { source_start: *start, target_start: base_offset, count: batch.record_count() });
            }
            SourceOffsets::Ranges(ranges) => {
                let mut target_start = base_offset;
                for range in ranges {
                    let count = i64::from(range.count);
                    push(Run { source_start: SourceOffset(range.start), target_start, count });
                    target_start = TargetOffset(target_start.0 + count);
                }
            }
        }
    }

    /// With nothing on its way, everything fetched is acked: skipped batches at the end move the position too.
    fn advance_when_idle(&mut self) {
        if self.is_idle() && !self.sending_stopped {
            self.acked_position = self.fetch_position;
            self.acked_epoch = self.last_fetched_epoch;
        }
        assert!(self.acked_position <= self.fetch_position, "acked past what was fetched");
    }

    fn window(&self) -> usize {
        if self.first_ack_seen { MAX_UNACKED } else { 1 }
    }

    // ---- Ledger.

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
                source_position: self.acked_position,
                source_leader_epoch: self.acked_epoch,
                source_topic_id: self.start.source_topic_id,
                target_topic_id: self.start.target_topic_id,
                target_next: self.target_next,
                producer_id: self.start.producer_id,
                producer_epoch: self.start.producer_epoch,
                next_sequence: self.acked_sequence,
            },
            segments,
        })
    }

    /// The ledger did not take it: the next checkpoint writes it again.
    pub fn handle_checkpoint_failed(&mut self, mut written: PartitionCheckpoint) {
        written.segments.retain(|segment| segment.start() != self.open_segment.start());
        written.segments.append(&mut self.full_segments);
        self.full_segments = written.segments;
        self.checkpointed = None;
    }
}

/// Since when a side has failed without a break, and how it failed last.
#[derive(Debug, Default)]
struct Trouble(Option<(Instant, String)>);

impl Trouble {
    fn note(&mut self, now: Instant, cause: &str) {
        let since = self.0.as_ref().map_or(now, |(since, _)| *since);
        self.0 = Some((since, cause.to_owned()));
    }

    fn clear(&mut self) {
        self.0 = None;
    }

    fn longer_than(&self, now: Instant, patience: Duration) -> Option<(Duration, String)> {
        let (since, cause) = self.0.as_ref()?;
        let waited = now.saturating_duration_since(*since);
        (waited >= patience).then(|| (waited, cause.clone()))
    }
}

enum Refusal {
    Retry,
    OutOfOrder,
    Stop,
}

/// What a produce error code calls for. All that say "not now" are retried with the same bytes, which is safe whether
/// or not the batch was appended.
fn refusal(code: ErrorCode) -> Refusal {
    match code {
        ErrorCode::OutOfOrderSequenceNumber => Refusal::OutOfOrder,
        ErrorCode::CorruptMessage
        | ErrorCode::MessageTooLarge
        | ErrorCode::RecordListTooLarge
        | ErrorCode::TopicAuthorizationFailed
        | ErrorCode::ClusterAuthorizationFailed
        | ErrorCode::InvalidTopicException
        | ErrorCode::InvalidTimestamp
        | ErrorCode::InvalidRecord
        | ErrorCode::PolicyViolation
        | ErrorCode::UnsupportedCompressionType
        | ErrorCode::UnsupportedForMessageFormat
        | ErrorCode::InvalidProducerEpoch
        | ErrorCode::ProducerFenced
        | ErrorCode::UnknownProducerId
        | ErrorCode::DuplicateSequenceNumber
        | ErrorCode::InvalidTxnState
        | ErrorCode::InvalidRequiredAcks
        | ErrorCode::UnknownTopicId
        | ErrorCode::Unknown(_) => Refusal::Stop,
        _ => Refusal::Retry,
    }
}

/// Sequence numbers wrap from 2³¹-1 to 0.
fn sequence_after(sequence: i32, records: i64) -> i32 {
    ((i64::from(sequence) + records) % (i64::from(i32::MAX) + 1)) as i32
}

/// Doubles from [`BACKOFF_MIN`] to [`BACKOFF_MAX`].
fn backoff(failures: u32) -> Duration {
    BACKOFF_MIN.saturating_mul(1 << failures.min(10)).min(BACKOFF_MAX)
}

#[cfg(test)]
mod tests {
    use super::super::budget::Budget;
    use super::super::fate::FateContext;
    use super::super::prepare::prepare;
    use super::*;
    use crate::record::{BatchBuilder, BatchHeader, BatchOptions};

    #[expect(clippy::disallowed_methods, reason = "an Instant has no other beginning; nothing depends on it")]
    fn start_of_time() -> Instant {
        Instant::now()
    }

    fn partition(end: i64) -> PartitionReplicator {
        let start = PartitionStart {
            topic: "t".into(),
            target_topic: "t".into(),
            partition: 0,
            source_topic_id: Uuid::nil(),
            target_topic_id: Uuid::nil(),
            position: SourceOffset(0),
            leader_epoch: -1,
            target_next: TargetOffset(0),
            end: Some(SourceOffset(end)),
            segment: Segment::default(),
            producer_id: 7,
            producer_epoch: 0,
        };
        PartitionReplicator::new(start, None)
    }

    /// `count` batches of two records each, from `base_offset` on.
    fn fetched(base_offset: i64, count: i64) -> Prepared {
        let mut records = Vec::new();
        for i in 0..count {
            let mut batch =
                BatchBuilder::new(BatchOptions { base_offset: base_offset + 2 * i, ..BatchOptions::default() });
            for _ in 0..2 {
                batch.push(0, None, Some(b"v"), &[]);
            }
            records.extend_from_slice(&batch.build().expect("small"));
        }
        let context = FateContext { start_offset: base_offset, max_batch_bytes: 1 << 20, keep_append_time: true };
        let hold = Arc::new(Budget::new(1 << 20).try_reserve(records.len()).expect("free"));
        prepare(records.into(), Vec::new(), context, &hold)
    }

    fn feed(partition: &mut PartitionReplicator, now: Instant, batches: i64) {
        let at = partition.fetch_position().0;
        partition.handle_fetched(now, fetched(at, batches), SourceOffset(1000));
    }

    fn send_all(partition: &mut PartitionReplicator, now: Instant) -> Vec<OutgoingBatch> {
        std::iter::from_fn(|| partition.poll_batch(now, 0)).collect()
    }

    fn acked(base_offset: i64) -> ProduceOutcome {
        ProduceOutcome::Acked { base_offset: TargetOffset(base_offset) }
    }

    fn refused(code: ErrorCode) -> ProduceOutcome {
        ProduceOutcome::Refused { code, message: None }
    }

    fn sequences(batches: &[OutgoingBatch]) -> Vec<i32> {
        batches.iter().map(|batch| batch.sequence).collect()
    }

    /// A partition whose producer id the leader knows, with `batches` sent and unacked.
    fn streaming(now: Instant, batches: i64) -> (PartitionReplicator, Vec<OutgoingBatch>) {
        let mut partition = partition(1000);
        feed(&mut partition, now, 1);
        assert_eq!(sequences(&send_all(&mut partition, now)), [0]);
        partition.handle_outcome(now, 0, acked(0));
        feed(&mut partition, now, batches);
        let sent = send_all(&mut partition, now);
        (partition, sent)
    }

    #[test]
    fn a_new_producer_id_has_one_batch_on_its_way_until_the_first_ack() {
        let now = start_of_time();
        let mut partition = partition(1000);
        feed(&mut partition, now, 8);
        assert_eq!(sequences(&send_all(&mut partition, now)), [0]);
        partition.handle_outcome(now, 0, acked(0));
        assert_eq!(sequences(&send_all(&mut partition, now)), [2, 4, 6, 8, 10], "then five");
    }

    #[test]
    fn the_position_follows_the_acks_in_order() {
        let now = start_of_time();
        let (mut partition, _) = streaming(now, 3);
        partition.handle_outcome(now, 4, acked(4));
        assert_eq!(partition.acked_position(), SourceOffset(2), "the batch before is not acked");
        partition.handle_outcome(now, 2, acked(2));
        assert_eq!(partition.acked_position(), SourceOffset(6));
    }

    #[test]
    fn a_lost_answer_is_sent_again_byte_for_byte_and_nothing_overtakes_it() {
        let now = start_of_time();
        let (mut partition, sent) = streaming(now, 3);
        partition.handle_outcome(now, 2, ProduceOutcome::Unknown { cause: "lost".into() });
        assert!(send_all(&mut partition, now).is_empty(), "what is in flight comes to its end first");
        partition.handle_outcome(now, 4, acked(4));
        partition.handle_outcome(now, 6, acked(6));
        assert!(send_all(&mut partition, now).is_empty(), "backing off");
        let later = partition.produce_retry_at().expect("backing off");
        let again = send_all(&mut partition, later);
        assert_eq!((again[0].sequence, again[0].header), (sent[0].sequence, sent[0].header));
        assert_eq!(again.len(), 1, "those behind it are acked");
        partition.handle_outcome(later, 2, acked(2));
        assert_eq!(partition.acked_position(), SourceOffset(8));
    }

    #[test]
    fn out_of_order_behind_a_failed_batch_is_sent_again_in_order() {
        let now = start_of_time();
        let (mut partition, _) = streaming(now, 3);
        partition.handle_outcome(now, 2, refused(ErrorCode::NotLeaderOrFollower));
        partition.handle_outcome(now, 4, refused(ErrorCode::OutOfOrderSequenceNumber));
        partition.handle_outcome(now, 6, refused(ErrorCode::OutOfOrderSequenceNumber));
        let later = partition.produce_retry_at().expect("backing off");
        assert_eq!(sequences(&send_all(&mut partition, later)), [2, 4, 6]);
    }

    #[test]
    fn out_of_order_without_a_reason_stops() {
        let now = start_of_time();
        let (mut partition, _) = streaming(now, 1);
        partition.handle_outcome(now, 2, refused(ErrorCode::OutOfOrderSequenceNumber));
        assert!(matches!(
            partition.stopped(),
            Some(Stopped::TargetRefused { from: SourceOffset(2), to: SourceOffset(4), .. })
        ));
        assert!(partition.is_settled() && partition.acked_position() == SourceOffset(2));
    }

    #[test]
    fn a_target_that_takes_nothing_is_given_up_after_a_while() {
        let now = start_of_time();
        let (mut partition, _) = streaming(now, 1);
        partition.handle_outcome(now, 2, refused(ErrorCode::NotEnoughReplicas));
        partition.give_up(now + Duration::from_secs(9), Duration::from_secs(10));
        assert!(partition.stopped().is_none());
        partition.give_up(now + Duration::from_secs(10), Duration::from_secs(10));
        assert!(matches!(partition.stopped(), Some(Stopped::TargetUnavailable { .. })));
    }

    #[test]
    fn an_offset_out_of_range_is_a_gap_with_its_exact_range() {
        let now = start_of_time();
        let mut partition = partition(1000);
        assert_eq!(
            partition.handle_fetch_refused(now, ErrorCode::OffsetOutOfRange),
            Some(FetchTrouble::OutOfRange)
        );
        partition.handle_source_range(SourceOffset(0), SourceOffset(50));
        assert!(partition.stopped().is_none(), "it was in range after all");
        partition.handle_source_range(SourceOffset(17), SourceOffset(50));
        assert!(matches!(
            partition.stopped(),
            Some(Stopped::SourceGap { from: SourceOffset(0), to: SourceOffset(17) })
        ));
    }

    #[test]
    fn what_came_before_the_damage_still_arrives() {
        let now = start_of_time();
        let mut partition = partition(1000);
        let mut prepared = fetched(0, 1);
        prepared.damage = Some(PrepareError::Reencode {
            base_offset: 2,
            source: ReencodeError::RecordTooLarge { offset: 2, size: 9, limit: 8 },
        });
        partition.handle_fetched(now, prepared, SourceOffset(1000));
        assert!(!partition.is_settled());
        assert_eq!(sequences(&send_all(&mut partition, now)), [0]);
        partition.handle_outcome(now, 0, acked(0));
        assert!(partition.is_settled() && partition.acked_position() == SourceOffset(2));
    }

    #[test]
    fn an_end_without_batches_is_believed_the_third_time() {
        let now = start_of_time();
        let mut partition = partition(10);
        partition.handle_fetched(now, fetched(0, 0), SourceOffset(10));
        for _ in 0..2 {
            partition.handle_nothing_fetched();
            assert!(!partition.is_done());
        }
        partition.handle_nothing_fetched();
        assert!(partition.is_done());
    }

    #[test]
    fn a_batch_that_never_comes_whole_is_no_end() {
        let now = start_of_time();
        let mut partition = partition(10);
        for _ in 0..3 {
            let mut prepared = fetched(0, 0);
            prepared.damage = Some(PrepareError::NeverWhole { position: 0, bytes: 99 });
            partition.handle_fetched(now, prepared, SourceOffset(10));
            partition.handle_nothing_fetched();
        }
        assert!(!partition.is_done());
        assert!(matches!(partition.stopped(), Some(Stopped::SourceUnreadable { .. })));
    }

    #[test]
    fn a_checkpoint_never_runs_ahead_of_the_acks() {
        let now = start_of_time();
        let (mut partition, _) = streaming(now, 2);
        let written = partition.poll_checkpoint().expect("something new");
        assert_eq!(written.checkpoint.source_position, SourceOffset(2));
        assert_eq!((written.checkpoint.target_next, written.checkpoint.next_sequence), (TargetOffset(2), 2));
        assert_eq!(partition.poll_checkpoint(), None, "nothing new");
        partition.handle_checkpoint_failed(written.clone());
        assert_eq!(partition.poll_checkpoint(), Some(written), "what was not written is written again");
    }

    #[test]
    fn what_is_abandoned_is_fetched_again() {
        let now = start_of_time();
        let (mut partition, sent) = streaming(now, 8);
        assert_eq!(sent.len(), 5);
        partition.abandon_prepared();
        assert_eq!(partition.fetch_position(), SourceOffset(12));
        for (sequence, offset) in sequences(&sent).into_iter().zip([2, 4, 6, 8, 10]) {
            partition.handle_outcome(now, sequence, acked(offset));
        }
        assert_eq!(partition.acked_position(), SourceOffset(12));
    }

    #[test]
    fn a_target_that_goes_back_stops_the_partition() {
        let now = start_of_time();
        let (mut partition, _) = streaming(now, 1);
        partition.handle_outcome(now, 2, acked(1));
        assert!(matches!(partition.stopped(), Some(Stopped::TargetWentBack { .. })));
    }

    #[test]
    fn sequences_wrap() {
        assert_eq!(sequence_after(i32::MAX - 1, 5), 3);
        assert_eq!(sequence_after(i32::MAX, 1), 0);
    }

    #[test]
    fn the_header_that_goes_out_is_ours() {
        let now = start_of_time();
        let (_, sent) = streaming(now, 1);
        let header = BatchHeader::parse(&[&sent[0].header[..], &sent[0].payload[..]].concat()).expect("a batch");
        assert_eq!((header.base_offset(), header.producer_id(), header.base_sequence()), (0, 7, 2));
    }
}
