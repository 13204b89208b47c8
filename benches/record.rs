//! What does one batch cost on its way: found, checked, patched, or written anew?

mod batches;

use kferry::record::{
    Codec, DecodeLimits, Merger, ProducerStamp, Pushed, RawBatch, ReencodeOptions, patch, reencode, scan,
};

use self::batches::{first_batch, log, small_batch};

fn main() {
    divan::main();
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

#[divan::bench(args = [Codec::None, Codec::Snappy, Codec::Lz4, Codec::Zstd])]
fn coalesce_800_batches(bencher: divan::Bencher<'_, '_>, codec: Codec) {
    let batches: Vec<RawBatch> = (0..800).map(|number| small_batch(codec, number)).collect();
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
