//! Small batches that are put together: nothing but their number is another.

use crate::kafka::{self, Isolation, Produce, Timestamps, assert_same};
use crate::pair::Pair;

/// Batches of some records each, in every codec, between transactions committed and aborted.
fn pair_with_small_batches(name: &str) -> Pair {
    let mut pair = Pair::new(name);
    let small = Produce {
        count: 400,
        partitions: 2,
        batch_bytes: 500,
        ..Produce::VARIED
    };
    pair.create(2, &[]);
    for (seed, codec) in (0..).zip(["none", "gzip", "snappy", "lz4", "zstd"]) {
        pair.judge
            .produce(pair.source, &pair.topic, &Produce { codec, seed, ..small });
        pair.judge
            .interleave(pair.source, &pair.topic, &Produce { codec, seed, ..small }, 3, 60);
    }
    pair
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_backlog_of_small_batches_is_put_together() {
    let mut pair = pair_with_small_batches("coalesced");

    let summary = pair.copy().run().summary();

    let records = pair.assert_copied();
    assert_eq!(summary.records(), records);
    let (coalesced, patched) = (summary.number("/batches/coalesced"), summary.number("/batches/patched"));
    assert!(coalesced > 300 && coalesced > 10 * patched, "{summary:?}");
    let source = pair.committed();
    let target = kafka::librdkafka(pair.target, &pair.topic, Isolation::ReadUncommitted);
    assert_same(&source, &target, Timestamps::Equal);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn each_batch_stays_as_it_is_where_that_is_wanted() {
    let mut pair = pair_with_small_batches("never-coalesced");

    let summary = pair.copy().arg("--coalesce", "never").run().summary();

    assert_eq!(summary.records(), pair.assert_copied());
    assert_eq!(summary.number("/batches/coalesced"), 0);
    assert!(summary.number("/batches/patched") > 300, "{summary:?}");
}
