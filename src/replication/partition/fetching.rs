//! The partition's way from the source: what a fetch brought, and what it means when it brought nothing.

use std::sync::Arc;
use std::time::Instant;

use super::trouble::backoff;
use super::{FetchTrouble, PartitionReplicator};
use crate::offsets::SourceOffset;
use crate::protocol::error_code::ErrorCode;
use crate::record::{HEADER_LEN, ReencodeError};
use crate::replication::prepare::{PrepareError, Prepared};
use crate::replication::stopped::Stopped;

impl PartitionReplicator {
    /// Takes what a fetch from [`Self::fetch_position`] brought.
    pub fn handle_fetched(&mut self, now: Instant, prepared: Prepared, last_stable_offset: SourceOffset) {
        assert!(prepared.next_position >= self.fetch_position, "a fetch went backwards");
        self.last_stable_offset = Some(last_stable_offset);
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
        let Some(end) = self.start.end.filter(|_| self.fetch_failures == 0) else {
            return;
        };
        if self.fetch_position >= end || self.last_stable_offset.is_none_or(|stable| stable < end) {
            return;
        }
        self.empty_fetches += 1;
        if self.empty_fetches >= BELIEVED && self.start.is_compacted {
            self.fetch_position = end;
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

    /// Where the source's log begins and ends, asked after an OFFSET_OUT_OF_RANGE. Nothing is skipped by itself.
    pub fn handle_source_range(&mut self, log_start: SourceOffset, log_end: SourceOffset) {
        if self.fetch_position < log_start {
            self.stop_fetching(Stopped::SourceGap {
                from: self.fetch_position,
                to: log_start,
            });
        } else if self.fetch_position > log_end {
            self.stop_fetching(Stopped::SourceTruncated {
                position: self.fetch_position,
                log_end,
            });
        }
        // Within range after all (a follower answered, or an election was under way): the next fetch tells.
    }
}
