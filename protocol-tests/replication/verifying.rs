//! `kferry verify` finds what it is for. That it finds nothing in a good copy is claimed after each of the other tests.

use crate::kafka::Produce;
use crate::kferry::{Outcome, ask};
use crate::pair::Pair;

const RECORDS: Produce = Produce {
    count: 90,
    partitions: 3,
    ..Produce::PLAIN
};

fn copied(name: &str) -> Pair {
    let mut pair = Pair::new(name);
    pair.create(3, &[]);
    pair.judge.produce(pair.source, &pair.topic, &RECORDS);
    pair.copy().run().summary();
    pair
}

fn verified(pair: &Pair, more: &[&str]) -> Outcome {
    let mut arguments: Vec<String> = ["--from", &pair.source.bootstrap(), "--to", &pair.target.bootstrap()]
        .map(str::to_owned)
        .into();
    arguments.extend(["--flow".to_owned(), pair.flow()]);
    arguments.extend(more.iter().map(|&argument| argument.to_owned()));
    ask("verify", &arguments)
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_copy_is_equal_and_says_how_much_was_compared() {
    let mut pair = copied("equal");
    let records = Produce {
        partitions: 3,
        ..Produce::VARIED
    };
    pair.judge.interleave(pair.source, &pair.topic, &records, 3, 60);
    pair.copy().run().summary();
    let all = pair.committed().len() as u64;

    let report = verified(&pair, &[]).summary();

    assert_eq!((report.number("/compared"), report.number("/missing")), (all, 0));
    let partitions = report.0["partitions"].as_array().expect("partitions");
    assert!(
        partitions.iter().all(|it| it["source_digest"] == it["target_digest"]),
        "{report:?}"
    );
    assert!(verified(&pair, &["--sample", "1"]).summary().number("/compared") <= all);
    verified(&pair, &["--topics", "nothing-like-it"]).assert_failed(1, &["--topics", &pair.topic]);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn somebody_elses_record_is_a_difference() {
    let mut pair = copied("foreign");
    pair.judge.produce(
        pair.target,
        &pair.topic,
        &Produce {
            count: 3,
            first: 1000,
            ..RECORDS
        },
    );
    pair.judge
        .produce(pair.source, &pair.topic, &Produce { first: 2000, ..RECORDS });
    // The copy tells of it as well, and goes on; its map has it right.
    let outcome = pair.copy().start().wait_unverified();
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("somebody else has written"),
        "{}",
        outcome.stderr
    );

    let verified = verified(&pair, &[]);

    verified.assert_failed(1, &["not written by the flow", "offset on the target 30"]);
    assert_eq!(verified.document().number("/extra"), 3);
    assert_eq!(verified.document().number("/compared"), 180);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn what_retention_has_taken_is_counted_and_no_difference() {
    let mut pair = copied("expired");
    pair.judge.delete_records(pair.source, &pair.topic, 0, 10);
    pair.judge.delete_records(pair.target, &pair.topic, 1, 20);

    let report = verified(&pair, &[]).summary();

    assert_eq!((report.number("/expired"), report.number("/compared")), (30, 60));
}
