//! Brokers are killed and come back, on either side, in the middle of a copy.

use std::time::Duration;

use crate::data::{Age, Data, report};
use crate::kafka::{KafkaCluster, Version, eventually};
use crate::{other, pause, rounds};

const KILLS: usize = 3;
const RATE: &str = "1MB";

#[derive(Debug, Clone, Copy)]
enum Side {
    Source,
    Target,
}

fn killed(side: Side, version: Version, age: Age) {
    for round in 0..rounds() {
        let own = KafkaCluster::start(version, &[]);
        let (source, target) = match side {
            Side::Source => (&own, other(version)),
            Side::Target => (other(version), &own),
        };
        let name = format!("broker-{side:?}-{age:?}-{}-{round}", version.release()).to_lowercase();
        let mut data = Data::write(&name, source, age);
        let mut running = data.copy(source, target).arg("--max-rate", RATE).start();
        let (mut before, mut kills) = (0, 0);
        while kills < KILLS {
            // On a slow machine a broker can take longer to come back than the copy to end.
            eventually("some arrive", || {
                running.has_ended() || data.arrived(target) > before + 1500
            });
            if running.has_ended() {
                break;
            }
            kills += 1;
            own.kill();
            pause(Duration::from_millis(fastrand::u64(0..1500)));
            own.start_again();
            before = data.arrived(target);
        }

        let outcome = running.wait();

        data.assert_promised(&outcome);
        let records = data.assert_exactly_once(source, target);
        report(
            "brokers killed",
            target,
            records,
            &format!("{kills} kills of the {side:?}, records {age:?}"),
        );
    }
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_target_of_4_that_is_killed_has_new_records_once() {
    killed(Side::Target, Version::V4, Age::New);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_target_of_3_that_is_killed_has_new_records_once() {
    killed(Side::Target, Version::V3, Age::New);
}

/// It forgets who wrote them.
#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_target_of_4_that_is_killed_has_old_records_once() {
    killed(Side::Target, Version::V4, Age::Old);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_target_of_3_that_is_killed_has_old_records_once() {
    killed(Side::Target, Version::V3, Age::Old);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_source_of_4_that_is_killed_is_copied_once() {
    killed(Side::Source, Version::V4, Age::New);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_source_of_3_that_is_killed_is_copied_once() {
    killed(Side::Source, Version::V3, Age::New);
}
