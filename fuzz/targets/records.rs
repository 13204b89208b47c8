//! Decompression within limits, and the records of a batch.
#![no_main]

use bytes::Bytes;
use kferry::record::{DecodeLimits, RawBatch, Scanned, decode, scan};
use libfuzzer_sys::fuzz_target;

const LIMITS: DecodeLimits = DecodeLimits {
    max_bytes: 1 << 20,
    max_records: 1 << 16,
};

fuzz_target!(|data: &[u8]| {
    let Some((&[codec, last_delta, count], payload)) = data.split_first_chunk() else {
        return;
    };
    let batch = batch(codec & 7, last_delta, count, payload);
    let Ok(decoded) = decode(&batch, &LIMITS) else { return };
    assert!(decoded.bytes().len() <= LIMITS.max_bytes.max(payload.len()));
    let mut previous = -1;
    for record in decoded.records() {
        let Ok(record) = record else { return };
        assert!(record.offset_delta > previous);
        previous = record.offset_delta;
        let _ = decoded.timestamp(&record);
        let key_and_value = record.key.unwrap_or_default().len() + record.value.unwrap_or_default().len();
        let headers = record.headers.len();
        assert!(key_and_value + 2 * headers <= record.after_offset_delta.len());
        assert_eq!(
            record.headers.count(),
            headers,
            "all headers were read once, so they can be read again"
        );
    }
    assert_eq!(decoded.records().count(), usize::from(count));
});

/// A batch with this payload, whose header is in order.
fn batch(codec: u8, last_delta: u8, count: u8, payload: &[u8]) -> RawBatch {
    let mut bytes = vec![0; 61];
    bytes[8..12].copy_from_slice(&(49 + payload.len() as u32).to_be_bytes());
    bytes[16] = 2; // magic
    bytes[22] = codec;
    bytes[26] = last_delta;
    bytes[60] = count;
    bytes.extend(payload);
    let Some(Ok(Scanned::Batch(batch))) = scan(Bytes::from(bytes)).next() else {
        panic!("a batch in order")
    };
    batch
}
