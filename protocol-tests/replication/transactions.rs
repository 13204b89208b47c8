//! Only what is committed is copied. (Transactions between one another are among the records of `records.rs`.)

use crate::kafka::Produce;
use crate::pair::Pair;

fn ten(seed: u64) -> Produce {
    Produce {
        count: 10,
        seed,
        ..Produce::VARIED
    }
}

/// Ten records, an open transaction of ten, and ten that lie behind it.
fn copied_with_an_open_transaction(name: &str) -> Pair {
    let mut pair = Pair::new(name);
    pair.create(1, &[]);
    pair.judge.produce(pair.source, &pair.topic, &ten(1));
    pair.judge.begin(pair.source, &pair.topic, &pair.topic, &ten(2));
    pair.judge.produce(pair.source, &pair.topic, &ten(3));

    let summary = pair.copy().run().summary();

    assert_eq!(summary.records(), 10, "a copy ends at the last stable offset");
    assert_eq!(pair.assert_copied(), 10);
    pair
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_transaction_is_copied_once_it_is_committed() {
    let mut pair = copied_with_an_open_transaction("commit-later");
    pair.judge.commit(pair.source, &pair.topic);

    assert_eq!(pair.copy().run().summary().records(), 20);
    assert_eq!(pair.assert_copied(), 30);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_transaction_is_never_copied_if_it_is_aborted() {
    let mut pair = copied_with_an_open_transaction("abort-later");
    pair.judge.abort(pair.source, &pair.topic);

    assert_eq!(pair.copy().run().summary().records(), 10);
    assert_eq!(pair.assert_copied(), 20);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn following_waits_for_the_end_of_a_transaction() {
    use crate::kafka::{Signal, eventually};
    let mut pair = copied_with_an_open_transaction("follow-open");
    let running = pair.copy().flag("--follow").start();
    pair.judge.commit(pair.source, &pair.topic);
    eventually("everything committed arrives", || pair.records_on_target() == 30);
    running.signal(Signal::Terminate);

    assert_eq!(running.wait().code(), 143);
    assert_eq!(pair.assert_copied(), 30);
}
