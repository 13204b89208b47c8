//! Batches written anew: every record that is wanted comes out, as it was and in order.
#![no_main]

use bytes::Bytes;
use kferry::record::{DecodeLimits, RawBatch, ReencodeOptions, crc, decode, reencode};
use libfuzzer_sys::fuzz_target;

const LIMITS: DecodeLimits = DecodeLimits {
    max_bytes: 1 << 18,
    max_records: 1000,
};
const START_OFFSET: i64 = 1;

fuzz_target!(|data: &[u8]| {
    let Some((&[attributes, limit, last_delta, count], payload)) = data.split_first_chunk() else {
        return;
    };
    let batch = with_right_crc(kferry_fuzz::batch(attributes & 0x0f, last_delta, count, payload));
    let options = ReencodeOptions {
        start_offset: START_OFFSET,
        max_batch_bytes: 64 << (limit % 16),
        append_time: limit & 0x80 != 0,
        limits: LIMITS,
    };
    let Ok(batches) = reencode::reencode(&batch, &options) else {
        return;
    };
    let mut found = Vec::new();
    for batch in batches {
        let records = kferry_fuzz::check_reencoded(&batch, options.max_batch_bytes);
        let offsets = batch
            .source_offsets
            .iter()
            .flat_map(|range| (range.start..).take(range.count as usize));
        found.extend(offsets.zip(records));
    }
    assert_eq!(found, wanted(&batch));
});

/// The records from the start on: offset, then key, value and headers as written.
fn wanted(batch: &RawBatch) -> Vec<(i64, Vec<u8>)> {
    let decoded = decode(batch, &LIMITS).expect("it was decoded before");
    let records = decoded.records().map(|record| record.expect("it was read before"));
    let all = records.map(|record| (decoded.offset(&record), record.after_offset_delta.to_vec()));
    all.filter(|(offset, _)| *offset >= START_OFFSET).collect()
}

fn with_right_crc(batch: RawBatch) -> RawBatch {
    let mut bytes = batch.bytes.to_vec();
    let crc = crc::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    kferry_fuzz::only_batch(Bytes::from(bytes))
}
