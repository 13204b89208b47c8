//! Where partitions begin and end, and where a moment lies in them.

use std::collections::HashMap;
use std::sync::Arc;

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest};

use super::leaders::{Answers, Asked, Partition, all_answered, ask_leaders, subject};
use super::outcome;
use crate::cluster::call::{millis, topic_name};
use crate::cluster::client::Cluster;
use crate::cluster::connections::Purpose;
use crate::cluster::error::ClusterError;
use crate::cluster::fetch::Isolation;
use crate::protocol::ApiKey;

/// Which offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The log start offset.
    Earliest,
    /// The high watermark, or the last stable offset.
    Latest(Isolation),
    /// That of the first record whose timestamp is not before this one, in milliseconds.
    Timestamp(i64),
}

impl OffsetSpec {
    fn timestamp(self) -> i64 {
        match self {
            Self::Earliest => -2,
            Self::Latest(_) => -1,
            Self::Timestamp(timestamp) => timestamp.max(0), // Negative ones have meanings of their own.
        }
    }

    fn isolation(self) -> Isolation {
        match self {
            Self::Latest(isolation) => isolation,
            Self::Earliest | Self::Timestamp(_) => Isolation::ReadUncommitted,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedOffset {
    /// -1 if no record is as late as the timestamp asked for.
    pub offset: i64,
    /// The record's; -1 if not asked by timestamp.
    pub timestamp: i64,
    /// -1 if not known.
    pub leader_epoch: i32,
}

impl Cluster {
    /// Asks each partition's leader.
    pub async fn list_offsets(
        &self,
        partitions: Vec<Partition>,
        spec: OffsetSpec,
    ) -> Vec<(Partition, Result<ListedOffset, ClusterError>)> {
        ask_leaders(self, partitions, move |cluster, leader, asked| async move {
            cluster.offsets_of(leader, &asked, spec).await
        })
        .await
    }

    /// Fails unless each partition is answered.
    async fn offsets_of(
        &self,
        leader: i32,
        asked: &[Asked],
        spec: OffsetSpec,
    ) -> Result<Answers<ListedOffset>, ClusterError> {
        let connection = self.connection(leader, Purpose::Admin).await?;
        let answer = connection.call(self.request(asked, spec)).await?;
        let mut answers = HashMap::new();
        for topic in answer.topics {
            let name: Arc<str> = topic.name.as_str().into();
            for answer in topic.partitions {
                let subject = || subject(&name, answer.partition_index);
                let listed = ListedOffset {
                    offset: answer.offset,
                    timestamp: answer.timestamp,
                    leader_epoch: answer.leader_epoch,
                };
                let listed = outcome(&connection, API, subject, answer.error_code, None).map(|()| listed);
                answers.insert((Arc::clone(&name), answer.partition_index), listed);
            }
        }
        all_answered(&connection, API, asked, answers)
    }

    fn request(&self, asked: &[Asked], spec: OffsetSpec) -> ListOffsetsRequest {
        let topics = asked
            .chunk_by(|one, other| one.partition.0 == other.partition.0)
            .map(|asked| {
                let partition = |asked: &Asked| {
                    ListOffsetsPartition::default()
                        .with_partition_index(asked.partition.1)
                        .with_current_leader_epoch(asked.leader_epoch)
                        .with_timestamp(spec.timestamp())
                };
                ListOffsetsTopic::default()
                    .with_name(topic_name(&asked[0].partition.0))
                    .with_partitions(asked.iter().map(partition).collect())
            });
        ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_isolation_level(spec.isolation().to_wire())
            .with_topics(topics.collect())
            .with_timeout_ms(millis(self.config().request_timeout))
    }
}

const API: ApiKey = ApiKey::ListOffsets;
