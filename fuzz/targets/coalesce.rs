//! Batches put together: each record comes out as it was and in order, and what can't be read leaves no trace.
#![no_main]

use kferry::record::{DecodeLimits, HEADER_LEN, Merged, Merger, Pushed, RawBatch, decode};
use libfuzzer_sys::fuzz_target;

const LIMITS: DecodeLimits = DecodeLimits {
    max_bytes: 1 << 18,
    max_records: 1000,
};

fuzz_target!(|data: &[u8]| {
    let Some((&[attributes, limit, first_count, second_count], payload)) = data.split_first_chunk() else {
        return;
    };
    let Some((&at, payload)) = payload.split_first() else { return };
    let (first, second) = payload.split_at(payload.len() * usize::from(at) / 256); // In the middle at 128.
    let batches = [(first_count, first), (second_count, second)]
        .map(|(count, payload)| kferry_fuzz::batch(attributes & 0x07, count.saturating_sub(1), count, payload));
    let Ok(codec) = batches[0].header.codec() else { return };
    let mut merger = Merger::new(codec, 64 << (limit % 16), Vec::new());
    let mut expected = Vec::new();
    for batch in &batches {
        if batch.header.record_count() == 0 || batch.header.has_offset_gaps() {
            continue; // Nobody puts these together.
        }
        if let Ok(Pushed::Taken) = merger.push(batch.header, &batch.payload(), &LIMITS) {
            expected.push(records(batch));
        }
    }
    if expected.is_empty() {
        return;
    }
    let Merged { header, payload, .. } = merger.finish().expect("records that were read");
    let merged = kferry_fuzz::only_batch([&header.as_bytes()[..], &payload].concat().into());
    assert_eq!(merged.bytes.len(), HEADER_LEN + payload.len());
    assert_eq!(merged.verify_crc(), Ok(()));
    assert!(!merged.header.has_offset_gaps());
    // Keys, values and headers are not looked into, so where the source's can't be read these can't either.
    if let Some(expected) = expected.into_iter().collect::<Option<Vec<_>>>() {
        assert_eq!(records(&merged), Some(expected.concat()));
    }
});

/// Times, and keys, values and headers as written; `None` if they can't be read.
fn records(batch: &RawBatch) -> Option<Vec<(i64, Vec<u8>)>> {
    let decoded = decode(batch, &DecodeLimits::default()).ok()?;
    let of_record = |record| {
        let record: kferry::record::Record<'_> = record?;
        Ok((decoded.create_time(&record)?, record.after_offset_delta.to_vec()))
    };
    let records: Result<_, kferry::record::RecordError> = decoded.records().map(of_record).collect();
    records.ok()
}
