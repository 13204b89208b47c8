//! What kferry refuses to do, and how it says so.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use crate::kafka::{Isolation, Produce, Timestamps, Version, assert_same, shared};
use crate::kferry::{Copy, closed_address};
use crate::pair::Pair;

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    let complete = || {
        Copy::bare()
            .arg("--from", "localhost:1")
            .arg("--to", "localhost:2")
            .arg("--topics", "t")
    };
    let wrong = [
        Copy::bare(),
        Copy::bare().arg("--from", "localhost:1").arg("--to", "localhost:2"),
        complete().flag("--no-such-flag"),
        complete().arg("--start", "yesterday"),
        complete().arg("--max-rate", "fast"),
        complete().arg("--memory", "-1"),
        complete().arg("--flow", "no-arrow"),
        complete().arg("--replication-factor", "0"),
        complete().arg("--topics", "(unclosed"),
        complete().arg("--exclude", "(unclosed"),
        complete().arg("--from-config", "no-such-file.properties"),
        Copy::bare()
            .arg("--from", "no-port")
            .arg("--to", "localhost:2")
            .arg("--topics", "t"),
    ];
    for (number, copy) in wrong.into_iter().enumerate() {
        let outcome = copy.run();
        assert_eq!(outcome.code(), 2, "command line {number}: {}", outcome.stderr);
        assert!(!outcome.stderr.is_empty(), "command line {number}");
    }
}

/// Whatever is at the address instead of a broker, the copy gives up within a minute and names the address.
fn assert_given_up(address: SocketAddr, says: &str) {
    let address = address.to_string();
    let outcome = Copy::bare()
        .arg("--from", &address)
        .arg("--to", &address)
        .arg("--topics", ".*")
        .run();
    outcome.assert_failed(1, &[&address, says]);
    assert!(outcome.took < Duration::from_secs(60), "{:?}", outcome.took);
}

#[test]
fn a_broker_that_is_not_there_is_named_within_a_minute() {
    assert_given_up(closed_address(), "refused");
}

#[test]
fn a_broker_that_never_answers_is_named_within_a_minute() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port"); // Connects, by its backlog.
    assert_given_up(silent.local_addr().expect("a bound address"), "");
}

#[test]
fn something_that_is_no_broker_is_named_within_a_minute() {
    let server = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = server.local_addr().expect("a bound address");
    std::thread::spawn(move || {
        for connection in server.incoming() {
            let mut connection = connection.expect("a connection");
            let _ = connection.read(&mut [0; 1024]);
            let _ = connection.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    assert_given_up(address, "");
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn an_unreachable_target_is_named_within_a_minute() {
    let address = closed_address().to_string();
    let outcome = Copy::bare()
        .arg("--from", shared(Version::V4).bootstrap())
        .arg("--to", &address)
        .arg("--topics", ".*")
        .run();
    outcome.assert_failed(1, &[&address, "target"]);
    assert!(outcome.took < Duration::from_secs(60), "{:?}", outcome.took);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn one_living_address_among_dead_ones_is_enough() {
    let mut pair = Pair::new("bootstrap");
    pair.create(1, &[]);
    pair.judge.produce(pair.source, &pair.topic, &Produce::VARIED);

    Copy::bare()
        .arg("--from", format!("{},{}", closed_address(), pair.source.bootstrap()))
        .arg("--to", format!("{},{}", closed_address(), pair.target.bootstrap()))
        .arg("--topics", &pair.topic)
        .arg("--flow", pair.flow())
        .run()
        .summary();

    pair.assert_copied();
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn no_topic_that_matches_is_exit_code_1() {
    let pair = Pair::new("none-such");
    pair.copy().run().assert_failed(1, &["no topic", "source"]);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_cluster_is_not_copied_onto_itself() {
    let mut pair = Pair::of("itself", Version::V4, Version::V4);
    pair.create(1, &[]);
    pair.judge.produce(pair.source, &pair.topic, &Produce::VARIED);

    let outcome = pair.copy().run();

    assert!([1, 2].contains(&outcome.code()), "{}", outcome.stderr);
    outcome.assert_failed(outcome.code(), &["--prefix"]);
    assert_eq!(pair.arrived().len(), Produce::VARIED.count);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_cluster_is_copied_onto_itself_under_other_names() {
    let mut pair = Pair::of("itself-prefixed", Version::V4, Version::V4);
    pair.create(1, &[]);
    pair.judge.produce(pair.source, &pair.topic, &Produce::VARIED);

    pair.copy().arg("--prefix", "backup-of-").run().summary();

    let copied = pair.judge.dump(
        pair.target,
        &format!("backup-of-{}", pair.topic),
        Isolation::ReadUncommitted,
    );
    assert_same(&pair.committed(), &copied, Timestamps::Equal);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_ledger_of_another_source_is_refused() {
    let mut pair = Pair::new("ledger");
    pair.create(1, &[]);
    pair.judge.produce(pair.source, &pair.topic, &Produce::VARIED);
    pair.copy().run().summary();
    let other = shared(Version::V2);
    pair.judge.create_topic(other, &pair.topic, 1, &[]);
    pair.judge.produce(
        other,
        &pair.topic,
        &Produce {
            seed: 2,
            ..Produce::VARIED
        },
    );

    let outcome = Copy::between(other, pair.target)
        .arg("--topics", &pair.topic)
        .arg("--flow", pair.flow())
        .run();

    assert!([1, 2].contains(&outcome.code()), "{}", outcome.stderr);
    outcome.assert_failed(outcome.code(), &["kferry-ledger.", "--flow"]);
    pair.assert_copied();
}
