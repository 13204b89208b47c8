//! What does one batch cost on its way: found, checked, patched, or written anew?

use bytes::Bytes;
use kferry::record::{
    BatchBuilder, BatchOptions, Codec, DecodeLimits, ProducerStamp, RawBatch, ReencodeOptions, Scanned, patch,
    reencode, scan,
};

fn main() {
    divan::main();
}

/// `count` batches of `records` records of 1,000 bytes each.
fn log(codec: Codec, count: i64, records: i64) -> Bytes {
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

fn first_batch(log: Bytes) -> RawBatch {
    match scan(log).next() {
        Some(Ok(Scanned::Batch(batch))) => batch,
        other => panic!("a batch was written: {other:?}"),
    }
}

#[divan::bench]
fn scan_1000_batches(bencher: divan::Bencher<'_, '_>) {
    let log = log(Codec::None, 1000, 1);
    bencher.bench_local(|| scan(log.clone()).filter(Result::is_ok).count());
}

#[divan::bench]
fn verify_128_kib(bencher: divan::Bencher<'_, '_>) {
    let batch = first_batch(log(Codec::None, 1, 128));
    bencher
        .counter(divan::counter::BytesCount::new(batch.bytes.len()))
        .bench_local(|| batch.verify_crc());
}

#[divan::bench(args = [1, 128, 900])]
fn patch_header(bencher: divan::Bencher<'_, '_>, records: i64) {
    let header = first_batch(log(Codec::None, 1, records)).header;
    let stamp = ProducerStamp {
        producer_id: 4000,
        producer_epoch: 1,
        base_sequence: 77,
    };
    bencher.bench_local(|| patch::for_produce(divan::black_box(&header), divan::black_box(stamp)));
}

#[divan::bench(args = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd])]
fn reencode_64_kib(bencher: divan::Bencher<'_, '_>, codec: Codec) {
    let batch = first_batch(log(codec, 1, 64));
    let options = ReencodeOptions {
        start_offset: 1, // Leaves out the first record, as where a batch straddles the start.
        max_batch_bytes: 1 << 20,
        append_time: false,
        limits: DecodeLimits::default(),
    };
    bencher
        .counter(divan::counter::BytesCount::new(64_u32 * 1000))
        .bench_local(|| reencode(&batch, &options).expect("it was read before"));
}
