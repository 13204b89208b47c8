//! The partition's way from the source: what a fetch brought, and what it means when it brought nothing.

use std::sync::Arc;
use std::time::Instant;

use uuid::Uuid;

use super::trouble::backoff;
use super::{FetchTrouble, Incident, OnChange, PartitionReplicator};
use crate::offsets::SourceOffset;
use crate::protocol::error_code::ErrorCode;
use crate::record::{HEADER_LEN, ReencodeError};
use crate::replication::prepare::{PrepareError, Prepared};
use crate::replication::stopped::Stopped;

/// What a fetch says of the source's log besides its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceLog {
    pub last_stable_offset: SourceOffset,
    pub log_start_offset: SourceOffset,
}

impl PartitionReplicator {
    /// Whether an answer to a fetch from `asked` on is about what is wanted now.
    pub fn is_current(&self, asked: SourceOffset) -> bool {
        !self.is_recovering() && self.restart_at.is_none() && asked == self.fetch_position
    }

    /// Takes what a fetch from [`Self::fetch_position`] brought.
    pub fn handle_fetched(&mut self, now: Instant, prepared: Prepared, log: SourceLog) {
        assert!(prepared.next_position >= self.fetch_position, "a fetch went backwards");
        self.last_stable_offset = Some(log.last_stable_offset);
        self.source_log_start = self.source_log_start.max(log.log_start_offset);
        if prepared.damage.is_none() {
            self.fetch_failures = 0;
        }
        if prepared.next_position > self.fetch_position {
            self.damaged_fetches = 0;
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
        if let PrepareError::Reencode {
            source: ReencodeError::RecordTooLarge { offset, size, limit },
            ..
        } = damage
        {
            return self.stop_fetching(Stopped::RecordTooLarge { offset, size, limit });
        }
        self.fetch_failures += 1;
        self.fetch_retry_at = Some(now + backoff(self.fetch_failures));
        self.damaged_fetches += 1;
        if self.damaged_fetches >= MAX_DAMAGED_FETCHES {
            self.stop_fetching(Stopped::SourceUnreadable {
                position: self.fetch_position,
                cause: Arc::new(damage),
            });
        }
    }

    /// A fetch that was not held back by a quota and asked for this partition brought no records for anybody, although
    /// the log goes on.
    ///
    /// Compaction can leave the end of a log without a batch. The third time in a row that is believed of a compacted
    /// topic. Of no other: a broker whose tiered storage is slow answers the same way, and the records are there.
    pub fn handle_nothing_fetched(&mut self) {
        const BELIEVED: u32 = 3;
        const GIVEN_UP: u32 = 240;
        let Some(end) = self
            .start
            .end
            .filter(|_| self.fetch_failures == 0 && !self.is_recovering())
        else {
            return;
        };
        if self.fetch_position >= end || self.last_stable_offset.is_none_or(|stable| stable < end) {
            return;
        }
        self.empty_fetches += 1;
        if self.empty_fetches >= BELIEVED && self.start.is_compacted {
            self.fetch_position = end;
            self.last_fetched_epoch = -1; // What lay before the position is gone, and with it the epoch that it had.
            self.advance_when_idle();
        } else if self.empty_fetches >= GIVEN_UP {
            self.stop_fetching(Stopped::SourceEmpty {
                from: self.fetch_position,
                to: end,
            });
        }
    }

    /// The slot's fetches bring records, so that an answer without any says nothing.
    pub fn handle_others_fetched(&mut self) {
        self.empty_fetches = 0;
    }

    /// Forgets what was fetched and not sent: it will be fetched again.
    pub fn abandon_prepared(&mut self) {
        if !self.prepared.is_empty() {
            self.prepared.clear();
            self.prepared_bytes = 0;
            (self.fetch_position, self.last_fetched_epoch) = match self.unacked.back() {
                Some(last) => (last.batch.next_position, last.batch.leader_epoch),
                None => (self.acked_position, self.acked_epoch),
            };
        }
    }

    /// A fetch that asked for this partition was answered, and did not refuse it.
    pub fn handle_source_well(&mut self) {
        self.source_trouble.clear();
    }

    /// A fetch for this partition came to nothing.
    pub fn handle_fetch_failed(&mut self, now: Instant, cause: &str) {
        if self.needs_source() {
            self.source_trouble.note(now, cause);
        }
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

    /// The source's log ends at `end` for the leader epoch of what was fetched last: it was cut back, and other records may
    /// have come in their place. Says whether its range has to be asked.
    pub fn handle_diverged(&mut self, epoch: i32, end: SourceOffset) -> bool {
        if self.start.policies.truncation == OnChange::Stop {
            let position = self.fetch_position;
            self.stop_fetching(Stopped::SourceDiverged { position, epoch, end });
            return false;
        }
        self.diverged_at = Some(end);
        true
    }

    /// Where the source's log begins and ends, asked after an OFFSET_OUT_OF_RANGE or a divergence. Nothing is skipped without
    /// a policy that says so.
    pub fn handle_source_range(&mut self, now: Instant, log_start: SourceOffset, log_end: SourceOffset) {
        // A recovery tells of a divergence itself; what else was asked for is of before.
        if (self.is_recovering() && self.diverged_at.is_none()) || self.stopped.is_some() {
            return;
        }
        let position = self.fetch_position;
        if let Some(diverged_at) = self.diverged_at.take() {
            self.go_on_in_truncated(now, diverged_at.min(position).max(log_start), log_end);
        } else if position < log_start && !self.is_alone {
            // What is gone may be on the target: an earlier owner's batches may have been under way when it was asked.
            if self.is_idle() {
                self.enter_recovery(now);
            }
        } else if position < log_start {
            match self.start.policies.gap {
                OnChange::Stop => self.stop_fetching(Stopped::SourceGap {
                    from: position,
                    to: log_start,
                }),
                OnChange::Continue => {
                    self.incidents.push(Incident::Gap(position, log_start));
                    self.fetch_position = log_start;
                    self.advance_when_idle();
                }
            }
        } else if position > log_end {
            match self.start.policies.truncation {
                OnChange::Stop => self.stop_fetching(Stopped::SourceTruncated { position, log_end }),
                OnChange::Continue => self.go_on_in_truncated(now, log_end, log_end),
            }
        }
        // Within range after all (a follower answered, or an election was under way): the next fetch tells.
    }

    fn go_on_in_truncated(&mut self, now: Instant, position: SourceOffset, log_end: SourceOffset) {
        self.incidents.push(Incident::Truncated(position, self.fetch_position));
        self.start.end = self.start.end.map(|end| end.min(log_end));
        self.restart(now, position);
    }

    /// The source's topic was created anew, under another id.
    pub fn handle_recreated(&mut self, now: Instant, topic_id: Uuid) {
        if self.is_recovering() {
            return; // The next refresh says it again.
        }
        // A copy with an end has the old topic's: the next run finds the new one's.
        if self.start.policies.recreation == OnChange::Stop || !self.follows() {
            return self.stop_fetching(Stopped::SourceRecreated);
        }
        self.incidents.push(Incident::Recreated(self.fetch_position));
        self.start.source_topic_id = topic_id;
        self.restart(now, SourceOffset(0));
    }
}
