//! Producer ids.

use kafka_protocol::messages::InitProducerIdRequest;

use super::outcome;
use super::rounds::Retry;
use crate::cluster::client::Cluster;
use crate::cluster::error::{ClusterError, Malformed};
use crate::cluster::metadata::TopicSelection;
use crate::protocol::ApiKey;

impl Cluster {
    /// A producer id of our own and its epoch, without a transactional id. Any broker gives one.
    pub async fn init_producer_id(&self) -> Result<(i64, i16), ClusterError> {
        let nothing = TopicSelection::Names(Vec::new());
        Retry::new(self, nothing).run(|| self.ask_producer_id()).await
    }

    async fn ask_producer_id(&self) -> Result<(i64, i16), ClusterError> {
        let broker = self.any_broker().await?;
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(i32::MAX);
        let answer = broker.call(request).await?;
        outcome(&broker, API, String::new, answer.error_code, None)?;
        match (answer.producer_id.0, answer.producer_epoch) {
            (id, epoch) if id >= 0 && epoch >= 0 => Ok((id, epoch)),
            (id, epoch) => Err(broker.peer().malformed(API, Malformed::ProducerId { id, epoch })),
        }
    }
}

const API: ApiKey = ApiKey::InitProducerId;
