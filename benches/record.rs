//! What does one batch cost on its way: found, checked, patched, or written anew?

use bytes::Bytes;
use kferry::record::{
    BatchBuilder, BatchOptions, Codec, DecodeLimits, Merger, ProducerStamp, Pushed, RawBatch, ReencodeOptions, Scanned,
    patch, reencode, scan,
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

/// 800 batches of nine records of 100 bytes, as a producer writes them that does not wait.
#[divan::bench(args = [Codec::None, Codec::Snappy, Codec::Lz4, Codec::Zstd])]
fn coalesce_800_batches(bencher: divan::Bencher<'_, '_>, codec: Codec) {
    let small = |number: i64| {
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
    };
    let batches: Vec<RawBatch> = (0..800).map(small).collect();
    let mut buffer = Vec::new();
    bencher
        .counter(divan::counter::BytesCount::new(800_u32 * 9 * 100))
        .bench_local(|| {
            let mut merger = Merger::new(codec, 1 << 20, std::mem::take(&mut buffer));
            for batch in &batches {
                let pushed = merger.push(batch.header, &batch.payload(), &DecodeLimits::default());
                assert_eq!(pushed.expect("intact"), Pushed::Taken);
            }
            let merged = merger.finish().expect("well below any limit");
            buffer = merged.unused.unwrap_or(merged.payload); // As the pool gives it again.
        });
}
