//! CreatePartitions: a topic grows to a new total. It never shrinks.

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};

use super::create_topics::Refused;
use super::{Call, Cluster, text};
use crate::protocol::error_code::ErrorCode;
use crate::sandbox::core::topics::Partition;

pub(super) fn handle(cluster: &mut Cluster, call: &Call, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let results = request.topics.iter().map(|topic| {
        let result = CreatePartitionsTopicResult::default().with_name(topic.name.clone());
        let planned = match call.check_refusal(&topic.name, 0) {
            Err(code) => Err((code, "refused by a fault".to_owned())),
            Ok(()) => plan(cluster, topic),
        };
        match planned {
            Err((code, message)) => result
                .with_error_code(code.code())
                .with_error_message(Some(text(message))),
            Ok(replicas) => {
                if let Some(known) = cluster.topics.get_mut(&topic.name).filter(|_| !request.validate_only) {
                    known.partitions.extend(replicas.into_iter().map(Partition::new));
                }
                result
            }
        }
    });
    CreatePartitionsResponse::default().with_results(results.collect())
}

/// The replicas of each new partition.
fn plan(cluster: &Cluster, wanted: &CreatePartitionsTopic) -> Result<Vec<Vec<i32>>, Refused> {
    let topic = cluster
        .topics
        .get(&wanted.name)
        .ok_or((ErrorCode::UnknownTopicOrPartition, String::new()))?;
    let present = topic.partitions.len();
    let invalid = |message: String| Err((ErrorCode::InvalidPartitions, message));
    let count = match usize::try_from(wanted.count) {
        Ok(count) if count > present => count,
        Ok(count) if count == present => return invalid(format!("Topic already has {present} partition(s).")),
        _ => {
            return invalid(format!(
                "The topic {} currently has {present} partition(s); {} would not be an increase.",
                wanted.name.as_str(),
                wanted.count
            ));
        }
    };
    cluster.check_room(count - present)?;
    let Some(assignments) = &wanted.assignments else {
        let factor = topic.replication_factor();
        let new = (present..count).map(|index| cluster.replicas_for(index as i32, factor));
        return Ok(new.collect());
    };
    if assignments.len() != count - present {
        let message = "Attempted to add partitions, but the number of assignments differs.".to_owned();
        return Err((ErrorCode::InvalidReplicaAssignment, message));
    }
    let replicas = assignments.iter().map(|assignment| {
        let brokers: Vec<i32> = assignment.broker_ids.iter().map(|id| id.0).collect();
        match cluster.check_assignment(&brokers) {
            Ok(()) => Ok(brokers),
            Err(message) => Err((ErrorCode::InvalidReplicaAssignment, message.to_owned())),
        }
    });
    replicas.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::core::testing::{TestClient, batch, code};
    use crate::sandbox::core::topics::topic_name;

    #[test]
    fn a_topic_grows_and_never_shrinks() {
        let mut client = TestClient::of(2);
        client.create_topic("t", 2, &[]);
        client.produce("t", 0, batch(&["a"]));
        let mut grow = |count| {
            let topic = CreatePartitionsTopic::default()
                .with_name(topic_name("t"))
                .with_count(count)
                .with_assignments(None);
            let response = client.call(2, &CreatePartitionsRequest::default().with_topics(vec![topic]));
            code(response.results[0].error_code)
        };

        for count in [2, 1, 0, -1, i32::MAX] {
            assert_eq!(grow(count), ErrorCode::InvalidPartitions, "{count}");
        }
        assert_eq!(grow(4), ErrorCode::None);

        let topic = client.cluster.topics().get("t").unwrap();
        let ends: Vec<_> = topic
            .partitions
            .iter()
            .map(|partition| partition.log.end_offset())
            .collect();
        assert_eq!(ends, [1, 0, 0, 0]);
    }
}
