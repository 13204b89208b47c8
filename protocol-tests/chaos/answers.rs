//! Answers are lost, and requests come late, while their sender has gone on or is dead.

use crate::data::{Age, Data, report};
use crate::kafka::{KafkaCluster, Version};
use crate::proxy::{Harm, LATEST, Proxy};
use crate::{LONGEST_RUN, by_magnitude, other, pause, rounds};

const LOST: usize = 50;
const KILLS: usize = 10;

fn answers_are_lost(version: Version) {
    let source = other(version);
    for round in 0..rounds() {
        let (proxy, listener) = Proxy::listen(Harm::AnswerLost, LOST);
        let target = KafkaCluster::start_behind(version, proxy.port(), &[]);
        proxy.serve(listener, target.behind_proxy());
        let name = format!("lost-{}-{round}", version.release());
        let mut data = Data::write(&name, source, Age::New);

        let outcome = data.copy(source, &proxy).arg("--max-rate", "1MB").run();

        data.assert_promised(&outcome);
        let struck = proxy.struck();
        assert!(struck > LOST / 2, "{struck} answers lost are too few to tell");
        let records = data.assert_exactly_once(source, &target);
        report("answers lost", &target, records, &format!("{struck} answers lost"));
    }
}

/// Requests that were sent before a crash arrive when the next kferry has long gone on.
fn requests_are_late(version: Version) {
    let source = other(version);
    for round in 0..rounds() {
        let (proxy, listener) = Proxy::listen(Harm::Late, usize::MAX);
        let target = KafkaCluster::start_behind(version, proxy.port(), &[]);
        proxy.serve(listener, target.behind_proxy());
        let name = format!("late-{}-{round}", version.release());
        let mut data = Data::write(&name, source, Age::New);
        for _ in 0..KILLS {
            let running = data.copy(source, &proxy).arg("--max-rate", "500KB").start();
            pause(by_magnitude(LONGEST_RUN));
            data.heed(&running.kill());
        }

        let outcome = data.copy(source, &target).run();

        data.assert_promised(&outcome);
        pause(LATEST); // All are there.
        let records = data.assert_exactly_once(source, &target);
        let struck = proxy.struck();
        report(
            "requests late",
            &target,
            records,
            &format!("{struck} requests late, {KILLS} kills"),
        );
    }
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_target_of_4_whose_answers_are_lost_has_everything_once() {
    answers_are_lost(Version::V4);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_target_of_3_whose_answers_are_lost_has_everything_once() {
    answers_are_lost(Version::V3);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn requests_that_come_late_to_4_do_no_harm() {
    requests_are_late(Version::V4);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn requests_that_come_late_to_3_do_no_harm() {
    requests_are_late(Version::V3);
}
