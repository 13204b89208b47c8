//! Which versions are served, and that each of them is.

use std::collections::BTreeMap;

use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ApiVersionsRequest, ProduceRequest, TopicName};
use kferry::protocol::ApiKey;
use kferry::protocol::error_code::ErrorCode;

use crate::batch::{Batch, batches};
use crate::cluster::TestCluster;
use crate::kafka::Version;
use crate::member::{Commit, Group, GroupVersions};
use crate::probe::{Fetch, only_partition, text};

cases! {
    a_client_of_today_has_to_say_its_name,
    records_are_produced_in_every_version,
    records_are_fetched_in_every_version,
    a_member_lives_in_every_version,
}

#[tokio::test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
async fn the_sandbox_serves_no_version_that_kafka_does_not() {
    let kafka = Served::by(&TestCluster::kafka(Version::V4).await).await;
    let sandbox = Served::by(&TestCluster::sandbox().await).await;

    for (api, (min, max)) in sandbox.0 {
        let (oldest, newest) = kafka.0.get(&api).copied().unwrap_or((0, -1));
        let name = ApiKey::try_from(api).expect("an API that is known");
        assert!(oldest <= min && max <= newest, "{name:?} {min} to {max}");
    }
}

async fn a_client_of_today_has_to_say_its_name(cluster: &TestCluster) {
    let nameless = ApiVersionsRequest::default();
    let named = |name, version| {
        ApiVersionsRequest::default()
            .with_client_software_name(text(name))
            .with_client_software_version(text(version))
    };

    for wrong in [
        nameless,
        named("kferry", ""),
        named("", "1"),
        named("-kferry", "1"),
        named("a b", "1"),
    ] {
        let answer = cluster.probe.send(3, &wrong).await;
        assert_eq!(
            ErrorCode::from_wire(answer.error_code),
            ErrorCode::InvalidRequest,
            "{wrong:?}"
        );
        assert!(answer.api_keys.is_empty());
    }
    assert_eq!(cluster.probe.send(3, &named("kferry", "0.1-a.b")).await.error_code, 0);
}

async fn records_are_produced_in_every_version(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let served = Served::by(cluster).await;
    let (oldest, newest) = served.range(ApiKey::Produce);
    // Kafka 4 says that it serves older ones, for the sake of an old librdkafka that asks; it does not.
    let versions = oldest.max(3)..=newest;
    let topic_id = match newest {
        13.. => cluster.probe.metadata(&topic).await.topic_id,
        _ => uuid::Uuid::nil(),
    };
    for (base_offset, version) in (0..).zip(versions) {
        let partition = PartitionProduceData::default().with_records(Some(Batch::of(1).bytes()));
        let data = TopicProduceData::default().with_partition_data(vec![partition]);
        let data = match version {
            13.. => data.with_topic_id(topic_id),
            _ => data.with_name(TopicName(text(&topic))),
        };
        let request = ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(30_000)
            .with_topic_data(vec![data]);
        let produced = only_partition(&cluster.probe.send(version, &request).await);
        assert_eq!(
            (produced.error, produced.base_offset),
            (ErrorCode::None, base_offset),
            "{version}"
        );
    }
}

async fn records_are_fetched_in_every_version(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let sent = Batch::of(3);
    cluster.probe.produce(&topic, &sent).await;
    let served = Served::by(cluster).await;
    let (oldest, newest) = served.range(ApiKey::Fetch);
    let topic_id = match newest {
        13.. => cluster.probe.metadata(&topic).await.topic_id,
        _ => uuid::Uuid::nil(),
    };
    for version in oldest.max(4)..=newest {
        let fetch = match version {
            13.. => Fetch {
                version,
                topic_id,
                ..Fetch::from("", 0)
            },
            _ => Fetch {
                version,
                ..Fetch::from(&topic, 0)
            },
        };
        let fetched = cluster.probe.fetch(&fetch).await;
        assert_eq!((fetched.error_code, fetched.high_watermark), (0, 3), "{version}");
        let stored = batches(fetched.records.expect("records"));
        assert_eq!(stored[0].payload(), sent.payload(), "{version}");
    }
}

async fn a_member_lives_in_every_version(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let served = Served::by(cluster).await;
    for step in 0..=9 {
        let at = |api| served.nearest(api, step);
        let versions = GroupVersions {
            join: at(ApiKey::JoinGroup),
            sync: at(ApiKey::SyncGroup),
            heartbeat: at(ApiKey::Heartbeat),
            leave: at(ApiKey::LeaveGroup),
            commit: at(ApiKey::OffsetCommit),
            fetch: at(ApiKey::OffsetFetch),
        };
        let group = Group {
            versions,
            ..Group::new(cluster).await
        };

        let member = group.member(&cluster.probe).await;
        assert_eq!(
            (member.generation, &member.leader),
            (1, &member.member_id),
            "{versions:?}"
        );
        let (error, assignment) = group
            .sync(&cluster.probe, &member, &[(&member.member_id, "mine")])
            .await;
        assert_eq!(
            (error, assignment.as_ref()),
            (ErrorCode::None, &b"mine"[..]),
            "{versions:?}"
        );
        assert_eq!(group.heartbeat(&member).await, ErrorCode::None, "{versions:?}");
        let commit = Commit {
            member: member.member_id.clone(),
            generation: 1,
            ..Commit::of(&topic, 7)
        };
        assert_eq!(group.commit(&commit).await, ErrorCode::None, "{versions:?}");
        assert_eq!(
            group.committed(&topic, false).await,
            (7, ErrorCode::None),
            "{versions:?}"
        );
        assert_eq!(group.leave(&member.member_id).await, ErrorCode::None, "{versions:?}");
        assert_eq!(
            group.leave(&member.member_id).await,
            ErrorCode::UnknownMemberId,
            "{versions:?}"
        );
    }
}

/// What a broker says it serves.
struct Served(BTreeMap<i16, (i16, i16)>);

impl Served {
    async fn by(cluster: &TestCluster) -> Self {
        let response = cluster.probe.send(2, &ApiVersionsRequest::default()).await;
        let versions = response.api_keys.iter();
        Self(
            versions
                .map(|api| (api.api_key, (api.min_version, api.max_version)))
                .collect(),
        )
    }

    /// As far as this test can speak it as well.
    fn range(&self, api: ApiKey) -> (i16, i16) {
        let (min, max) = self.0[&(api as i16)];
        let known = api.valid_versions();
        (min.max(known.min), max.min(known.max))
    }

    fn nearest(&self, api: ApiKey, version: i16) -> i16 {
        let (min, max) = self.range(api);
        version.clamp(min, max)
    }
}
