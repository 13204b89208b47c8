//! What a leader demands of a produced batch, in the order in which Kafka's `ProduceRequest` and `LogValidator` do.
//!
//! [`ClientBatch::read`] does all that the bytes alone decide, which takes the time: CRC, decompression, every record.
//! [`ClientBatch::validate`] adds what the topic decides.

use bytes::Bytes;

use super::batch::timestamped;
use crate::protocol::error_code::ErrorCode;
use crate::record::header::put;
use crate::record::header::{at, attribute};
use crate::record::{
    BatchBuilder, BatchHeader, BatchOptions, Codec, DecodeLimits, Decoded, HEADER_LEN, LOG_OVERHEAD, ProducerStamp,
    RawBatch, RecordError, TimestampType, decode, records,
};
use crate::sandbox::core::config::TopicConfig;

/// Brokers that know zstd take it from this version of Produce on.
const FIRST_WITH_ZSTD: i16 = 7;

/// The least that any format's length field may say: a message of magic 0 without key and value.
const MIN_LENGTH: i32 = 14;

/// The timestamp of a record without one. It is never out of range.
const NO_TIMESTAMP: i64 = -1;

/// A real broker runs out of memory over a batch that decompresses to more; the sandbox refuses it.
pub(super) const LIMITS: DecodeLimits = DecodeLimits {
    max_bytes: 256 << 20,
    max_records: 1 << 22,
};

/// A batch as a client has sent it, read through.
#[derive(Debug)]
pub struct ClientBatch {
    bytes: Bytes,
    base_offset: i64,
    is_intact: bool,
    /// `None` where counts and offsets make no sense. The base offset in it is 0.
    header: Option<BatchHeader>,
    records: Result<Contents, RecordError>,
}

/// What the records of a batch are like.
#[derive(Debug, Clone, Copy)]
struct Contents {
    max_timestamp: i64,
    /// Of the records that have a timestamp.
    min_timestamp: Option<i64>,
    has_null_keys: bool,
    /// The offsets inside are 0, 1, 2 …
    is_dense: bool,
}

/// A batch that may be appended, with the timestamps that the topic gives it.
#[derive(Debug, Clone)]
pub struct ValidBatch {
    pub header: BatchHeader,
    pub payload: Bytes,
    /// -1 for a topic that keeps the producers' timestamps.
    pub append_time_ms: i64,
}

/// Why a batch is refused, as the produce response puts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    pub code: ErrorCode,
    pub message: Option<&'static str>,
    /// Index in the batch, and what is wrong with that record.
    pub record_errors: Vec<(i32, &'static str)>,
}

impl From<ErrorCode> for Invalid {
    fn from(code: ErrorCode) -> Self {
        Self {
            code,
            message: None,
            record_errors: Vec::new(),
        }
    }
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

    pub fn validate(&self, config: &TopicConfig, now_ms: i64) -> Result<ValidBatch, Invalid> {
        if self.base_offset != 0 {
            return Err(ErrorCode::InvalidRecord.into());
        }
        if self.bytes.len() > config.max_message_bytes {
            return Err(ErrorCode::MessageTooLarge.into());
        }
        if !self.is_intact {
            return Err(ErrorCode::CorruptMessage.into());
        }
        let header = self.header.ok_or(ErrorCode::InvalidRecord)?;
        if header.record_count() == 0
            || header.has_offset_gaps()
            || header.is_control()
            || (header.producer_id() >= 0 && header.base_sequence() < 0)
        {
            return Err(ErrorCode::InvalidRecord.into());
        }
        let contents = match &self.records {
            Ok(contents) => *contents,
            // Brokers have no answer of their own to a codec that does not exist.
            Err(RecordError::UnknownCodec(_)) => return Err(ErrorCode::UnknownServerError.into()),
            Err(_) => return Err(ErrorCode::InvalidRecord.into()),
        };
        self.check_records(&header, contents, config, now_ms)?;
        self.fit(&header, contents, config, now_ms)
    }

    fn check_records(
        &self,
        header: &BatchHeader,
        contents: Contents,
        config: &TopicConfig,
        now_ms: i64,
    ) -> Result<(), Invalid> {
        let checks_time = config.timestamp_type == TimestampType::CreateTime;
        let earliest = now_ms.saturating_sub(config.timestamp_before_max_ms);
        let latest = now_ms.saturating_add(config.timestamp_after_max_ms);
        let has_wrong_type = header.timestamp_type() == TimestampType::LogAppendTime
            && (!checks_time || contents.min_timestamp.is_none());
        let is_out_of_range = checks_time
            && contents
                .min_timestamp
                .is_some_and(|min| min < earliest || contents.max_timestamp > latest);
        let lacks_keys = config.is_compacted && contents.has_null_keys;
        if !(has_wrong_type || is_out_of_range || lacks_keys) {
            return Ok(());
        }
        let record_errors = self.record_errors(|key_is_null, timestamp| {
            if config.is_compacted && key_is_null {
                Some("Compacted topic cannot accept message without key in topic partition")
            } else if has_wrong_type {
                Some("Invalid timestamp type in message. Producer should not set timestamp type to LogAppendTime.")
            } else if checks_time && timestamp != NO_TIMESTAMP && !(earliest..=latest).contains(&timestamp) {
                Some("Timestamp is out of range. The timestamp should be within the topic's bounds")
            } else {
                None
            }
        });
        let (code, message) = if has_wrong_type || is_out_of_range {
            (
                ErrorCode::InvalidTimestamp,
                "One or more records have been rejected due to invalid timestamp",
            )
        } else {
            (
                ErrorCode::InvalidRecord,
                "One or more records have been rejected due to record errors",
            )
        };
        Err(Invalid {
            code,
            message: Some(message),
            record_errors,
        })
    }

    /// Goes through the records again: what is wrong with each of them, by key and timestamp.
    fn record_errors(&self, error: impl Fn(bool, i64) -> Option<&'static str>) -> Vec<(i32, &'static str)> {
        let Some(decoded) = self.decoded() else {
            return Vec::new();
        };
        (0..)
            .zip(records(decoded.bytes(), decoded.header().record_count()).flatten())
            .filter_map(|(index, record)| {
                let timestamp = decoded.timestamp(&record).unwrap_or(NO_TIMESTAMP);
                Some((index, error(record.key.is_none(), timestamp)?))
            })
            .collect()
    }

    fn decoded(&self) -> Option<Decoded> {
        let raw = RawBatch {
            header: self.header?,
            bytes: self.bytes.clone(),
        };
        decode(&raw, &LIMITS).ok()
    }

    /// The batch as the topic stores it: with its timestamps, and in its codec if it insists on one.
    fn fit(
        &self,
        header: &BatchHeader,
        contents: Contents,
        config: &TopicConfig,
        now_ms: i64,
    ) -> Result<ValidBatch, Invalid> {
        let codec = header.codec().map_err(|_| ErrorCode::UnknownServerError)?;
        let (header, payload) = match config.codec {
            Some(wanted) if wanted != codec => self.transcoded(wanted, config)?,
            // Kafka fails over this by a mistake of its own, after it has thrown the payload away.
            _ if codec != Codec::None && !contents.is_dense => return Err(ErrorCode::UnknownServerError.into()),
            _ => (*header, self.bytes.slice(HEADER_LEN..)),
        };
        let (max_timestamp, append_time_ms) = match config.timestamp_type {
            TimestampType::CreateTime => (contents.max_timestamp, -1),
            TimestampType::LogAppendTime => (now_ms, now_ms),
        };
        Ok(ValidBatch {
            header: timestamped(&header, config.timestamp_type, max_timestamp),
            payload,
            append_time_ms,
        })
    }

    fn transcoded(&self, codec: Codec, config: &TopicConfig) -> Result<(BatchHeader, Bytes), Invalid> {
        let decoded = self.decoded().ok_or(ErrorCode::InvalidRecord)?;
        let header = decoded.header();
        let mut builder = BatchBuilder::new(BatchOptions {
            codec,
            transactional: header.is_transactional(),
            producer: (header.producer_id() >= 0).then(|| ProducerStamp {
                producer_id: header.producer_id(),
                producer_epoch: header.producer_epoch(),
                base_sequence: header.base_sequence(),
            }),
            ..BatchOptions::default()
        });
        for record in records(decoded.bytes(), header.record_count()).flatten() {
            let timestamp = decoded.timestamp(&record).map_err(|_| ErrorCode::InvalidRecord)?;
            let headers: Vec<_> = record.headers.clone().collect();
            builder.push(timestamp, record.key, record.value, &headers);
        }
        let bytes = builder.build().map_err(|_| ErrorCode::UnknownServerError)?;
        if bytes.len() > config.max_message_bytes {
            return Err(ErrorCode::MessageTooLarge.into());
        }
        let header = BatchHeader::parse(&bytes).map_err(|_| ErrorCode::UnknownServerError)?;
        Ok((header, bytes.slice(HEADER_LEN..)))
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
