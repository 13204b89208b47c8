//! Brokers that go away in the middle of a copy, and come back.

use crate::kafka::Judge;
use crate::kafka::{Isolation, KafkaCluster, Produce, Timestamps, Version, assert_same, eventually, shared};
use crate::kferry::Copy;

/// Some thirty megabytes, copied in no less than six seconds.
const RECORDS: Produce = Produce {
    count: 30_000,
    size: 1000,
    partitions: 3,
    ..Produce::PLAIN
};
const RATE: &str = "5MB";

/// Copies from `source` to `target`; `fault` strikes when some records have arrived.
fn assert_survives(topic: &str, source: &KafkaCluster, target: &KafkaCluster, fault: impl FnOnce()) {
    let mut judge = Judge::take();
    judge.create_topic(source, topic, 3, &[]);
    judge.produce(source, topic, &RECORDS);
    let running = Copy::between(source, target)
        .arg("--topics", topic)
        .arg("--flow", format!("{topic}->target"))
        .arg("--max-rate", RATE)
        .start();
    eventually("some arrive", || {
        let created = judge.topics(target).iter().any(|(name, _)| name == topic);
        created && judge.offsets(target, topic).iter().map(|(_, end)| end).sum::<i64>() > 3000
    });

    fault();

    assert_eq!(running.wait().summary().records(), RECORDS.count);
    let wanted = judge.dump(source, topic, Isolation::ReadCommitted);
    let arrived = judge.dump(target, topic, Isolation::ReadUncommitted);
    assert_same(&wanted, &arrived, Timestamps::Equal);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_target_that_is_killed_and_comes_back_has_everything_once() {
    let target = KafkaCluster::start(Version::V4, &[]);
    assert_survives("target-killed", shared(Version::V3), &target, || {
        target.kill();
        target.start_again();
    });
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_source_that_is_restarted_loses_nothing() {
    let source = KafkaCluster::start(Version::V4, &[]);
    assert_survives("source-restarted", &source, shared(Version::V3), || {
        source.stop();
        source.start_again();
    });
}
