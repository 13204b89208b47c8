//! A Kafka producer, for the demo's traffic: idempotent, and with transactions as clients make them before transaction
//! version 2 (KIP-98). Its requests are encoded by the `kafka-protocol` crate, not by what the flow uses.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, EndTxnRequest, FindCoordinatorRequest, InitProducerIdRequest, ProduceRequest,
    ProducerId, TopicName, TransactionalId,
};
use kafka_protocol::protocol::{Encodable, StrBytes};

use super::content::Content;
use super::traffic::DemoTopic;
use crate::cluster::{Cluster, Connection, Purpose};
use crate::protocol::error_code::{ErrorCode, Recovery};
use crate::protocol::{ApiKey, frame, produce_response};
use crate::record::{BatchBuilder, BatchOptions, Codec, ProducerStamp};

/// From version 12 on a produce request makes its partition part of the transaction by itself.
const LAST_PRODUCE_VERSION: i16 = 11;

const ACKS_ALL: i16 = -1;
const TIMEOUT_MS: i32 = 30_000;

/// The key type of transactional ids in FindCoordinator.
const TRANSACTION: i8 = 1;

/// Until the markers of a transaction are written, its id can't begin the next one.
const CONCURRENT_WAIT: Duration = Duration::from_millis(2);
const MAX_ATTEMPTS: u32 = 1000;

#[derive(Debug)]
pub(super) struct Producer {
    cluster: Cluster,
    id: ProducerId,
    epoch: i16,
    /// The next sequence number for each partition.
    sequences: HashMap<(&'static str, i32), i32>,
    transactional: Option<Coordinated>,
}

/// What a transactional producer has besides.
#[derive(Debug)]
struct Coordinated {
    id: TransactionalId,
    coordinator: Connection,
}

impl Producer {
    pub(super) async fn idempotent(cluster: Cluster) -> anyhow::Result<Self> {
        let (id, epoch) = cluster.init_producer_id().await?;
        Ok(Self {
            cluster,
            id: ProducerId(id),
            epoch,
            sequences: HashMap::new(),
            transactional: None,
        })
    }

    pub(super) async fn transactional(cluster: Cluster, id: &str) -> anyhow::Result<Self> {
        let id = TransactionalId(text(id));
        let coordinator = find_coordinator(&cluster, &id).await?;
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(id.clone()))
            .with_transaction_timeout_ms(TIMEOUT_MS);
        let answer = until_done(async || {
            let answer = coordinator.call(request.clone()).await?;
            Ok((answer.error_code, answer))
        })
        .await
        .context("no producer id")?;
        Ok(Self {
            cluster,
            id: answer.producer_id,
            epoch: answer.producer_epoch,
            sequences: HashMap::new(),
            transactional: Some(Coordinated { id, coordinator }),
        })
    }

    /// Begins a transaction over all partitions of a topic.
    pub(super) async fn begin(&self, topic: &DemoTopic) -> anyhow::Result<()> {
        let Coordinated { id, coordinator } = self.coordinated()?;
        let partitions = AddPartitionsToTxnTopic::default()
            .with_name(TopicName(text(topic.name)))
            .with_partitions((0..topic.partitions).collect());
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(id.clone())
            .with_v3_and_below_producer_id(self.id)
            .with_v3_and_below_producer_epoch(self.epoch)
            .with_v3_and_below_topics(vec![partitions]);
        until_done(async || {
            let answer = coordinator.call(request.clone()).await?;
            let results = answer.results_by_topic_v3_and_below.iter();
            let codes = results
                .flat_map(|topic| &topic.results_by_partition)
                .map(|result| result.partition_error_code);
            Ok((codes.max_by_key(|code| code.unsigned_abs()).unwrap_or(0), ()))
        })
        .await
        .context("the transaction can't begin")
    }

    /// Commits or aborts the transaction.
    pub(super) async fn end(&self, commit: bool) -> anyhow::Result<()> {
        let Coordinated { id, coordinator } = self.coordinated()?;
        let request = EndTxnRequest::default()
            .with_transactional_id(id.clone())
            .with_producer_id(self.id)
            .with_producer_epoch(self.epoch)
            .with_committed(commit);
        until_done(async || Ok((coordinator.call(request.clone()).await?.error_code, ())))
            .await
            .context("the transaction can't be ended")
    }

    /// Appends one batch to a partition.
    pub(super) async fn produce(
        &mut self,
        topic: &DemoTopic,
        partition: i32,
        codec: Codec,
        records: &[Content],
    ) -> anyhow::Result<()> {
        let sequence = self.sequences.entry((topic.name, partition)).or_default();
        let mut batch = BatchBuilder::new(BatchOptions {
            codec,
            transactional: self.transactional.is_some(),
            producer: Some(ProducerStamp {
                producer_id: self.id.0,
                producer_epoch: self.epoch,
                base_sequence: *sequence,
            }),
            ..BatchOptions::default()
        });
        for Content {
            timestamp,
            key,
            value,
            headers,
        } in records
        {
            let headers: Vec<_> = headers
                .iter()
                .map(|(key, value)| (&key[..], value.as_deref()))
                .collect();
            batch.push(*timestamp, key.as_deref(), value.as_deref(), &headers);
        }
        *sequence += records.len() as i32;
        let batch = PartitionProduceData::default()
            .with_index(partition)
            .with_records(Some(batch.build()?));
        let topic_data = TopicProduceData::default()
            .with_name(TopicName(text(topic.name)))
            .with_partition_data(vec![batch]);
        let request = ProduceRequest::default()
            .with_transactional_id(self.transactional.as_ref().map(|coordinated| coordinated.id.clone()))
            .with_acks(ACKS_ALL)
            .with_timeout_ms(TIMEOUT_MS)
            .with_topic_data(vec![topic_data]);
        let metadata = self.cluster.metadata();
        let leader = metadata.partition(topic.name, partition).and_then(|known| known.leader);
        let leader = leader.with_context(|| format!("{} partition {partition} has no leader", topic.name))?;
        send(&self.cluster.connection(leader, Purpose::Produce(0)).await?, &request).await
    }

    fn coordinated(&self) -> anyhow::Result<&Coordinated> {
        self.transactional
            .as_ref()
            .context("the producer has no transactional id")
    }
}

async fn find_coordinator(cluster: &Cluster, id: &TransactionalId) -> anyhow::Result<Connection> {
    let any = *cluster
        .metadata()
        .brokers
        .keys()
        .next()
        .context("the source has no broker")?;
    let any = cluster.connection(any, Purpose::Admin).await?;
    let request = FindCoordinatorRequest::default()
        .with_key_type(TRANSACTION)
        .with_coordinator_keys(vec![id.0.clone()]);
    let found = until_done(async || {
        let answer = any.call(request.clone()).await?;
        let found = answer.coordinators.first().context("no coordinator in the answer")?;
        Ok((found.error_code, found.node_id))
    })
    .await
    .context("no coordinator")?;
    Ok(cluster.connection(found.0, Purpose::Admin).await?)
}

/// Asks until the error code in the answer is none, as long as it is one that passes.
async fn until_done<T>(ask: impl AsyncFn() -> anyhow::Result<(i16, T)>) -> anyhow::Result<T> {
    for _ in 0..MAX_ATTEMPTS {
        let (code, answer) = ask().await?;
        match ErrorCode::from_wire(code) {
            ErrorCode::None => return Ok(answer),
            code if code.recovery() == Recovery::Stop => bail!("{}", code.name()),
            _ => tokio::time::sleep(CONCURRENT_WAIT).await,
        }
    }
    bail!("no answer but errors")
}

async fn send(connection: &Connection, request: &ProduceRequest) -> anyhow::Result<()> {
    let version = connection.version(ApiKey::Produce)?.min(LAST_PRODUCE_VERSION);
    let mut body = Vec::new();
    request.encode(&mut body, version)?;
    let held = Duration::from_millis(TIMEOUT_MS as u64);
    let answer = connection.send(ApiKey::Produce, version, held, None, |correlation_id, client_id| {
        let mut out = vec![0; frame::LENGTH_PREFIX];
        frame::put_request_header(&mut out, ApiKey::Produce, version, correlation_id, client_id);
        out.extend_from_slice(&body);
        let length = (out.len() - frame::LENGTH_PREFIX) as u32;
        out[..frame::LENGTH_PREFIX].copy_from_slice(&length.to_be_bytes());
        bytes::Bytes::from(out).into()
    });
    let answer = produce_response::decode(&answer.body().await?, version)?;
    let refused = answer
        .partitions
        .iter()
        .find(|partition| partition.error != ErrorCode::None);
    ensure!(!answer.partitions.is_empty(), "the source did not answer for the batch");
    match refused {
        Some(partition) => bail!("the source refused a batch: {}", partition.error.name()),
        None => Ok(()),
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
