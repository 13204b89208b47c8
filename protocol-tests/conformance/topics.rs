//! Creating and describing topics.

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiVersionsRequest, CreatePartitionsRequest, CreateTopicsRequest, DescribeConfigsRequest, MetadataRequest,
    TopicName,
};
use kferry::protocol::ApiKey;
use kferry::protocol::error_code::ErrorCode;

use crate::cluster::{TestCluster, unique};
use crate::probe::text;

cases! {
    a_topic_is_created_once,
    impossible_topics_are_not_created,
    unknown_and_wrong_configs_are_refused,
    partitions_only_grow,
    a_config_says_who_set_it,
    metadata_tells_leader_and_epoch_and_who_is_unknown,
    an_unknown_version_of_api_versions_is_answered_in_the_oldest,
}

fn new_topic(name: &str) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(TopicName(text(name)))
        .with_num_partitions(1)
        .with_replication_factor(1)
}

async fn create_error(cluster: &TestCluster, topic: CreatableTopic) -> ErrorCode {
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(30_000);
    ErrorCode::from_wire(cluster.probe.send(4, &request).await.topics[0].error_code)
}

async fn a_topic_is_created_once(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;

    assert_eq!(
        create_error(cluster, new_topic(&topic)).await,
        ErrorCode::TopicAlreadyExists
    );
}

async fn impossible_topics_are_not_created(cluster: &TestCluster) {
    let topic = new_topic(&unique("impossible"));
    let no_partitions = topic.clone().with_num_partitions(0);
    let too_many_replicas = topic.clone().with_replication_factor(9);

    assert_eq!(create_error(cluster, no_partitions).await, ErrorCode::InvalidPartitions);
    assert_eq!(
        create_error(cluster, too_many_replicas).await,
        ErrorCode::InvalidReplicationFactor
    );
    for name in ["", ".", "..", "a b", &"a".repeat(250)] {
        let misnamed = topic.clone().with_name(TopicName(text(name)));
        assert_eq!(
            create_error(cluster, misnamed).await,
            ErrorCode::InvalidTopicException,
            "{name}"
        );
    }
}

async fn unknown_and_wrong_configs_are_refused(cluster: &TestCluster) {
    for config in [
        ("no.such.config", "1"),
        ("retention.ms", "long"),
        ("cleanup.policy", "burn"),
    ] {
        let error = cluster.try_create_topic(&unique("configured"), &[config]).await;
        assert_eq!(error, ErrorCode::InvalidConfig, "{config:?}");
    }
}

async fn partitions_only_grow(cluster: &TestCluster) {
    let name = cluster.topic(&[]).await;
    let refused = ErrorCode::InvalidPartitions;

    for (count, expected) in [(1, refused), (3, ErrorCode::None), (2, refused)] {
        let topic = CreatePartitionsTopic::default()
            .with_name(TopicName(text(&name)))
            .with_count(count)
            .with_assignments(None);
        let request = CreatePartitionsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(30_000);
        let error = ErrorCode::from_wire(cluster.probe.send(1, &request).await.results[0].error_code);
        assert_eq!(error, expected, "to {count}");
    }
}

async fn a_config_says_who_set_it(cluster: &TestCluster) {
    const DYNAMIC_TOPIC_CONFIG: i8 = 1;
    const TOPIC: i8 = 2;
    let name = cluster.topic(&[("max.message.bytes", "54321")]).await;
    let resource = DescribeConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(&name))
        .with_configuration_keys(None);

    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let answer = cluster.probe.send(1, &request).await;

    let configs = &answer.results[0].configs;
    let config = |name: &str| configs.iter().find(|config| config.name.as_str() == name).expect(name);
    assert_eq!(config("max.message.bytes").value, Some(text("54321")));
    assert_eq!(config("max.message.bytes").config_source, DYNAMIC_TOPIC_CONFIG);
    assert_ne!(config("cleanup.policy").config_source, DYNAMIC_TOPIC_CONFIG);
    assert_eq!(config("cleanup.policy").value, Some(text("delete")));
}

async fn metadata_tells_leader_and_epoch_and_who_is_unknown(cluster: &TestCluster) {
    let ask = async |name: &str| {
        let topic = MetadataRequestTopic::default().with_name(Some(TopicName(text(name))));
        let request = MetadataRequest::default()
            .with_topics(Some(vec![topic]))
            .with_allow_auto_topic_creation(false);
        cluster.probe.send(8, &request).await
    };

    let absent = ask("absent").await.topics.remove(0);
    assert_eq!(
        ErrorCode::from_wire(absent.error_code),
        ErrorCode::UnknownTopicOrPartition
    );
    let answer = ask(&cluster.topic(&[]).await).await;
    let partition = &answer.topics[0].partitions[0];
    assert_eq!(
        (partition.leader_id, partition.leader_epoch),
        (answer.brokers[0].node_id, 0)
    );
    assert!(answer.cluster_id.is_some());
}

async fn an_unknown_version_of_api_versions_is_answered_in_the_oldest(cluster: &TestCluster) {
    let body = cluster
        .probe
        .exchange(ApiKey::ApiVersions, 99, &[])
        .await
        .expect("an answer");

    // In the form of version 0: an error code, and the versions of ApiVersions among all.
    let error = i16::from_be_bytes([body[0], body[1]]);
    assert_eq!(ErrorCode::from_wire(error), ErrorCode::UnsupportedVersion);
    let served = cluster.probe.send(0, &ApiVersionsRequest::default()).await;
    assert!(
        served
            .api_keys
            .iter()
            .any(|api| api.api_key == ApiKey::ApiVersions as i16)
    );
}
