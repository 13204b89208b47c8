//! Batches to send: right ones, and right ones damaged on purpose.

use kferry::record::crc::crc32c;
use kferry::record::encode::{BatchBuilder, BatchOptions};
use kferry::record::patch::ProducerStamp;

/// The records' timestamps: some day in 2015, rising by a second.
pub(crate) const TIMESTAMP: i64 = 1_425_000_000_000;

/// A batch of so many records with keys, values and a header.
pub(crate) fn batch(records: usize) -> Vec<u8> {
    batch_with(BatchOptions::default(), records)
}

/// The same from an idempotent producer.
pub(crate) fn stamped(producer: (i64, i16), base_sequence: i32, records: usize) -> Vec<u8> {
    batch_with(
        BatchOptions {
            producer: Some(stamp(producer, base_sequence)),
            ..BatchOptions::default()
        },
        records,
    )
}

/// The same within a transaction.
pub(crate) fn transactional(producer: (i64, i16), base_sequence: i32, records: usize) -> Vec<u8> {
    let producer = Some(stamp(producer, base_sequence));
    batch_with(
        BatchOptions {
            producer,
            transactional: true,
            ..BatchOptions::default()
        },
        records,
    )
}

pub(crate) fn batch_with(options: BatchOptions, records: usize) -> Vec<u8> {
    let mut batch = BatchBuilder::new(options);
    for (number, timestamp) in (0..records).zip((TIMESTAMP..).step_by(1000)) {
        let key = format!("key {number}");
        batch.push(timestamp, Some(key.as_bytes()), Some(b"value"), &[(b"header", None)]);
    }
    batch.build().expect("a batch").to_vec()
}

fn stamp((producer_id, producer_epoch): (i64, i16), base_sequence: i32) -> ProducerStamp {
    ProducerStamp {
        producer_id,
        producer_epoch,
        base_sequence,
    }
}

/// Where the fields of a batch header stand.
pub(crate) mod at {
    pub(crate) const BASE_OFFSET: usize = 0;
    pub(crate) const PARTITION_LEADER_EPOCH: usize = 12;
    pub(crate) const CRC: usize = 17;
    pub(crate) const ATTRIBUTES: usize = 21;
    pub(crate) const LAST_OFFSET_DELTA: usize = 23;
    pub(crate) const MAX_TIMESTAMP: usize = 35;
    pub(crate) const RECORD_COUNT: usize = 57;
}

/// The batch with other bytes at one place, and a CRC that agrees with them.
pub(crate) fn with(mut batch: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c(&batch[at::ATTRIBUTES..]);
    batch[at::CRC..at::ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
    batch
}

/// The batch with more attribute bits.
pub(crate) fn with_attributes(batch: Vec<u8>, bits: u8) -> Vec<u8> {
    let low = at::ATTRIBUTES + 1;
    let bits = batch[low] | bits;
    with(batch, low, &[bits])
}
