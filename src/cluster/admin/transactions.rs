//! The calls that an empty transaction is made of, one attempt each: what an answer calls for, or the lack of one, the
//! state machine of the fence knows.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, EndTxnRequest, InitProducerIdRequest, ProducerId, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;

use super::outcome;
use crate::cluster::call::{millis, topic_name};
use crate::cluster::client::Cluster;
use crate::cluster::connections::Purpose;
use crate::cluster::error::{ClusterError, Malformed};
use crate::protocol::ApiKey;
use crate::protocol::error_code::ErrorCode;

impl Cluster {
    /// The producer id of a transactional id, with an epoch above all given out before. The coordinator ends a transaction
    /// that is open for longer than `timeout`.
    pub async fn init_transactional_producer(
        &self,
        coordinator: i32,
        transactional_id: &str,
        timeout: Duration,
    ) -> Result<(i64, i16), ClusterError> {
        const API: ApiKey = ApiKey::InitProducerId;
        let broker = self.connection(coordinator, Purpose::Admin).await?;
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(named(transactional_id)))
            .with_transaction_timeout_ms(millis(timeout))
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        let answer = broker.call(request).await?;
        outcome(&broker, API, || subject(transactional_id), answer.error_code, None)?;
        match (answer.producer_id.0, answer.producer_epoch) {
            (id, epoch) if id >= 0 && epoch >= 0 => Ok((id, epoch)),
            (id, epoch) => Err(broker.peer().malformed(API, Malformed::ProducerId { id, epoch })),
        }
    }

    /// Makes partitions part of the transaction; says what became of each. At version 3 or below, where clients may.
    pub async fn add_partitions_to_txn(
        &self,
        coordinator: i32,
        transactional_id: &str,
        producer: (i64, i16),
        partitions: &[(Arc<str>, i32)],
    ) -> Result<Vec<((Arc<str>, i32), ErrorCode)>, ClusterError> {
        let broker = self.connection(coordinator, Purpose::Admin).await?;
        let topics = partitions.chunk_by(|one, other| one.0 == other.0).map(|of_topic| {
            AddPartitionsToTxnTopic::default()
                .with_name(topic_name(&of_topic[0].0))
                .with_partitions(of_topic.iter().map(|(_, partition)| *partition).collect())
        });
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(named(transactional_id))
            .with_v3_and_below_producer_id(ProducerId(producer.0))
            .with_v3_and_below_producer_epoch(producer.1)
            .with_v3_and_below_topics(topics.collect());
        let answer = broker.call(request).await?;
        let (mut answers, mut answered) = (Vec::new(), HashSet::new());
        for topic in answer.results_by_topic_v3_and_below {
            let name: Arc<str> = topic.name.as_str().into();
            for result in topic.results_by_partition {
                let code = ErrorCode::from_wire(result.partition_error_code);
                answered.insert((Arc::clone(&name), result.partition_index));
                answers.push(((Arc::clone(&name), result.partition_index), code));
            }
        }
        match partitions.iter().find(|asked| !answered.contains(*asked)) {
            None => Ok(answers),
            Some((topic, partition)) => Err(broker.peer().malformed(
                ApiKey::AddPartitionsToTxn,
                Malformed::Unanswered {
                    subject: format!("partition {partition} of topic {topic}"),
                },
            )),
        }
    }

    /// Ends the transaction. The answer comes before its markers are written. At version 4 or below, so that the epoch
    /// stays (KIP-890).
    pub async fn end_txn(
        &self,
        coordinator: i32,
        transactional_id: &str,
        producer: (i64, i16),
        commit: bool,
    ) -> Result<(), ClusterError> {
        let broker = self.connection(coordinator, Purpose::Admin).await?;
        let request = EndTxnRequest::default()
            .with_transactional_id(named(transactional_id))
            .with_producer_id(ProducerId(producer.0))
            .with_producer_epoch(producer.1)
            .with_committed(commit);
        let answer = broker.call(request).await?;
        let subject = || subject(transactional_id);
        outcome(&broker, ApiKey::EndTxn, subject, answer.error_code, None)
    }
}

fn named(transactional_id: &str) -> TransactionalId {
    TransactionalId(StrBytes::from_string(transactional_id.to_owned()))
}

fn subject(transactional_id: &str) -> String {
    format!("transactional id {transactional_id}")
}
