//! Where partitions begin and end, and where a moment lies in them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest};
use tokio::task::JoinSet;

use super::outcome;
use super::rounds::Rounds;
use crate::cluster::call::{millis, topic_name};
use crate::cluster::client::Cluster;
use crate::cluster::connections::Purpose;
use crate::cluster::error::{ClusterError, Malformed};
use crate::cluster::fetch::Isolation;
use crate::cluster::metadata::TopicSelection;
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

type Partition = (Arc<str>, i32);
type Answer = Result<ListedOffset, ClusterError>;

impl Cluster {
    /// Asks each partition's leader.
    pub async fn list_offsets(
        &self,
        partitions: Vec<Partition>,
        spec: OffsetSpec,
    ) -> Vec<(Partition, Result<ListedOffset, ClusterError>)> {
        let mut topics: Vec<_> = partitions.iter().map(|(topic, _)| topic.to_string()).collect();
        topics.sort_unstable();
        topics.dedup();
        let rounds = Rounds {
            cluster: self,
            topics: TopicSelection::Names(topics),
            chunk: partitions.len().max(1),
            items: partitions,
        };
        rounds
            .run(|partitions| self.ask_leaders(partitions, spec), |_| None)
            .await
    }

    /// All leaders at the same time: one that is away does not keep the others waiting.
    async fn ask_leaders(&self, partitions: Vec<Partition>, spec: OffsetSpec) -> Result<Vec<Answer>, ClusterError> {
        let metadata = self.metadata();
        let mut leaders: BTreeMap<i32, Vec<Asked>> = BTreeMap::new();
        for (topic, partition) in &partitions {
            if let Some(known) = metadata.partition(topic, *partition)
                && let Some(leader) = known.leader
            {
                leaders.entry(leader).or_default().push(Asked {
                    partition: (Arc::clone(topic), *partition),
                    leader_epoch: known.leader_epoch,
                });
            }
        }
        let mut asked = JoinSet::new();
        for (leader, partitions) in leaders {
            let cluster = self.clone();
            asked.spawn(async move { cluster.ask_leader(leader, partitions, spec).await });
        }
        let mut answers: HashMap<Partition, Answer> = HashMap::new();
        while let Some(answered) = asked.join_next().await {
            answers.extend(answered.into_iter().flatten());
        }
        let unasked = |(topic, partition): &Partition| match metadata.partition(topic, *partition) {
            Some(_) => Err(self.no_leader(topic, *partition)),
            None => Err(self.no_topic(subject(topic, *partition))),
        };
        let answer = |partition| answers.get(partition).cloned().unwrap_or_else(|| unasked(partition));
        Ok(partitions.iter().map(answer).collect())
    }

    /// The answer for each partition: its own, or the one error for all.
    async fn ask_leader(&self, leader: i32, asked: Vec<Asked>, spec: OffsetSpec) -> Vec<(Partition, Answer)> {
        let answers = self.offsets_of(leader, &asked, spec).await;
        let answer = |asked: Asked| {
            let answer = match &answers {
                Ok(answers) => answers[&asked.partition].clone(),
                Err(error) => Err(error.clone()),
            };
            (asked.partition, answer)
        };
        asked.into_iter().map(answer).collect()
    }

    /// Fails unless each partition is answered.
    async fn offsets_of(
        &self,
        leader: i32,
        asked: &[Asked],
        spec: OffsetSpec,
    ) -> Result<HashMap<Partition, Answer>, ClusterError> {
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
        match asked.iter().find(|asked| !answers.contains_key(&asked.partition)) {
            None => Ok(answers),
            Some(Asked {
                partition: (topic, partition),
                ..
            }) => Err(connection.peer().malformed(
                API,
                Malformed::Unanswered {
                    subject: subject(topic, *partition),
                },
            )),
        }
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

#[derive(Debug)]
struct Asked {
    partition: Partition,
    leader_epoch: i32,
}

fn subject(topic: &str, partition: i32) -> String {
    format!("partition {partition} of topic {topic}")
}

const API: ApiKey = ApiKey::ListOffsets;
