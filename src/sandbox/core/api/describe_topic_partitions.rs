//! DescribeTopicPartitions: as Metadata, page by page.

use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{BrokerId, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicName};

use super::{Call, Cluster};
use crate::protocol::error_code::ErrorCode;
use crate::sandbox::core::topics::Partition;

/// Kafka's `max.request.partition.size.limit`.
const MAX_PARTITIONS: usize = 2000;

pub(super) fn handle(
    cluster: &mut Cluster,
    call: &Call,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let mut names: Vec<TopicName> = match request.topics.is_empty() {
        true => cluster.topics.iter().map(|topic| topic.name.clone()).collect(),
        false => request.topics.into_iter().map(|topic| topic.name).collect(),
    };
    names.sort_unstable();
    names.dedup();
    let (first, mut skip) = match &request.cursor {
        Some(cursor) => (
            cursor.topic_name.clone(),
            usize::try_from(cursor.partition_index).unwrap_or(0),
        ),
        None => (TopicName::default(), 0),
    };
    let mut left =
        usize::try_from(request.response_partition_limit).map_or(MAX_PARTITIONS, |limit| limit.min(MAX_PARTITIONS));
    let mut topics = Vec::new();
    let mut next_cursor = None;
    for name in names.into_iter().filter(|name| *name >= first) {
        if left == 0 {
            next_cursor = Some(Cursor::default().with_topic_name(name));
            break;
        }
        let from = if name == first { std::mem::take(&mut skip) } else { 0 };
        let (described, end) = describe(cluster, call, &name, from, left);
        left -= described.partitions.len();
        topics.push(described);
        if let Some(end) = end {
            next_cursor = Some(Cursor::default().with_topic_name(name).with_partition_index(end));
            break;
        }
    }
    DescribeTopicPartitionsResponse::default()
        .with_topics(topics)
        .with_next_cursor(next_cursor)
}

/// Part of a topic, and with which partition to go on if that is not all.
fn describe(
    cluster: &Cluster,
    call: &Call,
    name: &TopicName,
    from: usize,
    limit: usize,
) -> (DescribeTopicPartitionsResponseTopic, Option<i32>) {
    let response = DescribeTopicPartitionsResponseTopic::default().with_name(Some(name.clone()));
    let failed = |code: ErrorCode| (response.clone().with_error_code(code.code()), None);
    if let Err(code) = call.check_refusal(name, 0) {
        return failed(code);
    }
    let Some(topic) = cluster.topics.get(name) else {
        return failed(ErrorCode::UnknownTopicOrPartition);
    };
    let to = topic.partitions.len().min(from.saturating_add(limit));
    let partitions = topic.partitions.get(from..to).unwrap_or_default();
    let partitions = (from as i32..)
        .zip(partitions)
        .map(|(index, partition)| describe_partition(index, partition));
    let response = response
        .with_topic_id(topic.id)
        .with_is_internal(topic.is_internal())
        .with_partitions(partitions.collect());
    (response, (to < topic.partitions.len()).then_some(to as i32))
}

fn describe_partition(index: i32, partition: &Partition) -> DescribeTopicPartitionsResponsePartition {
    let replicas: Vec<_> = partition.replicas.iter().copied().map(BrokerId).collect();
    let code = match partition.leader {
        Some(_) => ErrorCode::None,
        None => ErrorCode::LeaderNotAvailable,
    };
    DescribeTopicPartitionsResponsePartition::default()
        .with_error_code(code.code())
        .with_partition_index(index)
        .with_leader_id(BrokerId(partition.leader.unwrap_or(-1)))
        .with_leader_epoch(partition.leader_epoch)
        .with_isr_nodes(replicas.clone())
        .with_eligible_leader_replicas(Some(Vec::new()))
        .with_last_known_elr(Some(Vec::new()))
        .with_replica_nodes(replicas)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::describe_topic_partitions_request::Cursor as Asked;

    use super::*;
    use crate::sandbox::core::testing::TestClient;

    #[test]
    fn pages_end_and_go_on_within_a_topic() {
        let mut client = TestClient::of(1);
        client.create_topic("a", 3, &[]);
        client.create_topic("b", 2, &[]);
        let mut seen = Vec::new();
        let mut cursor: Option<Asked> = None;
        loop {
            let request = DescribeTopicPartitionsRequest::default()
                .with_response_partition_limit(2)
                .with_cursor(cursor.take());
            let response = client.call(0, &request);
            for topic in &response.topics {
                let name = topic.name.as_ref().unwrap().to_string();
                seen.extend(
                    topic
                        .partitions
                        .iter()
                        .map(|partition| (name.clone(), partition.partition_index)),
                );
            }
            let Some(next) = response.next_cursor else { break };
            cursor = Some(
                Asked::default()
                    .with_topic_name(next.topic_name)
                    .with_partition_index(next.partition_index),
            );
        }

        let all = [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1)];
        assert_eq!(seen, all.map(|(name, index)| (name.to_owned(), index)));
    }
}
