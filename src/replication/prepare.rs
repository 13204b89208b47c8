//! Turns what a fetch brought for one partition into batches that are ready to produce.
//!
//! Pure: bytes in, values out. Payloads stay slices of the fetched frame unless a batch has to be re-encoded. Every
//! batch's CRC is checked here, so that damage is named by the side where it happened; a patched batch then carries
//! its checksum on, and the target's own check covers the rest of the way.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use super::aborted::AbortedTransactions;
use super::budget::Reservation;
use super::epochs::{BatchMark, Before, EpochStart};
use super::fate::{BatchFate, FateContext, fate};
use crate::offsets::SourceOffset;
use crate::protocol::fetch_response::AbortedTransaction;
#[cfg(test)]
use crate::record::{BatchBuilder, HEADER_LEN};
use crate::record::{
    BatchHeader, ControlType, CrcMismatch, DecodeLimits, LegacyEntry, OffsetRange, RawBatch, RecordError,
    ReencodeError, ReencodeOptions, Reencoded, ScanError, Scanned, decode, legacy, reencode, scan,
};

/// A batch as it will be produced, save its producer id, epoch and sequence.
#[derive(Debug)]
pub struct PreparedBatch {
    pub header: BatchHeader,
    pub payload: Bytes,
    /// The source offsets of the batch's records, in order.
    pub source_offsets: SourceOffsets,
    /// Where the source goes on once this batch is on the target.
    pub next_position: SourceOffset,
    /// As the source stored it.
    pub source: Before,
    pub copied: Copied,
    /// The bytes that this batch and its neighbours keep in memory.
    pub hold: Arc<Reservation>,
}

/// How the batch was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copied {
    Patched,
    Reencoded,
    /// Of so many batches of the source.
    Coalesced(u32),
}

/// Which source offsets a batch's records have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceOffsets {
    /// As many as the batch has records, without a gap from here on.
    From(SourceOffset),
    Ranges(Vec<OffsetRange>),
}

impl Prepared {
    /// Not one whole batch was met.
    pub fn is_empty(&self) -> bool {
        self.epochs.is_empty() && self.damage.is_none()
    }

    /// The leader epoch of the last batch met, skipped ones too; `None` where none came.
    pub fn last_leader_epoch(&self) -> Option<i32> {
        self.epochs.last().map(|last| last.epoch)
    }
}

impl PreparedBatch {
    pub fn record_count(&self) -> i64 {
        self.header.record_count() as i64
    }

    /// The source offsets of the records, as starts and counts.
    pub fn source_ranges(&self) -> impl Iterator<Item = (SourceOffset, i64)> {
        let (one, several) = match &self.source_offsets {
            SourceOffsets::From(start) => (Some((*start, self.record_count())), &[][..]),
            SourceOffsets::Ranges(ranges) => (None, &ranges[..]),
        };
        let of_range = |range: &OffsetRange| (SourceOffset(range.start), i64::from(range.count));
        one.into_iter().chain(several.iter().map(of_range))
    }

    pub fn first_offset(&self) -> SourceOffset {
        match &self.source_offsets {
            SourceOffsets::From(start) => *start,
            SourceOffsets::Ranges(ranges) => SourceOffset(ranges.first().map_or(self.next_position.0, |r| r.start)),
        }
    }
}

#[cfg(test)]
impl PreparedBatch {
    /// What is built, as if the source had stored it under this leader epoch, with records at these offsets.
    pub(super) fn built(builder: BatchBuilder, ranges: &[(i64, u32)], epoch: i32) -> Self {
        let bytes = builder.build().unwrap();
        let (start, count) = ranges[ranges.len() - 1];
        let ranges = ranges.iter().map(|&(start, count)| OffsetRange { start, count });
        Self {
            header: BatchHeader::parse(&bytes).unwrap(),
            payload: bytes.slice(HEADER_LEN..),
            source_offsets: SourceOffsets::Ranges(ranges.collect()),
            next_position: SourceOffset(start + i64::from(count)),
            source: Before { epoch, mark: None },
            copied: Copied::Patched,
            hold: Arc::new(Reservation::none()),
        }
    }
}

/// What a partition's part of a fetch response has become.
#[derive(Debug)]
pub struct Prepared {
    pub batches: Vec<PreparedBatch>,
    /// Everything below is in `batches` or was skipped for good.
    pub next_position: SourceOffset,
    /// Under which leader epochs the batches were stored that were met, skipped ones too: an entry for each change.
    pub epochs: Vec<EpochStart>,
    /// The last batch met.
    pub last_mark: Option<BatchMark>,
    /// The batch before was there, where it was asked for.
    pub is_verified: bool,
    pub skipped: u64,
    /// Bytes of all batches met, as fetched.
    pub bytes: usize,
    /// Bytes of a batch at the end that is not all there; it comes whole with a later fetch.
    pub partial_tail: usize,
    /// What ended the walk early: everything before it is in `batches`.
    pub damage: Option<PrepareError>,
}

/// What of the source could not be read. The side is always the source.
#[derive(Debug, Error)]
pub enum PrepareError {
    #[error("the source's batch is damaged")]
    Crc(#[from] CrcMismatch),
    #[error("the source has another batch at offset {base_offset} than the one that was copied")]
    Altered { base_offset: i64 },
    #[error("the source's records can't be read")]
    Scan(#[from] ScanError),
    #[error("the source's batch at offset {base_offset} to {last_offset} is out of place: {expected} or more was due")]
    Misplaced {
        base_offset: i64,
        last_offset: i64,
        expected: i64,
    },
    #[error("the source's batch at offset {position} never comes whole: {bytes} bytes came, its length says more")]
    NeverWhole { position: i64, bytes: usize },
    #[error("the source's batch at offset {base_offset} can't be read")]
    Record { base_offset: i64, source: RecordError },
    #[error("the source's batch at offset {base_offset} can't be written anew")]
    Reencode { base_offset: i64, source: ReencodeError },
}

/// How far a walk through the records has come.
struct Walk<'a> {
    context: FateContext,
    aborted: AbortedTransactions,
    /// Messages of magic 0 and 1 that wait to be converted together.
    legacy: Vec<LegacyEntry>,
    /// Batches met.
    met: usize,
    high_watermark: i64,
    /// The batch before, until it was met.
    before: Option<BatchMark>,
    hold: &'a Arc<Reservation>,
    out: Prepared,
}

/// What a fetch with read_committed brought for a partition.
#[derive(Debug)]
pub struct FetchedRecords {
    pub records: Bytes,
    pub aborted: Vec<AbortedTransaction>,
    pub high_watermark: i64,
    /// The batch before, with which the records begin: it has to be this one.
    pub before: Option<BatchMark>,
}

/// Prepares what was fetched from `context.start_offset` on.
pub fn prepare(fetched: FetchedRecords, context: FateContext, hold: &Arc<Reservation>) -> Prepared {
    let out = Prepared {
        batches: Vec::new(),
        next_position: SourceOffset(context.start_offset),
        epochs: Vec::new(),
        last_mark: None,
        is_verified: false,
        skipped: 0,
        bytes: 0,
        partial_tail: 0,
        damage: None,
    };
    let mut walk = Walk {
        context,
        aborted: AbortedTransactions::new(fetched.aborted),
        legacy: Vec::new(),
        met: 0,
        high_watermark: fetched.high_watermark,
        before: fetched.before,
        hold,
        out,
    };
    let walked = walk.take_all(fetched.records).and_then(|()| walk.convert_legacy());
    walk.out.damage = walked.err();
    walk.out
}

impl Walk<'_> {
    fn take_all(&mut self, records: Bytes) -> Result<(), PrepareError> {
        let mut scan = scan(records);
        for scanned in scan.by_ref() {
            match scanned? {
                Scanned::Batch(batch) => {
                    self.convert_legacy()?;
                    self.take_batch(batch)?;
                }
                Scanned::Legacy(entry) if self.before.is_some() => {
                    let base_offset = entry.offset;
                    return Err(PrepareError::Altered { base_offset });
                }
                // They know neither transactions nor producer ids: every message counts.
                Scanned::Legacy(entry) => self.legacy.push(entry),
            }
        }
        self.out.partial_tail = scan.partial_tail();
        Ok(())
    }

    fn take_batch(&mut self, batch: RawBatch) -> Result<(), PrepareError> {
        let header = batch.header;
        if let Some(before) = self.before.take() {
            self.out.is_verified = before == mark(&header);
            if !self.out.is_verified {
                let base_offset = before.base_offset.0;
                return Err(PrepareError::Altered { base_offset });
            }
            if header.last_offset() < self.context.start_offset {
                return self.pass(&batch);
            }
        }
        batch.verify_crc()?;
        self.check_place(header.base_offset(), header.last_offset())?;
        self.out.bytes += batch.bytes.len();
        self.aborted.advance_to(&header);
        match fate(&header, &self.aborted, &self.context) {
            BatchFate::Skip(_) => {
                self.out.skipped += 1;
                if header.is_control() {
                    self.take_marker(&batch)?;
                }
            }
            BatchFate::PatchHeader => self.out.batches.push(PreparedBatch {
                header,
                payload: batch.payload(),
                source_offsets: SourceOffsets::From(SourceOffset(header.base_offset())),
                next_position: SourceOffset(header.next_offset()),
                source: before_next(&header),
                copied: Copied::Patched,
                hold: Arc::clone(self.hold),
            }),
            BatchFate::Reencode(_) => {
                let pieces = reencode(&batch, &self.reencode_options()).map_err(|source| PrepareError::Reencode {
                    base_offset: header.base_offset(),
                    source,
                })?;
                self.push_reencoded(pieces, header.next_offset(), before_next(&header));
            }
        }
        self.advance(header.next_offset(), before_next(&header));
        Ok(())
    }

    /// Goes past the batch before: what it says of transactions counts.
    fn pass(&mut self, batch: &RawBatch) -> Result<(), PrepareError> {
        self.aborted.advance_to(&batch.header);
        match batch.header.is_control() {
            true => self.take_marker(batch),
            false => Ok(()),
        }
    }

    /// The base offset is not covered by the batch's checksum, so its place among the others has to do: each begins
    /// behind the one before, the first holds the offset that was asked for, and none lies past what is committed.
    fn check_place(&mut self, base_offset: i64, last_offset: i64) -> Result<(), PrepareError> {
        let expected = self.out.next_position.0;
        let in_order = if self.met == 0 {
            last_offset >= expected
        } else {
            base_offset >= expected
        };
        self.met += 1;
        if in_order && last_offset < self.high_watermark {
            return Ok(());
        }
        Err(PrepareError::Misplaced {
            base_offset,
            last_offset,
            expected,
        })
    }

    /// An ABORT marker ends its producer's aborted transaction. The cleaner may have emptied it; then the transaction's
    /// data is gone as well.
    fn take_marker(&mut self, batch: &RawBatch) -> Result<(), PrepareError> {
        let base_offset = batch.header.base_offset();
        let unreadable = |source| PrepareError::Record { base_offset, source };
        let decoded = decode(batch, &DecodeLimits::default()).map_err(unreadable)?;
        if let Some(record) = decoded.records().next() {
            let key = record.map_err(unreadable)?.key.unwrap_or_default();
            if ControlType::from_key(key) == Some(ControlType::Abort) {
                self.aborted.end(batch.header.producer_id());
            }
        }
        Ok(())
    }

    fn convert_legacy(&mut self) -> Result<(), PrepareError> {
        let mut entries = std::mem::take(&mut self.legacy);
        self.out.bytes += entries.iter().map(|entry| entry.bytes.len()).sum::<usize>();
        let met = entries.len();
        entries.retain(|entry| entry.next_offset() > self.context.start_offset);
        self.out.skipped += (met - entries.len()) as u64;
        if let Some(odd) = entries.iter().find(|entry| entry.offset >= self.high_watermark) {
            let (offset, expected) = (odd.offset, self.out.next_position.0);
            return Err(PrepareError::Misplaced {
                base_offset: offset,
                last_offset: offset,
                expected,
            });
        }
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return Ok(());
        };
        let (base_offset, next_offset) = (first.offset, last.next_offset());
        let pieces = legacy::convert(&entries, &self.reencode_options())
            .map_err(|source| PrepareError::Reencode { base_offset, source })?;
        self.push_reencoded(pieces, next_offset, Before::UNKNOWN);
        self.advance(next_offset, Before::UNKNOWN);
        Ok(())
    }

    fn reencode_options(&self) -> ReencodeOptions {
        ReencodeOptions {
            start_offset: self.context.start_offset,
            max_batch_bytes: self.context.max_batch_bytes,
            append_time: self.context.keep_append_time,
            limits: DecodeLimits::default(),
        }
    }

    fn push_reencoded(&mut self, pieces: Vec<Reencoded>, next_offset: i64, source: Before) {
        let last = pieces.len().saturating_sub(1);
        for (index, piece) in pieces.into_iter().enumerate() {
            let piece_end = piece
                .source_offsets
                .last()
                .map_or(next_offset, |range| range.start + i64::from(range.count));
            self.out.batches.push(PreparedBatch {
                header: piece.header,
                payload: piece.payload,
                source_offsets: SourceOffsets::Ranges(piece.source_offsets),
                next_position: SourceOffset(if index == last { next_offset } else { piece_end }),
                source,
                copied: Copied::Reencoded,
                hold: Arc::clone(self.hold),
            });
        }
    }

    fn advance(&mut self, next_offset: i64, source: Before) {
        if self.out.last_leader_epoch() != Some(source.epoch) {
            self.out.epochs.push(EpochStart {
                epoch: source.epoch,
                start: self.out.next_position,
            });
        }
        self.out.next_position = self.out.next_position.max(SourceOffset(next_offset));
        self.out.last_mark = source.mark;
    }
}

fn mark(header: &BatchHeader) -> BatchMark {
    BatchMark {
        base_offset: SourceOffset(header.base_offset()),
        crc: header.crc(),
    }
}

/// What lies before the next batch.
fn before_next(header: &BatchHeader) -> Before {
    Before {
        epoch: header.partition_leader_epoch(),
        mark: Some(mark(header)),
    }
}
