//! The target's disk is full.
//!
//! A file system of its own needs rights that tests do not have everywhere. A limit on the size of the broker's files does
//! the same to it: a write to its log fails, so it gives the log up and ends.

use crate::data::{Age, Data, report};
use crate::kafka::{KafkaCluster, Version, eventually};
use crate::{other, rounds};

/// Below what the larger topics take for a partition; above what a broker writes by itself.
const FULL: u64 = 300 << 10;

fn full(version: Version) {
    let source = other(version);
    for round in 0..rounds() {
        let target = KafkaCluster::start(version, &[]);
        let name = format!("full-{}-{round}", version.release());
        let mut data = Data::write(&name, source, Age::New);
        let running = data.copy(source, &target).arg("--max-rate", "2MB").start();
        eventually("some arrive", || data.arrived(&target) > 500);
        target.limit_files(FULL);
        eventually("the broker gives up", || target.has_ended());
        target.start_again();

        let outcome = running.wait();

        if outcome.code() != 0 {
            data.copy(source, &target).run().summary();
        }
        let records = data.assert_exactly_once(source, &target);
        report("disk full", &target, records, "1 broker that gave up");
    }
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_target_of_4_whose_disk_was_full_has_everything_once() {
    full(Version::V4);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_target_of_3_whose_disk_was_full_has_everything_once() {
    full(Version::V3);
}
