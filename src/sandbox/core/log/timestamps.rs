//! Where a timestamp lies in a log.

use super::client_batch::LIMITS;
use super::{PartitionLog, StoredBatch};
use crate::record::decode;

impl PartitionLog {
    /// The first record at or after `timestamp`: its offset and its own timestamp.
    pub fn offset_for_timestamp(&self, timestamp: i64) -> Option<(i64, i64)> {
        self.batches
            .iter()
            .filter(|batch| batch.header.max_timestamp() >= timestamp)
            .find_map(|batch| {
                timestamps(batch)
                    .into_iter()
                    .find(|&(offset, found)| found >= timestamp && offset >= self.log_start_offset)
            })
    }

    /// The first of the records with the greatest timestamp.
    pub fn offset_of_max_timestamp(&self) -> Option<(i64, i64)> {
        let max = self.batches.iter().map(|batch| batch.header.max_timestamp()).max()?;
        self.offset_for_timestamp(max)
    }
}

/// Offset and timestamp of each record in a batch.
fn timestamps(batch: &StoredBatch) -> Vec<(i64, i64)> {
    let Ok(decoded) = decode(&batch.to_raw(), &LIMITS) else {
        return Vec::new();
    };
    decoded
        .records()
        .flatten()
        .filter_map(|record| Some((decoded.offset(&record), decoded.timestamp(&record).ok()?)))
        .collect()
}
