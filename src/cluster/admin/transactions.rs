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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::error::with_causes;
    use crate::cluster::scripted_broker::{Say, cluster};
    use kafka_protocol::messages::add_partitions_to_txn_response::{
        AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
    };
    use kafka_protocol::messages::{AddPartitionsToTxnResponse, EndTxnResponse, InitProducerIdResponse};

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn partitions(indexes: &[i32]) -> Vec<(Arc<str>, i32)> {
        indexes.iter().map(|&index| ("t".into(), index)).collect()
    }

    fn added(results: &[(i32, ErrorCode)]) -> AddPartitionsToTxnResponse {
        let result = |&(partition, code): &(i32, ErrorCode)| {
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(partition)
                .with_partition_error_code(code.code())
        };
        let topic = AddPartitionsToTxnTopicResult::default()
            .with_name(topic_name("t"))
            .with_results_by_partition(results.iter().map(result).collect());
        AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(vec![topic])
    }

    #[tokio::test]
    async fn a_producer_is_asked_for_by_its_name_alone() {
        let (broker, cluster) = cluster(|asked, _| {
            let answer = InitProducerIdResponse::default()
                .with_producer_id(ProducerId(5))
                .with_producer_epoch(3);
            asked.answer(&answer)
        })
        .await;
        let producer = cluster.init_transactional_producer(1, "x", TIMEOUT).await.unwrap();
        assert_eq!(producer, (5, 3));
        let asked = broker.asked(ApiKey::InitProducerId)[0].request::<InitProducerIdRequest>();
        assert_eq!(asked.transactional_id, Some(named("x")));
        assert_eq!(asked.transaction_timeout_ms, 10_000);
        assert_eq!((asked.producer_id, asked.producer_epoch), (ProducerId(-1), -1));
    }

    #[tokio::test]
    async fn a_producer_without_an_id_is_no_producer() {
        let (_broker, cluster) =
            cluster(|asked, _| asked.answer(&InitProducerIdResponse::default().with_producer_id(ProducerId(-1)))).await;
        let error = cluster.init_transactional_producer(1, "x", TIMEOUT).await.unwrap_err();
        assert!(with_causes(&error).contains("producer id"), "{}", with_causes(&error));
    }

    #[tokio::test]
    async fn partitions_are_added_at_a_version_that_clients_may_use() {
        let (broker, cluster) = cluster(|asked, _| asked.answer(&added(&[(0, ErrorCode::None)]))).await;
        let one = partitions(&[0]);
        cluster.add_partitions_to_txn(1, "x", (5, 3), &one).await.unwrap();
        assert!(broker.asked(ApiKey::AddPartitionsToTxn)[0].version <= 3);
    }

    #[tokio::test]
    async fn answers_belong_to_partitions_wherever_they_stand() {
        let answer = added(&[
            (1, ErrorCode::OperationNotAttempted),
            (0, ErrorCode::UnknownTopicOrPartition),
        ]);
        let (_broker, cluster) = cluster(move |asked, _| asked.answer(&answer)).await;
        let two = partitions(&[0, 1]);
        let answers = cluster.add_partitions_to_txn(1, "x", (5, 3), &two).await.unwrap();
        let of = |index: i32| {
            answers
                .iter()
                .find(|((_, partition), _)| *partition == index)
                .unwrap()
                .1
        };
        assert_eq!(of(0), ErrorCode::UnknownTopicOrPartition);
        assert_eq!(of(1), ErrorCode::OperationNotAttempted);
    }

    #[tokio::test]
    async fn a_partition_without_an_answer_has_not_been_added() {
        let (_broker, cluster) = cluster(|asked, _| asked.answer(&added(&[(0, ErrorCode::None)]))).await;
        let two = partitions(&[0, 1]);
        let error = cluster.add_partitions_to_txn(1, "x", (5, 3), &two).await.unwrap_err();
        let text = with_causes(&error);
        assert!(text.contains("partition 1 of topic t is not answered"), "{text}");
    }

    #[tokio::test]
    async fn a_transaction_ends_at_a_version_that_leaves_the_epoch_alone() {
        let (broker, cluster) = cluster(|asked, _| asked.answer(&EndTxnResponse::default())).await;
        cluster.end_txn(1, "x", (5, 3), false).await.unwrap();
        let asked = &broker.asked(ApiKey::EndTxn)[0];
        assert!(asked.version <= 4);
        let request = asked.request::<EndTxnRequest>();
        assert_eq!((request.producer_id, request.producer_epoch), (ProducerId(5), 3));
        assert!(!request.committed);
    }

    #[tokio::test]
    async fn a_call_is_made_once_whatever_comes_of_it() {
        let (broker, cluster) = cluster(|asked, _| {
            let code = ErrorCode::ConcurrentTransactions.code();
            match asked.api {
                ApiKey::EndTxn => asked.answer(&EndTxnResponse::default().with_error_code(code)),
                _ => Say::Close,
            }
        })
        .await;
        let refused = cluster.end_txn(1, "x", (5, 3), true).await.unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::ConcurrentTransactions));
        let lost = cluster.init_transactional_producer(1, "x", TIMEOUT).await.unwrap_err();
        assert_eq!(lost.code(), None);
        for api in [ApiKey::EndTxn, ApiKey::InitProducerId] {
            assert_eq!(broker.asked(api).len(), 1, "{api:?}");
        }
    }
}
