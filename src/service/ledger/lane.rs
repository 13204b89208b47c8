//! Writes one lane's partition of the ledger, in order, and reads what others have written between.
//!
//! Written with a producer id of its own, so that a batch whose answer was lost is sent again under its sequence and lies
//! in the log once, in its place. What an earlier write left in doubt is settled before the next one goes out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::super::reader::read_partition;
use super::LedgerStoreError;
use crate::cluster::{Cluster, Purpose, TopicSelection, produce};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::produce_request::{ProducePartition, ProduceTopic};
use crate::record::{BatchBuilder, BatchHeader, BatchOptions, Codec, HEADER_LEN, ProducerStamp, patch};
use crate::replication::ledger::{LedgerRecord, OwnerId};
use crate::replication::stopped::chain;

/// Bytes of keys and values in one batch of the ledger: well below the `max.message.bytes` of a broker's default.
const MAX_BATCH_BYTES: usize = 512 << 10;

/// How long a broker may take to write a checkpoint.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// The connection that ledger writes go through: not one of the data's.
const LEDGER_CONNECTION: usize = usize::MAX;

#[derive(Debug)]
pub(super) struct LaneWriter {
    target: Cluster,
    topic: Arc<str>,
    lane: i32,
    producer: Option<(i64, i16)>,
    next_sequence: i32,
    /// A batch that was sent, of which is not known whether it is in the log.
    in_doubt: Option<Bytes>,
    /// Everything below was read, or written by us.
    seen: i64,
    /// Another owner's record lies behind ours.
    rival: Option<OwnerId>,
    bytes_read: u64,
}

impl LaneWriter {
    pub(super) fn new(target: Cluster, topic: Arc<str>, lane: i32, seen: i64) -> Self {
        Self {
            target,
            topic,
            lane,
            producer: None,
            next_sequence: 0,
            in_doubt: None,
            seen,
            rival: None,
            bytes_read: 0,
        }
    }

    /// One that reads the same lane from here on.
    pub(super) fn reader(&self) -> Self {
        Self::new(self.target.clone(), Arc::clone(&self.topic), self.lane, self.seen)
    }

    /// Of keys and values.
    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    pub(super) fn lane(&self) -> i32 {
        self.lane
    }

    /// Writes records. They count once this returns. `others` gets what others have written before them.
    pub(super) async fn write(
        &mut self,
        records: &[LedgerRecord],
        mut others: impl FnMut(LedgerRecord),
    ) -> Result<(), LedgerStoreError> {
        if let Some(batch) = self.in_doubt.take() {
            self.append(batch, &mut others).await?;
        }
        for batch in batches(records, self.target.time_ms())? {
            self.append(batch, &mut others).await?;
        }
        Ok(())
    }

    /// Writes records of which none may lie behind another owner's record: that one has the lane now, for good.
    pub(super) async fn write_as(&mut self, owner: OwnerId, records: &[LedgerRecord]) -> Result<(), LedgerStoreError> {
        self.refuse_rival()?;
        let mut rival = None;
        let written = self
            .write(records, |record| note_rival(&mut rival, owner, &record))
            .await;
        self.rival = rival;
        self.refuse_rival()?;
        written
    }

    /// Reads what others have written below `end`.
    pub(super) async fn confirm(&mut self, owner: OwnerId, end: i64) -> Result<(), LedgerStoreError> {
        self.refuse_rival()?;
        let mut rival = None;
        let read = self
            .read_to(end, &mut |record| note_rival(&mut rival, owner, &record))
            .await;
        self.rival = rival;
        self.refuse_rival()?;
        read
    }

    /// What lies behind a rival's record is read once, but the rival stays.
    fn refuse_rival(&self) -> Result<(), LedgerStoreError> {
        match self.rival {
            Some(by) => Err(LedgerStoreError::Superseded {
                topic: Arc::clone(&self.topic),
                by,
            }),
            None => Ok(()),
        }
    }

    pub(super) async fn read_to(
        &mut self,
        end: i64,
        others: &mut impl FnMut(LedgerRecord),
    ) -> Result<(), LedgerStoreError> {
        if self.seen >= end {
            return Ok(());
        }
        let (mut damage, mut bytes_read) = (None, 0);
        let (topic, range) = (Arc::clone(&self.topic), (self.seen, end));
        read_partition(&self.target, topic, self.lane, range, |key, value| {
            let Some(key) = key else { return };
            bytes_read += key.len() + value.map_or(0, <[u8]>::len);
            match LedgerRecord::decode(key, value) {
                Ok(record) => others(record),
                Err(error) => damage = damage.take().or(Some(error)),
            }
        })
        .await?;
        if let Some(source) = damage {
            let topic = Arc::clone(&self.topic);
            return Err(LedgerStoreError::Record { topic, source });
        }
        self.seen = end;
        self.bytes_read += bytes_read as u64;
        Ok(())
    }

    async fn append(&mut self, batch: Bytes, others: &mut impl FnMut(LedgerRecord)) -> Result<(), LedgerStoreError> {
        let count = BatchHeader::parse(&batch)?.record_count();
        let base_offset = match self.produce(&batch).await {
            Ok(base_offset) => base_offset,
            Err(error) => {
                if let LedgerStoreError::Refused { code, .. } = &error
                    && is_of_another_producer(*code)
                {
                    self.producer = None; // The broker has forgotten it. Nothing of ours is on its way.
                }
                self.in_doubt = Some(batch);
                // The leader may be another one by now; nobody else asks about this topic.
                self.refresh().await;
                return Err(error);
            }
        };
        self.next_sequence = self.next_sequence.wrapping_add(count as i32) & i32::MAX;
        self.read_to(base_offset, others).await?;
        self.seen = self.seen.max(base_offset + count as i64);
        Ok(())
    }

    async fn refresh(&self) {
        let names = TopicSelection::Names(vec![self.topic.to_string()]);
        if let Err(error) = self.target.refresh_metadata(names).await {
            tracing::warn!(error = %chain(&error), "the ledger's leaders could not be asked for");
        }
    }

    async fn produce(&mut self, batch: &Bytes) -> Result<i64, LedgerStoreError> {
        let (producer_id, producer_epoch) = match self.producer {
            Some(producer) => producer,
            None => {
                self.next_sequence = 0;
                *self.producer.insert(self.target.init_producer_id().await?)
            }
        };
        let stamp = ProducerStamp {
            producer_id,
            producer_epoch,
            base_sequence: self.next_sequence,
        };
        let header = patch::for_produce(&BatchHeader::parse(batch)?, stamp);
        let metadata = self.target.metadata();
        let topic = metadata.topics.get(&self.topic);
        let (id, leader) = topic
            .and_then(|topic| Some((topic.id, topic.partition(self.lane)?.leader?)))
            .ok_or_else(|| LedgerStoreError::NoLeader {
                topic: Arc::clone(&self.topic),
                lane: self.lane,
            })?;
        let purpose = Purpose::Produce(LEDGER_CONNECTION);
        let connection = self.target.connection(leader, purpose).await?;
        let partition = ProducePartition {
            partition: self.lane,
            header,
            payload: batch.slice(HEADER_LEN..),
        };
        let topics = vec![ProduceTopic {
            name: Arc::clone(&self.topic),
            id,
            partitions: vec![partition],
        }];
        let response = produce(&connection, topics, WRITE_TIMEOUT, None).await?;
        match response
            .partitions
            .first()
            .map(|(_, part)| (part.error, part.base_offset))
        {
            Some((ErrorCode::None, base_offset)) => Ok(base_offset),
            other => Err(LedgerStoreError::Refused {
                topic: Arc::clone(&self.topic),
                code: other.map_or(ErrorCode::UnknownServerError, |(code, _)| code),
            }),
        }
    }
}

fn note_rival(rival: &mut Option<OwnerId>, owner: OwnerId, record: &LedgerRecord) {
    // An older one that writes late has not read so far what is before it.
    if let LedgerRecord::Owner(record) = record
        && record.owner != owner
        && record.owner.generation >= owner.generation
    {
        *rival = Some(record.owner);
    }
}

fn is_of_another_producer(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::OutOfOrderSequenceNumber | ErrorCode::UnknownProducerId | ErrorCode::InvalidProducerEpoch
    )
}

fn batches(records: &[LedgerRecord], timestamp_ms: i64) -> Result<Vec<Bytes>, LedgerStoreError> {
    let mut encoded = records.iter().map(LedgerRecord::encode).peekable();
    let mut batches = Vec::new();
    while encoded.peek().is_some() {
        let mut builder = BatchBuilder::new(BatchOptions {
            codec: Codec::None,
            ..BatchOptions::default()
        });
        let mut bytes = 0;
        let length = |key: &Vec<u8>, value: &Option<Vec<u8>>| key.len() + value.as_ref().map_or(0, Vec::len);
        while let Some((key, value)) =
            encoded.next_if(|(key, value)| bytes == 0 || bytes + length(key, value) <= MAX_BATCH_BYTES)
        {
            bytes += length(&key, &value);
            builder.push(timestamp_ms, Some(&key), value.as_deref(), &[]);
        }
        batches.push(builder.build()?);
    }
    Ok(batches)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::ledger::OwnerRecord;

    #[test]
    fn only_an_owner_that_is_not_older_is_a_rival() {
        let owner = |generation, instance| OwnerId { generation, instance };
        let rival_of = |ours, record_of| {
            let record = LedgerRecord::Owner(OwnerRecord {
                owner: record_of,
                released: false,
            });
            let mut rival = None;
            note_rival(&mut rival, ours, &record);
            rival
        };
        let ours = owner(2, 7);
        assert_eq!(rival_of(ours, ours), None);
        assert_eq!(rival_of(ours, owner(1, 9)), None);
        assert_eq!(rival_of(ours, owner(2, 9)), Some(owner(2, 9)));
        assert_eq!(rival_of(ours, owner(3, 9)), Some(owner(3, 9)));
    }
}
