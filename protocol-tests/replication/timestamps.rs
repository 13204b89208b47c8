//! Timestamps are a record's own, or the broker's at its append: the four ways from one to the other.

use crate::kafka::{Dump, Produce, Timestamps, assert_same};
use crate::pair::Pair;

const CREATE: [(&str, &str); 1] = [("message.timestamp.type", "CreateTime")];
const APPEND: [(&str, &str); 1] = [("message.timestamp.type", "LogAppendTime")];

fn produce(pair: &mut Pair) {
    for codec in ["none", "lz4"] {
        pair.judge.produce(
            pair.source,
            &pair.topic,
            &Produce {
                codec,
                ..Produce::VARIED
            },
        );
    }
}

#[track_caller]
fn assert_type(dump: &Dump, timestamp_type: &str) {
    assert!(
        dump.0.iter().all(|record| record.timestamp_type == timestamp_type),
        "{}",
        dump.0[0]
    );
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_log_append_time_topic_stamps_anew_on_the_target() {
    let mut pair = Pair::new("append-append");
    pair.create(1, &APPEND);
    produce(&mut pair);

    pair.copy().run().summary();

    let (source, target) = (pair.committed(), pair.arrived());
    assert_type(&target, "LogAppendTime");
    assert_same(&source, &target, Timestamps::StampedAnew);
    assert!(
        target.0[0].timestamp > source.0[source.len() - 1].timestamp,
        "the copy came later"
    );
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_create_time_topic_gets_the_append_times_of_the_source() {
    let mut pair = Pair::new("append-create");
    pair.create(1, &APPEND);
    pair.create_on_target(1, &CREATE);
    produce(&mut pair);

    pair.copy().run().summary();

    assert_type(&pair.committed(), "LogAppendTime");
    assert_type(&pair.arrived(), "CreateTime");
    pair.assert_copied();
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_topic_that_exists_with_log_append_time_stamps_anew() {
    let mut pair = Pair::new("create-append");
    pair.create(1, &CREATE);
    pair.create_on_target(1, &APPEND);
    produce(&mut pair);

    pair.copy().run().summary();

    let (source, target) = (pair.committed(), pair.arrived());
    assert_type(&target, "LogAppendTime");
    assert_same(&source, &target, Timestamps::StampedAnew);
}
