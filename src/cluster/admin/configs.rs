//! Topics' configs.

use std::collections::HashMap;

use kafka_protocol::messages::DescribeConfigsRequest;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;

use super::rounds::Rounds;
use super::{outcome, topic};
use crate::cluster::call::wire_string;
use crate::cluster::client::Cluster;
use crate::cluster::error::{ClusterError, Malformed};
use crate::cluster::metadata::TopicSelection;
use crate::protocol::ApiKey;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    pub name: String,
    /// None if sensitive.
    pub value: Option<String>,
    pub source: ConfigSource,
    pub is_sensitive: bool,
    pub read_only: bool,
}

impl ConfigEntry {
    /// Whether it was set for this topic.
    pub fn is_of_topic(&self) -> bool {
        self.source == ConfigSource::Topic
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigSource {
    Topic,
    Broker,
    AllBrokers,
    BrokerFile,
    Default,
    Other(i8),
}

impl ConfigSource {
    fn from_wire(source: i8) -> Self {
        match source {
            1 => Self::Topic,
            2 => Self::Broker,
            3 => Self::AllBrokers,
            4 => Self::BrokerFile,
            5 => Self::Default,
            other => Self::Other(other),
        }
    }
}

impl Cluster {
    /// The configs of topics, those with default values too.
    pub async fn topic_configs(&self, names: Vec<String>) -> Vec<(String, Result<Vec<ConfigEntry>, ClusterError>)> {
        let rounds = Rounds {
            cluster: self,
            topics: TopicSelection::Names(Vec::new()),
            items: names,
            weigh: |_| 1,
            chunk: TOPICS_A_REQUEST,
        };
        rounds.run(|names| self.some_configs(names), |_| None).await
    }

    async fn some_configs(
        &self,
        names: Vec<String>,
    ) -> Result<Vec<Result<Vec<ConfigEntry>, ClusterError>>, ClusterError> {
        let broker = self.any_broker().await?;
        let resource = |name: &String| {
            DescribeConfigsResource::default()
                .with_resource_type(TOPIC)
                .with_resource_name(wire_string(name))
                .with_configuration_keys(None)
        };
        let request = DescribeConfigsRequest::default().with_resources(names.iter().map(resource).collect());
        let answer = broker.call(request).await?;
        let mut answers: HashMap<_, _> = answer
            .results
            .into_iter()
            .map(|answer| (answer.resource_name.to_string(), answer))
            .collect();
        let find = |name: &String| match answers.remove(name) {
            Some(answer) => {
                let message = answer.error_message.as_deref();
                let outcome = outcome(
                    &broker,
                    ApiKey::DescribeConfigs,
                    || topic(name),
                    answer.error_code,
                    message,
                );
                Ok(outcome.map(|()| answer.configs.into_iter().map(entry).collect()))
            }
            None => {
                let subject = topic(name);
                Err(broker
                    .peer()
                    .malformed(ApiKey::DescribeConfigs, Malformed::Unanswered { subject }))
            }
        };
        names.iter().map(find).collect()
    }
}

fn entry(entry: DescribeConfigsResourceResult) -> ConfigEntry {
    ConfigEntry {
        name: entry.name.to_string(),
        value: entry.value.map(|value| value.to_string()),
        source: ConfigSource::from_wire(entry.config_source),
        is_sensitive: entry.is_sensitive,
        read_only: entry.read_only,
    }
}

/// The resource type.
const TOPIC: i8 = 2;

/// Some 40 configs each.
const TOPICS_A_REQUEST: usize = 500;
