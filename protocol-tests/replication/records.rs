//! Every kind of record, between every pair of releases.

use crate::kafka::{self, Isolation, Produce, Timestamps, Version, assert_same};
use crate::pair::Pair;

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// All codecs; null and empty keys and values; headers in any order, repeated, null and empty; old timestamps; one byte
/// and 900 KB; transactions committed and aborted, between one another.
fn every_kind_of_record_arrives_as_it_was(source: Version, target: Version) -> Pair {
    let mut pair = Pair::of("every-kind", source, target);
    let varied = Produce {
        partitions: 3,
        ..Produce::VARIED
    };
    pair.create(3, &[]);
    for (seed, codec) in (0..).zip(CODECS) {
        pair.judge
            .produce(pair.source, &pair.topic, &Produce { codec, seed, ..varied });
        let large = Produce {
            codec,
            count: 1,
            size: 900_000,
            seed,
            ..Produce::PLAIN
        };
        pair.judge.produce(pair.source, &pair.topic, &large);
    }
    pair.judge.produce(
        pair.source,
        &pair.topic,
        &Produce {
            count: 50,
            size: 1,
            partitions: 3,
            ..Produce::PLAIN
        },
    );
    pair.judge.interleave(pair.source, &pair.topic, &varied, 3, 60);

    let summary = pair.copy().run().summary();

    let records = pair.assert_copied();
    assert!(records > 1000, "{records}");
    assert_eq!(summary.records(), records);
    assert_eq!(summary.number("/topics"), 1);
    assert_eq!(summary.number("/partitions"), 3);
    let (patched, coalesced) = (summary.number("/batches/patched"), summary.number("/batches/coalesced"));
    assert!(patched > 0 && coalesced > 0 && patched + coalesced > 50, "{summary:?}");
    assert!(summary.number("/batches/skipped") > 5, "{summary:?}");
    pair
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn from_4_to_3() {
    let mut pair = every_kind_of_record_arrives_as_it_was(Version::V4, Version::V3);

    let source = pair.committed();
    let target = kafka::librdkafka(pair.target, &pair.topic, Isolation::ReadUncommitted);
    assert_same(&source, &target, Timestamps::Equal);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn from_3_to_4() {
    every_kind_of_record_arrives_as_it_was(Version::V3, Version::V4);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn from_the_oldest_to_the_newest() {
    every_kind_of_record_arrives_as_it_was(Version::V2, Version::V4);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn from_the_newest_to_the_oldest() {
    every_kind_of_record_arrives_as_it_was(Version::V4, Version::V2);
}

/// Message sets of magic 0 and 1, plain and wrapped, as brokers stored them before Kafka 0.11.
fn records_of_an_old_message_format_arrive(name: &str, format: &str, timestamp_type: &str) {
    let mut pair = Pair::of(name, Version::V2, Version::V4);
    pair.create(
        2,
        &[
            ("message.format.version", format),
            ("message.timestamp.type", timestamp_type),
        ],
    );
    pair.create_on_target(2, &[]);
    for codec in ["none", "gzip", "snappy", "lz4"] {
        let records = Produce {
            codec,
            partitions: 2,
            headers: false,
            ..Produce::VARIED
        };
        pair.judge.produce(pair.source, &pair.topic, &records);
    }

    let summary = pair.copy().run().summary();

    assert_eq!(pair.assert_copied(), 800);
    assert_eq!(summary.records(), 800);
    assert!(
        summary.number("/batches/reencoded") > 0,
        "the broker stored an old format: {summary:?}"
    );
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn records_of_message_format_0_arrive() {
    records_of_an_old_message_format_arrive("format-0", "0.9.0", "CreateTime");
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn records_of_message_format_1_arrive() {
    records_of_an_old_message_format_arrive("format-1", "0.10.2", "CreateTime");
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn records_of_message_format_1_keep_the_time_of_their_append() {
    records_of_an_old_message_format_arrive("format-1-appended", "0.10.2", "LogAppendTime");
}
