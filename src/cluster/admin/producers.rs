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
