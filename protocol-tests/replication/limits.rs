//! Rate and memory stay within what was asked for.

use std::time::Duration;

use kferry::protocol::ApiKey;
use kferry::sandbox::core::faults::{Effect, Fault};

use crate::kafka::{KafkaCluster, Produce, Version, eventually, happens, shared};
use crate::pair::Pair;
use crate::sandboxes::Sandboxes;

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn the_rate_is_kept() {
    let mut pair = Pair::new("rate");
    pair.create(3, &[]);
    pair.judge.produce(
        pair.source,
        &pair.topic,
        &Produce {
            count: 24_000,
            size: 1000,
            partitions: 3,
            ..Produce::PLAIN
        },
    );

    let summary = pair.copy().arg("--max-rate", "2MB").run().summary();

    pair.assert_copied();
    let bytes = summary.number("/bytes") as f64;
    let seconds = summary.0["seconds"].as_f64().expect("a number");
    assert!(bytes > 24e6, "{summary:?}");
    let rate = bytes / seconds;
    assert!((1.5e6..2.1e6).contains(&rate), "{rate} bytes a second: {summary:?}");
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_slow_target_does_not_fill_the_memory() {
    let source = shared(Version::V4);
    let target = KafkaCluster::start(Version::V3, &[]);
    let mut pair = Pair::new("memory");
    pair.create(8, &[]);
    let records = Produce {
        count: 150_000,
        size: 1000,
        partitions: 8,
        batch_bytes: 128 << 10,
        ..Produce::PLAIN
    };
    pair.judge.produce(source, &pair.topic, &records);
    let running = crate::kferry::Copy::between(source, &target)
        .arg("--topics", &pair.topic)
        .arg("--memory", "32MiB")
        .start();
    let judge = &mut pair.judge;
    eventually("the copy begins", || {
        judge.topics(&target).iter().any(|(name, _)| *name == pair.topic)
    });
    target.freeze();
    happens(Duration::from_secs(5), || running.memory() > 92 << 20); // Time enough to fetch everything.
    target.thaw();

    let outcome = running.wait();

    assert_eq!(outcome.summary().records(), 150_000);
    assert!(
        outcome.peak_memory < (32 + 60) << 20,
        "{} MB",
        outcome.peak_memory >> 20
    );
}

/// In the least memory that there is a use for: many partitions at once, and a target that answers late.
#[test]
fn many_partitions_stay_within_the_memory() {
    let sandboxes = Sandboxes::new(2000);
    sandboxes.write(0, 3, 2000);
    sandboxes.arm_target(Fault::new(ApiKey::Produce, Effect::Delay { ms: 100 }).times(20));

    let outcome = sandboxes.copy().arg("--memory", "32MiB").run();

    outcome.summary();
    assert_eq!(sandboxes.assert_copied(), 2000 * 30);
    assert!(
        outcome.peak_memory < (32 + 60) << 20,
        "{} MB",
        outcome.peak_memory >> 20
    );
}
