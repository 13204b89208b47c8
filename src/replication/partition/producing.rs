//! The partition's way to the target: which batch goes out next, and what its outcome means.

use std::time::{Duration, Instant};

use super::trouble::{Refusal, backoff, refusal};
use super::{
    AfterDraining, Incident, MAX_UNACKED, OutgoingBatch, PartitionReplicator, Phase, ProduceOutcome, Progress, Sent,
    Unacked,
};
use crate::offsets::{Run, TargetOffset};
use crate::protocol::error_code::ErrorCode;
use crate::record::{HEADER_LEN, ProducerStamp, patch};
use crate::replication::prepare::{Copied, PreparedBatch};
use crate::replication::recovery::FenceReason;
use crate::replication::stopped::Stopped;

/// A leader that was not heard of for this long may have been restarted meanwhile: no broker restarts in less.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(1);

impl PartitionReplicator {
    /// Whether [`Self::poll_batch`] would give a batch now.
    pub fn can_send(&self, now: Instant) -> bool {
        if self.sending_stopped || self.in_flight >= self.window(now) {
            return false;
        }
        match self.phase {
            Phase::Recovering { .. } | Phase::AwaitingLedger { .. } | Phase::Draining(_) => false,
            Phase::BackingOff { until } if now < until => false,
            Phase::BackingOff { .. } | Phase::Streaming => {
                self.unacked.iter().any(|unacked| unacked.sent == Sent::No)
                    || (!self.prepared.is_empty() && self.unacked.len() < self.window(now))
            }
        }
    }

    /// Whether the next batch is one whose producer a leader may forget.
    pub fn sends_forgettable(&self, now: Instant) -> bool {
        let mut unacked = self.unacked.iter();
        let again = unacked.find(|unacked| unacked.sent == Sent::No);
        let next = again.map(|unacked| &unacked.batch).or_else(|| self.prepared.front());
        next.is_some_and(|batch| self.is_forgettable(now, batch.header.max_timestamp()))
    }

    fn is_forgettable(&self, now: Instant, timestamp_ms: i64) -> bool {
        self.start.clock.is_forgettable(now, timestamp_ms)
    }

    /// The next batch to send, if one may go now. `index` names this partition in the request.
    pub fn poll_batch(&mut self, now: Instant, index: usize) -> Option<OutgoingBatch> {
        if !self.can_send(now) {
            return None;
        }
        self.phase = Phase::Streaming;
        if self.in_flight == 0 && self.last_ack.is_none_or(|at| now >= at + FORGOTTEN_AFTER) {
            self.is_known_to_leader = false;
        }
        let position = match self.unacked.iter().position(|unacked| unacked.sent == Sent::No) {
            Some(position) => position,
            None => self.take_prepared(),
        };
        self.in_flight += 1;
        let unacked = &mut self.unacked[position];
        unacked.sent = Sent::InFlight;
        let stamp = ProducerStamp {
            producer_id: self.producer.0,
            producer_epoch: self.producer.1,
            base_sequence: unacked.sequence,
        };
        Some(OutgoingBatch {
            partition: index,
            sequence: unacked.sequence,
            header: patch::for_produce(&unacked.batch.header, stamp),
            payload: unacked.batch.payload.clone(),
        })
    }

    /// Gives the next prepared batch its sequence numbers, for good.
    fn take_prepared(&mut self) -> usize {
        let batch = self.prepared.pop_front().expect("can_send saw one");
        self.prepared_bytes -= batch.payload.len() + HEADER_LEN;
        let sequence = self.next_sequence;
        self.next_sequence = sequence_after(sequence, batch.record_count());
        self.unacked.push_back(Unacked {
            batch,
            sequence,
            sent: Sent::No,
        });
        self.unacked.len() - 1
    }

    /// The leader is now another one: what is in flight has to come to an end before anything goes to the new one.
    pub fn handle_target_leader_changed(&mut self) {
        self.is_known_to_leader = false;
        if self.in_flight > 0 && self.phase == Phase::Streaming {
            self.phase = Phase::Draining(AfterDraining::SendAgain);
        }
    }

    /// Takes what became of the batch that went out under `sequence`.
    ///
    /// # Panics
    /// If no such batch is in flight: answers are matched by the connection, so that would be our own mistake.
    pub fn handle_outcome(&mut self, now: Instant, sequence: i32, outcome: ProduceOutcome) -> Progress {
        let in_flight = |unacked: &Unacked| unacked.sequence == sequence && unacked.sent == Sent::InFlight;
        let position = self.unacked.iter().position(in_flight);
        self.in_flight -= 1;
        let Some(position) = position else {
            assert!(self.sending_stopped, "an outcome belongs to a batch in flight");
            return Progress::default();
        };
        let mut progress = Progress::default();
        match outcome {
            ProduceOutcome::Acked { base_offset } => {
                self.unacked[position].sent = Sent::Acked(base_offset);
                // What is acked while a failed one waits says nothing of the leader that the failed one will go to.
                self.is_known_to_leader = self.phase == Phase::Streaming;
                self.last_ack = Some(now);
                self.failures = 0;
                self.target_trouble.clear();
                progress = self.settle();
            }
            ProduceOutcome::Unknown { cause } => self.fail(now, position, cause, AfterDraining::Recover),
            ProduceOutcome::Refused { code, message } => self.handle_refused(now, position, code, message),
        }
        if self.sending_stopped {
            self.forget_unsent();
        }
        if self.in_flight == 0 && !self.sending_stopped {
            match self.phase {
                Phase::Draining(AfterDraining::Recover) => self.enter_recovery(now),
                Phase::Draining(AfterDraining::SendAgain) => {
                    self.phase = Phase::BackingOff {
                        until: now + backoff(self.failures),
                    };
                }
                _ => {}
            }
        }
        progress
    }

    fn handle_refused(&mut self, now: Instant, position: usize, code: ErrorCode, message: Option<String>) {
        // The outcomes of two requests may come in the other order: an earlier batch in flight may have failed as well.
        let has_a_reason = self
            .unacked
            .iter()
            .take(position)
            .any(|earlier| !matches!(earlier.sent, Sent::Acked(_)));
        let cause = || code.name().to_owned();
        match refusal(code) {
            Refusal::Retry => self.fail(now, position, cause(), AfterDraining::SendAgain),
            Refusal::OutOfOrder if has_a_reason => self.fail(now, position, cause(), AfterDraining::SendAgain),
            // The leader has another last sequence number than we believe: another incarnation's, or it was restarted and
            // knows only the last batch of several that lost their answers.
            Refusal::OutOfOrder | Refusal::Ask => self.fail(now, position, cause(), AfterDraining::Recover),
            Refusal::Mapping => {
                self.must_fence = Some(FenceReason::Refused);
                self.fail(now, position, cause(), AfterDraining::Recover);
            }
            Refusal::Stop => {
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

    /// The batch has to be sent again, as it is, or asked about, once all that is in flight has come to an end.
    fn fail(&mut self, now: Instant, position: usize, cause: String, then: AfterDraining) {
        self.unacked[position].sent = Sent::No;
        self.phase = match self.phase {
            Phase::Draining(before) => Phase::Draining(before.max(then)),
            _ => {
                self.failures += 1;
                Phase::Draining(then)
            }
        };
        self.in_doubt |= then == AfterDraining::Recover;
        self.is_known_to_leader = false;
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
        let source_trouble = self.source_trouble.longer_than(now, patience);
        if let Some((waited, cause)) = source_trouble.filter(|_| self.needs_source()) {
            self.stop_fetching(Stopped::SourceUnavailable {
                position,
                waited,
                cause,
            });
        }
        if let Some((waited, cause)) = self
            .target_trouble
            .longer_than(now, patience)
            .filter(|_| self.in_flight == 0)
        {
            self.stop(Stopped::TargetUnavailable {
                position,
                waited,
                cause,
            });
        }
    }

    /// Takes the acked batches from the front into the offset map.
    fn settle(&mut self) -> Progress {
        let mut progress = Progress::default();
        while let Some(Unacked {
            sent: Sent::Acked(base_offset),
            ..
        }) = self.unacked.front()
        {
            let base_offset = *base_offset;
            if base_offset < self.target_next {
                let expected = self.target_next;
                self.unacked.clear();
                self.stop(Stopped::TargetWentBack {
                    expected,
                    answered: base_offset,
                });
                break;
            }
            let Unacked { batch, sequence, .. } = self.unacked.pop_front().expect("seen");
            if base_offset > self.target_next {
                // Our own batches lie behind each other, and fences are behind us.
                self.incidents
                    .push(Incident::ForeignRecords(self.target_next, base_offset));
            }
            self.record_runs(&batch, base_offset);
            progress.records += batch.record_count() as u64;
            match batch.copied {
                Copied::Patched => progress.patched += 1,
                Copied::Reencoded => progress.reencoded += 1,
                Copied::Coalesced(batches) => progress.coalesced += u64::from(batches),
            }
            self.target_next = TargetOffset(base_offset.0 + batch.record_count());
            self.acked_sequence = sequence_after(sequence, batch.record_count());
            self.acked_position = batch.next_position;
            self.acked = self.lasting(batch.source);
            self.acked_timestamp_ms = batch.header.max_timestamp();
        }
        self.advance_when_idle();
        progress
    }

    fn record_runs(&mut self, batch: &PreparedBatch, base_offset: TargetOffset) {
        let mut target_start = base_offset;
        for (source_start, count) in batch.source_ranges() {
            self.push_run(Run {
                source_start,
                target_start,
                count,
            });
            target_start = TargetOffset(target_start.0 + count);
        }
    }

    pub(super) fn push_run(&mut self, run: Run) {
        if let Some(run) = self.open_segment.push_within(run, self.max_segment_runs) {
            self.close_segment();
            self.open_segment.push(run);
        }
    }

    /// A leader that has just forgotten the producer takes any batch, also behind one that it has refused. Records that are
    /// missing then are noticed, but for those of a cleaned topic: there one batch at a time is under way.
    fn window(&self, now: Instant) -> usize {
        let mut unacked = self.unacked.iter().map(|unacked| unacked.batch.header.max_timestamp());
        let mut may_be_forgotten = || {
            self.is_forgettable(now, self.acked_timestamp_ms)
                || unacked.any(|time| self.is_forgettable(now, time))
                || self.sends_forgettable(now)
        };
        match self.is_known_to_leader && !(self.start.is_cleaned && may_be_forgotten()) {
            true => MAX_UNACKED,
            false => 1,
        }
    }
}

/// Sequence numbers wrap from 2³¹-1 to 0.
pub(super) fn sequence_after(sequence: i32, records: i64) -> i32 {
    ((i64::from(sequence) + records) % (i64::from(i32::MAX) + 1)) as i32
}
