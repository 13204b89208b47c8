//! Creating and describing topics.

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiVersionsRequest, CreatePartitionsRequest, DescribeConfigsRequest, MetadataRequest, TopicName,
};
use kferry::protocol::error_code::ErrorCode;

use crate::broker::Case;
use crate::client::text;

fn topic(case: &Case) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(case.name())
        .with_num_partitions(1)
        .with_replication_factor(1)
}

#[track_caller]
fn assert_not_created(case: &mut Case, topic: CreatableTopic, error: ErrorCode) {
    assert_eq!(ErrorCode::from_wire(case.create(topic)), error);
}

pub(crate) fn a_topic_is_created_once(case: &mut Case) {
    assert_eq!(case.create_topic(&[]), 0);
    let again = topic(case);
    assert_not_created(case, again, ErrorCode::TopicAlreadyExists);
}

pub(crate) fn impossible_topics_are_not_created(case: &mut Case) {
    let topic = topic(case);
    assert_not_created(case, topic.clone().with_num_partitions(0), ErrorCode::InvalidPartitions);
    assert_not_created(
        case,
        topic.clone().with_replication_factor(9),
        ErrorCode::InvalidReplicationFactor,
    );
    for name in ["", ".", "..", "a b", &"a".repeat(250)] {
        assert_not_created(
            case,
            topic.clone().with_name(TopicName(text(name))),
            ErrorCode::InvalidTopicException,
        );
    }
}

pub(crate) fn unknown_and_wrong_configs_are_refused(case: &mut Case) {
    for config in [
        ("no.such.config", "1"),
        ("retention.ms", "long"),
        ("cleanup.policy", "burn"),
    ] {
        assert_eq!(
            ErrorCode::from_wire(case.create_topic(&[config])),
            ErrorCode::InvalidConfig,
            "{config:?}"
        );
    }
}

pub(crate) fn partitions_only_grow(case: &mut Case) {
    assert_eq!(case.create_topic(&[]), 0);
    for (count, error) in [
        (1, ErrorCode::InvalidPartitions),
        (3, ErrorCode::None),
        (2, ErrorCode::InvalidPartitions),
    ] {
        let topic = CreatePartitionsTopic::default()
            .with_name(case.name())
            .with_count(count)
            .with_assignments(None);
        let request = CreatePartitionsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(30_000);
        assert_eq!(
            ErrorCode::from_wire(case.call(1, &request).results[0].error_code),
            error,
            "{count}"
        );
    }
}

pub(crate) fn a_config_says_who_set_it(case: &mut Case) {
    const DYNAMIC_TOPIC_CONFIG: i8 = 1;
    assert_eq!(case.create_topic(&[("max.message.bytes", "54321")]), 0);
    let resource = DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text(&case.topic))
        .with_configuration_keys(None);

    let answer = case.call(1, &DescribeConfigsRequest::default().with_resources(vec![resource]));

    let configs = &answer.results[0].configs;
    let config = |name: &str| configs.iter().find(|config| config.name.as_str() == name).expect(name);
    assert_eq!(config("max.message.bytes").value, Some(text("54321")));
    assert_eq!(config("max.message.bytes").config_source, DYNAMIC_TOPIC_CONFIG);
    assert_ne!(config("cleanup.policy").config_source, DYNAMIC_TOPIC_CONFIG);
    assert_eq!(config("cleanup.policy").value, Some(text("delete")));
}

pub(crate) fn metadata_tells_leader_and_epoch_and_who_is_unknown(case: &mut Case) {
    let ask = |case: &mut Case| {
        let topic = MetadataRequestTopic::default().with_name(Some(case.name()));
        let request = MetadataRequest::default()
            .with_topics(Some(vec![topic]))
            .with_allow_auto_topic_creation(false);
        case.call(8, &request)
    };
    let unknown = ask(case).topics.remove(0);
    assert_eq!(
        ErrorCode::from_wire(unknown.error_code),
        ErrorCode::UnknownTopicOrPartition
    );

    case.create_topic(&[]);
    let answer = ask(case);
    let partition = &answer.topics[0].partitions[0];
    assert_eq!(partition.leader_id, answer.brokers[0].node_id);
    assert_eq!(partition.leader_epoch, 0);
    assert!(answer.cluster_id.is_some());
}

pub(crate) fn an_unknown_version_of_api_versions_is_answered_in_the_oldest(case: &mut Case) {
    let body = case.exchange(18, 99, |_| 2);
    // Correlation id, error code, and the versions of ApiVersions among all, in the form of version 0.
    assert_eq!(body[..4], 7_i32.to_be_bytes());
    assert_eq!(
        ErrorCode::from_wire(i16::from_be_bytes([body[4], body[5]])),
        ErrorCode::UnsupportedVersion
    );
    let served = case.call(0, &ApiVersionsRequest::default());
    assert!(served.api_keys.iter().any(|api| api.api_key == 18));
}
