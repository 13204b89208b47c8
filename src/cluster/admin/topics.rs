//! Topics: list, describe, create, grow, delete.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::{CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest};

use super::rounds::{Retry, Rounds};
use super::{outcome, topic};
use crate::cluster::call::{millis, topic_name, wire_string};
use crate::cluster::client::Cluster;
use crate::cluster::connection::Connection;
use crate::cluster::error::{ClusterError, Malformed};
use crate::cluster::metadata::{Metadata, TopicMetadata, TopicSelection};
use crate::protocol::ApiKey;
use crate::protocol::error_code::ErrorCode;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    pub name: String,
    pub partitions: i32,
    /// -1 for the broker's default, from Kafka 2.4 on.
    pub replication_factor: i16,
    pub configs: Vec<(String, String)>,
}

impl Cluster {
    /// All topics that we may see.
    pub async fn list_topics(&self) -> Result<BTreeMap<Arc<str>, Arc<TopicMetadata>>, ClusterError> {
        Ok(self.refresh_metadata(TopicSelection::All).await?.topics.clone())
    }

    /// These topics. One that does not exist, or that we may not see, is there with that error.
    pub async fn describe_topics(
        &self,
        names: Vec<String>,
    ) -> Result<BTreeMap<Arc<str>, Arc<TopicMetadata>>, ClusterError> {
        let metadata = self.refresh_metadata(TopicSelection::Names(names.clone())).await?;
        let described = names
            .iter()
            .filter_map(|name| metadata.topics.get_key_value(name.as_str()));
        Ok(described
            .map(|(name, topic)| (Arc::clone(name), Arc::clone(topic)))
            .collect())
    }

    /// Waits until each of these topics, which have just been created, is there and each of its partitions has a leader.
    /// Where thousands were created that takes a broker seconds.
    pub async fn await_leaders(&self, names: Vec<String>) -> Result<Arc<Metadata>, ClusterError> {
        let topics = TopicSelection::Names(names.clone());
        self.refresh_metadata(topics.clone()).await?;
        let look = async || {
            let metadata = self.metadata();
            let leaderless = names.iter().find_map(|name| {
                let partition = leaderless(metadata.topics.get(name.as_str()).map(AsRef::as_ref))?;
                Some(self.no_leader(name, partition))
            });
            leaderless.map_or(Ok(metadata), Err)
        };
        Retry::new(self, topics).run(look).await
    }

    /// Creates topics. Other clients see them after a moment; see [`Cluster::await_leaders`].
    pub async fn create_topics(&self, topics: Vec<NewTopic>) -> Vec<(NewTopic, Result<(), ClusterError>)> {
        let rounds = Rounds {
            cluster: self,
            topics: TopicSelection::Names(Vec::new()),
            items: topics,
            weigh: records_of,
            chunk: RECORDS_A_REQUEST,
        };
        let done = |error: &ClusterError| (error.code() == Some(ErrorCode::TopicAlreadyExists)).then_some(());
        rounds.run(|topics| self.create_some(topics), done).await
    }

    async fn create_some(&self, topics: Vec<NewTopic>) -> Result<Vec<Result<(), ClusterError>>, ClusterError> {
        let controller = self.controller().await?;
        let held = self.config().request_timeout;
        let request = CreateTopicsRequest::default()
            .with_topics(topics.iter().map(creatable).collect())
            .with_timeout_ms(millis(held));
        let answer = controller.call_held(request, held).await?;
        let answers = answer.topics.iter().map(|answer| {
            let message = answer.error_message.as_deref();
            (answer.name.as_str(), answer.error_code, message)
        });
        in_order(
            &controller,
            ApiKey::CreateTopics,
            topics.iter().map(|topic| topic.name.as_str()),
            answers,
        )
    }

    /// Grows a topic to `total` partitions.
    pub async fn create_partitions(&self, name: &str, total: i32) -> Result<(), ClusterError> {
        let rounds = Rounds {
            cluster: self,
            topics: TopicSelection::Names(Vec::new()),
            items: vec![name.to_owned()],
            weigh: |_| 1,
            chunk: 1,
        };
        let done = |error: &ClusterError| (error.code() == Some(ErrorCode::InvalidPartitions)).then_some(());
        let answers = rounds.run(|names| self.grow(names, total), done).await;
        answers.into_iter().try_for_each(|(_, answer)| answer)
    }

    async fn grow(&self, names: Vec<String>, total: i32) -> Result<Vec<Result<(), ClusterError>>, ClusterError> {
        let controller = self.controller().await?;
        let held = self.config().request_timeout;
        let grown = names.iter().map(|name| {
            CreatePartitionsTopic::default()
                .with_name(topic_name(name))
                .with_count(total)
                .with_assignments(None)
        });
        let request = CreatePartitionsRequest::default()
            .with_topics(grown.collect())
            .with_timeout_ms(millis(held));
        let answer = controller.call_held(request, held).await?;
        let answers = answer.results.iter().map(|answer| {
            let message = answer.error_message.as_deref();
            (answer.name.as_str(), answer.error_code, message)
        });
        in_order(
            &controller,
            ApiKey::CreatePartitions,
            names.iter().map(String::as_str),
            answers,
        )
    }

    /// Deletes topics, and all that is in them.
    pub async fn delete_topics(&self, names: Vec<String>) -> Vec<(String, Result<(), ClusterError>)> {
        let rounds = Rounds {
            cluster: self,
            topics: TopicSelection::Names(Vec::new()),
            items: names,
            weigh: |_| 1,
            chunk: TOPICS_A_REQUEST,
        };
        let done = |error: &ClusterError| error.is_unknown_topic().then_some(());
        rounds.run(|names| self.delete_some(names), done).await
    }

    async fn delete_some(&self, names: Vec<String>) -> Result<Vec<Result<(), ClusterError>>, ClusterError> {
        let controller = self.controller().await?;
        let held = self.config().request_timeout;
        let request = DeleteTopicsRequest::default().with_timeout_ms(millis(held));
        let names_on_wire = names.iter().map(|name| topic_name(name));
        let request = if controller.version(ApiKey::DeleteTopics)? < 6 {
            request.with_topic_names(names_on_wire.collect())
        } else {
            let state = |name| DeleteTopicState::default().with_name(Some(name));
            request.with_topics(names_on_wire.map(state).collect())
        };
        let answer = controller.call_held(request, held).await?;
        let answers = answer.responses.iter().filter_map(|answer| {
            let name = answer.name.as_ref()?;
            Some((name.as_str(), answer.error_code, answer.error_message.as_deref()))
        });
        in_order(
            &controller,
            ApiKey::DeleteTopics,
            names.iter().map(String::as_str),
            answers,
        )
    }
}

/// The first partition without a leader. Of a topic that is not there, all are.
fn leaderless(topic: Option<&TopicMetadata>) -> Option<i32> {
    let Some(topic) = topic.filter(|topic| topic.error == ErrorCode::None) else {
        return Some(0);
    };
    let leaderless = topic.partitions.iter().find(|partition| partition.leader.is_none());
    leaderless.map(|partition| partition.partition)
}

fn creatable(topic: &NewTopic) -> CreatableTopic {
    let config = |(name, value): &(String, String)| {
        CreatableTopicConfig::default()
            .with_name(wire_string(name))
            .with_value(Some(wire_string(value)))
    };
    CreatableTopic::default()
        .with_name(topic_name(&topic.name))
        .with_num_partitions(topic.partitions)
        .with_replication_factor(topic.replication_factor)
        .with_configs(topic.configs.iter().map(config).collect())
}

/// Brings answers, each a topic with its error code and message, into the order of the questions.
fn in_order<'a>(
    connection: &Connection,
    api: ApiKey,
    asked: impl Iterator<Item = &'a str>,
    answers: impl Iterator<Item = (&'a str, i16, Option<&'a str>)>,
) -> Result<Vec<Result<(), ClusterError>>, ClusterError> {
    let answers: HashMap<_, _> = answers.map(|(name, code, message)| (name, (code, message))).collect();
    let find = |name: &'a str| match answers.get(name) {
        Some(&(code, message)) => Ok(outcome(connection, api, || topic(name), code, message)),
        None => Err(connection
            .peer()
            .malformed(api, Malformed::Unanswered { subject: topic(name) })),
    };
    asked.map(find).collect()
}

/// Controllers do a request's topics in one go, which takes memory and time.
const TOPICS_A_REQUEST: usize = 500;

/// KRaft's take 10,000 metadata records for a request at the most (POLICY_VIOLATION: "excessively large batch operation").
const RECORDS_A_REQUEST: usize = 5000;

/// The most partitions with which a topic can be created, or by which it can grow at a time.
pub const MOST_PARTITIONS_AT_ONCE: i32 = 4900;

/// Of a topic with its partitions and configs; some hundred topics make a request at the most.
fn records_of(topic: &NewTopic) -> usize {
    let records = 1 + usize::try_from(topic.partitions).unwrap_or(0) + topic.configs.len();
    records.max(RECORDS_A_REQUEST / TOPICS_A_REQUEST)
}
