//! A client that sends what it is told to, right or wrong, one request at a time.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    BrokerId, CreateTopicsRequest, FetchRequest, FindCoordinatorRequest, InitProducerIdRequest, ListOffsetsRequest,
    ProduceRequest, RequestHeader, ResponseHeader, TopicName, TransactionalId,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use kferry::record::header::BatchHeader;
use kferry::record::scan::{RawBatch, Scanned, scan};

/// A connection to a broker, and the topic of one case, which has one partition.
pub(crate) struct Client {
    connection: TcpStream,
    pub(crate) topic: String,
}

/// A fetch of the case's partition; the defaults wait for nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fetch {
    pub(crate) offset: i64,
    pub(crate) read_committed: bool,
    pub(crate) max_bytes: i32,
    pub(crate) max_wait_ms: i32,
    pub(crate) leader_epoch: i32,
}

impl Fetch {
    pub(crate) fn from(offset: i64) -> Self {
        Self {
            offset,
            read_committed: false,
            max_bytes: 1 << 20,
            max_wait_ms: 0,
            leader_epoch: -1,
        }
    }
}

impl Client {
    pub(crate) fn connect(address: &str, topic: String) -> Self {
        let connection = TcpStream::connect(address).expect("a broker listens");
        connection
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("a socket takes a time-out");
        Self { connection, topic }
    }

    /// Sends a request and waits for its answer. A broker that closes the connection instead fails the case.
    #[track_caller]
    pub(crate) fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let mut body = self.exchange(R::KEY, version, |frame| {
            request
                .encode(frame, version)
                .expect("a request that this version can express");
            R::header_version(version)
        });
        ResponseHeader::decode(&mut body, R::Response::header_version(version)).expect("a response header");
        let response = R::Response::decode(&mut body, version).expect("a response");
        assert!(!body.has_remaining(), "{} bytes after the response", body.remaining());
        response
    }

    /// Sends a header and what `body` writes, and returns the answer with its header.
    #[track_caller]
    pub(crate) fn exchange(&mut self, api_key: i16, version: i16, body: impl FnOnce(&mut BytesMut) -> i16) -> Bytes {
        let mut encoded = BytesMut::new();
        let header_version = body(&mut encoded);
        let header = RequestHeader::default()
            .with_request_api_key(api_key)
            .with_request_api_version(version)
            .with_correlation_id(7)
            .with_client_id(Some(StrBytes::from_static_str("conformance")));
        let mut frame = BytesMut::new();
        header.encode(&mut frame, header_version).expect("a request header");
        let length = u32::try_from(frame.len() + encoded.len()).expect("a short request");
        self.connection
            .write_all(&[&length.to_be_bytes()[..], &frame, &encoded].concat())
            .expect("sent");
        let mut length = [0; 4];
        self.connection.read_exact(&mut length).expect("an answer");
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        self.connection.read_exact(&mut answer).expect("all of the answer");
        answer.into()
    }

    /// Creates the case's topic. Returns the error code.
    pub(crate) fn create_topic(&mut self, configs: &[(&str, &str)]) -> i16 {
        let configs = configs.iter().map(|(name, value)| {
            CreatableTopicConfig::default()
                .with_name(text(name))
                .with_value(Some(text(value)))
        });
        let topic = CreatableTopic::default()
            .with_name(self.name())
            .with_num_partitions(1)
            .with_replication_factor(1)
            .with_configs(configs.collect());
        self.create(topic)
    }

    /// Creates a topic, and waits until the broker leads it. Returns the error code.
    pub(crate) fn create(&mut self, topic: CreatableTopic) -> i16 {
        let request = CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(30_000);
        let error = self.call(4, &request).topics[0].error_code;
        if error == 0 {
            crate::kafka::eventually("a new topic has a leader", || {
                self.fetch(Fetch::from(0)).error_code == 0
            });
        }
        error
    }

    /// Produces a batch to the case's partition, with all acks.
    pub(crate) fn produce(&mut self, batch: &[u8]) -> PartitionProduceResponse {
        self.produce_as(8, None, batch)
    }

    pub(crate) fn produce_as(
        &mut self,
        version: i16,
        transactional_id: Option<&str>,
        batch: &[u8],
    ) -> PartitionProduceResponse {
        let request = self.produce_request(transactional_id, batch);
        let mut response = self.call(version, &request);
        response.responses.remove(0).partition_responses.remove(0)
    }

    pub(crate) fn produce_request(&self, transactional_id: Option<&str>, batch: &[u8]) -> ProduceRequest {
        let partition = PartitionProduceData::default().with_records(Some(Bytes::copy_from_slice(batch)));
        let topic = TopicProduceData::default()
            .with_name(self.name())
            .with_partition_data(vec![partition]);
        ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(30_000)
            .with_transactional_id(transactional_id.map(|id| TransactionalId(text(id))))
            .with_topic_data(vec![topic])
    }

    /// Fetches from the case's partition.
    pub(crate) fn fetch(&mut self, fetch: Fetch) -> PartitionData {
        let partition = FetchPartition::default()
            .with_fetch_offset(fetch.offset)
            .with_current_leader_epoch(fetch.leader_epoch)
            .with_partition_max_bytes(fetch.max_bytes);
        let request = FetchRequest::default()
            .with_max_wait_ms(fetch.max_wait_ms)
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
            .with_isolation_level(i8::from(fetch.read_committed))
            .with_session_epoch(-1)
            .with_topics(vec![
                FetchTopic::default()
                    .with_topic(self.name())
                    .with_partitions(vec![partition]),
            ]);
        self.call(11, &request).responses.remove(0).partitions.remove(0)
    }

    /// The offset that ListOffsets gives for a timestamp, or for -1, the latest, or -2, the earliest.
    pub(crate) fn offset_at(&mut self, timestamp: i64, read_committed: bool) -> i64 {
        let partition = ListOffsetsPartition::default()
            .with_timestamp(timestamp)
            .with_current_leader_epoch(-1);
        let topic = ListOffsetsTopic::default()
            .with_name(self.name())
            .with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1)) // Others are brokers, and see the log's end.
            .with_isolation_level(i8::from(read_committed))
            .with_topics(vec![topic]);
        let answer = &self.call(5, &request).topics[0].partitions[0];
        assert_eq!(answer.error_code, 0);
        answer.offset
    }

    /// A new producer id, or the next epoch of a transactional id's.
    pub(crate) fn init_producer_id(&mut self, transactional_id: Option<&str>) -> (i64, i16) {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(transactional_id.map(|id| TransactionalId(text(id))))
            .with_transaction_timeout_ms(60_000);
        // A fresh cluster has no topic for transactions until somebody looks for a coordinator.
        let coordinator = FindCoordinatorRequest::default().with_key(text(transactional_id.unwrap_or_default()));
        let mut answer = None;
        crate::kafka::eventually("a producer id", || {
            if transactional_id.is_some() {
                self.call(2, &coordinator.clone().with_key_type(1));
            }
            let response = self.call(1, &request);
            answer = (response.error_code == 0).then_some((response.producer_id.0, response.producer_epoch));
            answer.is_some()
        });
        answer.expect("waited for")
    }

    pub(crate) fn name(&self) -> TopicName {
        TopicName(text(&self.topic))
    }
}

pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// The whole batches of a fetched partition.
pub(crate) fn batches(partition: &PartitionData) -> Vec<RawBatch> {
    scan(partition.records.clone().unwrap_or_default())
        .map(|scanned| match scanned.expect("batches as a broker stores them") {
            Scanned::Batch(batch) => batch,
            Scanned::Legacy(_) => panic!("no topic here has an old message format"),
        })
        .collect()
}

pub(crate) fn headers(partition: &PartitionData) -> Vec<BatchHeader> {
    batches(partition).into_iter().map(|batch| batch.header).collect()
}
