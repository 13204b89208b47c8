//! Reads a partition from one offset to another, besides the data path: for the ledger, for recovery.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::cluster::{
    Cluster, ClusterError, FetchOptions, FetchPartition, FetchSession, Isolation, Purpose, TopicSelection, fetch,
};
use crate::protocol::error_code::{ErrorCode, Recovery};
use crate::protocol::fetch_response::{EpochEnd, FetchedPartition};
use crate::record::{CrcMismatch, DecodeLimits, RawBatch, RecordError, ScanError, Scanned, decode, scan};

const MAX_BYTES: i32 = 4 << 20;
const MAX_WAIT_MS: i32 = 100;

/// How often a broker may refuse, or answer nothing, before the reader gives up: leaders move.
const MAX_REFUSALS: u32 = 50;
const REFUSAL_WAIT: Duration = Duration::from_millis(200);

/// The connection that is read through: not one of the data's, where a long poll would hold it up.
const READER_CONNECTION: usize = usize::MAX;

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("{topic} partition {partition} refused to be read: {}", code.name())]
    Refused {
        topic: Arc<str>,
        partition: i32,
        code: ErrorCode,
    },
    #[error("{topic} partition {partition} does not exist or has no leader")]
    NoLeader { topic: Arc<str>, partition: i32 },
    #[error("{topic} partition {partition} was truncated: leader epoch {} ends at {}", end.epoch, end.end_offset)]
    Diverged {
        topic: Arc<str>,
        partition: i32,
        end: EpochEnd,
        /// The leader's own.
        leader_epoch: i32,
    },
    #[error("a batch of {topic} partition {partition} is damaged")]
    Damaged {
        topic: Arc<str>,
        partition: i32,
        source: Damage,
    },
    #[error("{topic} partition {partition} holds records that can't be read")]
    Record {
        topic: Arc<str>,
        partition: i32,
        source: RecordError,
    },
}

/// What is wrong with a batch: on its way, or on the broker's disk.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    #[error(transparent)]
    Scan(#[from] ScanError),
    #[error(transparent)]
    Crc(#[from] CrcMismatch),
    #[error("offsets {base_offset} to {last_offset} where offset {expected} is expected")]
    Misplaced {
        base_offset: i64,
        last_offset: i64,
        expected: i64,
    },
}

impl ReadError {
    /// Whether the same may work a little later.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Cluster(error) => !matches!(error.recovery(), Recovery::None | Recovery::Stop),
            Self::Refused { code, .. } => !matches!(code.recovery(), Recovery::None | Recovery::Stop),
            Self::NoLeader { .. } | Self::Damaged { .. } => true,
            Self::Diverged { .. } | Self::Record { .. } => false,
        }
    }
}

/// Reads one partition, fetch by fetch.
#[derive(Debug)]
pub struct PartitionReader {
    cluster: Cluster,
    topic: Arc<str>,
    partition: i32,
    isolation: Isolation,
    session: FetchSession,
    refusals: u32,
}

impl PartitionReader {
    pub fn new(cluster: Cluster, topic: Arc<str>, partition: i32, isolation: Isolation) -> Self {
        Self {
            cluster,
            topic,
            partition,
            isolation,
            session: FetchSession::default(),
            refusals: 0,
        }
    }

    /// What lies from `offset` on: whole batches, or nothing for now. `last_epoch` is the leader epoch of the batch before
    /// `offset`, or -1 where that is not known.
    pub async fn fetch(&mut self, offset: i64, last_epoch: i32) -> Result<FetchedPartition, ReadError> {
        loop {
            let fetched = self.try_fetch(offset, last_epoch).await;
            match fetched {
                Ok(Some(fetched)) => match (fetched.diverging_epoch, fetched.error) {
                    (Some(end), _) => {
                        return Err(ReadError::Diverged {
                            topic: Arc::clone(&self.topic),
                            partition: self.partition,
                            end,
                            leader_epoch: self.leader()?.1,
                        });
                    }
                    (None, ErrorCode::None) => match check(fetched.records.clone(), fetched.replicated_end(), offset) {
                        Ok(()) => {
                            self.refusals = 0;
                            return Ok(fetched);
                        }
                        Err(source) => {
                            let (topic, partition) = (Arc::clone(&self.topic), self.partition);
                            self.wait_for(ReadError::Damaged {
                                topic,
                                partition,
                                source,
                            })
                            .await?;
                        }
                    },
                    (None, code) => self.wait_for(self.refused(code)).await?,
                },
                // A session leaves out what has not changed.
                Ok(None) => self.session = FetchSession::default(),
                Err(error) => self.wait_for(error).await?,
            }
        }
    }

    fn refused(&self, code: ErrorCode) -> ReadError {
        ReadError::Refused {
            topic: Arc::clone(&self.topic),
            partition: self.partition,
            code,
        }
    }

    async fn wait_for(&mut self, error: ReadError) -> Result<(), ReadError> {
        self.refusals += 1;
        if self.refusals > MAX_REFUSALS || !error.may_pass() {
            return Err(error);
        }
        tokio::time::sleep(REFUSAL_WAIT).await;
        let topic = TopicSelection::Names(vec![self.topic.to_string()]);
        self.cluster.refresh_metadata(topic).await?;
        Ok(())
    }

    async fn try_fetch(&mut self, offset: i64, last_epoch: i32) -> Result<Option<FetchedPartition>, ReadError> {
        let (leader, epoch, topic_id) = self.leader()?;
        let purpose = Purpose::Fetch(READER_CONNECTION);
        let connection = self.cluster.connection(leader, purpose).await?;
        let wanted = FetchPartition {
            topic: Arc::clone(&self.topic),
            topic_id,
            partition: self.partition,
            fetch_offset: offset,
            current_leader_epoch: epoch,
            last_fetched_epoch: last_epoch,
            max_bytes: MAX_BYTES,
        };
        let options = FetchOptions {
            max_wait_ms: MAX_WAIT_MS,
            min_bytes: 1,
            max_bytes: MAX_BYTES,
            isolation: self.isolation,
        };
        self.session.want(wanted);
        let response = fetch(&connection, &mut self.session, &options).await?;
        Ok(response.partitions.into_iter().next().map(|(_, fetched)| fetched))
    }

    fn leader(&self) -> Result<(i32, i32, uuid::Uuid), ReadError> {
        let metadata = self.cluster.metadata();
        let found = metadata
            .topics
            .get(&self.topic)
            .and_then(|found| Some((found.id, found.partition(self.partition)?)));
        let known = found.and_then(|(id, partition)| Some((partition.leader?, partition.leader_epoch, id)));
        known.ok_or_else(|| ReadError::NoLeader {
            topic: Arc::clone(&self.topic),
            partition: self.partition,
        })
    }
}

/// Whoever reads here decides by what is read. The checksum of a batch does not cover its base offset: its place has to do.
fn check(records: Bytes, high_watermark: i64, offset: i64) -> Result<(), Damage> {
    let mut expected = offset;
    for scanned in scan(records) {
        let Scanned::Batch(batch) = scanned? else { continue };
        batch.verify_crc()?;
        let (base_offset, last_offset) = (batch.header.base_offset(), batch.header.last_offset());
        // The first batch may begin below the offset that was asked for.
        let is_behind = base_offset >= expected || (expected == offset && last_offset >= expected);
        if !is_behind || last_offset >= high_watermark {
            return Err(Damage::Misplaced {
                base_offset,
                last_offset,
                expected,
            });
        }
        expected = batch.header.next_offset();
    }
    Ok(())
}

/// Gives `visit` the key and value of each record in offsets `from..to`, in order.
pub async fn read_partition(
    cluster: &Cluster,
    topic: Arc<str>,
    partition: i32,
    (from, to): (i64, i64),
    mut visit: impl FnMut(Option<&[u8]>, Option<&[u8]>),
) -> Result<(), ReadError> {
    let mut reader = PartitionReader::new(
        cluster.clone(),
        Arc::clone(&topic),
        partition,
        Isolation::ReadUncommitted,
    );
    let (mut position, mut empty) = (from, 0);
    while position < to {
        let fetched = reader.fetch(position, -1).await?;
        let before = position;
        for scanned in scan(fetched.records) {
            let scanned = scanned.map_err(|source| ReadError::Damaged {
                topic: Arc::clone(&topic),
                partition,
                source: source.into(),
            })?;
            let Scanned::Batch(batch) = scanned else { continue }; // A ledger is younger than magic 1.
            visit_batch(&batch, (from, to), &mut visit).map_err(|source| ReadError::Record {
                topic: Arc::clone(&topic),
                partition,
                source,
            })?;
            position = position.max(batch.header.next_offset());
        }
        empty = if position == before { empty + 1 } else { 0 };
        if empty == MAX_EMPTY && fetched.high_watermark >= to {
            return Ok(()); // Compaction has left nothing up to the end.
        }
    }
    Ok(())
}

/// Answers without a batch that are believed. A broker that throttles answers so too.
const MAX_EMPTY: u32 = 3;

fn visit_batch(
    batch: &RawBatch,
    (from, to): (i64, i64),
    visit: &mut impl FnMut(Option<&[u8]>, Option<&[u8]>),
) -> Result<(), RecordError> {
    if batch.header.is_control() {
        return Ok(());
    }
    let decoded = decode(batch, &DecodeLimits::default())?;
    for record in decoded.records() {
        let record = record?;
        if (from..to).contains(&decoded.offset(&record)) {
            visit(record.key, record.value);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BatchBuilder, BatchOptions};

    fn batch(base_offset: i64) -> Vec<u8> {
        let mut batch = BatchBuilder::new(BatchOptions {
            base_offset,
            ..BatchOptions::default()
        });
        for _ in 0..2 {
            batch.push(0, None, Some(b"v"), &[]);
        }
        batch.build().expect("small").to_vec()
    }

    /// Of a log whose high watermark is 100.
    fn checked(records: Vec<u8>, offset: i64) -> Result<(), Damage> {
        check(records.into(), 100, offset)
    }

    #[test]
    fn batches_in_their_places_are_taken() {
        assert!(checked([batch(4), batch(6), batch(20)].concat(), 5).is_ok());
    }

    #[test]
    fn a_byte_that_has_changed_is_noticed() {
        let mut damaged = batch(4);
        *damaged.last_mut().expect("bytes") ^= 1;
        assert!(matches!(checked(damaged, 4), Err(Damage::Crc(_))));
    }

    #[test]
    fn a_batch_in_another_place_is_noticed() {
        for (records, offset) in [
            (batch(4), 6),
            ([batch(4), batch(4)].concat(), 4),
            ([batch(6), batch(4)].concat(), 5),
            (batch(99), 99),
        ] {
            assert!(matches!(checked(records, offset), Err(Damage::Misplaced { .. })));
        }
    }
}
