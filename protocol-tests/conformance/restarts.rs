//! What a leader still knows after its broker has been restarted.

use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{BrokerId, OffsetForLeaderEpochRequest, TopicName};
use kferry::protocol::error_code::ErrorCode;
use kferry::record::BatchOptions;

use crate::batch::{Batch, now_ms, stamp};
use crate::cluster::TestCluster;
use crate::kafka::Version;
use crate::list_offsets::delete_records;
use crate::probe::{Fetch, Probe, text};
use crate::transaction::Transactional;

/// A broker takes seconds to restart: these claims share one.
async fn a_restart_leaves_what_the_log_tells(cluster: TestCluster) {
    let retried = Retried::before(&cluster).await;
    let fenced = Fenced::before(&cluster, false).await;
    let emptied = Fenced::before(&cluster, true).await;
    let old = Old::before(&cluster).await;
    let read = Read::before(&cluster).await;

    let cluster = cluster.restarted().await;
    for topic in [&retried.topic, &fenced.topic, &emptied.topic, &old.topic, &read.topic] {
        cluster.probe.until_served(topic).await;
    }

    retried.is_known_for_the_last_batch_only(&cluster.probe).await;
    fenced.is_still_fenced(&cluster.probe).await;
    emptied.is_fenced_no_more(&cluster.probe).await;
    old.is_forgotten_since_kafka_three(&cluster).await;
    read.has_a_new_leader_epoch_in_kraft(&cluster).await;
}

#[tokio::test]
async fn sandbox() {
    a_restart_leaves_what_the_log_tells(TestCluster::sandbox().await).await;
}

#[tokio::test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
async fn kafka_4() {
    a_restart_leaves_what_the_log_tells(TestCluster::own_kafka(Version::V4).await).await;
}

#[tokio::test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
async fn kafka_3() {
    a_restart_leaves_what_the_log_tells(TestCluster::own_kafka(Version::V3).await).await;
}

#[tokio::test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
async fn kafka_2() {
    a_restart_leaves_what_the_log_tells(TestCluster::own_kafka(Version::V2).await).await;
}

const PRODUCER: i64 = 1 << 40;

fn at(sequence: i32) -> Batch {
    Batch::by(stamp(PRODUCER, 0, sequence), 1)
}

struct Retried {
    topic: String,
    sent: [Batch; 3],
}

impl Retried {
    async fn before(cluster: &TestCluster) -> Self {
        let topic = cluster.topic(&[]).await;
        let sent = [at(0), at(1), at(2)];
        for batch in &sent {
            assert_eq!(cluster.probe.produce_error(&topic, batch).await, ErrorCode::None);
        }
        Self { topic, sent }
    }

    async fn is_known_for_the_last_batch_only(&self, probe: &Probe) {
        let last = probe.produce(&self.topic, &self.sent[2]).await;
        assert_eq!((last.error, last.base_offset), (ErrorCode::None, 2));
        let earlier = probe.produce_error(&self.topic, &self.sent[1]).await;
        assert_eq!(earlier, ErrorCode::OutOfOrderSequenceNumber);
        let next = probe.produce(&self.topic, &at(3)).await;
        assert_eq!((next.error, next.base_offset), (ErrorCode::None, 3));
    }
}

struct Fenced {
    topic: String,
    id: i64,
    epoch: i16,
}

impl Fenced {
    /// A fence behind one batch; in a log that is `emptied` it is gone with the rest.
    async fn before(cluster: &TestCluster, emptied: bool) -> Self {
        let topic = cluster.topic(&[]).await;
        let old = Transactional::new(cluster).await;
        let batch = Batch::by(stamp(old.id, old.epoch, 0), 1);
        assert_eq!(cluster.probe.produce_error(&topic, &batch).await, ErrorCode::None);
        let new = old.again().await;
        new.add(&topic).await;
        new.end(true).await;
        if emptied {
            assert_eq!(delete_records(cluster, &topic, -1).await, (ErrorCode::None, 2));
        }
        let fenced = Self {
            topic,
            id: old.id,
            epoch: old.epoch,
        };
        assert_eq!(fenced.old_epoch(&cluster.probe).await, ErrorCode::InvalidProducerEpoch);
        fenced
    }

    async fn old_epoch(&self, probe: &Probe) -> ErrorCode {
        probe
            .produce_error(&self.topic, &Batch::by(stamp(self.id, self.epoch, 1), 1))
            .await
    }

    async fn is_still_fenced(&self, probe: &Probe) {
        assert_eq!(self.old_epoch(probe).await, ErrorCode::InvalidProducerEpoch);
    }

    async fn is_fenced_no_more(&self, probe: &Probe) {
        assert_eq!(self.old_epoch(probe).await, ErrorCode::None);
    }
}

/// Records of two days ago by their timestamps; brokers forget a producer a day after its last record.
struct Old {
    topic: String,
    batch: Batch,
}

impl Old {
    async fn before(cluster: &TestCluster) -> Self {
        let topic = cluster.topic(&[]).await;
        let producer = Some(stamp(PRODUCER, 0, 0));
        let options = BatchOptions {
            producer,
            ..BatchOptions::default()
        };
        let batch = Batch::at_times(options, &[now_ms() - 2 * 24 * 3_600_000]);
        for _ in 0..2 {
            assert_eq!(
                cluster.probe.produce(&topic, &batch).await.base_offset,
                0,
                "known so far"
            );
        }
        Self { topic, batch }
    }

    async fn is_forgotten_since_kafka_three(&self, cluster: &TestCluster) {
        let repeated = cluster.probe.produce(&self.topic, &self.batch).await;
        let place = match cluster.release() {
            Version::V4 | Version::V3 => 1, // Twice in the log.
            Version::V2 => 0,               // It forgets after a week.
        };
        assert_eq!((repeated.error, repeated.base_offset), (ErrorCode::None, place));
    }
}

struct Read {
    topic: String,
}

impl Read {
    async fn before(cluster: &TestCluster) -> Self {
        let topic = cluster.topic(&[]).await;
        cluster.probe.produce(&topic, &Batch::of(3)).await;
        Self { topic }
    }

    async fn has_a_new_leader_epoch_in_kraft(&self, cluster: &TestCluster) {
        let probe = &cluster.probe;
        let old = Fetch {
            current_leader_epoch: 0,
            ..Fetch::from(&self.topic, 0)
        };
        let error = ErrorCode::from_wire(probe.fetch(&old).await.error_code);
        if cluster.release() == Version::V2 {
            // ZooKeeper's controller finds its only broker where it was.
            assert_eq!(error, ErrorCode::None);
            return;
        }
        assert_eq!(error, ErrorCode::FencedLeaderEpoch);
        probe.produce(&self.topic, &Batch::of(1)).await;

        let partition = OffsetForLeaderPartition::default()
            .with_leader_epoch(0)
            .with_current_leader_epoch(-1);
        let topic = OffsetForLeaderTopic::default()
            .with_topic(TopicName(text(&self.topic)))
            .with_partitions(vec![partition]);
        let request = OffsetForLeaderEpochRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_topics(vec![topic]);
        let answer = probe.send(3, &request).await.topics.remove(0).partitions.remove(0);
        assert_eq!((answer.error_code, answer.leader_epoch, answer.end_offset), (0, 0, 3));

        // A reader that says it has read the old epoch up to 4 is told that this epoch ended before.
        let diverged = Fetch {
            version: 12,
            last_fetched_epoch: 0,
            ..Fetch::from(&self.topic, 4)
        };
        let fetched = probe.fetch(&diverged).await;
        assert_eq!(
            (fetched.diverging_epoch.epoch, fetched.diverging_epoch.end_offset),
            (0, 3)
        );
    }
}
