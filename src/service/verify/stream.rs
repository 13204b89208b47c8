//! A partition's records one after the other, as a consumer gets them; a fetch's worth is in memory.

use std::collections::VecDeque;
use std::sync::Arc;

use super::VerifyError;
use super::committed::Committed;
use super::compare::Seen;
use crate::cluster::{Cluster, Isolation, Side};
use crate::record::{
    DecodeLimits, Decoded, RawBatch, RecordError, ReencodeOptions, Scanned, decode, decode_payload, legacy, scan,
};
use crate::service::reader::{PartitionReader, ReadError};

/// Answers without a batch that are believed to be the log's end.
const MAX_EMPTY: u32 = 20;

pub(super) struct RecordStream {
    side: &'static str,
    topic: Arc<str>,
    partition: i32,
    reader: PartitionReader,
    next: i64,
    end: i64,
    empty: u32,
    records: VecDeque<Seen>,
}

impl RecordStream {
    /// The source's committed records, or all of the target's, from `next` to `end` (exclusive).
    pub(super) fn new(cluster: &Cluster, topic: Arc<str>, partition: i32, (next, end): (i64, i64)) -> Self {
        let (side, isolation) = match cluster.side() {
            Side::Source => ("source", Isolation::ReadCommitted),
            Side::Target => ("target", Isolation::ReadUncommitted),
        };
        let reader = PartitionReader::new(cluster.clone(), Arc::clone(&topic), partition, isolation);
        Self {
            side,
            topic,
            partition,
            reader,
            next,
            end,
            empty: 0,
            records: VecDeque::new(),
        }
    }

    pub(super) async fn next(&mut self) -> Result<Option<Seen>, VerifyError> {
        while self.records.is_empty() && self.next < self.end {
            self.fill().await?;
        }
        Ok(self.records.pop_front())
    }

    async fn fill(&mut self) -> Result<(), VerifyError> {
        let fetched = self
            .reader
            .fetch(self.next, -1)
            .await
            .map_err(|cause| self.unreadable(cause))?;
        let before = self.next;
        let mut batches: Vec<RawBatch> = Vec::new();
        for scanned in scan(fetched.records) {
            let (topic, partition) = (Arc::clone(&self.topic), self.partition);
            match scanned.map_err(|source| {
                self.unreadable(ReadError::Damaged {
                    topic,
                    partition,
                    source: source.into(),
                })
            })? {
                Scanned::Batch(batch) => batches.push(batch),
                Scanned::Legacy(entry) => self.take_legacy(&entry)?,
            }
        }
        let committed = Committed::new(&fetched.aborted, &batches).map_err(|cause| self.damaged(before, cause))?;
        for batch in &batches {
            if committed.has(batch) {
                let offset = batch.header.base_offset();
                let decoded = decode(batch, &DecodeLimits::default()).map_err(|cause| self.damaged(offset, cause))?;
                self.take(&decoded, |position| offset + i64::from(position))
                    .map_err(|cause| self.damaged(offset, cause))?;
            }
            self.next = self.next.max(batch.header.next_offset());
        }
        self.empty = if self.next == before { self.empty + 1 } else { 0 };
        if self.empty < MAX_EMPTY {
            return Ok(());
        }
        // The cleaner can have left nothing up to the end.
        if fetched.high_watermark >= self.end {
            self.next = self.end;
            return Ok(());
        }
        Err(VerifyError::Silent {
            side: self.side,
            topic: Arc::clone(&self.topic),
            partition: self.partition,
            offset: self.next,
        })
    }

    fn take(&mut self, batch: &Decoded, offset_of: impl Fn(i32) -> i64) -> Result<(), RecordError> {
        for record in batch.records() {
            let record = record?;
            let offset = offset_of(record.offset_delta);
            if (self.next..self.end).contains(&offset) {
                self.records.push_back(Seen {
                    offset,
                    timestamp: batch.timestamp(&record)?,
                    key: record.key.map(<[u8]>::to_vec),
                    value: record.value.map(<[u8]>::to_vec),
                    headers: record
                        .headers
                        .map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec)))
                        .collect(),
                });
            }
        }
        Ok(())
    }

    /// Messages of before Kafka 0.11, read by what writes them anew.
    fn take_legacy(&mut self, entry: &crate::record::LegacyEntry) -> Result<(), VerifyError> {
        let options = ReencodeOptions {
            start_offset: self.next,
            max_batch_bytes: usize::MAX,
            append_time: true,
            limits: DecodeLimits::default(),
        };
        let converted = legacy::convert(std::slice::from_ref(entry), &options);
        let Ok(pieces) = converted else {
            let (side, topic) = (self.side, Arc::clone(&self.topic));
            let (partition, offset) = (self.partition, entry.offset);
            return Err(VerifyError::Silent {
                side,
                topic,
                partition,
                offset,
            });
        };
        for piece in pieces {
            let offsets: Vec<i64> = piece
                .source_offsets
                .iter()
                .flat_map(|range| range.start..range.start + i64::from(range.count))
                .collect();
            let decoded = decode_payload(piece.header, piece.payload, &DecodeLimits::default());
            let decoded = decoded.map_err(|cause| self.damaged(entry.offset, cause))?;
            self.take(&decoded, |position| {
                offsets.get(position as usize).copied().unwrap_or(-1)
            })
            .map_err(|cause| self.damaged(entry.offset, cause))?;
        }
        self.next = self.next.max(entry.next_offset());
        Ok(())
    }

    fn unreadable(&self, cause: ReadError) -> VerifyError {
        VerifyError::Read { side: self.side, cause }
    }

    fn damaged(&self, offset: i64, cause: RecordError) -> VerifyError {
        VerifyError::Record {
            side: self.side,
            topic: Arc::clone(&self.topic),
            partition: self.partition,
            offset,
            cause,
        }
    }
}
