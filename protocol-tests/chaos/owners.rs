//! Two kferrys on one flow: one that was stopped and wakes up, two that start together.

use std::time::Duration;

use crate::data::{Age, Data, report};
use crate::kafka::{Signal, Version, eventually, shared};
use crate::{pause, rounds};

const RATE: &str = "1MB";

/// Longer than an instance believes without asking that the flow is its own.
const SLEEP: Duration = Duration::from_secs(15);

fn woken(target: Version) {
    let source = shared(match target {
        Version::V4 => Version::V3,
        _ => Version::V4,
    });
    let target = shared(target);
    for round in 0..rounds() {
        let name = format!("woken-{}-{round}", target.version().release());
        let mut data = Data::write(&name, source, Age::Old);
        let sleeper = data.copy(source, target).arg("--max-rate", RATE).start();
        eventually("some arrive", || data.arrived(target) > 1000);
        sleeper.signal(Signal::Stop);
        let successor = data.copy(source, target).arg("--max-rate", RATE).start();
        pause(SLEEP);
        sleeper.signal(Signal::Continue);

        let outcome = successor.wait();
        sleeper.wait().assert_failed(1, &["another kferry has taken over"]);

        assert_eq!(
            outcome.summary().text("/guarantee"),
            "exactly-once",
            "{}",
            outcome.stderr
        );
        let records = data.assert_exactly_once(source, target);
        report("asleep", target, records, &format!("woken after {} s", SLEEP.as_secs()));
    }
}

fn started_together(target: Version) {
    let source = shared(match target {
        Version::V4 => Version::V3,
        _ => Version::V4,
    });
    let target = shared(target);
    for round in 0..3 * rounds() {
        let name = format!("together-{}-{round}", target.version().release());
        let mut data = Data::write(&name, source, Age::New);
        let one = data.copy(source, target).start();
        pause(Duration::from_millis(fastrand::u64(0..300)));
        let other = data.copy(source, target).start();

        let outcomes = [one.wait_unverified(), other.wait_unverified()];

        let done = outcomes.iter().filter(|outcome| outcome.code() == 0).count();
        assert!(done >= 1, "{} and {}", outcomes[0].stderr, outcomes[1].stderr);
        for outcome in outcomes.iter().filter(|outcome| outcome.code() != 0) {
            outcome.assert_failed(1, &["another kferry has taken over"]);
        }
        data.copy(source, target).run().summary();
        let records = data.assert_exactly_once(source, target);
        report("started together", target, records, &format!("{done} of 2 ended well"));
    }
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_kferry_that_slept_while_another_took_over_writes_nothing_on_4() {
    woken(Version::V4);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_kferry_that_slept_while_another_took_over_writes_nothing_on_3() {
    woken(Version::V3);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn two_that_start_together_copy_once_to_4() {
    started_together(Version::V4);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn two_that_start_together_copy_once_to_3() {
    started_together(Version::V3);
}
