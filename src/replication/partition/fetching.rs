//! The partition's way from the source: what a fetch brought, and what it means when it brought nothing.

use std::sync::Arc;
use std::time::Instant;

use uuid::Uuid;

use super::trouble::backoff;
use super::{FetchTrouble, Incident, OnChange, Parted, PartitionReplicator};
use crate::offsets::SourceOffset;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::fetch_response::EpochEnd;
use crate::record::{HEADER_LEN, ReencodeError};
use crate::replication::epochs::Truncation;
use crate::replication::prepare::{PrepareError, Prepared};
use crate::replication::stopped::Stopped;

/// Answers in a row that say the same, until they are believed.
const BELIEVED: u32 = 3;

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
            self.last_fetched_epoch = epoch;
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
            self.last_fetched_epoch = -1; // What lay before the position is gone, and with it the epoch that it had.
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
    fn abandon_prepared_from(&mut self, offset: SourceOffset) {
        self.prepared.retain(|batch| batch.next_position <= offset);
        let held = self.prepared.iter().map(|batch| batch.payload.len() + HEADER_LEN);
        self.prepared_bytes = held.sum();
        let last = self.prepared.back().or(self.unacked.back().map(|last| &last.batch));
        (self.fetch_position, self.last_fetched_epoch) = match last {
            Some(last) => (last.next_position, last.leader_epoch),
            None => (self.acked_position, self.acked_epoch),
        };
        self.epochs.cut(self.fetch_position);
    }

    /// A fetch that asked for this partition was answered, and did not refuse it.
    pub fn handle_source_well(&mut self) {
        self.source_trouble.clear();
        self.is_validated = true;
        self.out_of_range = 0;
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
            ErrorCode::OffsetOutOfRange => {
                self.out_of_range += 1;
                Some(FetchTrouble::OutOfRange)
            }
            ErrorCode::TopicAuthorizationFailed => {
                self.stop_fetching(Stopped::SourceRefused { code });
                None
            }
            _ => Some(FetchTrouble::Leader),
        }
    }

    /// The source's log is not the one that was copied: it was cut back, and other records may have come in the place of what
    /// is gone. Says whether its range has to be asked.
    pub fn handle_truncated(&mut self, truncation: Truncation) -> bool {
        let position = self.fetch_position;
        let end = match truncation {
            Truncation::EpochEnds(end) => end,
            // Of what epoch its last record is, the next fetch tells.
            Truncation::LogEnds(end) => EpochEnd {
                epoch: i32::MAX,
                end_offset: end.0,
            },
            Truncation::EpochUnknown => EpochEnd {
                epoch: self.last_fetched_epoch - 1,
                end_offset: position.0,
            },
        };
        let parted = self.epochs.parted(end, self.start.flow_start.source);
        if self.start.policies.truncation == OnChange::Stop || parted.is_none() {
            let end = parted.unwrap_or(self.start.flow_start.source).min(position);
            self.stop_fetching(Stopped::SourceTruncated { position, end });
            return false;
        }
        self.parted = parted.map(|parted| Parted::Asking(parted.min(position)));
        true
    }

    /// Where the source's log begins and ends, asked after an OFFSET_OUT_OF_RANGE or a truncation. Nothing is skipped without
    /// a policy that says so. Says whether it has to be asked again.
    pub fn handle_source_range(&mut self, now: Instant, log_start: SourceOffset, log_end: SourceOffset) -> bool {
        // A recovery tells of a truncation itself; what else was asked for is of before.
        if (self.is_recovering() && self.parted.is_none()) || self.stopped.is_some() {
            return false;
        }
        let position = self.fetch_position;
        if let Some(parted) = self.parted {
            if let Parted::Asking(at) = parted {
                self.start.end = self.start.end.map(|end| end.min(log_end));
                self.drain_to(at);
            }
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
            return self.handle_truncated(Truncation::LogEnds(log_end));
        } else if let Some(end) = self.start.end.filter(|end| *end > log_end) {
            self.incidents.push(Incident::Shortened(log_end, end));
            self.start.end = Some(log_end);
            self.advance_when_idle();
        } else if self.out_of_range >= BELIEVED && self.last_fetched_epoch >= 0 {
            self.out_of_range = 0;
            return self.handle_truncated(Truncation::EpochUnknown);
        }
        // Within range after all (a follower answered, or an election was under way): the next fetch tells.
        false
    }

    /// What was fetched of what the source still has goes to the target first.
    fn drain_to(&mut self, parted: SourceOffset) {
        self.parted = Some(Parted::Draining(parted));
        if self.is_recovering() {
            // Whatever the target has beyond what it acknowledged, the source has lost too.
            return self.part(parted);
        }
        self.abandon_prepared_from(parted);
        self.part_when_idle();
    }

    /// Goes on at what the source has instead of what it has lost, once nothing is on its way.
    pub(super) fn part_when_idle(&mut self) {
        let Some(Parted::Draining(parted)) = self.parted.filter(|_| self.is_idle() && !self.sending_stopped) else {
            return;
        };
        if self.acked_position > parted {
            return self.part(parted);
        }
        self.parted = None;
        (self.fetch_position, self.last_fetched_epoch) = (self.acked_position, self.acked_epoch);
        self.epochs.cut(self.fetch_position);
    }

    fn part(&mut self, parted: SourceOffset) {
        self.incidents.push(Incident::Truncated(parted, self.acked_position));
        self.begin_again_at(parted, None);
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
