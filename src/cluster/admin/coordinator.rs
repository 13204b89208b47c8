//! Which broker coordinates a group or a transactional id.

use kafka_protocol::messages::FindCoordinatorRequest;
use kafka_protocol::protocol::StrBytes;

use super::outcome;
use crate::cluster::client::Cluster;
use crate::cluster::error::ClusterError;
use crate::cluster::metadata::TopicSelection;
use crate::protocol::ApiKey;

/// What is coordinated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CoordinatorKind {
    Group,
    Transaction,
}

impl Cluster {
    /// The broker that coordinates `key`. Asked once: whoever asks knows best how to go on.
    pub async fn find_coordinator(&self, kind: CoordinatorKind, key: &str) -> Result<i32, ClusterError> {
        let broker = self.any_broker().await?;
        let text = StrBytes::from_string(key.to_owned());
        let mut request = FindCoordinatorRequest::default().with_key_type(match kind {
            CoordinatorKind::Group => 0,
            CoordinatorKind::Transaction => 1,
        });
        // From version 4 on several can be asked for at once (KIP-699).
        match broker.version(API)? {
            ..4 => request.key = text,
            _ => request.coordinator_keys = vec![text],
        }
        let answer = broker.call(request).await?;
        let (code, message, node) = match answer.coordinators.into_iter().next() {
            Some(found) => (found.error_code, found.error_message, found.node_id.0),
            None => (answer.error_code, answer.error_message, answer.node_id.0),
        };
        outcome(
            &broker,
            API,
            || format!("coordinator of {key}"),
            code,
            message.as_deref(),
        )?;
        if !self.metadata().brokers.contains_key(&node) {
            self.refresh_metadata(TopicSelection::Names(Vec::new())).await?;
        }
        Ok(node)
    }
}

const API: ApiKey = ApiKey::FindCoordinator;
