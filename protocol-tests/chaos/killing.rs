//! kferry is killed, again and again, at any moment.

use std::time::Duration;

use crate::data::{Age, Data, report};
use crate::kafka::{Version, shared};
use crate::{pause, rounds};

const KILLS: usize = 20;

/// Some eight seconds for all of the data.
const RATE: &str = "2MB";

fn killed(source: Version, target: Version, age: Age) {
    let (source, target) = (shared(source), shared(target));
    for round in 0..rounds() {
        let name = format!("killed-{age:?}-{}-{round}", target.version().release()).to_lowercase();
        let mut data = Data::write(&name, source, age);
        let mut kills = 0;
        while kills < KILLS {
            let running = data.copy(source, target).arg("--max-rate", RATE).start();
            // From 5 ms to 3 s, all magnitudes alike.
            pause(Duration::from_secs_f64(0.005 * 600_f64.powf(fastrand::f64())));
            running.kill();
            kills += 1;
        }

        let outcome = data.copy(source, target).run();

        assert_eq!(
            outcome.summary().text("/guarantee"),
            "exactly-once",
            "{}",
            outcome.stderr
        );
        let records = data.assert_exactly_once(source, target);
        report("killed", target, records, &format!("{kills} kills, records {age:?}"));
    }
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_kferry_that_is_killed_twenty_times_copies_once_to_4() {
    killed(Version::V3, Version::V4, Age::New);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_kferry_that_is_killed_twenty_times_copies_once_to_3() {
    killed(Version::V4, Version::V3, Age::New);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_kferry_that_is_killed_twenty_times_copies_old_records_once() {
    killed(Version::V3, Version::V4, Age::Old);
}
