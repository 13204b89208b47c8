//! The log of one partition: batches, offsets, producers, epochs and aborted transactions.
//!
//! The log is its own only replica, so the high watermark is always the end. It keeps: batches in offset order without
//! overlap, `log_start_offset <= last_stable_offset <= end_offset`, and every stored header's CRC right for its payload.

mod batch;
mod client_batch;
mod compaction;
mod epochs;
mod maintenance;
mod producers;
mod records;
mod timestamps;
mod validate;

use std::collections::VecDeque;

pub use batch::StoredBatch;
pub use client_batch::ClientBatch;
pub use epochs::EpochEnd;
pub use producers::{ProducedBatch, Producer};
pub use records::StoredRecord;

use super::wire::FrameWriter;
use crate::protocol::error_code::ErrorCode;
use crate::record::{BatchHeader, ControlType, HEADER_LEN, control_batch};
use epochs::EpochHistory;
use producers::Producers;
pub use validate::{Invalid, ValidBatch};

/// See the module's documentation.
#[derive(Debug, Clone, Default)]
pub struct PartitionLog {
    batches: VecDeque<StoredBatch>,
    log_start_offset: i64,
    end_offset: i64,
    epochs: EpochHistory,
    producers: Producers,
    /// In the order of their markers.
    aborted: Vec<AbortedTransaction>,
}

/// Which offsets a reader may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    ReadUncommitted,
    ReadCommitted,
}

impl Isolation {
    pub fn from_wire(level: i8) -> Self {
        if level == 1 {
            Self::ReadCommitted
        } else {
            Self::ReadUncommitted
        }
    }
}

/// The data of one transaction in one partition that readers of committed records leave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    pub producer_id: i64,
    pub first_offset: i64,
    /// That of the marker.
    pub last_offset: i64,
}

/// The end of a transaction, as its coordinator puts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marker {
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub commit: bool,
    pub coordinator_epoch: i32,
}

/// Where a data batch has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    pub base_offset: i64,
    /// -1 for a batch that has its producer's timestamps, unless it was there before.
    pub log_append_time_ms: i64,
    pub is_duplicate: bool,
}

/// The batches that one fetch gets, as places in the log; good until the log changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Slice {
    first: usize,
    batches: usize,
    /// Less than the batches have where the fetch's limit cuts the last one off.
    pub bytes: usize,
}

impl PartitionLog {
    pub fn log_start_offset(&self) -> i64 {
        self.log_start_offset
    }

    pub fn end_offset(&self) -> i64 {
        self.end_offset
    }

    pub fn high_watermark(&self) -> i64 {
        self.end_offset
    }

    pub fn last_stable_offset(&self) -> i64 {
        self.producers.first_open_transaction().unwrap_or(self.end_offset)
    }

    /// Where readers of this kind have to stop.
    pub fn readable_end(&self, isolation: Isolation) -> i64 {
        match isolation {
            Isolation::ReadUncommitted => self.high_watermark(),
            Isolation::ReadCommitted => self.last_stable_offset(),
        }
    }

    pub fn batches(&self) -> impl DoubleEndedIterator<Item = &StoredBatch> + ExactSizeIterator {
        self.batches.iter()
    }

    pub fn size(&self) -> usize {
        self.batches.iter().map(|batch| batch.header.size()).sum()
    }

    pub fn producers(&self) -> impl Iterator<Item = (i64, &Producer)> {
        self.producers.iter()
    }

    pub fn has_open_transaction(&self, producer_id: i64, epoch: i16) -> bool {
        self.producers.has_open_transaction(producer_id, epoch)
    }

    /// A leader takes over: its epoch begins at the end of the log.
    pub fn begin_epoch(&mut self, leader_epoch: i32) {
        self.epochs.begin(leader_epoch, self.end_offset);
    }

    pub fn end_of_epoch(&self, epoch: i32) -> Option<EpochEnd> {
        self.epochs.end_of(epoch, self.end_offset)
    }

    pub fn epoch_at(&self, offset: i64) -> Option<i32> {
        self.epochs.at(offset)
    }

    pub fn latest_epoch(&self) -> Option<i32> {
        self.epochs.latest()
    }

    /// Whether a batch is in the log already, sent by its producer not long ago.
    pub fn has(&self, batch: &ValidBatch) -> bool {
        self.producers.duplicate_of(&batch.header).is_some()
    }

    /// Appends a client's batch, unless its producer has sent it before or sends it out of order.
    pub fn append(&mut self, batch: ValidBatch, leader_epoch: i32) -> Result<Appended, ErrorCode> {
        let header = batch::placed(&batch.header, self.end_offset, leader_epoch);
        if header.producer_id() >= 0 {
            if let Some(original) = self.producers.duplicate_of(&header) {
                return Ok(Appended {
                    base_offset: original.base_offset,
                    log_append_time_ms: original.max_timestamp,
                    is_duplicate: true,
                });
            }
            self.producers.check(&header)?;
            self.producers.append(&header);
        }
        self.push(StoredBatch {
            header,
            payload: batch.payload,
        });
        Ok(Appended {
            base_offset: header.base_offset(),
            log_append_time_ms: batch.append_time_ms,
            is_duplicate: false,
        })
    }

    /// Appends a transaction marker: what the producer has open here is committed or aborted, and lower epochs of it are
    /// fenced from now on.
    pub fn append_marker(&mut self, marker: Marker, now_ms: i64, leader_epoch: i32) -> Result<(), ErrorCode> {
        let Marker {
            producer_id,
            producer_epoch,
            commit,
            coordinator_epoch,
        } = marker;
        self.producers
            .check_marker(producer_id, producer_epoch, coordinator_epoch)?;
        let kind = if commit {
            ControlType::Commit
        } else {
            ControlType::Abort
        };
        let bytes = control_batch(
            self.end_offset,
            producer_id,
            producer_epoch,
            kind,
            coordinator_epoch,
            now_ms,
        );
        let header = BatchHeader::parse(&bytes).map_err(|_| ErrorCode::UnknownServerError)?;
        let header = batch::placed(&header, self.end_offset, leader_epoch);
        self.note_marker(&header, kind, coordinator_epoch);
        self.push(StoredBatch {
            header,
            payload: bytes.slice(HEADER_LEN..),
        });
        Ok(())
    }

    /// What follows from a marker for the producer and for readers of committed records.
    fn note_marker(&mut self, header: &BatchHeader, kind: ControlType, coordinator_epoch: i32) {
        let ended = self.producers.append_marker(header, coordinator_epoch);
        if let (ControlType::Abort, Some(first_offset)) = (kind, ended) {
            self.aborted.push(AbortedTransaction {
                producer_id: header.producer_id(),
                first_offset,
                last_offset: header.last_offset(),
            });
        }
    }

    fn push(&mut self, batch: StoredBatch) {
        assert!(batch.header.base_offset() >= self.end_offset, "offsets only grow");
        self.epochs
            .begin(batch.header.partition_leader_epoch(), batch.header.base_offset());
        self.end_offset = batch.header.next_offset();
        self.batches.push_back(batch);
    }

    /// What a fetch from `offset` gets. A batch is given whole although `offset` lies inside it; with `at_least_one`
    /// the first is given whole although it is larger than `max_bytes`, without it nothing is.
    ///
    /// Brokers cut their files off at the limit, so the last batch may come without its end.
    pub fn read(
        &self,
        offset: i64,
        isolation: Isolation,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Slice, ErrorCode> {
        if offset < self.log_start_offset || offset > self.end_offset {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        let first = self.index_of(offset);
        let end = self.readable_end(isolation);
        let mut slice = Slice {
            first,
            ..Slice::default()
        };
        for batch in self.batches.range(first..) {
            let fits = slice.bytes < max_bytes || (slice.batches == 0 && at_least_one);
            if batch.header.base_offset() >= end || !fits {
                break;
            }
            slice.batches += 1;
            slice.bytes += batch.header.size();
        }
        let Some(first) = self.batches.get(first).filter(|_| slice.batches > 0) else {
            return Ok(slice);
        };
        let limit = if at_least_one {
            max_bytes.max(first.header.size())
        } else if first.header.size() > max_bytes {
            return Ok(Slice::default());
        } else {
            max_bytes
        };
        slice.bytes = slice.bytes.min(limit);
        Ok(slice)
    }

    /// Puts the batches of a slice into a response.
    pub(super) fn write(&self, slice: Slice, writer: &mut FrameWriter) {
        let mut left = slice.bytes;
        for batch in self.batches.range(slice.first..slice.first + slice.batches) {
            let header = &batch.header.as_bytes()[..left.min(HEADER_LEN)];
            writer.ours.extend_from_slice(header);
            left -= header.len();
            let payload = batch.payload.slice(..left.min(batch.payload.len()));
            left -= payload.len();
            writer.payload(payload);
        }
    }

    /// The transactions whose data a reader of `slice` has to leave out.
    pub fn aborted_in(&self, offset: i64, slice: Slice) -> Vec<AbortedTransaction> {
        let end = self
            .batches
            .get(slice.first + slice.batches)
            .map_or(self.end_offset, |next| next.header.base_offset());
        self.aborted
            .iter()
            .filter(|aborted| aborted.last_offset >= offset && aborted.first_offset < end)
            .copied()
            .collect()
    }

    /// Whether a batch is data of an aborted transaction.
    fn is_aborted(&self, header: &BatchHeader) -> bool {
        header.is_transactional()
            && self.aborted.iter().any(|aborted| {
                aborted.producer_id == header.producer_id()
                    && (aborted.first_offset..=aborted.last_offset).contains(&header.base_offset())
            })
    }

    /// The first batch that has anything at or after `offset`.
    fn index_of(&self, offset: i64) -> usize {
        self.batches
            .partition_point(|batch| batch.header.last_offset() < offset)
    }
}
