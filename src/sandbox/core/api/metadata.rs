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
        _ => cluster.topics.iter().map(describe).collect(),
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
