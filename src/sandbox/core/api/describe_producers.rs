//! DescribeProducers: what a leader remembers of the producers of a partition.

use kafka_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse, ProducerId};

use super::{Call, Cluster, led_partition};
use crate::sandbox::core::log::Producer;

pub(super) fn handle(
    cluster: &mut Cluster,
    call: &Call,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|&index| {
            let response = PartitionResponse::default().with_partition_index(index);
            match led_partition(&mut cluster.topics, call, &topic.name, index, -1) {
                Err(code) => response.with_error_code(code.code()),
                Ok(partition) => response.with_active_producers(partition.log.producers().map(describe).collect()),
            }
        });
        TopicResponse::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    DescribeProducersResponse::default().with_topics(topics.collect())
}

fn describe((id, producer): (i64, &Producer)) -> ProducerState {
    ProducerState::default()
        .with_producer_id(ProducerId(id))
        .with_producer_epoch(producer.epoch.into())
        .with_last_sequence(producer.last_sequence())
        .with_last_timestamp(producer.last_timestamp)
        .with_coordinator_epoch(producer.coordinator_epoch)
        .with_current_txn_start_offset(producer.transaction_start.unwrap_or(-1))
}
