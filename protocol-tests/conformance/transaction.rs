//! A transactional producer, as far as cases need one.

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, EndTxnRequest, InitProducerIdRequest, ProducerId, TopicName, TransactionalId,
};
use kferry::protocol::error_code::ErrorCode;

use crate::batch::{Batch, stamp};
use crate::cluster::{TestCluster, unique};
use crate::probe::{Probe, Produce, is_passing, text};

#[derive(Clone)]
pub(crate) struct Transactional<'a> {
    pub(crate) transactional_id: String,
    pub(crate) id: i64,
    pub(crate) epoch: i16,
    pub(crate) probe: &'a Probe,
}

impl<'a> Transactional<'a> {
    /// One that nobody has been before.
    pub(crate) async fn new(cluster: &'a TestCluster) -> Self {
        Self::init(unique("producer"), &cluster.probe).await
    }

    /// The same in a new incarnation.
    pub(crate) async fn again(&self) -> Self {
        Self::init(self.transactional_id.clone(), self.probe).await
    }

    async fn init(transactional_id: String, probe: &'a Probe) -> Self {
        probe.find_coordinator(1, &transactional_id).await;
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(TransactionalId(text(&transactional_id))))
            .with_transaction_timeout_ms(60_000);
        loop {
            let response = probe.send(1, &request).await;
            match ErrorCode::from_wire(response.error_code) {
                ErrorCode::None => {
                    let (id, epoch) = (response.producer_id.0, response.producer_epoch);
                    return Self {
                        transactional_id,
                        id,
                        epoch,
                        probe,
                    };
                }
                // The coordinator has just been found, or is ending an earlier transaction.
                error if is_passing(error) => tokio::task::yield_now().await,
                error => panic!("no producer id: {}", error.name()),
            }
        }
    }

    /// Takes the partition 0 of a topic into the transaction, which begins by it.
    pub(crate) async fn add(&self, topic: &str) {
        assert_eq!(self.try_add(&[topic]).await, [ErrorCode::None]);
    }

    pub(crate) async fn try_add(&self, topics: &[&str]) -> Vec<ErrorCode> {
        let wanted = topics.iter().map(|topic| {
            AddPartitionsToTxnTopic::default()
                .with_name(TopicName(text(topic)))
                .with_partitions(vec![0])
        });
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(TransactionalId(text(&self.transactional_id)))
            .with_v3_and_below_producer_id(ProducerId(self.id))
            .with_v3_and_below_producer_epoch(self.epoch)
            .with_v3_and_below_topics(wanted.collect());
        loop {
            let response = self.probe.send(2, &request).await;
            let answers = &response.results_by_topic_v3_and_below;
            let errors = topics.iter().map(|topic| {
                let answer = answers
                    .iter()
                    .find(|answer| answer.name.as_str() == *topic)
                    .expect("an answer for each");
                ErrorCode::from_wire(answer.results_by_partition[0].partition_error_code)
            });
            let errors: Vec<_> = errors.collect();
            if !errors.iter().copied().any(is_passing) {
                return errors;
            }
            tokio::task::yield_now().await;
        }
    }

    pub(crate) async fn produce(&self, topic: &str, sequence: i32, records: usize) {
        assert_eq!(self.try_produce(topic, sequence, records).await, ErrorCode::None);
    }

    pub(crate) async fn try_produce(&self, topic: &str, sequence: i32, records: usize) -> ErrorCode {
        let batch = Batch::transactional(stamp(self.id, self.epoch, sequence), records);
        let transactional_id = Some(self.transactional_id.clone());
        self.probe
            .produce_with(&Produce {
                transactional_id,
                ..Produce::to(topic, &batch)
            })
            .await
            .error
    }

    /// Ends the transaction and waits for its markers: the first answer comes before they are written, and asking again
    /// is answered with CONCURRENT_TRANSACTIONS until they are.
    pub(crate) async fn end(&self, committed: bool) {
        for _ in 0..2 {
            assert_eq!(self.try_end(committed).await, ErrorCode::None);
        }
    }

    pub(crate) async fn try_end(&self, committed: bool) -> ErrorCode {
        let request = EndTxnRequest::default()
            .with_transactional_id(TransactionalId(text(&self.transactional_id)))
            .with_producer_id(ProducerId(self.id))
            .with_producer_epoch(self.epoch)
            .with_committed(committed);
        loop {
            let error = ErrorCode::from_wire(self.probe.send(1, &request).await.error_code);
            if !is_passing(error) {
                return error;
            }
            tokio::task::yield_now().await;
        }
    }
}
