//! Topics: which, under which name, with how many partitions and which configs; and logs that have holes.

use crate::kafka::{Dump, Isolation, Produce, Timestamps, Version, assert_same, eventually};
use crate::pair::Pair;

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_compacted_topic_arrives_without_its_gaps() {
    let mut pair = Pair::new("compacted");
    // Segments are closed at once, and cleaned as soon as they are. Tombstones stay for long.
    let eager = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "50"),
        ("min.cleanable.dirty.ratio", "0.001"),
    ];
    pair.create(2, &eager);
    for round in 0.. {
        // Timestamps rise from round to round: by them a broker tells when to close a segment.
        let first = round * 200;
        let records = Produce {
            count: 200,
            first,
            seed: round as u64,
            keys: 80,
            partitions: 2,
            ..Produce::KEYED
        };
        pair.judge.produce(pair.source, &pair.topic, &records);
        if gaps(&pair.committed()) > 20 {
            break;
        }
        assert!(round < 100, "the cleaner does not run");
    }
    // The cleaner must not go on between the two dumps, nor begin on the target, which gets the same configs.
    pair.judge.alter_configs(
        pair.source,
        &pair.topic,
        &[("min.compaction.lag.ms", "1000000000000"), ("segment.ms", "1000000000")],
    );

    let summary = pair.copy().arg("--coalesce", "never").run().summary();

    pair.assert_copied();
    assert!(summary.number("/batches/reencoded") > 0, "{summary:?}");
}

/// Gaps between records of one partition: not only a log that begins later.
fn gaps(dump: &Dump) -> usize {
    let two = dump.0.windows(2);
    two.filter(|two| two[0].partition == two[1].partition && two[1].offset - two[0].offset > 1)
        .count()
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_topic_whose_head_was_deleted_is_copied_from_its_start() {
    let mut pair = Pair::new("headless");
    pair.create(1, &[]);
    let batches_of_many = Produce {
        count: 1000,
        batch_bytes: 100_000,
        ..Produce::VARIED
    };
    pair.judge.produce(pair.source, &pair.topic, &batches_of_many);
    pair.judge.delete_records(pair.source, &pair.topic, 0, 333); // In the middle of a batch.

    let summary = pair.copy().run().summary();

    assert_eq!(summary.records(), 667);
    assert_eq!(pair.assert_copied(), 667);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn topics_without_records_are_created() {
    let mut pair = Pair::new("empty");
    let [unused, emptied, aborted] = ["unused", "emptied", "aborted"].map(|kind| format!("{}-{kind}", pair.topic));
    for topic in [&unused, &emptied, &aborted] {
        pair.judge.create_topic(pair.source, topic, 2, &[]);
    }
    pair.judge.produce(
        pair.source,
        &emptied,
        &Produce {
            count: 10,
            ..Produce::PLAIN
        },
    );
    pair.judge.delete_records(pair.source, &emptied, 0, 10);
    pair.judge.begin(
        pair.source,
        &aborted,
        &aborted,
        &Produce {
            count: 10,
            ..Produce::PLAIN
        },
    );
    pair.judge.abort(pair.source, &aborted);

    let summary = pair.copy_of(&format!("{}-.*", pair.topic)).run().summary();

    assert_eq!(summary.records(), 0);
    assert_eq!(summary.number("/topics"), 3);
    for topic in [unused, emptied, aborted] {
        let offsets = pair.judge.offsets(pair.target, &topic);
        assert_eq!(offsets, [(0, 0), (0, 0)], "{topic}");
    }
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_topic_is_created_with_its_own_configs() {
    let mut pair = Pair::new("configs");
    let configs = [
        ("cleanup.policy", "compact,delete"),
        ("max.message.bytes", "2000000"),
        ("retention.ms", "123456789000"),
    ];
    pair.create(5, &configs);

    pair.copy().run().summary();

    assert_eq!(
        pair.judge.configs(pair.target, &pair.topic),
        configs.map(|(name, value)| format!("{name}={value}"))
    );
    assert_eq!(pair.judge.offsets(pair.target, &pair.topic).len(), 5);
}

/// Kafka 4 has no such config any more, and refuses to create a topic with it.
#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_config_that_the_target_does_not_know_is_left_out() {
    let mut pair = Pair::of("unknown-config", Version::V2, Version::V4);
    pair.create(
        1,
        &[("max.message.bytes", "2000000"), ("message.format.version", "2.8")],
    );
    pair.judge.produce(pair.source, &pair.topic, &Produce::VARIED);

    pair.copy().run().summary();

    assert_eq!(
        pair.judge.configs(pair.target, &pair.topic),
        ["max.message.bytes=2000000"]
    );
    pair.assert_copied();
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_topic_that_grew_grows_on_the_target() {
    let mut pair = Pair::new("grown");
    pair.create(2, &[]);
    pair.judge.produce(
        pair.source,
        &pair.topic,
        &Produce {
            count: 50,
            partitions: 2,
            ..Produce::VARIED
        },
    );
    pair.copy().run().summary();

    pair.judge.create_partitions(pair.source, &pair.topic, 4);
    pair.judge.produce(
        pair.source,
        &pair.topic,
        &Produce {
            count: 50,
            partitions: 4,
            seed: 2,
            ..Produce::VARIED
        },
    );
    let summary = pair.copy().run().summary();

    assert_eq!(summary.records(), 50);
    assert_eq!(pair.assert_copied(), 100);
    assert_eq!(pair.judge.offsets(pair.target, &pair.topic).len(), 4);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_target_topic_with_fewer_partitions_is_grown_first() {
    let mut pair = Pair::new("smaller");
    pair.create(3, &[]);
    pair.create_on_target(1, &[]);
    pair.judge.produce(
        pair.source,
        &pair.topic,
        &Produce {
            count: 60,
            partitions: 3,
            ..Produce::VARIED
        },
    );

    pair.copy().run().summary();

    assert_eq!(pair.assert_copied(), 60);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_prefix_is_taken_as_it_is_written() {
    let mut pair = Pair::new("prefixed");
    pair.create(1, &[]);
    pair.judge.produce(pair.source, &pair.topic, &Produce::VARIED);

    pair.copy().arg("--prefix", "A.").run().summary();

    let target = pair
        .judge
        .dump(pair.target, &format!("A.{}", pair.topic), Isolation::ReadUncommitted);
    assert_same(&pair.committed(), &target, Timestamps::Equal);
    assert!(
        pair.judge
            .topics(pair.target)
            .iter()
            .all(|(name, _)| *name != pair.topic)
    );
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn patterns_choose_whole_names_and_exclusions_win() {
    let mut pair = Pair::new("chosen");
    let name = pair.topic.clone();
    for suffix in ["-a", "-b", "-a-not", "-c"] {
        pair.judge.create_topic(pair.source, &format!("{name}{suffix}"), 1, &[]);
    }

    let topics = format!("{name}-a,{name}-(b|c)");
    let summary = pair
        .copy_of(&topics)
        .arg("--exclude", format!("{name}-c,nothing-else"))
        .run()
        .summary();

    assert_eq!(summary.number("/topics"), 2);
    let copied = pair.judge.topics(pair.target).into_iter().map(|(topic, _)| topic);
    let copied: Vec<String> = copied.filter(|topic| topic.starts_with(&name)).collect();
    assert_eq!(copied, ["-a", "-b"].map(|suffix| format!("{name}{suffix}")));
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn internal_topics_and_ledgers_are_never_copied() {
    let mut pair = Pair::new("internal");
    pair.create(1, &[]);
    let ledger = format!("kferry-ledger.{}.elsewhere.internal", pair.topic);
    pair.judge.create_topic(pair.source, &ledger, 1, &[]);

    let summary = pair
        .copy_of(&format!("{},kferry-ledger.{}.*,__.*", pair.topic, pair.topic))
        .run()
        .summary();

    assert_eq!(summary.number("/topics"), 1);
    assert!(pair.judge.topics(pair.target).iter().all(|(name, _)| *name != ledger));
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn without_creation_a_missing_topic_is_an_error() {
    let mut pair = Pair::new("not-created");
    pair.create(1, &[]);
    pair.judge.produce(pair.source, &pair.topic, &Produce::VARIED);

    pair.copy()
        .flag("--no-create")
        .run()
        .assert_failed(1, &[&pair.topic.clone()]);
    assert_eq!(pair.records_on_target(), 0);

    pair.create_on_target(1, &[]);
    pair.copy().flag("--no-create").run().summary();
    assert_eq!(pair.assert_copied(), Produce::VARIED.count);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_replication_factor_beyond_the_brokers_is_an_error() {
    let mut pair = Pair::new("replicated");
    pair.create(1, &[]);

    let outcome = pair.copy().arg("--replication-factor", "3").run();

    outcome.assert_failed(1, &[&pair.topic, "INVALID_REPLICATION_FACTOR", "target"]);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn topics_are_found_while_following() {
    let mut pair = Pair::new("appears");
    pair.create(1, &[]);
    let _running = pair.copy().flag("--follow").start();
    pair.judge.produce(pair.source, &pair.topic, &Produce::VARIED);

    eventually("everything arrives", || pair.records_on_target() == 200);
    pair.assert_copied();
}
