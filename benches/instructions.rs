//! The same work as in the other benches, counted in instructions, which on a noisy machine tells of smaller changes.
//!
//! Needs valgrind, and `cargo install gungraun-runner` of the version in Cargo.lock. Only what takes the same way each time is
//! here: checksums and codecs choose theirs by the processor's instructions, of which valgrind knows the older ones.

#![allow(unused_qualifications, reason = "what the macros make of the functions below")]

mod batches;

use std::hint::black_box;

use bytes::Bytes;
use gungraun::{library_benchmark, library_benchmark_group, main};
use kferry::offsets::{Run, Segment, SourceOffset, TargetOffset};
use kferry::record::{BatchHeader, Codec, DecodeLimits, Merged, Merger, ProducerStamp, RawBatch, patch, scan};

use self::batches::{first_batch, log, small_batch};

fn header() -> BatchHeader {
    first_batch(log(Codec::None, 1, 128)).header
}

#[library_benchmark]
#[bench::one(header())]
fn patch_header(header: BatchHeader) -> [u8; 61] {
    let stamp = ProducerStamp {
        producer_id: 4000,
        producer_epoch: 1,
        base_sequence: 77,
    };
    black_box(patch::for_produce(black_box(&header), black_box(stamp)))
}

#[library_benchmark]
#[bench::thousand(log(Codec::None, 1000, 1))]
fn scan_batches(log: Bytes) -> usize {
    black_box(scan(log).filter(Result::is_ok).count())
}

fn small_batches() -> Vec<RawBatch> {
    (0..800).map(|number| small_batch(Codec::None, number)).collect()
}

#[library_benchmark]
#[bench::eight_hundred(small_batches())]
fn coalesce_batches(batches: Vec<RawBatch>) -> Merged {
    let mut merger = Merger::new(Codec::None, 1 << 20, Vec::with_capacity(1 << 20));
    for batch in &batches {
        let pushed = merger.push(batch.header, &batch.payload(), &DecodeLimits::default());
        black_box(pushed.expect("intact"));
    }
    black_box(merger.finish().expect("well below any limit"))
}

/// With a gap before each.
fn runs() -> Vec<Run> {
    let run = |index: i64| Run {
        source_start: SourceOffset(3 * index),
        target_start: TargetOffset(2 * index),
        count: 2,
    };
    (0..4096).map(run).collect()
}

#[library_benchmark]
#[bench::four_thousand(runs())]
fn append_and_write_down_runs(runs: Vec<Run>) -> Vec<u8> {
    let mut segment = Segment::default();
    for run in runs {
        segment.push(run);
    }
    black_box(segment.encode())
}

library_benchmark_group!(
    name = hot_paths;
    benchmarks = patch_header, scan_batches, coalesce_batches, append_and_write_down_runs
);

main!(library_benchmark_groups = hot_paths);
