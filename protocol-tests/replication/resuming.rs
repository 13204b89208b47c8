//! Where a copy begins, and where the next one goes on.

use crate::kafka::{Produce, Signal, Timestamps, assert_same, eventually};
use crate::pair::Pair;

/// Some thirty megabytes, so that a copy takes a while.
const MANY: Produce = Produce {
    count: 30_000,
    size: 1000,
    partitions: 3,
    ..Produce::PLAIN
};

fn some(seed: u64) -> Produce {
    Produce {
        seed,
        partitions: 3,
        ..Produce::VARIED
    }
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_second_run_copies_only_what_is_new() {
    let mut pair = Pair::new("twice");
    pair.create(3, &[]);
    pair.judge.interleave(pair.source, &pair.topic, &some(1), 3, 30); // The positions lie behind markers.
    let first = pair.copy().run().summary().records();
    assert_eq!(first, pair.assert_copied());

    assert_eq!(pair.copy().run().summary().records(), 0);
    pair.assert_copied();

    pair.judge.produce(pair.source, &pair.topic, &some(2));
    assert_eq!(pair.copy().run().summary().records(), 200);
    assert_eq!(pair.assert_copied(), first + 200);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_copy_can_begin_at_the_ends() {
    let mut pair = Pair::new("latest");
    pair.create(3, &[]);
    pair.judge.produce(pair.source, &pair.topic, &some(1));
    assert_eq!(pair.copy().arg("--start", "latest").run().summary().records(), 0);

    let ends: Vec<i64> = pair
        .judge
        .offsets(pair.source, &pair.topic)
        .iter()
        .map(|(_, end)| *end)
        .collect();
    pair.judge.produce(pair.source, &pair.topic, &some(2));
    assert_eq!(
        pair.copy().run().summary().records(),
        200,
        "the ledger remembers where it began"
    );

    let new = pair
        .committed()
        .filter(|record| record.offset >= ends[usize::try_from(record.partition).expect("one")]);
    assert_same(&new, &pair.arrived(), Timestamps::Equal);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_copy_can_begin_at_a_timestamp() {
    let mut pair = Pair::new("timestamp");
    pair.create(1, &[]);
    // One batch, from 2015-02-27T01:20:00Z on by milliseconds. The start lies within it.
    pair.judge.produce(
        pair.source,
        &pair.topic,
        &Produce {
            count: 1000,
            batch_bytes: 1 << 20,
            ..Produce::PLAIN
        },
    );

    let summary = pair.copy().arg("--start", "2015-02-27T01:20:00.400Z").run().summary();

    assert_eq!(summary.records(), 600);
    let from_then_on = pair.committed().filter(|record| record.offset >= 400);
    assert_same(&from_then_on, &pair.arrived(), Timestamps::Equal);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn following_goes_on_until_it_is_told_to_stop() {
    let mut pair = Pair::new("follow");
    pair.create(3, &[]);
    pair.judge.produce(pair.source, &pair.topic, &some(1));
    let running = pair.copy().flag("--follow").start();
    eventually("what was there arrives", || pair.records_on_target() == 200);
    pair.judge.produce(pair.source, &pair.topic, &some(2));
    eventually("what is new arrives", || pair.records_on_target() == 400);
    running.signal(Signal::Terminate);

    let outcome = running.wait();

    assert_eq!(outcome.code(), 143, "{}", outcome.stderr);
    assert_eq!(outcome.document().records(), 400);
    assert_eq!(pair.assert_copied(), 400);
    assert_eq!(pair.copy().run().summary().records(), 0);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_clean_stop_in_the_middle_repeats_nothing() {
    let mut pair = Pair::new("stopped");
    pair.create(3, &[]);
    pair.judge.produce(pair.source, &pair.topic, &MANY);
    let running = pair.copy().arg("--max-rate", "5MB").start();
    eventually("some arrive", || pair.records_on_target() > 1000);
    running.signal(Signal::Terminate);
    let outcome = running.wait();
    assert_eq!(outcome.code(), 143, "{}", outcome.stderr);
    let before = pair.records_on_target();
    assert!(before < 30_000, "stopped too late to tell");

    let summary = pair.copy().run().summary();

    assert_eq!(i64::try_from(summary.records()).expect("a count"), 30_000 - before);
    assert_eq!(pair.assert_copied(), 30_000);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_crash_in_the_middle_loses_nothing_and_repeats_nothing() {
    let mut pair = Pair::new("crashed");
    pair.create(3, &[]);
    pair.judge.produce(pair.source, &pair.topic, &MANY);
    let running = pair.copy().arg("--max-rate", "5MB").start();
    eventually("some arrive", || pair.records_on_target() > 5000);
    running.kill();
    assert!(pair.records_on_target() < 30_000, "killed too late to tell");

    let summary = pair.copy().run().summary();

    assert_eq!(summary.text("/guarantee"), "exactly-once");
    assert_eq!(pair.assert_copied(), 30_000);
}
