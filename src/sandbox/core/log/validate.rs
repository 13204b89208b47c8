//! What a leader demands of a produced batch, in the order in which Kafka's `LogValidator` does.
//!
//! [`ClientBatch::read`] has found out what it can from the bytes alone; here the topic's configuration comes in.

use bytes::Bytes;

use super::batch::timestamped;
use super::client_batch::{ClientBatch, Contents, NO_TIMESTAMP};
use crate::protocol::error_code::ErrorCode;
use crate::record::{
    BatchBuilder, BatchHeader, BatchOptions, Codec, HEADER_LEN, ProducerStamp, RecordError, TimestampType, records,
};
use crate::sandbox::core::config::TopicConfig;

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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::record::crc;
    use crate::record::header::{at, attribute};

    const NOW: i64 = 1_700_000_000_000;
    const HOUR: i64 = 3_600_000;

    fn config(overrides: &[(&str, &str)]) -> TopicConfig {
        let overrides = overrides
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        TopicConfig::new(BTreeMap::from_iter(overrides)).unwrap()
    }

    fn builder(codec: Codec) -> BatchBuilder {
        BatchBuilder::new(BatchOptions {
            codec,
            ..BatchOptions::default()
        })
    }

    /// Two records, an hour apart.
    fn two(codec: Codec) -> Bytes {
        let mut builder = builder(codec);
        builder.push(NOW - HOUR, Some(b"a"), Some(b"1"), &[]);
        builder.push(NOW, Some(b"b"), None, &[(b"h", None)]);
        builder.build().unwrap()
    }

    /// Records at these places, in a header that promises as many offsets as records.
    fn sparse(codec: Codec, offset_deltas: &[i32]) -> Bytes {
        let mut builder = builder(codec);
        for &delta in offset_deltas {
            builder.push_at(delta, NOW, Some(b"k"), None, &[]);
        }
        let last = offset_deltas.len() as i32 - 1;
        patched(&builder.build().unwrap(), at::LAST_OFFSET_DELTA, last.to_be_bytes())
    }

    /// The batch with one field changed, and the right CRC for that.
    fn patched<const N: usize>(batch: &[u8], start: usize, value: [u8; N]) -> Bytes {
        let mut batch = batch.to_vec();
        batch[start..start + N].copy_from_slice(&value);
        let crc = crc::crc32c(&batch[at::ATTRIBUTES..]);
        batch[at::CRC..at::CRC + 4].copy_from_slice(&crc.to_be_bytes());
        batch.into()
    }

    fn attributes(batch: &[u8], attributes: i16) -> Bytes {
        patched(batch, at::ATTRIBUTES, attributes.to_be_bytes())
    }

    fn validate(records: Bytes, config: &TopicConfig) -> Result<ValidBatch, Invalid> {
        let valid = ClientBatch::read(records, 9)?.validate(config, NOW)?;
        let raw = super::super::StoredBatch {
            header: valid.header,
            payload: valid.payload.clone(),
        }
        .to_raw();
        raw.verify_crc().unwrap();
        Ok(valid)
    }

    fn refusal(records: Bytes, config: &TopicConfig) -> ErrorCode {
        validate(records, config).map_or_else(|invalid| invalid.code, |_| ErrorCode::None)
    }

    #[test]
    fn a_sound_batch_keeps_its_payload_in_every_codec() {
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let batch = two(codec);
            let valid = validate(batch.clone(), &config(&[])).unwrap();

            assert_eq!(valid.payload.as_ptr(), batch[HEADER_LEN..].as_ptr(), "{codec}: shared");
            assert_eq!((valid.header.max_timestamp(), valid.append_time_ms), (NOW, -1));
        }
    }

    #[test]
    fn headers_that_brokers_refuse_are_refused() {
        let batch = two(Codec::None);
        let cases = [
            (
                patched(&batch, at::BASE_OFFSET, 5_i64.to_be_bytes()),
                ErrorCode::InvalidRecord,
            ),
            (
                patched(&batch, at::BASE_OFFSET, (-1_i64).to_be_bytes()),
                ErrorCode::InvalidRecord,
            ),
            (
                patched(&batch, at::LAST_OFFSET_DELTA, 5_i32.to_be_bytes()),
                ErrorCode::InvalidRecord,
            ),
            (
                patched(&batch, at::RECORD_COUNT, 3_i32.to_be_bytes()),
                ErrorCode::InvalidRecord,
            ),
            (
                patched(&batch, at::RECORD_COUNT, 0_i32.to_be_bytes()),
                ErrorCode::InvalidRecord,
            ),
            (
                patched(&batch, at::RECORD_COUNT, (-1_i32).to_be_bytes()),
                ErrorCode::InvalidRecord,
            ),
            (
                patched(&batch, at::PRODUCER_ID, 1_i64.to_be_bytes()),
                ErrorCode::InvalidRecord,
            ),
            (attributes(&batch, attribute::CONTROL), ErrorCode::InvalidRecord),
            (attributes(&batch, 5), ErrorCode::UnknownServerError),
            (patched(&batch, at::MAGIC, [1]), ErrorCode::InvalidRecord),
            (patched(&batch, at::MAGIC, [3]), ErrorCode::CorruptMessage),
            (attributes(&batch, attribute::DELETE_HORIZON), ErrorCode::None),
            (attributes(&batch, 0x7F80), ErrorCode::None),
            (
                patched(&batch, at::PARTITION_LEADER_EPOCH, (-7_i32).to_be_bytes()),
                ErrorCode::None,
            ),
        ];
        for (place, (batch, expected)) in cases.into_iter().enumerate() {
            assert_eq!(refusal(batch, &config(&[])), expected, "case {place}");
        }
    }

    #[test]
    fn one_whole_batch_is_wanted_and_what_is_not_whole_is_dropped() {
        let batch = two(Codec::None);
        let with = |tail: &[u8]| Bytes::from([&batch[..], tail].concat());

        assert_eq!(refusal(Bytes::new(), &config(&[])), ErrorCode::InvalidRecord);
        assert_eq!(
            refusal(batch.slice(..batch.len() - 1), &config(&[])),
            ErrorCode::InvalidRecord
        );
        assert_eq!(refusal(with(&batch), &config(&[])), ErrorCode::InvalidRecord);
        let valid = validate(with(&batch[..30]), &config(&[])).unwrap();
        assert_eq!(valid.payload.len(), batch.len() - HEADER_LEN);
    }

    #[test]
    fn a_wrong_crc_is_corrupt() {
        let mut batch = two(Codec::None).to_vec();
        *batch.last_mut().unwrap() ^= 1;

        assert_eq!(refusal(batch.into(), &config(&[])), ErrorCode::CorruptMessage);
    }

    #[test]
    fn size_is_checked_before_the_crc() {
        let mut batch = two(Codec::None).to_vec();
        *batch.last_mut().unwrap() ^= 1;
        let limit = (batch.len() - 1).to_string();

        let config = config(&[("max.message.bytes", &limit)]);
        assert_eq!(refusal(batch.into(), &config), ErrorCode::MessageTooLarge);
    }

    #[test]
    fn offsets_inside_are_checked_only_of_compressed_batches() {
        let gaps = [0, 3, 7];
        assert_eq!(refusal(sparse(Codec::None, &gaps), &config(&[])), ErrorCode::None);
        assert_eq!(
            refusal(sparse(Codec::Zstd, &gaps), &config(&[])),
            ErrorCode::UnknownServerError
        );

        let gzip = config(&[("compression.type", "gzip")]);
        let valid = validate(sparse(Codec::Zstd, &gaps), &gzip).unwrap();
        let payload = Codec::Gzip.decompress(&valid.payload, 1000).unwrap();
        let deltas: Vec<_> = records(&payload, 3)
            .map(|record| record.unwrap().offset_delta)
            .collect();
        assert_eq!(deltas, [0, 1, 2], "numbered anew");
    }

    #[test]
    fn damaged_compression_is_an_invalid_record() {
        let batch = two(Codec::Zstd);
        let mut damaged = batch.to_vec();
        damaged[HEADER_LEN] ^= 0xFF;

        let damaged = patched(&damaged, at::PARTITION_LEADER_EPOCH, [0; 4]);
        assert_eq!(refusal(damaged, &config(&[])), ErrorCode::InvalidRecord);
    }

    #[test]
    fn zstd_is_taken_from_version_7_on() {
        let code = |version| {
            ClientBatch::read(two(Codec::Zstd), version)
                .map_err(|invalid| invalid.code)
                .err()
        };

        assert_eq!(code(6), Some(ErrorCode::UnsupportedCompressionType));
        assert_eq!(code(7), None);
    }

    #[test]
    fn a_compacted_topic_names_the_records_without_keys() {
        let mut builder = builder(Codec::Lz4);
        builder.push(NOW, Some(b"a"), None, &[]);
        builder.push(NOW, None, Some(b"1"), &[]);

        let refused = validate(builder.build().unwrap(), &config(&[("cleanup.policy", "compact")])).unwrap_err();

        assert_eq!(refused.code, ErrorCode::InvalidRecord);
        assert_eq!(
            refused
                .record_errors
                .iter()
                .map(|&(index, _)| index)
                .collect::<Vec<_>>(),
            [1]
        );
    }

    #[test]
    fn timestamps_have_to_be_near_but_a_missing_one_is_not_far() {
        let one = |timestamp| {
            let mut builder = builder(Codec::None);
            builder.push(timestamp, None, None, &[]);
            builder.build().unwrap()
        };
        let before = config(&[("message.timestamp.before.max.ms", "1000")]);

        assert_eq!(refusal(one(NOW + HOUR), &config(&[])), ErrorCode::None);
        assert_eq!(refusal(one(NOW + HOUR + 1), &config(&[])), ErrorCode::InvalidTimestamp);
        assert_eq!(refusal(one(0), &config(&[])), ErrorCode::None);
        assert_eq!(refusal(one(NOW - 1001), &before), ErrorCode::InvalidTimestamp);
        assert_eq!(refusal(one(-1), &before), ErrorCode::None);
    }

    #[test]
    fn a_wrong_maximum_timestamp_is_put_right() {
        for wrong in [NOW + 5, 0] {
            let batch = patched(&two(Codec::Gzip), at::MAX_TIMESTAMP, wrong.to_be_bytes());
            let valid = validate(batch, &config(&[])).unwrap();
            assert_eq!(valid.header.max_timestamp(), NOW);
        }
    }

    #[test]
    fn append_time_is_the_brokers_to_set() {
        let append_time = config(&[("message.timestamp.type", "LogAppendTime")]);
        let stamped = attributes(&two(Codec::None), attribute::LOG_APPEND_TIME);

        let valid = validate(two(Codec::None), &append_time).unwrap();
        assert_eq!(valid.header.timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!((valid.header.max_timestamp(), valid.append_time_ms), (NOW, NOW));
        assert_eq!(refusal(stamped.clone(), &append_time), ErrorCode::InvalidTimestamp);

        let cleared = validate(stamped, &config(&[])).unwrap();
        assert_eq!(cleared.header.timestamp_type(), TimestampType::CreateTime);
    }

    #[test]
    fn no_cut_and_no_flipped_bit_panics() {
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let batch = two(codec);
            for cut in 0..batch.len() {
                assert_ne!(refusal(batch.slice(..cut), &config(&[])), ErrorCode::None);
            }
            for bit in 0..8 * batch.len() {
                let mut flipped = batch.to_vec();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let _ = validate(flipped.clone().into(), &config(&[]));
                let _ = validate(patched(&flipped, at::CRC, [0; 4]), &config(&[]));
            }
        }
    }
}
