//! `kferry copy` end to end, between real brokers, judged by clients that are not ours.

#[path = "../kafka/mod.rs"]
mod kafka;

use kafka::{Isolation, Judge, Produce, Timestamps, Version, assert_same, shared};

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn the_judges_agree_on_what_is_there() {
    for version in [Version::V4, Version::V3, Version::V2] {
        let cluster = shared(version);
        let mut judge = Judge::take();
        judge.create_topic(cluster, "judges", 3, &[]);
        for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
            judge.produce(
                cluster,
                "judges",
                &Produce {
                    codec,
                    partitions: 3,
                    ..Produce::VARIED
                },
            );
        }
        judge.interleave(
            cluster,
            "judges",
            &Produce {
                partitions: 3,
                ..Produce::VARIED
            },
            3,
            30,
        );
        for isolation in [Isolation::ReadCommitted, Isolation::ReadUncommitted] {
            let java = judge.dump(cluster, "judges", isolation);
            let librdkafka = kafka::librdkafka(cluster, "judges", isolation);
            assert!(java.len() > 1000);
            assert_same(&java, &librdkafka, Timestamps::Equal);
        }
    }
}
