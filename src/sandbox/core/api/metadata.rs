//! Metadata: brokers, topics, leaders.

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};

use super::create_topics::create;
use super::{Call, Cluster, text};
use crate::protocol::error_code::ErrorCode;
use crate::sandbox::core::config::TopicConfig;
use crate::sandbox::core::topics::{Partition, Topic, check_name};

pub(super) fn handle(cluster: &mut Cluster, call: &Call, request: MetadataRequest) -> MetadataResponse {
    let topics = match &request.topics {
        // In version 0 an empty list stands for all topics, from 1 on for none.
        Some(topics) if call.head.version >= 1 || !topics.is_empty() => topics
            .iter()
            .map(|wanted| asked_for(cluster, call, wanted, request.allow_auto_topic_creation))
            .collect(),
        _ => {
            let described = cluster.topics.iter().map(describe);
            described
                .map(|topic| match call.refused() {
                    Some(code) => topic.with_error_code(code.code()).with_partitions(Vec::new()),
                    None => topic,
                })
                .collect()
        }
    };
    let brokers = cluster.brokers.iter().map(|(&id, address)| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(id))
            .with_host(text(&address.host))
            .with_port(address.port.into())
    });
    MetadataResponse::default()
        .with_brokers(brokers.collect())
        .with_cluster_id(Some(text(&cluster.settings.cluster_id)))
        .with_controller_id(BrokerId(cluster.controller()))
        .with_topics(topics)
        .with_error_code(match call.head.version {
            13.. => call.refused().unwrap_or(ErrorCode::None).code(),
            _ => 0,
        })
}

fn asked_for(
    cluster: &mut Cluster,
    call: &Call,
    wanted: &MetadataRequestTopic,
    may_create: bool,
) -> MetadataResponseTopic {
    let failed = |code: ErrorCode| {
        MetadataResponseTopic::default()
            .with_error_code(code.code())
            .with_name(Some(wanted.name.clone().unwrap_or_default()))
            .with_topic_id(wanted.topic_id)
    };
    let Some(name) = wanted
        .name
        .as_ref()
        .or_else(|| cluster.topics.name_of(wanted.topic_id))
        .cloned()
    else {
        return failed(ErrorCode::UnknownTopicId).with_name(None);
    };
    if let Some(code) = call.refused() {
        return failed(code);
    }
    if check_name(&name).is_err() {
        return failed(ErrorCode::InvalidTopicException);
    }
    if cluster.topics.get(&name).is_none() && may_create && cluster.settings.auto_create_topics {
        create_by_default(cluster, &name);
    }
    match cluster.topics.get(&name) {
        Some(topic) => describe(topic),
        None => failed(ErrorCode::UnknownTopicOrPartition),
    }
}

fn create_by_default(cluster: &mut Cluster, name: &TopicName) {
    let partitions = cluster.settings.default_partitions;
    let replicas = (0..partitions).map(|index| cluster.replicas_for(index, 1)).collect();
    create(cluster, name.clone(), replicas, TopicConfig::default());
}

fn describe(topic: &Topic) -> MetadataResponseTopic {
    let partitions = (0..)
        .zip(&topic.partitions)
        .map(|(index, partition)| describe_partition(index, partition));
    MetadataResponseTopic::default()
        .with_name(Some(topic.name.clone()))
        .with_topic_id(topic.id)
        .with_is_internal(topic.is_internal())
        .with_partitions(partitions.collect())
}

fn describe_partition(index: i32, partition: &Partition) -> MetadataResponsePartition {
    let replicas: Vec<_> = partition.replicas.iter().copied().map(BrokerId).collect();
    let code = match partition.leader {
        Some(_) => ErrorCode::None,
        None => ErrorCode::LeaderNotAvailable,
    };
    MetadataResponsePartition::default()
        .with_error_code(code.code())
        .with_partition_index(index)
        .with_leader_id(BrokerId(partition.leader.unwrap_or(-1)))
        .with_leader_epoch(partition.leader_epoch)
        .with_isr_nodes(replicas.clone())
        .with_offline_replicas(match partition.leader {
            Some(_) => Vec::new(),
            None => replicas.clone(),
        })
        .with_replica_nodes(replicas)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::sandbox::core::Settings;
    use crate::sandbox::core::testing::{TestClient, code};
    use crate::sandbox::core::topics::topic_name;

    fn by_name(name: &str) -> MetadataRequest {
        let topic = MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        MetadataRequest::default()
            .with_topics(Some(vec![topic]))
            .with_allow_auto_topic_creation(true)
    }

    #[test]
    fn an_empty_list_is_all_topics_in_version_0_and_none_later() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 1, &[]);
        let none = MetadataRequest::default().with_topics(Some(vec![]));
        let all = MetadataRequest::default().with_topics(None);

        assert_eq!(client.call(0, &none).topics.len(), 1);
        assert_eq!(client.call(1, &none).topics.len(), 0);
        assert_eq!(client.call(1, &all).topics.len(), 1);
    }

    #[test]
    fn topics_are_found_by_their_ids() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 1, &[]);
        let id = client.cluster.topics().get("t").unwrap().id;
        let mut ask = |id| {
            let topic = MetadataRequestTopic::default().with_topic_id(id).with_name(None);
            let request = MetadataRequest::default().with_topics(Some(vec![topic]));
            let topic = client.call(12, &request).topics.remove(0);
            (code(topic.error_code), topic.name.map(|name| name.to_string()))
        };

        assert_eq!(ask(id), (ErrorCode::None, Some("t".to_owned())));
        assert_eq!(ask(Uuid::from_u128(1)), (ErrorCode::UnknownTopicId, None));
    }

    #[test]
    fn topics_are_created_by_being_asked_about_only_where_that_is_wanted() {
        let mut client = TestClient::of(1);
        let error = |response: MetadataResponse| code(response.topics[0].error_code);
        assert_eq!(error(client.call(9, &by_name("t"))), ErrorCode::UnknownTopicOrPartition);

        let mut client = TestClient::with(
            1,
            Settings {
                auto_create_topics: true,
                ..Settings::default()
            },
        );
        assert_eq!(error(client.call(9, &by_name("t"))), ErrorCode::None);
        assert_eq!(
            error(client.call(9, &by_name("no/name"))),
            ErrorCode::InvalidTopicException
        );
    }

    #[test]
    fn a_partition_without_leader_says_so() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 1, &[]);
        client.cluster.move_leader("t", 0, None).unwrap();

        let partition = client.call(9, &by_name("t")).topics.remove(0).partitions.remove(0);

        assert_eq!(code(partition.error_code), ErrorCode::LeaderNotAvailable);
        assert_eq!((partition.leader_id.0, partition.leader_epoch), (-1, 1));
    }
}
