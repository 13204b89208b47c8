//! What a log loses: old records, an unclean leader's records, and a restarted leader's memory.

use super::client_batch::LIMITS;
use super::{PartitionLog, StoredBatch};
use crate::record::{ControlType, decode};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::error_code::ErrorCode;
    use crate::record::{BatchBuilder, BatchOptions, ProducerStamp};
    use crate::sandbox::core::config::TopicConfig;
    use crate::sandbox::core::log::ClientBatch;
    use crate::sandbox::core::log::{Isolation, Marker};

    const NOW: i64 = 1_700_000_000_000;

    fn append(log: &mut PartitionLog, sequence: i32, count: i32, timestamp: i64) -> Result<i64, ErrorCode> {
        let mut builder = BatchBuilder::new(BatchOptions {
            producer: Some(ProducerStamp {
                producer_id: 7,
                producer_epoch: 0,
                base_sequence: sequence,
            }),
            ..BatchOptions::default()
        });
        for _ in 0..count {
            builder.push(timestamp, None, Some(b"value"), &[]);
        }
        let batch = ClientBatch::read(builder.build().unwrap(), 9).unwrap();
        let valid = batch.validate(&TopicConfig::default(), NOW).unwrap();
        log.append(valid, 0).map(|appended| appended.base_offset)
    }

    fn of_three_batches() -> PartitionLog {
        let mut log = PartitionLog::default();
        log.begin_epoch(0);
        for (sequence, timestamp) in [(0, NOW - 3000), (4, NOW - 2000), (8, NOW - 1000)] {
            append(&mut log, sequence, 4, timestamp).unwrap();
        }
        log
    }

    #[test]
    fn a_log_may_start_within_a_batch() {
        let mut log = of_three_batches();
        log.delete_before(6);

        assert_eq!((log.log_start_offset(), log.end_offset()), (6, 12));
        assert_eq!(log.batches().next().unwrap().header.base_offset(), 4);
        let read = |offset| {
            log.read(offset, Isolation::ReadUncommitted, 1, true)
                .map(|slice| slice.bytes)
        };
        assert_eq!(read(5), Err(ErrorCode::OffsetOutOfRange));
        assert_eq!(read(6), Ok(log.batches().next().unwrap().header.size()));
        assert_eq!(read(13), Err(ErrorCode::OffsetOutOfRange));
    }

    #[test]
    fn retention_goes_by_age_and_by_size() {
        let mut log = of_three_batches();
        log.enforce_retention(NOW, 2500, -1);
        assert_eq!(log.log_start_offset(), 4);

        let batch = log.size() as i64 / 2;
        log.enforce_retention(NOW, -1, batch + 1);
        assert_eq!(log.log_start_offset(), 4, "not below the limit");
        log.enforce_retention(NOW, -1, batch);
        assert_eq!(log.log_start_offset(), 8);
    }

    #[test]
    fn truncation_takes_the_sequences_with_it() {
        let mut log = of_three_batches();
        log.truncate_to(9);

        assert_eq!(log.end_offset(), 8, "batches go whole");
        assert_eq!(append(&mut log, 4, 4, NOW), Ok(4), "still known again");
        assert_eq!(
            append(&mut log, 8, 1, NOW),
            Ok(8),
            "other records under the same sequence"
        );
    }

    #[test]
    fn a_fence_survives_a_restart_unless_the_log_is_empty() {
        let fence = Marker {
            producer_id: 7,
            producer_epoch: 1,
            commit: true,
            coordinator_epoch: 0,
        };
        let mut log = of_three_batches();
        log.append_marker(fence, NOW, 0).unwrap();
        log.restart(NOW, 1_000_000);
        assert_eq!(append(&mut log, 12, 1, NOW), Err(ErrorCode::InvalidProducerEpoch));

        log.delete_before(13);
        log.restart(NOW, 1_000_000);
        assert_eq!(append(&mut log, 12, 1, NOW), Ok(13), "the zombie is back");
    }

    #[test]
    fn old_records_are_forgotten_at_a_restart() {
        let mut log = of_three_batches();
        log.restart(NOW, 1000);

        assert_eq!(log.producers().count(), 0);
    }

    #[test]
    fn markers_are_read_back_from_the_log() {
        let mut log = of_three_batches();
        let marker = Marker {
            producer_id: 7,
            producer_epoch: 0,
            commit: false,
            coordinator_epoch: 5,
        };
        log.append_marker(marker, NOW, 0).unwrap();

        assert_eq!(
            log.batches().next_back().and_then(marker_of),
            Some((ControlType::Abort, 5))
        );
        log.truncate_to(100);
        let (_, producer) = log.producers().next().unwrap();
        assert_eq!((producer.coordinator_epoch, producer.last_sequence()), (5, 11));
    }
}
