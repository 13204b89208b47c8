//! A batch as a client has sent it: everything that is decided by its bytes alone, which is what takes the time.

use bytes::Bytes;

use super::validate::Invalid;
use crate::protocol::error_code::ErrorCode;
use crate::record::header::{at, attribute, put};
use crate::record::{
    BatchHeader, Codec, DecodeLimits, Decoded, HEADER_LEN, LOG_OVERHEAD, RawBatch, RecordError, decode, records,
};

/// Brokers that know zstd take it from this version of Produce on.
const FIRST_WITH_ZSTD: i16 = 7;

/// The least that any format's length field may say: a message of magic 0 without key and value.
const MIN_LENGTH: i32 = 14;

/// The timestamp of a record without one. It is never out of range.
pub(super) const NO_TIMESTAMP: i64 = -1;

/// A real broker runs out of memory over a batch that decompresses to more; the sandbox refuses it.
pub(super) const LIMITS: DecodeLimits = DecodeLimits {
    max_bytes: 256 << 20,
    max_records: 1 << 22,
};

/// A batch as a client has sent it, read through.
#[derive(Debug)]
pub struct ClientBatch {
    pub(super) bytes: Bytes,
    pub(super) base_offset: i64,
    pub(super) is_intact: bool,
    /// `None` where counts and offsets make no sense. The base offset in it is 0.
    pub(super) header: Option<BatchHeader>,
    pub(super) records: Result<Contents, RecordError>,
}

/// What the records of a batch are like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Contents {
    pub(super) max_timestamp: i64,
    /// Of the records that have a timestamp.
    pub(super) min_timestamp: Option<i64>,
    pub(super) has_null_keys: bool,
    /// The offsets inside are 0, 1, 2 …
    pub(super) is_dense: bool,
}

impl ClientBatch {
    /// Finds the one batch in the records for a partition, and reads it through.
    pub fn read(records: Bytes, version: i16) -> Result<Self, Invalid> {
        let Some(size) = batch_size(&records)? else {
            return Err(ErrorCode::InvalidRecord.into());
        };
        match magic_of(&records) {
            Some(2) => {}
            Some(0 | 1) | None => return Err(ErrorCode::InvalidRecord.into()),
            Some(_) => return Err(ErrorCode::CorruptMessage.into()),
        }
        let Some(front) = records.first_chunk::<HEADER_LEN>().filter(|_| size >= HEADER_LEN) else {
            return Err(ErrorCode::CorruptMessage.into());
        };
        let codec_bits = i16::from_be_bytes([front[at::ATTRIBUTES], front[at::ATTRIBUTES + 1]]) & attribute::CODEC;
        if codec_bits == Codec::Zstd.attributes() && version < FIRST_WITH_ZSTD {
            return Err(ErrorCode::UnsupportedCompressionType.into());
        }
        // A whole batch after the first is refused; half a batch or garbage is dropped in silence.
        if batch_size(&records.slice(size..))?.is_some() {
            return Err(ErrorCode::InvalidRecord.into());
        }
        Ok(Self::open(records.slice(..size), front))
    }

    fn open(bytes: Bytes, front: &[u8; HEADER_LEN]) -> Self {
        let mut from_zero = *front;
        put(&mut from_zero, at::BASE_OFFSET, 0_i64.to_be_bytes());
        let header = BatchHeader::parse(&from_zero).ok();
        // The checked header stands apart from the bytes, in which the base offset may be anything.
        let raw = header.map(|header| RawBatch {
            header,
            bytes: bytes.clone(),
        });
        let is_intact = raw.as_ref().is_none_or(|raw| raw.verify_crc().is_ok());
        let records = match raw {
            Some(raw) if is_intact => Contents::of(&raw),
            _ => Err(RecordError::MissingRecords { claimed: 0, found: 0 }),
        };
        Self {
            base_offset: i64::from_be_bytes(std::array::from_fn(|i| front[at::BASE_OFFSET + i])),
            bytes,
            is_intact,
            header,
            records,
        }
    }

    /// Producer id and epoch of a batch that belongs to a transaction.
    pub fn transactional_producer(&self) -> Option<(i64, i16)> {
        let header = self.header.filter(BatchHeader::is_transactional)?;
        Some((header.producer_id(), header.producer_epoch()))
    }

    pub(super) fn decoded(&self) -> Option<Decoded> {
        let raw = RawBatch {
            header: self.header?,
            bytes: self.bytes.clone(),
        };
        decode(&raw, &LIMITS).ok()
    }
}

impl Contents {
    fn of(batch: &RawBatch) -> Result<Self, RecordError> {
        let decoded = decode(batch, &LIMITS)?;
        let mut contents = Self {
            max_timestamp: NO_TIMESTAMP,
            min_timestamp: None,
            has_null_keys: false,
            is_dense: true,
        };
        // Not `decoded.records()`: where a batch ends is checked by its header alone, what lies inside it only if it is
        // compressed.
        for (index, record) in (0..).zip(records(decoded.bytes(), batch.header.record_count())) {
            let record = match record {
                Err(RecordError::OffsetDelta { .. }) if batch.header.codec()? == Codec::None => break,
                record => record?,
            };
            let timestamp = decoded.timestamp(&record)?;
            contents.max_timestamp = contents.max_timestamp.max(timestamp);
            if timestamp != NO_TIMESTAMP {
                contents.min_timestamp = Some(contents.min_timestamp.map_or(timestamp, |min| min.min(timestamp)));
            }
            contents.has_null_keys |= record.key.is_none();
            contents.is_dense &= record.offset_delta == index;
        }
        Ok(contents)
    }
}

/// Size of the batch at the front; `None` where it is not all there.
fn batch_size(records: &[u8]) -> Result<Option<usize>, ErrorCode> {
    let Some(front) = records.first_chunk::<LOG_OVERHEAD>() else {
        return Ok(None);
    };
    let length = i32::from_be_bytes(std::array::from_fn(|i| front[at::BATCH_LENGTH + i]));
    if length < MIN_LENGTH {
        return Err(ErrorCode::CorruptMessage);
    }
    let size = LOG_OVERHEAD + length as usize;
    if records.len() < size {
        return Ok(None);
    }
    match magic_of(records) {
        Some(0..=2) => Ok(Some(size)),
        _ => Err(ErrorCode::CorruptMessage),
    }
}

fn magic_of(records: &[u8]) -> Option<u8> {
    records.get(at::MAGIC).copied()
}
