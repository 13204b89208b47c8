//! The ledger topic: made, read, written. What its records say is `replication::ledger`'s.
//!
//! One task writes each lane, so that what goes out for it goes out in order. Whoever opens a ledger for writing owns the
//! flow from then on: its owner record lies behind all others', and each later write and [`LedgerStore::confirm`] reads
//! what has come between. An owner that finds another one's record behind its own has been superseded.

mod error;
mod lane;
mod memory;
mod opening;
mod task;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Mutex;

pub use error::LedgerStoreError;
pub use memory::{LaneMemory, LedgerMemory, LedgerRecords, PartitionRecords, Partitions, Remembered};

use self::opening::Opening;
use self::task::LaneTask;
use self::watch::Watch;
use super::now;
use super::topics::exists;
use crate::cluster::{Cluster, NewTopic, TopicSelection};
use crate::protocol::error_code::ErrorCode;
use crate::replication::flow::Tenure;
use crate::replication::ledger::{DEFAULT_LANES, LedgerRecord, OwnerId, OwnerRecord};

/// A lane's outcome of a write.
pub type LaneResults = BTreeMap<i32, Result<(), LedgerStoreError>>;

/// The ledger of one flow, owned.
#[derive(Debug, Clone)]
pub struct LedgerStore {
    topic: Arc<str>,
    owner: OwnerId,
    tenure: Tenure,
    /// By lane.
    tasks: Arc<[LaneTask]>,
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
        let mut opening = Opening::read(target.clone(), Arc::clone(&topic), partitions).await?;
        opening.claim_flow(source_cluster_id).await?;
        let (owner, began) = opening.take_over(instance).await?;
        let written = now();
        let (writers, memory) = opening.finish(owner);
        let mut last_owners = memory.lanes.values().filter_map(|lane| lane.owner);
        let tenure = Tenure::new(began, written, last_owners.all(|last| last.released));
        let watch = Watch::beside(&writers, target, Arc::clone(&topic), owner);
        let store = Self {
            topic,
            owner,
            tenure,
            tasks: writers
                .into_iter()
                .map(|writer| LaneTask::spawn(owner, writer))
                .collect(),
            watch: Arc::new(Mutex::new(watch)),
        };
        Ok((store, memory))
    }

    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    pub fn lanes(&self) -> i32 {
        self.tasks.len() as i32
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
        let mut answers = BTreeMap::new();
        for (lane, records) in lanes {
            answers.insert(lane, self.tasks[lane as usize].write(records).await);
        }
        let mut results = LaneResults::new();
        for (lane, answer) in answers {
            results.insert(lane, answer.await.unwrap_or(Err(LedgerStoreError::Ended)));
        }
        results
    }

    /// Makes sure that nobody else has taken the flow over so far.
    pub async fn confirm(&self) -> Result<(), LedgerStoreError> {
        let asked = now();
        self.watch.lock().await.confirm(asked).await
    }

    /// Gives the flow up. To be called when nothing is on its way to the target any more.
    pub async fn release(&self) -> Result<(), LedgerStoreError> {
        let record = LedgerRecord::Owner(OwnerRecord {
            owner: self.owner,
            released: true,
        });
        let lanes = (0..self.lanes()).map(|lane| (lane, vec![record.clone()])).collect();
        self.write(lanes).await.into_values().collect()
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
    Ok(opening.into_records())
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
