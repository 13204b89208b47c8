//! The ledger topic: made, read, written. What its records say is `replication::ledger`'s.
//!
//! One task writes it, so that what goes out for a lane goes out in order. Whoever opens a ledger for writing owns the
//! flow from then on: its owner record lies behind all others', and each later write and [`LedgerStore::confirm`] reads
//! what has come between. An owner that finds another one's record behind its own has been superseded.

mod error;
mod lane;
mod memory;
mod task;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, mpsc, oneshot};

pub use error::LedgerStoreError;
pub use memory::{LaneMemory, LedgerMemory, LedgerRecords, PartitionRecords, Partitions, Remembered};

use self::lane::LaneWriter;
use self::memory::Loading;
use self::task::{Command, LedgerTask};
use self::watch::Watch;
use super::now;
use super::topics::{all, exists};
use crate::cluster::{Cluster, Isolation, NewTopic, OffsetSpec, TopicSelection};
use crate::protocol::error_code::ErrorCode;
use crate::replication::flow::Tenure;
use crate::replication::ledger::{DEFAULT_LANES, FlowRecord, LedgerKey, LedgerRecord, OwnerId, OwnerRecord};

/// Waits between the attempts to write a ledger's first records. A topic is there before its replicas are.
const FIRST_WRITE_WAITS_MS: [u64; 7] = [50, 100, 200, 400, 800, 1600, 3200];

/// Writes that wait for the ledger's task.
const MAX_COMMANDS: usize = 16;

/// A lane's outcome of a write.
pub type LaneResults = BTreeMap<i32, Result<(), LedgerStoreError>>;

/// The ledger of one flow, owned.
#[derive(Debug, Clone)]
pub struct LedgerStore {
    topic: Arc<str>,
    lanes: i32,
    owner: OwnerId,
    tenure: Tenure,
    commands: mpsc::Sender<Command>,
    watch: Arc<Mutex<Watch>>,
}

impl LedgerStore {
    /// Opens the ledger, makes it if there is none, reads it whole, and takes it over. `instance` tells this process from
    /// all others.
    pub async fn open(
        target: Cluster,
        topic: &str,
        source_cluster_id: &str,
        replication_factor: i16,
        instance: u64,
    ) -> Result<(Self, LedgerMemory), LedgerStoreError> {
        let topic: Arc<str> = Arc::from(topic);
        let partitions = ensure_topic(&target, &topic, replication_factor).await?;
        let mut opening = Opening::read(target, Arc::clone(&topic), partitions).await?;
        let lanes = opening.claim_flow(source_cluster_id, partitions).await?;
        opening.writers.truncate(lanes as usize); // Somebody may have added partitions to the topic since.
        let (owner, began) = opening.take_over(instance).await?;
        let written = now();
        let memory = opening.loading.finish(owner);
        let mut last_owners = memory.lanes.values().filter_map(|lane| lane.owner);
        let tenure = Tenure::new(began, written, last_owners.all(|last| last.released));
        let (commands, inbox) = mpsc::channel(MAX_COMMANDS);
        let watch = Watch::beside(&opening.writers, opening.target, Arc::clone(&topic), owner);
        tokio::spawn(LedgerTask::new(owner, opening.writers).run(inbox));
        let store = Self {
            topic,
            lanes,
            owner,
            tenure,
            commands,
            watch: Arc::new(Mutex::new(watch)),
        };
        Ok((store, memory))
    }

    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    pub fn lanes(&self) -> i32 {
        self.lanes
    }

    pub fn owner(&self) -> OwnerId {
        self.owner
    }

    /// Since when the flow is ours.
    pub fn tenure(&self) -> Tenure {
        self.tenure
    }

    /// Writes records, each lane's in its own partition. Those of a lane that succeeds are in the ledger, and no other
    /// owner's record lay behind ours before them.
    pub async fn write(&self, lanes: BTreeMap<i32, Vec<LedgerRecord>>) -> LaneResults {
        let named: Vec<i32> = lanes.keys().copied().collect();
        let results = self.ask(lanes).await;
        results.unwrap_or_else(|| {
            named
                .into_iter()
                .map(|lane| (lane, Err(LedgerStoreError::Ended)))
                .collect()
        })
    }

    /// Makes sure that nobody else has taken the flow over so far.
    pub async fn confirm(&self) -> Result<(), LedgerStoreError> {
        self.watch.lock().await.confirm().await
    }

    /// Gives the flow up. To be called when nothing is on its way to the target any more.
    pub async fn release(&self) -> Result<(), LedgerStoreError> {
        let record = LedgerRecord::Owner(OwnerRecord {
            owner: self.owner,
            released: true,
        });
        let lanes = (0..self.lanes).map(|lane| (lane, vec![record.clone()])).collect();
        self.write(lanes).await.into_values().collect()
    }

    async fn ask(&self, lanes: BTreeMap<i32, Vec<LedgerRecord>>) -> Option<LaneResults> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command { lanes, reply }).await.ok()?;
        answer.await.ok()
    }
}

/// Reads a ledger that exists, without owning it. Says how many bytes its keys and values take, too.
pub async fn read_ledger(target: &Cluster, topic: &Arc<str>) -> Result<(LedgerRecords, u64), LedgerStoreError> {
    let metadata = target.await_leaders(vec![topic.to_string()]).await?;
    let partitions = metadata
        .topics
        .get(topic)
        .map_or(0, |topic| topic.partitions.len() as i32);
    let opening = Opening::read(target.clone(), Arc::clone(topic), partitions).await?;
    let bytes = opening.writers.iter().map(LaneWriter::bytes_read).sum();
    Ok((opening.loading.into_records(), bytes))
}

/// A ledger on the way to being owned.
struct Opening {
    target: Cluster,
    topic: Arc<str>,
    loading: Loading,
    writers: Vec<LaneWriter>,
}

impl Opening {
    async fn read(target: Cluster, topic: Arc<str>, partitions: i32) -> Result<Self, LedgerStoreError> {
        let all_partitions: Vec<(Arc<str>, i32)> = (0..partitions).map(|lane| (Arc::clone(&topic), lane)).collect();
        let starts = all(target.list_offsets(all_partitions.clone(), OffsetSpec::Earliest).await)?;
        let latest = OffsetSpec::Latest(Isolation::ReadUncommitted);
        let ends = all(target.list_offsets(all_partitions.clone(), latest).await)?;
        let (mut loading, mut writers) = (Loading::default(), Vec::new());
        for partition in all_partitions {
            let lane = partition.1;
            let seen = starts[&partition].offset;
            let mut writer = LaneWriter::new(target.clone(), Arc::clone(&topic), lane, seen);
            writer
                .read_to(ends[&partition].offset, &mut |record| loading.take(lane, record))
                .await?;
            writers.push(writer);
        }
        Ok(Self {
            target,
            topic,
            loading,
            writers,
        })
    }

    /// Makes sure that it is this flow's ledger; says how many lanes it has.
    async fn claim_flow(&mut self, source_cluster_id: &str, partitions: i32) -> Result<i32, LedgerStoreError> {
        match self.loading.flow() {
            Some(flow) if flow.source_cluster_id != source_cluster_id => Err(LedgerStoreError::OtherSource {
                topic: Arc::clone(&self.topic),
                found: flow.source_cluster_id.clone(),
                expected: source_cluster_id.to_owned(),
            }),
            Some(flow) => Ok(flow.lanes.min(partitions)),
            None => {
                let flow = FlowRecord {
                    source_cluster_id: source_cluster_id.to_owned(),
                    target_cluster_id: self.target.cluster_id().to_owned(),
                    lanes: partitions,
                };
                self.write_first(0, vec![LedgerRecord::Flow(flow)]).await?;
                Ok(partitions)
            }
        }
    }

    /// Writes owner records of a generation above all others', and reads everything below them. Says when it began
    /// to.
    async fn take_over(&mut self, instance: u64) -> Result<(OwnerId, Instant), LedgerStoreError> {
        loop {
            let began = now();
            let owner = OwnerId {
                generation: self.loading.highest_generation() + 1,
                instance,
            };
            let record = OwnerRecord { owner, released: false };
            for index in 0..self.writers.len() {
                let lane = self.writers[index].lane();
                let older = self.loading.owners_besides(lane, owner);
                let gone = older.map(|owner| LedgerRecord::Gone(LedgerKey::Owner { owner }));
                let records = [LedgerRecord::Owner(record)].into_iter().chain(gone).collect();
                self.write_first(index, records).await?;
            }
            if self.loading.highest_generation() < owner.generation {
                return Ok((owner, began));
            }
        }
    }

    /// Checkpoints are tried again by the flow. There is none yet.
    async fn write_first(&mut self, index: usize, records: Vec<LedgerRecord>) -> Result<(), LedgerStoreError> {
        let writer = &mut self.writers[index];
        let (lane, loading) = (writer.lane(), &mut self.loading);
        let mut records = &records[..];
        let mut waits = FIRST_WRITE_WAITS_MS.into_iter();
        loop {
            match writer.write(records, |record| loading.take(lane, record)).await {
                Err(error) if error.may_pass() => {
                    let Some(wait_ms) = waits.next() else { return Err(error) };
                    records = &[]; // What was not written is in doubt, and comes first.
                    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                }
                result => return result,
            }
        }
    }
}

/// Makes the ledger topic where it is missing; says how many partitions it has.
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
