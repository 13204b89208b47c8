//! Batches and records larger than the target takes.

use crate::kafka::Produce;
use crate::pair::Pair;

fn pair_with_a_smaller_limit(name: &str) -> Pair {
    let mut pair = Pair::new(name);
    pair.create(1, &[("max.message.bytes", "10000000")]);
    pair.create_on_target(1, &[("max.message.bytes", "100000")]);
    pair
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_batch_larger_than_the_target_takes_is_split() {
    let mut pair = pair_with_a_smaller_limit("split");
    for codec in ["none", "zstd", "gzip"] {
        let records = Produce {
            codec,
            count: 300,
            size: 10_000,
            batch_bytes: 2_000_000,
            ..Produce::PLAIN
        };
        pair.judge.produce(pair.source, &pair.topic, &records);
    }

    let summary = pair.copy().run().summary();

    assert_eq!(pair.assert_copied(), 900);
    assert!(summary.number("/batches/reencoded") > 0, "{summary:?}");
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_record_larger_than_the_target_takes_is_named() {
    let mut pair = pair_with_a_smaller_limit("too-large");
    pair.judge.produce(
        pair.source,
        &pair.topic,
        &Produce {
            count: 5,
            ..Produce::PLAIN
        },
    );
    pair.judge.produce(
        pair.source,
        &pair.topic,
        &Produce {
            count: 1,
            size: 234_567,
            ..Produce::PLAIN
        },
    );

    let outcome = pair.copy().run();

    outcome.assert_failed(
        1,
        &[
            &pair.topic,
            "partition 0",
            "offset 5",
            "2346",
            "100000",
            "max.message.bytes",
        ],
    );

    pair.judge
        .alter_configs(pair.target, &pair.topic, &[("max.message.bytes", "300000")]);
    pair.copy().run().summary();
    assert_eq!(pair.assert_copied(), 6);
}
