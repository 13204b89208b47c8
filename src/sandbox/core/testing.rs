//! A client for the unit tests: typed requests in, typed responses out, time by hand.

use bytes::Bytes;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, CreateTopicsRequest, EndTxnRequest, FetchRequest, InitProducerIdRequest, ProducerId,
    TransactionalId,
};
use kafka_protocol::protocol::{Decodable, Request};

use super::topics::topic_name;
use super::wire::body_of;
use super::{Action, BrokerAddress, Cluster, ConnectionId, Settings};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::{ApiKey, frame};
use crate::record::{BatchBuilder, BatchOptions, ProducerStamp};

pub(super) struct TestClient {
    pub cluster: Cluster,
    pub connection: ConnectionId,
    pub now_ms: i64,
}

impl TestClient {
    /// On the first of so many brokers.
    pub(super) fn of(brokers: u16) -> Self {
        Self::with(brokers, Settings::default())
    }

    pub(super) fn with(brokers: u16, settings: Settings) -> Self {
        let addresses = (0..brokers).map(|broker| BrokerAddress {
            host: "sandbox".to_owned(),
            port: 9092 + broker,
        });
        let mut cluster = Cluster::new(settings, addresses);
        let connection = cluster.connect(1);
        Self {
            cluster,
            connection,
            now_ms: 1_700_000_000_000,
        }
    }

    /// The answer, which has to come at once.
    pub(super) fn call<Q: Request>(&mut self, version: i16, request: &Q) -> Q::Response {
        let actions = self.send(self.connection, version, request);
        let [Action::Send(connection, segments)] = &actions[..] else {
            panic!("one answer, not {actions:?}")
        };
        assert_eq!(*connection, self.connection);
        response_of::<Q>(version, body_of(segments))
    }

    pub(super) fn send<Q: Request>(&mut self, connection: ConnectionId, version: i16, request: &Q) -> Vec<Action> {
        self.cluster.handle(connection, frame_of(version, request), self.now_ms)
    }

    pub(super) fn create_topic(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let response = self.call(5, &create_request(name, partitions, configs));
        assert_eq!(response.topics[0].error_code, 0, "{response:?}");
    }

    /// Produces to a partition, with `acks=all`.
    pub(super) fn produce(&mut self, topic: &str, partition: i32, records: Bytes) -> PartitionProduceResponse {
        let request = produce_request(topic, partition, records);
        let mut response = self.call(9, &request);
        response.responses.remove(0).partition_responses.remove(0)
    }

    /// Produces within the transaction of `id`.
    pub(super) fn produce_in(
        &mut self,
        id: &str,
        topic: &str,
        partition: i32,
        records: Bytes,
    ) -> PartitionProduceResponse {
        let id = TransactionalId(id.to_owned().into());
        let request = produce_request(topic, partition, records).with_transactional_id(Some(id));
        let mut response = self.call(9, &request);
        response.responses.remove(0).partition_responses.remove(0)
    }

    /// Begins a transaction that a partition is part of; says who its producer is.
    pub(super) fn begin(&mut self, id: &str, topic: &str, partition: i32) -> (i64, i16) {
        let transactional_id = TransactionalId(id.to_owned().into());
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(transactional_id.clone()))
            .with_transaction_timeout_ms(60_000);
        let initialized = self.call(1, &request);
        assert_eq!(code(initialized.error_code), ErrorCode::None);
        let identity = (initialized.producer_id.0, initialized.producer_epoch);
        assert_eq!(self.add(id, identity, topic, partition), ErrorCode::None);
        identity
    }

    pub(super) fn add(&mut self, id: &str, identity: (i64, i16), topic: &str, partition: i32) -> ErrorCode {
        let topic = AddPartitionsToTxnTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![partition]);
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(TransactionalId(id.to_owned().into()))
            .with_v3_and_below_producer_id(ProducerId(identity.0))
            .with_v3_and_below_producer_epoch(identity.1)
            .with_v3_and_below_topics(vec![topic]);
        let response = self.call(2, &request);
        code(response.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code)
    }

    pub(super) fn end_txn(&mut self, id: &str, identity: (i64, i16), commit: bool) -> ErrorCode {
        let request = EndTxnRequest::default()
            .with_transactional_id(TransactionalId(id.to_owned().into()))
            .with_producer_id(ProducerId(identity.0))
            .with_producer_epoch(identity.1)
            .with_committed(commit);
        code(self.call(1, &request).error_code)
    }

    /// Ends a transaction, and waits for its markers.
    pub(super) fn end(&mut self, id: &str, identity: (i64, i16), commit: bool) {
        assert_eq!(self.end_txn(id, identity, commit), ErrorCode::None);
        self.now_ms += 10;
        self.cluster.poll(self.now_ms);
        assert_eq!(self.end_txn(id, identity, commit), ErrorCode::None);
    }

    pub(super) fn fetch(&mut self, topic: &str, partition: i32, offset: i64) -> PartitionData {
        let mut response = self.call(12, &fetch_request(topic, partition, offset));
        response.responses.remove(0).partitions.remove(0)
    }
}

pub(in crate::sandbox) fn create_request(name: &str, partitions: i32, configs: &[(&str, &str)]) -> CreateTopicsRequest {
    let configs = configs.iter().map(|(name, value)| {
        CreatableTopicConfig::default()
            .with_name((*name).to_owned().into())
            .with_value(Some((*value).to_owned().into()))
    });
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions)
        .with_replication_factor(-1)
        .with_configs(configs.collect());
    CreateTopicsRequest::default().with_topics(vec![topic])
}

pub(in crate::sandbox) fn produce_request(topic: &str, partition: i32, records: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default()
        .with_index(partition)
        .with_records(Some(records));
    ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(1000)
        .with_topic_data(vec![
            TopicProduceData::default()
                .with_name(topic_name(topic))
                .with_partition_data(vec![data]),
        ])
}

/// Read committed, without waiting and without a session.
pub(in crate::sandbox) fn fetch_request(topic: &str, partition: i32, offset: i64) -> FetchRequest {
    let wanted = FetchPartition::default()
        .with_partition(partition)
        .with_current_leader_epoch(-1)
        .with_last_fetched_epoch(-1)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20);
    FetchRequest::default()
        .with_max_bytes(1 << 20)
        .with_min_bytes(1)
        .with_isolation_level(1)
        .with_session_epoch(-1)
        .with_topics(vec![
            FetchTopic::default()
                .with_topic(topic_name(topic))
                .with_partitions(vec![wanted]),
        ])
}

pub(in crate::sandbox) fn frame_of<Q: Request>(version: i16, request: &Q) -> Bytes {
    let mut out = Vec::new();
    let api = ApiKey::try_from(Q::KEY).unwrap();
    frame::put_request_header(&mut out, api, version, 7, "test");
    request.encode(&mut out, version).unwrap();
    out.into()
}

pub(super) fn response_of<Q: Request>(version: i16, body: Bytes) -> Q::Response {
    let api = ApiKey::try_from(Q::KEY).unwrap();
    let (correlation_id, mut body) = frame::split_response(body, api, version).unwrap();
    assert_eq!(correlation_id, 7);
    let response = Q::Response::decode(&mut body, version).unwrap();
    assert!(body.is_empty(), "{} bytes left over", body.len());
    response
}

/// A batch with these keys; the values are like them.
pub(in crate::sandbox) fn batch(keys: &[&str]) -> Bytes {
    batch_with(BatchOptions::default(), keys)
}

pub(super) fn batch_with(options: BatchOptions, keys: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(options);
    for key in keys {
        builder.push(1_700_000_000_000, Some(key.as_bytes()), Some(key.as_bytes()), &[]);
    }
    builder.build().unwrap()
}

pub(super) fn stamped(producer_id: i64, producer_epoch: i16, base_sequence: i32) -> BatchOptions {
    BatchOptions {
        producer: Some(ProducerStamp {
            producer_id,
            producer_epoch,
            base_sequence,
        }),
        ..BatchOptions::default()
    }
}

pub(super) fn transactional(identity: (i64, i16), base_sequence: i32) -> BatchOptions {
    BatchOptions {
        transactional: true,
        ..stamped(identity.0, identity.1, base_sequence)
    }
}

pub(super) fn code(code: i16) -> ErrorCode {
    ErrorCode::from_wire(code)
}
