//! The ledger topic: made, read, written. What its records say is `replication::ledger`'s.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;

use super::reader::{ReadError, read_partition};
use super::topics::{all, exists};
use crate::cluster::{Cluster, ClusterError, Isolation, NewTopic, OffsetSpec, Purpose, TopicSelection, produce};
use crate::offsets::Segment;
use crate::protocol::error_code::{ErrorCode, Recovery};
use crate::protocol::produce_request::{ProducePartition, ProduceTopic};
use crate::record::{
    BatchBuilder, BatchHeader, BatchOptions, Codec, EncodeError, HEADER_LEN, HeaderError, ProducerStamp, patch,
};
use crate::replication::ledger::{Checkpoint, DEFAULT_LANES, FlowRecord, LedgerError, LedgerRecord};
use crate::replication::stopped::chain;

/// Bytes of keys and values in one batch of the ledger: well below the `max.message.bytes` of a broker's default.
const MAX_BATCH_BYTES: usize = 512 << 10;

/// How long a broker may take to write a checkpoint.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Waits between the attempts to write a ledger's first record. A topic is there before its replicas are.
const FIRST_WRITE_WAITS_MS: [u64; 7] = [50, 100, 200, 400, 800, 1600, 3200];

/// The connection that ledger writes go through: not one of the data's.
const LEDGER_CONNECTION: usize = usize::MAX;

#[derive(Debug, Error)]
pub enum LedgerStoreError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("the ledger can't be read")]
    Read(#[from] ReadError),
    #[error("the ledger {topic} can't be understood")]
    Record { topic: Arc<str>, source: LedgerError },
    #[error("the ledger {topic} refused a checkpoint: {}", code.name())]
    Refused { topic: Arc<str>, code: ErrorCode },
    #[error("the ledger {topic} has no leader for partition {lane}")]
    NoLeader { topic: Arc<str>, lane: i32 },
    #[error("a checkpoint can't be written down")]
    Encode(#[from] EncodeError),
    #[error("a checkpoint can't be written down")]
    Header(#[from] HeaderError),
    #[error(
        "the ledger {topic} belongs to another source cluster ({found}, this one is {expected}): give this flow another \
         name with --flow, or delete that topic to begin anew"
    )]
    OtherSource {
        topic: Arc<str>,
        found: String,
        expected: String,
    },
}

impl LedgerStoreError {
    /// Whether the same may work a little later.
    fn may_pass(&self) -> bool {
        match self {
            Self::Cluster(error) => !matches!(error.recovery(), Recovery::None | Recovery::Stop),
            Self::Refused { code, .. } => !matches!(code.recovery(), Recovery::None | Recovery::Stop),
            Self::NoLeader { .. } => true,
            Self::Read(_) | Self::Record { .. } | Self::Encode(_) | Self::Header(_) | Self::OtherSource { .. } => false,
        }
    }
}

/// What the ledger remembers of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    pub checkpoint: Checkpoint,
    /// The last segment of the offset map.
    pub segment: Segment,
}

/// The ledger of one flow.
#[derive(Debug, Clone)]
pub struct LedgerStore {
    target: Cluster,
    topic: Arc<str>,
    lanes: i32,
}

/// By topic and partition of the source.
pub type Memory = HashMap<(String, i32), Remembered>;

impl LedgerStore {
    /// Opens the ledger, makes it if there is none, and reads it whole.
    pub async fn open(
        target: Cluster,
        topic: &str,
        source_cluster_id: &str,
        replication_factor: i16,
    ) -> Result<(Self, Memory), LedgerStoreError> {
        let topic: Arc<str> = Arc::from(topic);
        let lanes = ensure_topic(&target, &topic, replication_factor).await?;
        let mut store = Self { target, topic, lanes };
        let (flow, memory) = store.load().await?;
        match flow {
            Some(flow) if flow.source_cluster_id != source_cluster_id => Err(LedgerStoreError::OtherSource {
                topic: store.topic,
                found: flow.source_cluster_id,
                expected: source_cluster_id.to_owned(),
            }),
            Some(flow) => {
                store.lanes = flow.lanes; // Somebody may have added partitions to the topic since.
                Ok((store, memory))
            }
            None => {
                let flow = FlowRecord {
                    source_cluster_id: source_cluster_id.to_owned(),
                    target_cluster_id: store.target.cluster_id().to_owned(),
                    lanes,
                };
                store.write_first(LedgerRecord::Flow(flow)).await?;
                Ok((store, memory))
            }
        }
    }

    pub fn lanes(&self) -> i32 {
        self.lanes
    }

    async fn load(&self) -> Result<(Option<FlowRecord>, Memory), LedgerStoreError> {
        let partitions: Vec<(Arc<str>, i32)> = (0..self.lanes).map(|lane| (Arc::clone(&self.topic), lane)).collect();
        let starts = all(self.target.list_offsets(partitions.clone(), OffsetSpec::Earliest).await)?;
        let latest = OffsetSpec::Latest(Isolation::ReadUncommitted);
        let ends = all(self.target.list_offsets(partitions.clone(), latest).await)?;
        let (mut flow, mut memory) = (None, Loading::default());
        let mut damage = None;
        for partition in partitions {
            let range = (starts[&partition].offset, ends[&partition].offset);
            read_partition(
                &self.target,
                Arc::clone(&self.topic),
                partition.1,
                range,
                |key, value| {
                    let (Some(key), Some(value)) = (key, value) else { return };
                    match LedgerRecord::decode(key, value) {
                        Ok(LedgerRecord::Flow(record)) => flow = Some(record),
                        Ok(record) => memory.take(record),
                        Err(error) => damage = damage.take().or(Some(error)),
                    }
                },
            )
            .await?;
        }
        match damage {
            Some(source) => Err(LedgerStoreError::Record {
                topic: Arc::clone(&self.topic),
                source,
            }),
            None => Ok((flow, memory.finish())),
        }
    }

    /// Writes records, each lane's in its own partition. They count once this returns.
    pub async fn write(&self, lanes: BTreeMap<i32, Vec<LedgerRecord>>) -> Result<(), LedgerStoreError> {
        for (lane, records) in lanes {
            self.write_lane(lane, &records).await?;
        }
        Ok(())
    }

    /// Checkpoints are tried again by the flow. There is none yet.
    async fn write_first(&self, record: LedgerRecord) -> Result<(), LedgerStoreError> {
        let record = [record];
        for wait_ms in FIRST_WRITE_WAITS_MS {
            match self.write_lane(0, &record).await {
                Err(error) if error.may_pass() => tokio::time::sleep(Duration::from_millis(wait_ms)).await,
                result => return result,
            }
        }
        self.write_lane(0, &record).await
    }

    async fn write_lane(&self, lane: i32, records: &[LedgerRecord]) -> Result<(), LedgerStoreError> {
        let mut encoded = records.iter().map(LedgerRecord::encode).peekable();
        while encoded.peek().is_some() {
            let mut builder = BatchBuilder::new(BatchOptions {
                codec: Codec::None,
                ..BatchOptions::default()
            });
            let mut bytes = 0;
            while let Some((key, value)) =
                encoded.next_if(|(k, v)| bytes == 0 || bytes + k.len() + v.len() <= MAX_BATCH_BYTES)
            {
                bytes += key.len() + value.len();
                builder.push(timestamp_ms(), Some(&key), Some(&value), &[]);
            }
            let written = self.produce(lane, builder.build()?).await;
            if let Err(error) = written {
                // The leader may be another one by now; nobody else asks about this topic.
                self.refresh().await;
                return Err(error);
            }
        }
        Ok(())
    }

    async fn refresh(&self) {
        let names = TopicSelection::Names(vec![self.topic.to_string()]);
        if let Err(error) = self.target.refresh_metadata(names).await {
            tracing::warn!(error = %chain(&error), "the ledger's leaders could not be asked for");
        }
    }

    async fn produce(&self, lane: i32, batch: Bytes) -> Result<(), LedgerStoreError> {
        let header = patch::for_produce(&BatchHeader::parse(&batch)?, ProducerStamp::NONE);
        let metadata = self.target.metadata();
        let topic = metadata.topics.get(&self.topic);
        let no_leader = || LedgerStoreError::NoLeader {
            topic: Arc::clone(&self.topic),
            lane,
        };
        let (id, leader) = topic
            .and_then(|topic| Some((topic.id, topic.partition(lane)?.leader?)))
            .ok_or_else(no_leader)?;
        let connection = self
            .target
            .connection(leader, Purpose::Produce(LEDGER_CONNECTION))
            .await?;
        let partition = ProducePartition {
            partition: lane,
            header,
            payload: batch.slice(HEADER_LEN..),
        };
        let topics = vec![ProduceTopic {
            name: Arc::clone(&self.topic),
            id,
            partitions: vec![partition],
        }];
        let response = produce(&connection, topics, WRITE_TIMEOUT).await?;
        match response.partitions.first().map(|(_, part)| part.error) {
            Some(ErrorCode::None) => Ok(()),
            code => {
                let code = code.unwrap_or(ErrorCode::UnknownServerError);
                Err(LedgerStoreError::Refused {
                    topic: Arc::clone(&self.topic),
                    code,
                })
            }
        }
    }
}

/// Makes the ledger topic where it is missing; says how many lanes it has.
async fn ensure_topic(target: &Cluster, topic: &Arc<str>, replication_factor: i16) -> Result<i32, LedgerStoreError> {
    let metadata = target
        .refresh_metadata(TopicSelection::Names(vec![topic.to_string()]))
        .await?;
    if !exists(&metadata, topic) {
        let new = NewTopic {
            name: topic.to_string(),
            partitions: DEFAULT_LANES,
            replication_factor,
            configs: vec![("cleanup.policy".into(), "compact".into())],
        };
        for (_, result) in target.create_topics(vec![new]).await {
            match result {
                Err(error) if error.code() != Some(ErrorCode::TopicAlreadyExists) => return Err(error.into()),
                _ => {}
            }
        }
    }
    let metadata = target.await_leaders(vec![topic.to_string()]).await?;
    Ok(metadata
        .topics
        .get(topic)
        .map_or(DEFAULT_LANES, |topic| topic.partitions.len() as i32))
}

/// Puts together what the ledger says of each partition.
#[derive(Default)]
struct Loading {
    checkpoints: HashMap<(String, i32), Checkpoint>,
    /// Only the last segment of each partition: that is where its map goes on.
    segments: HashMap<(String, i32), Segment>,
}

impl Loading {
    fn take(&mut self, record: LedgerRecord) {
        match record {
            LedgerRecord::Flow(_) => {}
            LedgerRecord::Checkpoint {
                topic,
                partition,
                checkpoint,
            } => {
                self.checkpoints.insert((topic, partition), checkpoint);
            }
            LedgerRecord::Segment {
                topic,
                partition,
                segment,
            } => {
                let last = self.segments.entry((topic, partition)).or_default();
                if segment.start() >= last.start() {
                    *last = segment;
                }
            }
        }
    }

    fn finish(mut self) -> Memory {
        self.checkpoints
            .into_iter()
            .map(|(key, checkpoint)| {
                let segment = self.segments.remove(&key).unwrap_or_default();
                (key, Remembered { checkpoint, segment })
            })
            .collect()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "an I/O folder; a ledger record is stamped when it is written"
)]
fn timestamp_ms() -> i64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since_epoch.map_or(0, |since| since.as_millis() as i64)
}
