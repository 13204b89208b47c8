//! Several kferrys on one flow: sleepers that wake up, two that start together.

use std::time::{Duration, Instant};

use crate::data::{Age, Data, report};
use crate::kafka::{KafkaCluster, Signal, Version, eventually, shared};
use crate::kferry::Running;
use crate::{FORGETFUL, by_magnitude, other, pause, rounds};

const RATE: &str = "1MB";

/// Longer than the five seconds for which an instance believes without asking that the flow is its own.
const LONG_SLEEP: Duration = Duration::from_secs(15);

const SHORT_SLEEPS: usize = 6;

/// What a sleeper that has lost its flow has to say.
const TAKEN_OVER: &str = "another kferry has taken over";

fn woken(target: Version) {
    let source = other(target);
    let target = shared(target);
    for round in 0..rounds() {
        let name = format!("woken-{}-{round}", target.version().release());
        let mut data = Data::write(&name, source, Age::Old);
        let sleeper = data.copy(source, target).arg("--max-rate", RATE).start();
        eventually("some arrive", || data.arrived(target) > 1000);
        sleeper.signal(Signal::Stop);
        let successor = data.copy(source, target).arg("--max-rate", RATE).start();
        pause(LONG_SLEEP);
        sleeper.signal(Signal::Continue);

        let outcome = successor.wait();
        sleeper.wait().assert_failed(1, &[TAKEN_OVER]);

        data.assert_promised(&outcome);
        let records = data.assert_exactly_once(source, target);
        report(
            "asleep",
            target,
            records,
            &format!("woken after {} s", LONG_SLEEP.as_secs()),
        );
    }
}

/// Each in turn is put to sleep with batches on their way, is succeeded, and wakes up while it still believes that the flow
/// is its own: it sends.
fn woken_early(target: Version) {
    let source = other(target);
    let target = shared(target);
    for round in 0..rounds() {
        let name = format!("early-{}-{round}", target.version().release());
        let mut data = Data::write(&name, source, Age::New);
        let copy = |data: &Data| data.copy(source, target).arg("--max-rate", RATE).start();
        let mut sleepers: Vec<Running> = Vec::new();
        for _ in 0..SHORT_SLEEPS {
            let sleeper = copy(&data);
            pause(by_magnitude(Duration::from_secs(3)));
            sleeper.signal(Signal::Stop);
            sleepers.push(sleeper);
            let successor = copy(&data);
            pause(by_magnitude(Duration::from_secs(4)));
            sleepers[sleepers.len() - 1].signal(Signal::Continue);
            sleepers.push(successor);
        }

        let outcomes: Vec<_> = sleepers.into_iter().map(Running::wait_unverified).collect();
        let outcome = data.copy(source, target).run();

        for outcome in outcomes.iter().filter(|outcome| outcome.code() != 0) {
            outcome.assert_failed(1, &[TAKEN_OVER]);
        }
        data.assert_promised(&outcome);
        let records = data.assert_exactly_once(source, target);
        report("woken early", target, records, &format!("{SHORT_SLEEPS} sleepers"));
    }
}

/// The sleeper has lost its flow to one that has done all there was; and the target has forgotten all writers of old records
/// meanwhile, so that it takes any sequence number from anybody. All within the sleeper's lease.
fn woken_before_a_forgetful_target(version: Version) {
    let source = other(version);
    for round in 0..rounds() {
        let target = KafkaCluster::start(version, FORGETFUL);
        let name = format!("forgetful-{}-{round}", version.release());
        let mut data = Data::write(&name, source, Age::Old);
        let sleeper = data.copy(source, &target).arg("--max-rate", "500KB").start();
        eventually("some arrive", || data.arrived(&target) > 1000);
        sleeper.signal(Signal::Stop);
        let asleep = now();
        data.copy(source, &target).start().wait_unverified().summary();
        pause(Duration::from_secs(2)); // The target looks every second whom to forget.
        let slept = asleep.elapsed();
        sleeper.signal(Signal::Continue);

        let outcome = sleeper.wait_unverified();

        let records = data.assert_exactly_once(source, &target);
        outcome.assert_failed(1, &[TAKEN_OVER]);
        let what = format!("woken after {:.1} s", slept.as_secs_f64());
        report("forgetful target", &target, records, &what);
    }
}

fn started_together(target: Version) {
    let source = other(target);
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
            outcome.assert_failed(1, &[TAKEN_OVER]);
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
fn a_kferry_that_wakes_up_within_its_lease_does_no_harm_on_4() {
    woken_early(Version::V4);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_kferry_that_wakes_up_within_its_lease_does_no_harm_on_3() {
    woken_early(Version::V3);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_target_that_has_forgotten_all_takes_nothing_from_a_sleeper() {
    woken_before_a_forgetful_target(Version::V4);
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

#[expect(clippy::disallowed_methods, reason = "measures a sleep")]
fn now() -> Instant {
    Instant::now()
}
