//! What the benches work on.

use bytes::Bytes;
use kferry::record::{BatchBuilder, BatchOptions, Codec, RawBatch, Scanned, scan};

/// `count` batches of `records` records of 1,000 bytes each.
pub(crate) fn log(codec: Codec, count: i64, records: i64) -> Bytes {
    let mut log = Vec::new();
    for i in 0..count {
        let base_offset = i * records;
        let mut batch = BatchBuilder::new(BatchOptions {
            codec,
            base_offset,
            ..BatchOptions::default()
        });
        for record in 0..records {
            let value: Vec<u8> = (0..1000_u32).map(|byte| (byte * 7 + record as u32) as u8).collect();
            batch.push(1_700_000_000_000 + record, Some(b"key"), Some(&value), &[]);
        }
        log.extend_from_slice(&batch.build().expect("well below any limit"));
    }
    log.into()
}

pub(crate) fn first_batch(log: Bytes) -> RawBatch {
    match scan(log).next() {
        Some(Ok(Scanned::Batch(batch))) => batch,
        other => panic!("a batch was written: {other:?}"),
    }
}

/// Nine records of 100 bytes, as a producer writes them that does not wait.
pub(crate) fn small_batch(codec: Codec, number: i64) -> RawBatch {
    let mut batch = BatchBuilder::new(BatchOptions {
        codec,
        ..BatchOptions::default()
    });
    for record in 0..9 {
        let value: Vec<u8> = (0..100_u32)
            .map(|byte| (byte * 7 + record + number as u32) as u8)
            .collect();
        batch.push(1_700_000_000_000 + number, None, Some(&value), &[]);
    }
    first_batch(batch.build().expect("well below any limit"))
}
