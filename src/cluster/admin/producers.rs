//! What leaders know of the producers of their partitions (KIP-664, Kafka 2.8).

use std::collections::HashMap;
use std::sync::Arc;

use kafka_protocol::messages::DescribeProducersRequest;
use kafka_protocol::messages::describe_producers_request::TopicRequest;

use super::leaders::{Answers, Asked, Partition, all_answered, ask_leaders, subject};
use super::outcome;
use crate::cluster::call::topic_name;
use crate::cluster::client::Cluster;
use crate::cluster::connections::Purpose;
use crate::cluster::error::ClusterError;
use crate::protocol::ApiKey;

/// A producer that a partition's leader remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActiveProducer {
    pub producer_id: i64,
    pub producer_epoch: i16,
    /// Of its last record; -1 if it has written none under this epoch.
    pub last_sequence: i32,
}

impl Cluster {
    /// Asks each partition's leader for all producers that it remembers. Needs READ on the topics. A broker that does not
    /// offer the API is [`ClusterError::UnsupportedVersion`].
    pub async fn describe_producers(
        &self,
        partitions: Vec<Partition>,
    ) -> Vec<(Partition, Result<Vec<ActiveProducer>, ClusterError>)> {
        ask_leaders(self, partitions, |cluster, leader, asked| async move {
            cluster.producers_of(leader, &asked).await
        })
        .await
    }

    async fn producers_of(&self, leader: i32, asked: &[Asked]) -> Result<Answers<Vec<ActiveProducer>>, ClusterError> {
        let connection = self.connection(leader, Purpose::Admin).await?;
        let topics = asked
            .chunk_by(|one, other| one.partition.0 == other.partition.0)
            .map(|asked| {
                TopicRequest::default()
                    .with_name(topic_name(&asked[0].partition.0))
                    .with_partition_indexes(asked.iter().map(|asked| asked.partition.1).collect())
            });
        let request = DescribeProducersRequest::default().with_topics(topics.collect());
        let answer = connection.call(request).await?;
        let mut answers = HashMap::new();
        for topic in answer.topics {
            let name: Arc<str> = topic.name.as_str().into();
            for answer in topic.partitions {
                let subject = || subject(&name, answer.partition_index);
                let message = answer.error_message.as_deref();
                let active = answer.active_producers.iter().map(|producer| ActiveProducer {
                    producer_id: producer.producer_id.0,
                    // An epoch is 16 bits wherever else it is written.
                    producer_epoch: i16::try_from(producer.producer_epoch).unwrap_or(-1),
                    last_sequence: producer.last_sequence,
                });
                let described =
                    outcome(&connection, API, subject, answer.error_code, message).map(|()| active.collect());
                answers.insert((Arc::clone(&name), answer.partition_index), described);
            }
        }
        all_answered(&connection, API, asked, answers)
    }
}

const API: ApiKey = ApiKey::DescribeProducers;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::scripted_broker::{Asked as Request, Say, all_versions, cluster, cluster_offering};
    use crate::protocol::error_code::ErrorCode;
    use kafka_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
    use kafka_protocol::messages::{DescribeProducersResponse, ProducerId};

    fn described(asked: &Request, code: ErrorCode, producers: Vec<ProducerState>) -> Say {
        let partition = PartitionResponse::default()
            .with_partition_index(0)
            .with_error_code(code.code())
            .with_active_producers(producers);
        let topic = TopicResponse::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![partition]);
        asked.answer(&DescribeProducersResponse::default().with_topics(vec![topic]))
    }

    fn state(producer_id: i64, producer_epoch: i32, last_sequence: i32) -> ProducerState {
        ProducerState::default()
            .with_producer_id(ProducerId(producer_id))
            .with_producer_epoch(producer_epoch)
            .with_last_sequence(last_sequence)
    }

    #[tokio::test]
    async fn all_producers_that_the_leader_remembers_are_told() {
        let known = vec![state(5, 3, 41), state(6, 0, -1)];
        let (_broker, cluster) = cluster(move |asked, _| described(asked, ErrorCode::None, known.clone())).await;
        let answers = cluster.describe_producers(vec![("t".into(), 0)]).await;
        let told = answers[0].1.as_ref().unwrap();
        let expected = |producer_id, producer_epoch, last_sequence| ActiveProducer {
            producer_id,
            producer_epoch,
            last_sequence,
        };
        assert_eq!(told, &[expected(5, 3, 41), expected(6, 0, -1)]);
    }

    #[tokio::test]
    async fn a_broker_that_is_no_longer_the_leader_is_not_believed() {
        let (broker, cluster) = cluster(|asked, count| match count {
            0 => described(asked, ErrorCode::NotLeaderOrFollower, Vec::new()),
            _ => described(asked, ErrorCode::None, vec![state(5, 3, 41)]),
        })
        .await;
        let answers = cluster.describe_producers(vec![("t".into(), 0)]).await;
        assert_eq!(answers[0].1.as_ref().unwrap().len(), 1);
        assert_eq!(broker.asked(ApiKey::DescribeProducers).len(), 2);
    }

    #[tokio::test]
    async fn a_broker_that_cannot_be_asked_is_told_from_one_that_remembers_nothing() {
        let mut offered = all_versions();
        offered.api_keys.retain(|api| api.api_key != API as i16);
        let (_broker, cluster) = cluster_offering(offered, |_, _| Say::Nothing).await;
        let answers = cluster.describe_producers(vec![("t".into(), 0)]).await;
        let error = answers[0].1.as_ref().unwrap_err();
        assert!(matches!(error, ClusterError::UnsupportedVersion { .. }), "{error}");
    }
}
