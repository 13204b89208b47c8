//! Brokers that go away in the middle of a copy, and come back.

use crate::kafka::{
    Dump, Isolation, Judge, KafkaCluster, Produce, Timestamps, Version, assert_same, eventually, now_ms, shared,
};
use crate::kferry::Copy;

/// Some thirty megabytes, copied in no less than six seconds.
const RECORDS: Produce = Produce {
    count: 30_000,
    size: 1000,
    partitions: 3,
    ..Produce::PLAIN
};
const RATE: &str = "5MB";

/// What is on both sides after a copy that a fault struck.
struct Struck {
    source: Dump,
    target: Dump,
}

/// Copies from `source` to `target`; `fault` strikes when some records have arrived.
fn copy_with_a_fault(
    topic: &str,
    source: &KafkaCluster,
    target: &KafkaCluster,
    records: &Produce,
    fault: impl FnOnce(),
) -> Struck {
    let mut judge = Judge::take();
    judge.create_topic(source, topic, 3, &[]);
    judge.produce(source, topic, records);
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

    assert_eq!(running.wait().summary().text("/guarantee"), "exactly-once");
    Struck {
        source: judge.dump(source, topic, Isolation::ReadCommitted),
        target: judge.dump(target, topic, Isolation::ReadUncommitted),
    }
}

/// A broker that starts again remembers who wrote its newest records.
#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_target_that_is_killed_and_comes_back_has_new_records_once() {
    let target = KafkaCluster::start(Version::V4, &[]);
    let records = Produce {
        timestamp: now_ms(),
        ..RECORDS
    };
    let struck = copy_with_a_fault("target-killed", shared(Version::V3), &target, &records, || {
        target.kill();
        target.start_again();
    });
    assert_same(&struck.source, &struck.target, Timestamps::Equal);
}

/// It forgets who wrote old ones.
#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_target_that_is_killed_and_comes_back_has_old_records_once() {
    let target = KafkaCluster::start(Version::V4, &[]);
    let struck = copy_with_a_fault("target-killed-old", shared(Version::V3), &target, &RECORDS, || {
        target.kill();
        target.start_again();
    });
    assert_same(&struck.source, &struck.target, Timestamps::Equal);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_source_that_is_restarted_has_everything_once_on_the_target() {
    let source = KafkaCluster::start(Version::V4, &[]);
    let struck = copy_with_a_fault("source-restarted", &source, shared(Version::V3), &RECORDS, || {
        source.stop();
        source.start_again();
    });
    assert_same(&struck.source, &struck.target, Timestamps::Equal);
}
