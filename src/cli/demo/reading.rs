//! Reads a partition for the check, by another way than the flow's.
//!
//! The flow leaves out what a broker lists as aborted, batch by batch as it comes. Here all of a log is read as it lies,
//! uncommitted data too, and the markers in the log itself say what was committed. Client and record decoder are the
//! flow's own; that these read what Kafka's clients write, and the other way round, is for the tests against Kafka.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, bail};

use super::content::Content;
use crate::cluster::{Cluster, FetchOptions, FetchPartition, FetchSession, Isolation, Purpose, fetch};
use crate::protocol::error_code::ErrorCode;
use crate::record::{Codec, ControlType, DecodeLimits, RawBatch, Scanned, decode, scan};

const MAX_BYTES: i32 = 4 << 20;
const MAX_WAIT_MS: i32 = 100;

/// What a log holds, as far as it has been read.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// By offset.
    pub(super) committed: BTreeMap<i64, Content>,
    /// Of transactions that have no marker so far, by producer id.
    open: BTreeMap<i64, Vec<(i64, Content)>>,
    pub(super) aborted_records: u64,
    pub(super) markers: u64,
    /// Batches with records, by codec.
    pub(super) codecs: BTreeMap<&'static str, u64>,
    /// Batches that the cleaner has taken records out of.
    pub(super) batches_with_gaps: u64,
}

impl Reading {
    /// Takes the next batch of the log.
    pub(super) fn push(&mut self, batch: &RawBatch) -> anyhow::Result<()> {
        let header = &batch.header;
        batch.verify_crc()?;
        let decoded = decode(batch, &DecodeLimits::default())?;
        let records = decoded.records().collect::<Result<Vec<_>, _>>()?;
        if header.is_control() {
            let marker = records.first().and_then(|record| ControlType::from_key(record.key?));
            self.end(header.producer_id(), marker);
            return Ok(());
        }
        if !records.is_empty() {
            *self.codecs.entry(name(header.codec()?)).or_default() += 1;
            self.batches_with_gaps += u64::from(header.has_offset_gaps());
        }
        for record in &records {
            let (offset, content) = (decoded.offset(record), Content::of(record, &decoded)?);
            if header.is_transactional() {
                self.open
                    .entry(header.producer_id())
                    .or_default()
                    .push((offset, content));
            } else {
                self.committed.insert(offset, content);
            }
        }
        Ok(())
    }

    /// A marker ends the producer's transaction.
    fn end(&mut self, producer_id: i64, marker: Option<ControlType>) {
        self.markers += 1;
        let records = self.open.remove(&producer_id).unwrap_or_default();
        match marker {
            Some(ControlType::Commit) => self.committed.extend(records),
            Some(ControlType::Abort) => self.aborted_records += records.len() as u64,
            None => {}
        }
    }
}

/// Reads a partition from its start up to `end`.
pub(super) async fn read(cluster: &Cluster, topic: &str, partition: i32, end: i64) -> anyhow::Result<Reading> {
    let mut reading = Reading::default();
    let mut session = FetchSession::default();
    let mut position = 0;
    let options = FetchOptions {
        max_wait_ms: MAX_WAIT_MS,
        min_bytes: 1,
        max_bytes: MAX_BYTES,
        isolation: Isolation::ReadUncommitted,
    };
    let metadata = cluster.metadata();
    let leader = metadata.partition(topic, partition).and_then(|known| known.leader);
    let leader = leader.with_context(|| format!("{topic} partition {partition} has no leader"))?;
    let connection = cluster.connection(leader, Purpose::Fetch(0)).await?;
    while position < end {
        session.want(FetchPartition {
            topic: Arc::from(topic),
            topic_id: uuid::Uuid::nil(),
            partition,
            fetch_offset: position,
            current_leader_epoch: -1,
            last_fetched_epoch: -1,
            max_bytes: MAX_BYTES,
        });
        let answer = fetch(&connection, &mut session, &options).await?;
        let Some((_, fetched)) = answer.partitions.into_iter().next() else {
            break;
        };
        if fetched.error != ErrorCode::None {
            bail!("{topic} partition {partition} cannot be read: {}", fetched.error.name());
        }
        let before = position;
        for scanned in scan(fetched.records) {
            let Scanned::Batch(batch) = scanned? else {
                bail!("{topic} partition {partition} holds a message of an old format");
            };
            let place = || {
                format!(
                    "{topic} partition {partition}, batch at offset {}",
                    batch.header.base_offset()
                )
            };
            reading.push(&batch).with_context(place)?;
            position = batch.header.next_offset();
        }
        if position == before {
            break; // Nothing lies between here and the end. What should be there, the comparison misses.
        }
    }
    Ok(reading)
}

fn name(codec: Codec) -> &'static str {
    match codec {
        Codec::None => "none",
        Codec::Gzip => "gzip",
        Codec::Snappy => "snappy",
        Codec::Lz4 => "lz4",
        Codec::Zstd => "zstd",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BatchBuilder, BatchOptions, ProducerStamp, control_batch};

    fn batch(bytes: bytes::Bytes) -> RawBatch {
        match scan(bytes).next() {
            Some(Ok(Scanned::Batch(batch))) => batch,
            other => panic!("no batch: {other:?}"),
        }
    }

    fn data(offset: i64, producer: Option<i64>) -> RawBatch {
        let mut builder = BatchBuilder::new(BatchOptions {
            base_offset: offset,
            transactional: producer.is_some(),
            producer: producer.map(|producer_id| ProducerStamp {
                producer_id,
                producer_epoch: 0,
                base_sequence: 0,
            }),
            ..BatchOptions::default()
        });
        builder.push(1, None, Some(b"v"), &[]);
        batch(builder.build().expect("a batch"))
    }

    #[test]
    fn markers_decide_what_is_committed() {
        let marker = |offset, producer, kind| batch(control_batch(offset, producer, 0, kind, 0, 1));
        let log = [
            data(0, Some(1)),
            data(1, Some(2)),
            data(2, None),
            marker(3, 1, ControlType::Abort),
            data(4, Some(1)),
            marker(5, 2, ControlType::Commit),
            marker(6, 1, ControlType::Commit),
            data(7, Some(1)),
        ];
        let mut reading = Reading::default();
        for batch in &log {
            reading.push(batch).expect("a sound log");
        }

        assert_eq!(reading.committed.keys().copied().collect::<Vec<_>>(), [1, 2, 4]);
        assert_eq!((reading.aborted_records, reading.markers), (1, 3));
    }

    #[test]
    fn a_damaged_batch_is_not_read() {
        let intact = data(0, None);
        let mut bytes = intact.bytes.to_vec();
        *bytes.last_mut().expect("not empty") ^= 1;
        let damaged = RawBatch {
            bytes: bytes.into(),
            ..intact
        };
        assert!(Reading::default().push(&damaged).is_err());
    }
}
