//! A ledger on the way to being owned: read whole, then taken over, its lanes side by side.

use std::mem::take;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::super::now;
use super::super::topics::all;
use super::LedgerStoreError;
use super::lane::LaneWriter;
use super::memory::{LaneRecords, LedgerMemory, LedgerRecords};
use crate::cluster::{Cluster, Isolation, OffsetSpec};
use crate::replication::ledger::{FlowRecord, LedgerKey, LedgerRecord, OwnerId, OwnerRecord};

/// Waits between the attempts to write a ledger's first records. A topic is there before its replicas are.
const FIRST_WRITE_WAITS_MS: [u64; 7] = [50, 100, 200, 400, 800, 1600, 3200];

pub(super) struct Opening {
    target: Cluster,
    topic: Arc<str>,
    /// In their order.
    lanes: Vec<Lane>,
}

impl Opening {
    pub(super) async fn read(target: Cluster, topic: Arc<str>, partitions: i32) -> Result<Self, LedgerStoreError> {
        let all_partitions: Vec<(Arc<str>, i32)> = (0..partitions).map(|lane| (Arc::clone(&topic), lane)).collect();
        let latest = OffsetSpec::Latest(Isolation::ReadUncommitted);
        let (starts, ends) = tokio::join!(
            target.list_offsets(all_partitions.clone(), OffsetSpec::Earliest),
            target.list_offsets(all_partitions.clone(), latest),
        );
        let (starts, ends) = (all(starts)?, all(ends)?);
        let reads = all_partitions.into_iter().map(|partition| {
            let (start, end) = (starts[&partition].offset, ends[&partition].offset);
            let lane = Lane {
                writer: LaneWriter::new(target.clone(), Arc::clone(&topic), partition.1, start),
                records: LaneRecords::default(),
            };
            lane.read_to(end)
        });
        let lanes = side_by_side(reads).await?;
        Ok(Self { target, topic, lanes })
    }

    /// Makes sure that it is this flow's ledger.
    pub(super) async fn claim_flow(&mut self, source_cluster_id: &str) -> Result<(), LedgerStoreError> {
        let partitions = self.lanes.len() as i32;
        let lanes = match self.lanes.iter().find_map(|lane| lane.records.flow()) {
            Some(flow) if flow.source_cluster_id != source_cluster_id => {
                return Err(LedgerStoreError::OtherSource {
                    topic: Arc::clone(&self.topic),
                    found: flow.source_cluster_id.clone(),
                    expected: source_cluster_id.to_owned(),
                });
            }
            Some(flow) => flow.lanes.min(partitions),
            None => {
                let flow = FlowRecord {
                    source_cluster_id: source_cluster_id.to_owned(),
                    target_cluster_id: self.target.cluster_id().to_owned(),
                    lanes: partitions,
                };
                if let Some(first) = self.lanes.first_mut() {
                    first.write(&[LedgerRecord::Flow(flow)]).await?;
                }
                partitions
            }
        };
        self.lanes.truncate(lanes as usize); // Somebody may have added partitions to the topic since.
        Ok(())
    }

    /// Writes owner records of a generation above all others', and reads everything below them. Says when it began
    /// to.
    pub(super) async fn take_over(&mut self, instance: u64) -> Result<(OwnerId, Instant), LedgerStoreError> {
        loop {
            let began = now();
            let owner = OwnerId {
                generation: self.highest_generation() + 1,
                instance,
            };
            // One lane first: of two who open the ledger at once, one sees there that the other has come before.
            let mut others = take(&mut self.lanes);
            let first: Vec<Lane> = others.drain(..others.len().min(1)).collect();
            self.lanes = own(first, owner).await?;
            if self.highest_generation() < owner.generation {
                others = own(others, owner).await?;
            }
            self.lanes.append(&mut others);
            if self.highest_generation() < owner.generation {
                return Ok((owner, began));
            }
        }
    }

    /// What writes the lanes from now on, and what `owner`, who has taken the flow over, finds in them.
    pub(super) fn finish(self, owner: OwnerId) -> (Vec<LaneWriter>, LedgerMemory) {
        let (writers, records): (Vec<_>, Vec<_>) = self
            .lanes
            .into_iter()
            .map(|lane| {
                let number = lane.writer.lane();
                (lane.writer, (number, lane.records))
            })
            .unzip();
        (writers, LedgerMemory::new(records, owner))
    }

    /// All that was read, and how many bytes its keys and values take.
    pub(super) fn into_records(self) -> (LedgerRecords, u64) {
        let bytes = self.lanes.iter().map(|lane| lane.writer.bytes_read()).sum();
        (
            LedgerRecords::new(self.lanes.into_iter().map(|lane| lane.records)),
            bytes,
        )
    }

    /// Of all who have ever written.
    fn highest_generation(&self) -> i32 {
        let generations = self.lanes.iter().map(|lane| lane.records.highest_generation());
        generations.max().unwrap_or_default()
    }
}

/// Writes `owner`'s record into each of the lanes, and takes those of others back.
async fn own(lanes: Vec<Lane>, owner: OwnerId) -> Result<Vec<Lane>, LedgerStoreError> {
    side_by_side(lanes.into_iter().map(|lane| lane.own(owner))).await
}

async fn side_by_side<S>(steps: impl Iterator<Item = S>) -> Result<Vec<Lane>, LedgerStoreError>
where
    S: Future<Output = Result<Lane, LedgerStoreError>> + Send + 'static,
{
    let mut steps: JoinSet<S::Output> = steps.collect();
    let mut lanes = Vec::new();
    while let Some(lane) = steps.join_next().await {
        lanes.push(lane.expect("a lane's step does not panic")?);
    }
    lanes.sort_by_key(|lane| lane.writer.lane());
    Ok(lanes)
}

/// What writes a lane, and what is in it.
struct Lane {
    writer: LaneWriter,
    records: LaneRecords,
}

impl Lane {
    async fn read_to(mut self, end: i64) -> Result<Self, LedgerStoreError> {
        self.writer
            .read_to(end, &mut |record| self.records.take(record))
            .await?;
        Ok(self)
    }

    async fn own(mut self, owner: OwnerId) -> Result<Self, LedgerStoreError> {
        let record = OwnerRecord { owner, released: false };
        let older = self.records.owners_besides(owner);
        let gone = older.map(|owner| LedgerRecord::Gone(LedgerKey::Owner { owner }));
        let records: Vec<_> = [LedgerRecord::Owner(record)].into_iter().chain(gone).collect();
        self.write(&records).await?;
        Ok(self)
    }

    /// Checkpoints are tried again by the flow. There is none yet.
    async fn write(&mut self, mut records: &[LedgerRecord]) -> Result<(), LedgerStoreError> {
        let mut waits = FIRST_WRITE_WAITS_MS.into_iter();
        loop {
            let others = |record| self.records.take(record);
            match self.writer.write(records, others).await {
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
