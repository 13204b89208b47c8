//! The sandbox as Kafka's own clients see it.

use std::sync::OnceLock;

use kferry::sandbox::{Sandbox, SandboxOptions};
use tokio::runtime::Runtime;

use crate::kafka::{self, Isolation, Judge, Produce, Timestamps, Version, assert_same};

#[test]
#[ignore = "needs Kafka's clients (Java 17 and Maven)"]
fn java_and_librdkafka_work_with_the_sandbox() {
    let (sandbox, topic) = (sandbox(), "clients");
    let mut judge = Judge::take();
    judge.create_topic(sandbox, topic, 2, &[("max.message.bytes", "2000000")]);
    judge.create_partitions(sandbox, topic, 3);
    let records = Produce {
        partitions: 3,
        ..Produce::VARIED
    };
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        judge.produce(sandbox, topic, &Produce { codec, ..records });
    }
    judge.interleave(sandbox, topic, &records, 3, 30);
    judge.delete_records(sandbox, topic, 0, 10);
    judge.alter_configs(sandbox, topic, &[("retention.ms", "-1")]);

    let java = judge.dump(sandbox, topic, Isolation::ReadCommitted);

    assert!(java.len() > 900, "{}", java.len());
    assert_same(
        &java,
        &kafka::librdkafka(sandbox, topic, Isolation::ReadCommitted),
        Timestamps::Equal,
    );
    assert_eq!(
        judge.configs(sandbox, topic),
        ["max.message.bytes=2000000", "retention.ms=-1"]
    );
    assert_eq!(judge.offsets(sandbox, topic)[0].0, 10);
    assert!(judge.topics(sandbox).contains(&(topic.to_owned(), 3)));
}

#[test]
#[ignore = "needs Kafka's clients (Java 17 and Maven)"]
fn a_group_of_librdkafka_shares_a_topic_of_the_sandbox() {
    share(sandbox());
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_group_of_librdkafka_shares_a_topic_of_kafka() {
    share(kafka::shared(Version::V4));
}

fn share(cluster: &dyn kafka::Cluster) {
    let topic = "shared";
    let mut judge = Judge::take();
    judge.create_topic(cluster, topic, 4, &[]);
    let records = Produce {
        partitions: 4,
        count: 400,
        ..Produce::PLAIN
    };
    judge.produce(cluster, topic, &records);

    kafka::librdkafka_group(cluster, topic, records.count);
}

/// A sandbox that runs until the process ends: the clients are other processes, and the tests of them block.
fn sandbox() -> &'static Sandbox {
    static RUNNING: OnceLock<(Runtime, Sandbox)> = OnceLock::new();
    let (_, sandbox) = RUNNING.get_or_init(|| {
        let runtime = Runtime::new().expect("a runtime");
        let sandbox = runtime.block_on(Sandbox::start(SandboxOptions::default()));
        (runtime, sandbox.expect("a sandbox"))
    });
    sandbox
}
