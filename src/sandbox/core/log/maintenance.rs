//! What a log loses: old records, an unclean leader's records, and a restarted leader's memory.

use super::{PartitionLog, StoredBatch};
use crate::record::{ControlType, decode};
use crate::sandbox::core::log::validate::LIMITS;

impl PartitionLog {
    /// Moves the start of the log up. The batch that holds the new first offset stays whole.
    pub fn delete_before(&mut self, offset: i64) {
        self.log_start_offset = offset.clamp(self.log_start_offset, self.end_offset);
        let gone = self.index_of(self.log_start_offset);
        self.batches.drain(..gone);
        self.aborted
            .retain(|aborted| aborted.last_offset >= self.log_start_offset);
        self.epochs.truncate_from(self.log_start_offset);
    }

    /// Deletes the oldest batches that are too old, or too many in bytes; a negative limit is none.
    pub fn enforce_retention(&mut self, now_ms: i64, retention_ms: i64, retention_bytes: i64) {
        let mut excess = match usize::try_from(retention_bytes) {
            Ok(limit) => self.size().saturating_sub(limit),
            Err(_) => 0,
        };
        let is_old = |batch: &StoredBatch| {
            retention_ms >= 0 && now_ms.saturating_sub(batch.header.max_timestamp()) > retention_ms
        };
        let mut keep_from = self.log_start_offset;
        for batch in &self.batches {
            if batch.header.size() > excess && !is_old(batch) {
                break;
            }
            excess = excess.saturating_sub(batch.header.size());
            keep_from = batch.header.next_offset();
        }
        // An open transaction pins what comes from its start on.
        self.delete_before(keep_from.min(self.last_stable_offset()));
    }

    /// Loses the batches that reach `offset`. What the log knows of producers is read from the rest.
    pub fn truncate_to(&mut self, offset: i64) {
        let kept = self.index_of(offset);
        if let Some(first_lost) = self.batches.get(kept) {
            self.end_offset = first_lost.header.base_offset().min(offset);
            self.batches.truncate(kept);
        }
        self.log_start_offset = self.log_start_offset.min(self.end_offset);
        self.epochs.truncate_to(self.end_offset);
        self.recover_producers();
    }

    pub fn expire_producers(&mut self, now_ms: i64, expiration_ms: i64) {
        self.producers.expire(now_ms, expiration_ms);
    }

    /// What a leader still knows after a restart. Of a log without records it knows nothing, so that a fence that
    /// retention has deleted is gone.
    pub fn restart(&mut self, now_ms: i64, producer_expiration_ms: i64) {
        if self.log_start_offset == self.end_offset {
            self.producers.clear();
        }
        self.producers.restart();
        self.producers.expire(now_ms, producer_expiration_ms);
    }

    fn recover_producers(&mut self) {
        self.producers.clear();
        self.aborted.clear();
        let headers: Vec<_> = self
            .batches
            .iter()
            .map(|batch| (batch.header, marker_of(batch)))
            .collect();
        for (header, marker) in headers {
            match marker {
                Some((kind, coordinator_epoch)) => self.note_marker(&header, kind, coordinator_epoch),
                None if header.producer_id() >= 0 && !header.is_control() => self.producers.append(&header),
                None => {}
            }
        }
    }
}

/// What a control batch says, with its coordinator's epoch. The cleaner may have emptied it: then it says nothing.
pub(super) fn marker_of(batch: &StoredBatch) -> Option<(ControlType, i32)> {
    if !batch.header.is_control() {
        return None;
    }
    let decoded = decode(&batch.to_raw(), &LIMITS).ok()?;
    let record = decoded.records().next()?.ok()?;
    let (_version, epoch) = record.value?.split_first_chunk::<2>()?;
    let coordinator_epoch = i32::from_be_bytes(*epoch.first_chunk()?);
    Some((ControlType::from_key(record.key?)?, coordinator_epoch))
}
