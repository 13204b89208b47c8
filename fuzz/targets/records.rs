//! Decompression within limits, and the records of a batch.
#![no_main]

use kferry::record::{DecodeLimits, decode};
use libfuzzer_sys::fuzz_target;

const LIMITS: DecodeLimits = DecodeLimits {
    max_bytes: 1 << 20,
    max_records: 1 << 16,
};

fuzz_target!(|data: &[u8]| {
    let Some((&[codec, last_delta, count], payload)) = data.split_first_chunk() else {
        return;
    };
    let batch = kferry_fuzz::batch(codec & 7, last_delta, count, payload);
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
