//! kferry is killed, again and again, at any moment.

use std::time::Duration;

use crate::data::{Age, Data, report};
use crate::kafka::{KafkaCluster, Version, shared};
use crate::{FORGETFUL, LONGEST_RUN, by_magnitude, other, pause, rounds};

const KILLS: usize = 20;

/// Of those that wait for one another.
const KILLS_OLD: usize = 10;

/// Some eight seconds for all of the data.
const RATE: &str = "2MB";

/// For so long whoever comes after one that was killed sends no old records.
const DISPUTED: Duration = Duration::from_millis(5_500);

/// How long a kferry is left alone: half of those that have old records to send come to send some.
fn left_alone(age: Age) -> Duration {
    let waits = match age {
        Age::Old if fastrand::bool() => DISPUTED,
        _ => Duration::ZERO,
    };
    waits + by_magnitude(LONGEST_RUN)
}

fn killed(target: &KafkaCluster, age: Age, what: &str) {
    let source = other(target.version());
    for round in 0..rounds() {
        let name = format!("killed-{what}-{}-{round}", target.version().release());
        let mut data = Data::write(&name, source, age);
        let most = match age {
            Age::New => KILLS,
            Age::Old => KILLS_OLD,
        };
        let mut kills = 0;
        while kills < most {
            let running = data.copy(source, target).arg("--max-rate", RATE).start();
            pause(left_alone(age));
            data.heed(&running.kill());
            kills += 1;
        }

        let outcome = data.copy(source, target).run();

        data.assert_promised(&outcome);
        let records = data.assert_exactly_once(source, target);
        report(
            &format!("killed {what}"),
            target,
            records,
            &format!(
                "{kills} kills, records {age:?}, {} left to do",
                outcome.summary().records()
            ),
        );
    }
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_kferry_that_is_killed_twenty_times_copies_once_to_4() {
    killed(shared(Version::V4), Age::New, "new");
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_kferry_that_is_killed_twenty_times_copies_once_to_3() {
    killed(shared(Version::V3), Age::New, "new");
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_kferry_that_is_killed_ten_times_copies_old_records_once() {
    killed(shared(Version::V4), Age::Old, "old");
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_kferry_that_is_killed_copies_once_to_a_forgetful_4() {
    killed(&KafkaCluster::start(Version::V4, FORGETFUL), Age::Old, "forgetful");
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_kferry_that_is_killed_copies_once_to_a_forgetful_3() {
    killed(&KafkaCluster::start(Version::V3, FORGETFUL), Age::Old, "forgetful");
}
