//! What the offset map costs: to grow, to ask, to write down, to load.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use kferry::offsets::{
    MAX_RUNS_PER_SEGMENT, OffsetMap, OffsetPair, Run, Segment, SourceOffset, StoredSegment, TargetOffset,
};

fn main() {
    // The sizes first: they are not times.
    for records in [1, 10, 100] {
        let segments = history(1_000_000, records);
        let runs: usize = segments.iter().map(|segment| segment.runs().len()).sum();
        let wire: usize = segments.iter().map(|segment| segment.encode().len()).sum();
        let map = map(&segments);
        println!(
            "{records} records a transaction, a third aborted: {runs} runs, {:.2} bytes a run as written, {:.2} in memory",
            wire as f64 / runs as f64,
            map.memory() as f64 / map.len() as f64
        );
    }
    divan::main();
}

/// So many transactions of so many records, every third of them aborted: each committed one is a run of its own.
fn history(transactions: i64, records: i64) -> Vec<Segment> {
    let (mut segments, mut open) = (Vec::new(), Segment::default());
    let (mut source, mut target) = (0, 0);
    for transaction in 0..transactions {
        if transaction % 3 < 2 {
            let run = Run {
                source_start: SourceOffset(source),
                target_start: TargetOffset(target),
                count: records,
            };
            if let Some(run) = open.push(run) {
                segments.push(std::mem::take(&mut open));
                open.push(run);
            }
            target += records;
        }
        source += records + 1; // Its marker.
    }
    segments.push(open);
    segments
}

fn map(segments: &[Segment]) -> OffsetMap {
    let end = segments.iter().rev().find_map(|segment| segment.runs().last()).copied();
    let position = end.map_or((SourceOffset(0), TargetOffset(0)), |run| {
        (run.source_end(), run.target_end())
    });
    let pair = |(source, target)| OffsetPair { source, target };
    let stored = segments.iter().filter_map(StoredSegment::new).map(|stored| (1, stored));
    OffsetMap::new(pair((SourceOffset(0), TargetOffset(0))), pair(position), &[], stored)
}

#[divan::bench]
fn append_a_run(bencher: Bencher<'_, '_>) {
    bencher.counter(ItemsCount::new(MAX_RUNS_PER_SEGMENT)).bench(|| {
        let mut segment = Segment::default();
        for i in 0..MAX_RUNS_PER_SEGMENT as i64 {
            segment.push(Run {
                source_start: SourceOffset(i * 11),
                target_start: TargetOffset(i * 10),
                count: 10,
            });
        }
        segment
    });
}

#[divan::bench]
fn write_a_segment_down(bencher: Bencher<'_, '_>) {
    let segments = history(6000, 10);
    bencher
        .counter(ItemsCount::new(segments[0].runs().len()))
        .bench(|| black_box(&segments[0]).encode());
}

#[divan::bench]
fn read_a_segment(bencher: Bencher<'_, '_>) {
    let bytes = history(6000, 10)[0].encode();
    bencher
        .counter(ItemsCount::new(MAX_RUNS_PER_SEGMENT))
        .bench(|| Segment::decode(black_box(&bytes)));
}

#[divan::bench]
fn translate(bencher: Bencher<'_, '_>) {
    let map = map(&history(1_000_000, 10));
    let end = map.position().source.0;
    let mut offset = 0;
    bencher.bench_local(|| {
        offset = (offset + 7_919_131) % end;
        map.translate(SourceOffset(black_box(offset)))
    });
}

#[divan::bench]
fn translate_back(bencher: Bencher<'_, '_>) {
    let map = map(&history(1_000_000, 10));
    let end = map.position().target.0;
    let mut offset = 0;
    bencher.bench_local(|| {
        offset = (offset + 7_919_131) % end;
        map.inverse(TargetOffset(black_box(offset)))
    });
}

#[divan::bench(sample_count = 3)]
fn load_ten_million_runs(bencher: Bencher<'_, '_>) {
    let segments = history(15_000_000, 10);
    bencher.bench_local(|| map(black_box(&segments)));
}
