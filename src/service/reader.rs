//! Reads a partition's records from one offset to another, for the ledger: a few at a time, nothing kept.

use std::sync::Arc;
use std::time::Duration;

use crate::cluster::{
    Cluster, ClusterError, FetchOptions, FetchPartition, FetchSession, Isolation, Purpose, TopicSelection, fetch,
};
use crate::protocol::error_code::{ErrorCode, Recovery};
use crate::record::{DecodeLimits, RawBatch, RecordError, ScanError, Scanned, decode, scan};

const MAX_BYTES: i32 = 4 << 20;
const MAX_WAIT_MS: i32 = 100;

/// How often a broker may refuse before the reader gives up: leaders move.
const MAX_REFUSALS: u32 = 50;
const REFUSAL_WAIT: Duration = Duration::from_millis(200);

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
    #[error("{topic} partition {partition} holds records that can't be found")]
    Scan {
        topic: Arc<str>,
        partition: i32,
        source: ScanError,
    },
    #[error("{topic} partition {partition} holds records that can't be read")]
    Record {
        topic: Arc<str>,
        partition: i32,
        source: RecordError,
    },
}

impl ReadError {
    /// Whether the same may work a little later.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Cluster(error) => !matches!(error.recovery(), Recovery::None | Recovery::Stop),
            Self::Refused { code, .. } => !matches!(code.recovery(), Recovery::None | Recovery::Stop),
            Self::NoLeader { .. } => true,
            Self::Scan { .. } | Self::Record { .. } => false,
        }
    }
}

/// Gives `visit` the key and value of each record in offsets `from..to`, in order.
pub async fn read_partition(
    cluster: &Cluster,
    topic: Arc<str>,
    partition: i32,
    (from, to): (i64, i64),
    mut visit: impl FnMut(Option<&[u8]>, Option<&[u8]>),
) -> Result<(), ReadError> {
    let mut session = FetchSession::default();
    let (mut position, mut refusals) = (from, 0);
    while position < to {
        let (leader, epoch, topic_id) = leader(cluster, &topic, partition)?;
        let connection = cluster.connection(leader, Purpose::Fetch(0)).await?;
        let wanted = FetchPartition {
            topic: Arc::clone(&topic),
            topic_id,
            partition,
            fetch_offset: position,
            current_leader_epoch: epoch,
            last_fetched_epoch: -1,
            max_bytes: MAX_BYTES,
        };
        let options = FetchOptions {
            max_wait_ms: MAX_WAIT_MS,
            min_bytes: 1,
            max_bytes: MAX_BYTES,
            isolation: Isolation::ReadUncommitted,
        };
        let response = fetch(&connection, &mut session, &[wanted], &options).await?;
        let Some((_, fetched)) = response.partitions.into_iter().next() else {
            continue;
        };
        if fetched.error != ErrorCode::None {
            refusals += 1;
            if refusals > MAX_REFUSALS || fetched.error.recovery() == Recovery::Stop {
                return Err(ReadError::Refused {
                    topic,
                    partition,
                    code: fetched.error,
                });
            }
            tokio::time::sleep(REFUSAL_WAIT).await;
            cluster
                .refresh_metadata(TopicSelection::Names(vec![topic.to_string()]))
                .await?;
            continue;
        }
        let before = position;
        for scanned in scan(fetched.records) {
            let scanned = scanned.map_err(|source| ReadError::Scan {
                topic: Arc::clone(&topic),
                partition,
                source,
            })?;
            let Scanned::Batch(batch) = scanned else { continue }; // A ledger is younger than magic 1.
            visit_batch(&batch, &mut visit).map_err(|source| ReadError::Record {
                topic: Arc::clone(&topic),
                partition,
                source,
            })?;
            position = position.max(batch.header.next_offset());
        }
        if position == before && response.throttle_time_ms == 0 && fetched.high_watermark >= to {
            return Ok(()); // Compaction has left nothing up to the end.
        }
    }
    Ok(())
}

fn visit_batch(batch: &RawBatch, visit: &mut impl FnMut(Option<&[u8]>, Option<&[u8]>)) -> Result<(), RecordError> {
    if batch.header.is_control() {
        return Ok(());
    }
    let decoded = decode(batch, &DecodeLimits::default())?;
    for record in decoded.records() {
        let record = record?;
        visit(record.key, record.value);
    }
    Ok(())
}

fn leader(cluster: &Cluster, topic: &Arc<str>, partition: i32) -> Result<(i32, i32, uuid::Uuid), ReadError> {
    let metadata = cluster.metadata();
    let found = metadata
        .topics
        .get(topic.as_ref())
        .and_then(|found| Some((found.id, found.partition(partition)?)));
    let known = found.and_then(|(id, partition)| Some((partition.leader?, partition.leader_epoch, id)));
    known.ok_or_else(|| ReadError::NoLeader {
        topic: Arc::clone(topic),
        partition,
    })
}
