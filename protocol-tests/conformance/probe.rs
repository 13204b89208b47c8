//! Asks a broker, in words of a chosen version.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_producers_response::ProducerState;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    BrokerId, DescribeProducersRequest, FetchRequest, FindCoordinatorRequest, ListOffsetsRequest, MetadataRequest,
    ProduceRequest, ProduceResponse, TopicName, TransactionalId,
};
use kafka_protocol::protocol::{Decodable, Request, StrBytes};
use kferry::cluster::{Cluster, ClusterConfig, ClusterError, Connection, Purpose, Side};
use kferry::protocol::error_code::ErrorCode;
use kferry::protocol::{ApiKey, frame};
use uuid::Uuid;

use crate::batch::Batch;

/// The broker under test: the only one of its cluster.
pub(crate) struct Probe {
    bootstrap: String,
    connection: Connection,
}

/// One batch for partition 0 of a topic. [`Produce::to`] gives what most cases send.
#[derive(Debug, Clone)]
pub(crate) struct Produce {
    pub(crate) topic: String,
    pub(crate) version: i16,
    pub(crate) acks: i16,
    pub(crate) transactional_id: Option<String>,
    pub(crate) records: Bytes,
}

/// What a broker answers about one partition.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Produced {
    pub(crate) error: ErrorCode,
    pub(crate) base_offset: i64,
    pub(crate) log_append_time_ms: i64,
    pub(crate) log_start_offset: i64,
    /// Of which records it complains.
    pub(crate) record_errors: Vec<i32>,
}

/// A fetch of partition 0 of a topic. [`Fetch::from`] gives what most cases ask.
#[derive(Debug, Clone)]
pub(crate) struct Fetch {
    pub(crate) topic: String,
    pub(crate) topic_id: Uuid,
    pub(crate) version: i16,
    pub(crate) offset: i64,
    pub(crate) committed_only: bool,
    pub(crate) max_wait_ms: i32,
    pub(crate) max_bytes: i32,
    pub(crate) current_leader_epoch: i32,
    pub(crate) last_fetched_epoch: i32,
    pub(crate) session_id: i32,
    pub(crate) session_epoch: i32,
}

impl Produce {
    pub(crate) fn to(topic: &str, batch: &Batch) -> Self {
        Self {
            topic: topic.to_owned(),
            version: 8,
            acks: -1,
            transactional_id: None,
            records: batch.bytes(),
        }
    }

    pub(crate) fn request(&self) -> ProduceRequest {
        let partition = PartitionProduceData::default().with_records(Some(self.records.clone()));
        let topic = TopicProduceData::default()
            .with_name(TopicName(text(&self.topic)))
            .with_partition_data(vec![partition]);
        ProduceRequest::default()
            .with_acks(self.acks)
            .with_timeout_ms(30_000)
            .with_transactional_id(self.transactional_id.as_deref().map(|id| TransactionalId(text(id))))
            .with_topic_data(vec![topic])
    }
}

impl Fetch {
    pub(crate) fn from(topic: &str, offset: i64) -> Self {
        Self {
            topic: topic.to_owned(),
            topic_id: Uuid::nil(),
            version: 11,
            offset,
            committed_only: false,
            max_wait_ms: 0,
            max_bytes: 1 << 20,
            current_leader_epoch: -1,
            last_fetched_epoch: -1,
            session_id: 0,
            session_epoch: -1,
        }
    }

    pub(crate) fn committed(topic: &str, offset: i64) -> Self {
        Self {
            committed_only: true,
            ..Self::from(topic, offset)
        }
    }

    pub(crate) fn request(&self) -> FetchRequest {
        let partition = FetchPartition::default()
            .with_fetch_offset(self.offset)
            .with_current_leader_epoch(self.current_leader_epoch)
            .with_last_fetched_epoch(self.last_fetched_epoch)
            .with_partition_max_bytes(self.max_bytes);
        let topic = FetchTopic::default()
            .with_topic(TopicName(text(&self.topic)))
            .with_topic_id(self.topic_id)
            .with_partitions(vec![partition]);
        FetchRequest::default()
            .with_max_wait_ms(self.max_wait_ms)
            .with_min_bytes(1)
            .with_isolation_level(self.committed_only.into())
            .with_session_id(self.session_id)
            .with_session_epoch(self.session_epoch)
            .with_topics(vec![topic])
    }
}

impl Probe {
    pub(crate) async fn connect(bootstrap: &str) -> Self {
        let config = ClusterConfig::new(Side::Target, "probed", vec![bootstrap.to_owned()]);
        let cluster = Cluster::connect(config).await.expect("a cluster that can be reached");
        let broker = *cluster.metadata().brokers.keys().next().expect("a broker");
        let connection = cluster.connection(broker, Purpose::Admin).await.expect("a connection");
        Self {
            bootstrap: bootstrap.to_owned(),
            connection,
        }
    }

    pub(crate) fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// What the broker answers; that it does is taken for granted.
    pub(crate) async fn send<Q: Request>(&self, version: i16, request: &Q) -> Q::Response {
        self.start(version, request).await.expect("an answer")
    }

    /// Sends before it returns, so that requests follow on each other without waiting for the answers.
    pub(crate) fn start<Q: Request>(
        &self,
        version: i16,
        request: &Q,
    ) -> impl Future<Output = Result<Q::Response, ClusterError>> + use<Q> {
        let api = ApiKey::try_from(Q::KEY).expect("an API that is known");
        let mut body = Vec::new();
        request
            .encode(&mut body, version)
            .expect("a request that this version can say");
        let answer = self.exchange(api, version, &body);
        async move {
            let mut body = answer.await?;
            let response = Q::Response::decode(&mut body, version).expect("an answer of this version");
            assert!(body.is_empty(), "bytes left over after the answer");
            Ok(response)
        }
    }

    /// Sends a body as it is, and gives back that of the answer.
    pub(crate) fn exchange(
        &self,
        api: ApiKey,
        version: i16,
        body: &[u8],
    ) -> impl Future<Output = Result<Bytes, ClusterError>> + use<> {
        let answer = self
            .connection
            .send(api, version, Duration::ZERO, None, |correlation_id, client_id| {
                let mut out = vec![0; frame::LENGTH_PREFIX];
                frame::put_request_header(&mut out, api, version, correlation_id, client_id);
                out.extend_from_slice(body);
                let len = (out.len() - frame::LENGTH_PREFIX) as u32;
                out[..frame::LENGTH_PREFIX].copy_from_slice(&len.to_be_bytes());
                Bytes::from(out).into()
            });
        answer.body()
    }

    /// Makes sure that there is a coordinator of a group (0) or of a transactional id (1): being looked for creates it.
    pub(crate) async fn find_coordinator(&self, key_type: i8, key: &str) {
        let request = FindCoordinatorRequest::default()
            .with_key_type(key_type)
            .with_key(text(key));
        while is_passing(ErrorCode::from_wire(self.send(2, &request).await.error_code)) {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) async fn produce(&self, topic: &str, batch: &Batch) -> Produced {
        self.produce_with(&Produce::to(topic, batch)).await
    }

    pub(crate) async fn produce_with(&self, produce: &Produce) -> Produced {
        let response = self.send(produce.version, &produce.request()).await;
        only_partition(&response)
    }

    /// Only the error, where nothing else is of interest.
    pub(crate) async fn produce_error(&self, topic: &str, batch: &Batch) -> ErrorCode {
        self.produce(topic, batch).await.error
    }

    pub(crate) async fn fetch(&self, fetch: &Fetch) -> PartitionData {
        let mut response = self.send(fetch.version, &fetch.request()).await;
        assert_eq!(response.error_code, 0, "of the whole fetch");
        response.responses.remove(0).partitions.remove(0)
    }

    /// The high watermark, for readers of all records.
    pub(crate) async fn latest(&self, topic: &str) -> Result<i64, ErrorCode> {
        self.list_offset(topic, -1, false).await.map(|(offset, _)| offset)
    }

    /// A topic is there before its leader knows of it, be it new or the broker; and the leader may lead it before it
    /// knows that there is one.
    pub(crate) async fn until_served(&self, topic: &str) {
        while self.latest(topic).await.is_err() || self.metadata(topic).await.error_code != 0 {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) async fn metadata(&self, topic: &str) -> MetadataResponseTopic {
        let topic = MetadataRequestTopic::default().with_name(Some(TopicName(text(topic))));
        let request = MetadataRequest::default()
            .with_topics(Some(vec![topic]))
            .with_allow_auto_topic_creation(false);
        self.send(10, &request).await.topics.remove(0)
    }

    /// The producers that the leader knows.
    pub(crate) async fn producers(&self, topic: &str) -> Vec<ProducerState> {
        let wanted = TopicRequest::default()
            .with_name(TopicName(text(topic)))
            .with_partition_indexes(vec![0]);
        let request = DescribeProducersRequest::default().with_topics(vec![wanted]);
        let mut response = self.send(0, &request).await;
        response.topics.remove(0).partitions.remove(0).active_producers
    }

    /// The last sequence of a producer, if the leader knows it.
    pub(crate) async fn last_sequence(&self, topic: &str, producer_id: i64) -> Option<i32> {
        let producers = self.producers(topic).await;
        let known = producers
            .iter()
            .find(|producer| producer.producer_id.0 == producer_id)?;
        Some(known.last_sequence)
    }

    /// The offset for a timestamp or for one of the special ones, and the timestamp found.
    pub(crate) async fn list_offset(
        &self,
        topic: &str,
        timestamp: i64,
        committed_only: bool,
    ) -> Result<(i64, i64), ErrorCode> {
        let partition = ListOffsetsPartition::default()
            .with_timestamp(timestamp)
            .with_current_leader_epoch(-1);
        let topic = ListOffsetsTopic::default()
            .with_name(TopicName(text(topic)))
            .with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_isolation_level(committed_only.into())
            .with_topics(vec![topic]);
        let response = self.send(5, &request).await;
        let partition = &response.topics[0].partitions[0];
        match ErrorCode::from_wire(partition.error_code) {
            ErrorCode::None => Ok((partition.offset, partition.timestamp)),
            error => Err(error),
        }
    }
}

pub(crate) fn only_partition(response: &ProduceResponse) -> Produced {
    produced(&response.responses[0].partition_responses[0])
}

pub(crate) fn produced(partition: &PartitionProduceResponse) -> Produced {
    Produced {
        error: ErrorCode::from_wire(partition.error_code),
        base_offset: partition.base_offset,
        log_append_time_ms: partition.log_append_time_ms,
        log_start_offset: partition.log_start_offset,
        record_errors: partition.record_errors.iter().map(|error| error.batch_index).collect(),
    }
}

pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// What a coordinator answers that is busy, or not there yet.
pub(crate) fn is_passing(error: ErrorCode) -> bool {
    matches!(
        error,
        ErrorCode::ConcurrentTransactions
            | ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::NotCoordinator
    )
}
