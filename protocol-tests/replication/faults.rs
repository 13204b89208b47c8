//! Brokers that go away in the middle of a copy, and come back.

use crate::kafka::{
    Dump, Isolation, Judge, KafkaCluster, Produce, Timestamps, Version, assert_same, eventually, shared,
};
use crate::kferry::Copy;

/// Some thirty megabytes, copied in no less than six seconds. Old, so that a broker that starts again has forgotten who
/// wrote them: the harder case.
const RECORDS: Produce = Produce {
    count: 30_000,
    size: 1000,
    partitions: 3,
    ..Produce::PLAIN
};
const RATE: &str = "5MB";

/// Copies from `source` to `target`; `fault` strikes when some records have arrived.
fn copy_with_a_fault(topic: &str, source: &KafkaCluster, target: &KafkaCluster, fault: impl FnOnce()) -> [Dump; 2] {
    let mut judge = Judge::take();
    judge.create_topic(source, topic, 3, &[]);
    judge.produce(source, topic, &RECORDS);
    let copy = || {
        let copy = Copy::between(source, target)
            .arg("--topics", topic)
            .arg("--flow", format!("{topic}->target"));
        copy.arg("--max-rate", RATE).start()
    };
    let running = copy();
    eventually("some arrive", || {
        let created = judge.topics(target).iter().any(|(name, _)| name == topic);
        created && judge.offsets(target, topic).iter().map(|(_, end)| end).sum::<i64>() > 3000
    });

    fault();

    let outcome = running.wait();
    if outcome.code() == 1 {
        outcome.assert_failed(1, &["run again"]);
        copy().wait().summary();
    }
    [
        judge.dump(source, topic, Isolation::ReadCommitted),
        judge.dump(target, topic, Isolation::ReadUncommitted),
    ]
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_target_that_is_killed_and_comes_back_has_lost_nothing() {
    let target = KafkaCluster::start(Version::V4, &[]);
    let [wanted, arrived] = copy_with_a_fault("target-killed", shared(Version::V3), &target, || {
        target.kill();
        target.start_again();
    });
    assert_same(&wanted, &arrived.without_repeats(), Timestamps::Equal);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_source_that_is_restarted_has_everything_once_on_the_target() {
    let source = KafkaCluster::start(Version::V4, &[]);
    let [wanted, arrived] = copy_with_a_fault("source-restarted", &source, shared(Version::V3), || {
        source.stop();
        source.start_again();
    });
    assert_same(&wanted, &arrived, Timestamps::Equal);
}
