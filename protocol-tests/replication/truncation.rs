//! A broker that comes back with a shorter log, and has other records by the time that somebody looks.

use crate::kafka::{Isolation, Judge, KafkaCluster, Produce, Version, shared};
use crate::kferry::Copy;

fn cut_back(version: Version) {
    let source = KafkaCluster::start(version, &[]);
    let target = shared(Version::V4);
    let topic = format!("cut-back-{}", version.release());
    let mut judge = Judge::take();
    judge.create_topic(&source, &topic, 1, &[]);
    let records = |first| Produce {
        first,
        count: 1000,
        batch_bytes: 2000,
        ..Produce::PLAIN
    };
    judge.produce(&source, &topic, &records(0));
    let copy = || {
        Copy::between(&source, target)
            .arg("--topics", &topic)
            .arg("--flow", format!("{topic}->target"))
    };
    assert_eq!(copy().run().summary().records(), 1000);
    let before = judge.dump(&source, &topic, Isolation::ReadCommitted);

    source.kill();
    let end = source.cut_log_back(&topic, 0, 600);
    assert!(end < 1000, "the log was cut back to {end}");
    source.start_again();
    judge.produce(&source, &topic, &records(5000));
    let after = judge.dump(&source, &topic, Isolation::ReadCommitted);
    assert_eq!(after.0.len() as i64, end + 1000, "it has grown beyond what was copied");

    let range = format!("offsets {end} to 1000 (exclusive)");
    copy()
        .start()
        .wait_unverified()
        .assert_failed(1, &["truncated", &topic, &range]);
    let untouched = judge.dump(target, &topic, Isolation::ReadUncommitted);
    assert_eq!(untouched.0.len(), 1000);

    let outcome = copy().arg("--on-truncation", "continue").start().wait_unverified();
    assert_eq!(outcome.summary().records(), 1000);
    assert!(
        outcome.stderr.contains(&format!("has lost {range}")),
        "{}",
        outcome.stderr
    );
    let arrived = judge.dump(target, &topic, Isolation::ReadUncommitted);
    let values = |records: &[crate::kafka::Record]| -> Vec<String> {
        records.iter().map(|record| record.value.clone()).collect()
    };
    let cut = usize::try_from(end).expect("an offset");
    let expected = [values(&before.0), values(&after.0[cut..])].concat();
    assert_eq!(
        values(&arrived.0),
        expected,
        "what was there stays, and what came instead follows it"
    );
    assert_eq!(copy().start().wait_unverified().summary().records(), 0);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_log_of_4_that_was_cut_back_and_grew_again_is_told_with_its_range() {
    cut_back(Version::V4);
}
