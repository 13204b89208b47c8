//! The cluster as a whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::messages::DescribeClusterRequest;

use super::outcome;
use super::rounds::Retry;
use crate::cluster::client::Cluster;
use crate::cluster::error::ClusterError;
use crate::cluster::metadata::{BrokerAddress, TopicSelection};
use crate::protocol::ApiKey;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterDescription {
    pub cluster_id: Arc<str>,
    pub controller_id: Option<i32>,
    pub brokers: BTreeMap<i32, BrokerAddress>,
}

impl Cluster {
    /// Who belongs to the cluster now.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription, ClusterError> {
        Retry::new(self, TopicSelection::Names(Vec::new()))
            .run(|| self.describe_once())
            .await
    }

    async fn describe_once(&self) -> Result<ClusterDescription, ClusterError> {
        let broker = self.any_broker().await?;
        if broker.version(API).is_err() {
            return self.describe_by_metadata().await; // Before Kafka 2.8.
        }
        let answer = broker.call(DescribeClusterRequest::default()).await?;
        outcome(
            &broker,
            API,
            String::new,
            answer.error_code,
            answer.error_message.as_deref(),
        )?;
        let brokers = answer
            .brokers
            .iter()
            .map(|broker| BrokerAddress::from_wire(broker.broker_id.0, &broker.host, broker.port));
        Ok(ClusterDescription {
            cluster_id: answer.cluster_id.as_str().into(),
            controller_id: (answer.controller_id.0 >= 0).then_some(answer.controller_id.0),
            brokers: brokers
                .collect::<Result<_, _>>()
                .map_err(|cause| broker.peer().malformed(API, cause))?,
        })
    }

    async fn describe_by_metadata(&self) -> Result<ClusterDescription, ClusterError> {
        let metadata = self.refresh_metadata(TopicSelection::Names(Vec::new())).await?;
        Ok(ClusterDescription {
            cluster_id: Arc::clone(&metadata.cluster_id),
            controller_id: metadata.controller_id,
            brokers: metadata.brokers.clone(),
        })
    }
}

const API: ApiKey = ApiKey::DescribeCluster;
