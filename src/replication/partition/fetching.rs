//! The partition's way from the source: what a fetch brought, and what it means when it brought nothing.

use std::sync::Arc;
use std::time::Instant;

use uuid::Uuid;

use super::trouble::backoff;
use super::{FetchTrouble, Incident, OnChange, PartitionReplicator};
use crate::offsets::SourceOffset;
use crate::protocol::error_code::ErrorCode;
use crate::record::{HEADER_LEN, ReencodeError};
use crate::replication::epochs::Before;
use crate::replication::prepare::{PrepareError, Prepared};
use crate::replication::stopped::Stopped;

/// Answers in a row that say the same, until they are believed.
pub(super) const BELIEVED: u32 = 3;

/// What a fetch says of the source's log besides its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceLog {
    pub last_stable_offset: SourceOffset,
    pub high_watermark: SourceOffset,
    pub log_start_offset: SourceOffset,
}

impl PartitionReplicator {
    /// Whether an answer to a fetch from `asked` on is about what is wanted now.
    pub fn is_current(&self, asked: SourceOffset) -> bool {
        !self.is_recovering() && !self.is_recreated && self.parted.is_none() && asked == self.fetch_position
    }

    /// Takes what a fetch from [`Self::fetch_position`] brought.
    pub fn handle_fetched(&mut self, now: Instant, prepared: Prepared, log: SourceLog) {
        assert!(prepared.next_position >= self.fetch_position, "a fetch went backwards");
        if !self.is_alone && prepared.last_leader_epoch() > Some(self.fetched.epoch) {
            // An earlier owner may send what was there before, under the sequence numbers that these would get.
            return self.fence_first(now);
        }
        self.is_validated |= prepared.is_verified;
        self.last_stable_offset = Some(log.last_stable_offset);
        self.high_watermark = Some(log.high_watermark);
        self.source_log_start = self.source_log_start.max(log.log_start_offset);
        if prepared.damage.is_none() {
            self.fetch_failures = 0;
        }
        if prepared.next_position > self.fetch_position {
            self.damaged_fetches = 0;
        }
        if let Some(epoch) = prepared.last_leader_epoch() {
            self.empty_fetches = 0;
            self.fetched = self.lasting(Before {
                epoch,
                mark: prepared.last_mark,
            });
        }
        self.epochs.take_all(&prepared.epochs);
        self.fetch_retry_at = None;
        self.fetch_position = prepared.next_position;
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
        if let PrepareError::Altered { base_offset } = damage {
            let (at, position) = (SourceOffset(base_offset), self.fetch_position);
            return self.stop_fetching(Stopped::SourceAltered { at, position });
        }
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
    /// the log goes on. Says whether the log's range has to be asked.
    ///
    /// Compaction can leave the end of a log without a batch. The third time in a row that is believed of a compacted
    /// topic. Of no other: a broker whose tiered storage is slow answers the same way, and the records are there. A log that
    /// ends before the copy does was cut back.
    pub fn handle_nothing_fetched(&mut self) -> bool {
        const GIVEN_UP: u32 = 240;
        if self.unverified().is_some() {
            // Not even the batch before came.
            self.short_fetches += 1;
            return self.short_fetches.is_multiple_of(BELIEVED);
        }
        let Some(end) = self
            .start
            .end
            .filter(|_| self.fetch_failures == 0 && !self.is_recovering())
        else {
            return false;
        };
        if self.fetch_position >= end {
            return false;
        }
        if self.last_stable_offset.is_none_or(|stable| stable < end) {
            self.short_fetches += 1;
            return self.high_watermark.is_some_and(|known| known < end) && self.short_fetches.is_multiple_of(BELIEVED);
        }
        self.empty_fetches += 1;
        if self.empty_fetches >= BELIEVED && self.start.is_compacted {
            self.fetch_position = end;
            self.fetched = Before::UNKNOWN; // What lay before the position is gone, and with it the epoch that it had.
            self.advance_when_idle();
        } else if self.empty_fetches >= GIVEN_UP {
            self.stop_fetching(Stopped::SourceEmpty {
                from: self.fetch_position,
                to: end,
            });
        }
        false
    }

    /// The slot's fetches bring records, so that an answer without any says nothing.
    pub fn handle_others_fetched(&mut self) {
        self.empty_fetches = 0;
    }

    /// Forgets what was fetched and not sent: it will be fetched again.
    pub fn abandon_prepared(&mut self) {
        if !self.prepared.is_empty() {
            self.abandon_prepared_from(SourceOffset(0));
        }
    }

    /// The same, of what goes on past an offset.
    pub(super) fn abandon_prepared_from(&mut self, offset: SourceOffset) {
        self.prepared.retain(|batch| batch.next_position <= offset);
        let held = self.prepared.iter().map(|batch| batch.payload.len() + HEADER_LEN);
        self.prepared_bytes = held.sum();
        let last = self
            .prepared
            .back()
            .or_else(|| self.unacked.back().map(|last| &last.batch));
        (self.fetch_position, self.fetched) = match last {
            Some(last) => (last.next_position, self.lasting(last.source)),
            None => (self.acked_position, self.acked),
        };
        self.epochs.cut(self.fetch_position);
    }

    /// Whether [`Self::handle_source_well`] or [`Self::handle_others_fetched`] would change anything.
    pub fn heeds_answers(&self) -> bool {
        let is_validated_by_any = !self.is_validated && self.fetched.mark.is_none();
        is_validated_by_any || self.out_of_range > 0 || self.empty_fetches > 0 || self.source_trouble.is_there()
    }

    /// Whether [`Self::handle_nothing_fetched`] would.
    pub fn misses_records(&self) -> bool {
        self.unverified().is_some() || self.start.end.is_some_and(|end| self.fetch_position < end)
    }

    /// A fetch that asked for this partition was answered, and did not refuse it.
    pub fn handle_source_well(&mut self) {
        self.source_trouble.clear();
        self.is_validated |= self.fetched.mark.is_none();
        self.out_of_range = 0;
    }

    /// A broker that was away may have come back with a shorter log, and has other records before anybody looks.
    fn doubt_source(&mut self) {
        self.is_validated &= self.fetched.mark.is_none();
    }

    /// A fetch for this partition came to nothing.
    pub fn handle_fetch_failed(&mut self, now: Instant, cause: &str) {
        if self.needs_source() {
            self.source_trouble.note(now, cause);
        }
        self.doubt_source();
    }

    /// Takes a partition's error in a fetch response; says what has to be found out before the next try.
    pub fn handle_fetch_refused(&mut self, now: Instant, code: ErrorCode) -> Option<FetchTrouble> {
        self.fetch_failures += 1;
        self.fetch_retry_at = Some(now + backoff(self.fetch_failures));
        self.source_trouble.note(now, code.name());
        self.doubt_source();
        match code {
            ErrorCode::OffsetOutOfRange => {
                // Retention may have taken the batch before.
                self.out_of_range += u32::from(self.unverified().is_none());
                Some(FetchTrouble::OutOfRange)
            }
            ErrorCode::TopicAuthorizationFailed => {
                self.stop_fetching(Stopped::SourceRefused { code });
                None
            }
            _ => Some(FetchTrouble::Leader),
        }
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
        self.restart(now);
    }
}
