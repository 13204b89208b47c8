//! The records of a log as a consumer sees them, for tests and the demo to compare.

use bytes::Bytes;

use super::client_batch::LIMITS;
use super::{Isolation, PartitionLog, StoredBatch};
use crate::record::{Decoded, Record, RecordError, TimestampType, decode};

/// One record, with all that a consumer is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    pub offset: i64,
    pub timestamp: i64,
    pub timestamp_type: TimestampType,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    /// In their order; a key may come twice.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

impl PartitionLog {
    /// The records that a consumer gets from the start to the end. Fails where a producer has sent what nobody can
    /// read, which brokers do not always notice.
    pub fn records(&self, isolation: Isolation) -> Result<Vec<StoredRecord>, RecordError> {
        let end = self.readable_end(isolation);
        let is_seen = |batch: &&StoredBatch| {
            let is_left_out = isolation == Isolation::ReadCommitted && self.is_aborted(&batch.header);
            !batch.header.is_control() && !is_left_out
        };
        let mut records = Vec::new();
        let batches = self.batches.iter().take_while(|batch| batch.header.base_offset() < end);
        for batch in batches.filter(is_seen) {
            let decoded = decode(&batch.to_raw(), &LIMITS)?;
            for record in decoded.records() {
                records.push(stored(&decoded, &record?)?);
            }
        }
        records.retain(|record| record.offset >= self.log_start_offset);
        Ok(records)
    }
}

fn stored(batch: &Decoded, record: &Record<'_>) -> Result<StoredRecord, RecordError> {
    let shared = |bytes: &[u8]| batch.bytes().slice_ref(bytes);
    Ok(StoredRecord {
        offset: batch.offset(record),
        timestamp: batch.timestamp(record)?,
        timestamp_type: batch.header().timestamp_type(),
        key: record.key.map(shared),
        value: record.value.map(shared),
        headers: record
            .headers
            .clone()
            .map(|(key, value)| (shared(key), value.map(shared)))
            .collect(),
    })
}
