//! Writes record batches.

use bytes::Bytes;

use super::codec::{Codec, CodecError};
use super::crc;
use super::header::{BatchHeader, HEADER_LEN, HeaderError, LOG_OVERHEAD, TimestampType, at, attribute, put};
use super::patch::ProducerStamp;
use crate::protocol::primitives::{put_varint, put_varlong, varint_len, varlong_len};

/// Length, attributes and deltas of a record of some hundred bytes, some seconds into a batch of some thousands.
const TYPICAL_RECORD_OVERHEAD: usize = 8;

/// What a batch says of all its records. By default as a producer without idempotence sends it.
#[derive(Debug, Clone, Copy)]
pub struct BatchOptions {
    pub codec: Codec,
    pub base_offset: i64,
    pub partition_leader_epoch: i32,
    pub timestamp_type: TimestampType,
    pub transactional: bool,
    pub control: bool,
    pub producer: Option<ProducerStamp>,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self {
            codec: Codec::None,
            base_offset: 0,
            partition_leader_epoch: -1,
            timestamp_type: TimestampType::CreateTime,
            transactional: false,
            control: false,
            producer: None,
        }
    }
}

/// Makes a batch, record by record.
#[derive(Debug)]
pub struct BatchBuilder {
    options: BatchOptions,
    /// The records so far, not compressed.
    records: Vec<u8>,
    count: u32,
    last_offset_delta: i32,
    /// The first record's timestamp, from which the others are counted.
    base_timestamp: Option<i64>,
    max_timestamp: i64,
    /// What is wrong with a record pushed; [`Self::build`] tells.
    failure: Option<EncodeError>,
}

/// Why the records pushed do not make a batch.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    #[error("timestamps {base} and {timestamp} are too far apart for one batch")]
    TimestampRange { base: i64, timestamp: i64 },
    #[error("a batch cannot hold {0} bytes of records")]
    TooLarge(usize),
    #[error("cannot compress the batch")]
    Codec(#[from] CodecError),
    #[error("the batch would have an invalid header")]
    Header(#[from] HeaderError),
}

/// What a record holds besides what depends on its batch.
#[derive(Debug, Clone, Copy)]
pub(super) enum Content<'a> {
    Fields {
        key: Option<&'a [u8]>,
        value: Option<&'a [u8]>,
        headers: &'a [(&'a [u8], Option<&'a [u8]>)],
    },
    /// [`Record::after_offset_delta`](super::decode::Record::after_offset_delta) of another batch.
    Verbatim(&'a [u8]),
}

impl BatchBuilder {
    pub fn new(options: BatchOptions) -> Self {
        Self::with_capacity(options, 0, 0)
    }

    /// For so many records whose contents together are so long.
    pub(super) fn with_capacity(options: BatchOptions, count: usize, content_len: usize) -> Self {
        Self {
            options,
            records: Vec::with_capacity(content_len + count * TYPICAL_RECORD_OVERHEAD),
            count: 0,
            last_offset_delta: -1,
            base_timestamp: None,
            max_timestamp: -1, // As in Kafka: the time of a batch without any.
            failure: None,
        }
    }

    /// Adds a record at the next offset.
    pub fn push(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) {
        self.push_at(self.last_offset_delta + 1, timestamp, key, value, headers);
    }

    /// Adds a record that leaves a gap before it, as compaction does.
    ///
    /// # Panics
    /// When offsets do not rise.
    pub fn push_at(
        &mut self,
        offset_delta: i32,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) {
        self.push_content(offset_delta, timestamp, 0, Content::Fields { key, value, headers });
    }

    /// Makes the batch account for offsets after its last record, as compaction leaves it when it drops that record.
    ///
    /// # Panics
    /// When offsets do not rise.
    pub fn end_at(&mut self, last_offset_delta: i32) {
        assert!(
            last_offset_delta >= self.last_offset_delta,
            "a batch does not end before its last record"
        );
        self.last_offset_delta = last_offset_delta;
    }

    /// The batch, with its CRC.
    pub fn build(self) -> Result<Bytes, EncodeError> {
        let (header, payload) = self.build_parts()?;
        Ok([&header.as_bytes()[..], &payload].concat().into())
    }

    pub(super) fn push_content(&mut self, offset_delta: i32, timestamp: i64, attributes: i8, content: Content<'_>) {
        assert!(offset_delta > self.last_offset_delta, "offsets rise within a batch");
        let base = *self.base_timestamp.get_or_insert(timestamp);
        let Some(timestamp_delta) = timestamp.checked_sub(base) else {
            self.failure
                .get_or_insert(EncodeError::TimestampRange { base, timestamp });
            return;
        };
        self.last_offset_delta = offset_delta;
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.count += 1;

        let length = 1 + varlong_len(timestamp_delta) + varint_len(offset_delta) + content.len();
        put_varint(&mut self.records, length as i32);
        self.records.push(attributes as u8);
        put_varlong(&mut self.records, timestamp_delta);
        put_varint(&mut self.records, offset_delta);
        content.put(&mut self.records);
    }

    /// The batch without putting its two parts together, which would copy the records.
    pub(super) fn build_parts(self) -> Result<(BatchHeader, Bytes), EncodeError> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        // Also the lengths and counts inside, which are no more than this, fit their fields then.
        if self.records.len() > i32::MAX as usize - HEADER_LEN {
            return Err(EncodeError::TooLarge(self.records.len()));
        }
        let facts = BatchFacts {
            count: self.count,
            last_offset_delta: self.last_offset_delta,
            base_timestamp: self.base_timestamp.unwrap_or(-1),
            max_timestamp: self.max_timestamp,
        };
        let payload = match self.options.codec {
            _ if self.count == 0 => Bytes::new(),
            Codec::None => Bytes::from(self.records),
            codec => codec.compress(&self.records)?.into(),
        };
        let payload_crc = crc::crc32c(&payload);
        Ok((header(&self.options, facts, payload.len(), payload_crc)?, payload))
    }
}

/// What a batch's header says of its records.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchFacts {
    pub(super) count: u32,
    pub(super) last_offset_delta: i32,
    pub(super) base_timestamp: i64,
    pub(super) max_timestamp: i64,
}

/// The header before such a payload, checked as if a peer had sent it.
pub(super) fn header(
    options: &BatchOptions,
    facts: BatchFacts,
    payload_len: usize,
    payload_crc: u32,
) -> Result<BatchHeader, HeaderError> {
    let stamp = options.producer.unwrap_or(ProducerStamp::NONE);
    let mut attributes = options.codec.attributes();
    if options.timestamp_type == TimestampType::LogAppendTime {
        attributes |= attribute::LOG_APPEND_TIME;
    }
    if options.transactional {
        attributes |= attribute::TRANSACTIONAL;
    }
    if options.control {
        attributes |= attribute::CONTROL;
    }
    let batch_length = (HEADER_LEN - LOG_OVERHEAD + payload_len) as u32;
    let mut header = [0; HEADER_LEN];
    put(&mut header, at::BASE_OFFSET, options.base_offset.to_be_bytes());
    put(&mut header, at::BATCH_LENGTH, batch_length.to_be_bytes());
    put(
        &mut header,
        at::PARTITION_LEADER_EPOCH,
        options.partition_leader_epoch.to_be_bytes(),
    );
    put(&mut header, at::MAGIC, [2]);
    put(&mut header, at::ATTRIBUTES, attributes.to_be_bytes());
    put(
        &mut header,
        at::LAST_OFFSET_DELTA,
        facts.last_offset_delta.to_be_bytes(),
    );
    put(&mut header, at::BASE_TIMESTAMP, facts.base_timestamp.to_be_bytes());
    put(&mut header, at::MAX_TIMESTAMP, facts.max_timestamp.to_be_bytes());
    put(&mut header, at::PRODUCER_ID, stamp.producer_id.to_be_bytes());
    put(&mut header, at::PRODUCER_EPOCH, stamp.producer_epoch.to_be_bytes());
    put(&mut header, at::BASE_SEQUENCE, stamp.base_sequence.to_be_bytes());
    put(&mut header, at::RECORD_COUNT, facts.count.to_be_bytes());
    let crc = crc::combined(crc::crc32c(&header[at::ATTRIBUTES..]), payload_crc, payload_len);
    put(&mut header, at::CRC, crc.to_be_bytes());
    BatchHeader::parse(&header)
}

impl Content<'_> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Verbatim(bytes) => bytes.len(),
            Self::Fields { key, value, headers } => {
                let headers_len: usize = headers
                    .iter()
                    .map(|(key, value)| bytes_len(Some(key)) + bytes_len(*value))
                    .sum();
                bytes_len(*key) + bytes_len(*value) + varint_len(headers.len() as i32) + headers_len
            }
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Verbatim(bytes) => out.extend_from_slice(bytes),
            Self::Fields { key, value, headers } => {
                put_bytes(out, *key);
                put_bytes(out, *value);
                put_varint(out, headers.len() as i32);
                for (key, value) in *headers {
                    put_bytes(out, Some(key));
                    put_bytes(out, *value);
                }
            }
        }
    }
}

/// How much [`put_bytes`] writes.
fn bytes_len(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(varint_len(-1), |bytes| varint_len(bytes.len() as i32) + bytes.len())
}

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_varint(out, bytes.len() as i32);
            out.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::super::decode::{DecodeLimits, Record, decode};
    use super::super::golden;
    use super::*;

    const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    #[test]
    fn a_batch_is_the_bytes_that_java_writes() {
        let mut batch = BatchBuilder::new(BatchOptions {
            base_offset: 42,
            partition_leader_epoch: 5,
            producer: Some(ProducerStamp {
                producer_id: 9000,
                producer_epoch: 3,
                base_sequence: 17,
            }),
            ..BatchOptions::default()
        });
        batch.push(1_700_000_000_000, Some(b"k"), Some(b"v1"), &[(b"h", Some(&[0xFF]))]);
        batch.push(1_700_000_000_007, None, Some(b""), &[(b"h", None), (b"h", Some(b"x"))]);

        assert_eq!(batch.build().unwrap(), golden::two_records());
    }

    #[test]
    fn options_become_attributes() {
        let mut batch = BatchBuilder::new(BatchOptions {
            codec: Codec::Lz4,
            timestamp_type: TimestampType::LogAppendTime,
            transactional: true,
            ..BatchOptions::default()
        });
        batch.push(5, None, None, &[]);

        assert_eq!(golden::batch(batch.build().unwrap()).header.attributes(), 0x1B);
    }

    #[test]
    fn a_compacted_batch_keeps_its_last_offset() {
        let mut batch = BatchBuilder::new(BatchOptions {
            base_offset: 100,
            ..BatchOptions::default()
        });
        batch.push_at(2, 5, None, None, &[]);
        batch.end_at(9);

        let header = golden::batch(batch.build().unwrap()).header;
        assert_eq!(
            (header.record_count(), header.next_offset(), header.has_offset_gaps()),
            (1, 110, true)
        );
    }

    #[test]
    fn an_emptied_batch_is_a_header_in_any_codec() {
        for codec in CODECS {
            let mut batch = BatchBuilder::new(BatchOptions {
                codec,
                ..BatchOptions::default()
            });
            batch.end_at(9);

            let batch = golden::batch(batch.build().unwrap());
            assert_eq!((batch.bytes.len(), batch.header.next_offset()), (HEADER_LEN, 10));
            assert_eq!(batch.verify_crc(), Ok(()));
            assert_eq!(decode(&batch, &DecodeLimits::default()).unwrap().records().count(), 0);
        }
    }

    #[test]
    fn timestamps_too_far_apart_are_an_error() {
        let mut batch = BatchBuilder::new(BatchOptions::default());
        batch.push(-2, None, None, &[]);
        batch.push(i64::MAX, None, None, &[]);

        assert!(matches!(
            batch.build(),
            Err(EncodeError::TimestampRange {
                base: -2,
                timestamp: i64::MAX
            })
        ));
    }

    type Headers = Vec<(Vec<u8>, Option<Vec<u8>>)>;
    type Fields = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Headers);

    fn fields() -> impl Strategy<Value = Fields> {
        let bytes = || vec(any::<u8>(), 0..200);
        let headers = vec((bytes(), option::of(bytes())), 0..4);
        (
            i64::MIN / 2..i64::MAX / 2,
            option::of(bytes()),
            option::of(bytes()),
            headers,
        )
    }

    fn fields_of(record: &Record<'_>, timestamp: i64) -> Fields {
        let headers = record
            .headers
            .clone()
            .map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec)));
        (
            timestamp,
            record.key.map(<[u8]>::to_vec),
            record.value.map(<[u8]>::to_vec),
            headers.collect(),
        )
    }

    proptest! {
        #[test]
        fn records_come_back_from_a_batch_in_every_codec(written in vec((1..1000_i32, fields()), 1..20)) {
            for codec in CODECS {
                let mut batch = BatchBuilder::new(BatchOptions { codec, ..BatchOptions::default() });
                let mut offset_delta = -1;
                let mut expected = Vec::new();
                for (step, fields) in &written {
                    offset_delta += step;
                    let (timestamp, key, value, headers) = fields;
                    let headers: Vec<_> = headers.iter().map(|(key, value)| (&key[..], value.as_deref())).collect();
                    batch.push_at(offset_delta, *timestamp, key.as_deref(), value.as_deref(), &headers);
                    expected.push((i64::from(offset_delta), fields.clone()));
                }

                let batch = golden::batch(batch.build().unwrap());
                prop_assert_eq!(batch.verify_crc(), Ok(()));
                prop_assert_eq!(batch.header.codec(), Ok(codec));
                let decoded = decode(&batch, &DecodeLimits::default()).unwrap();
                let read: Vec<_> = decoded.records()
                    .map(|record| {
                        let record = record.unwrap();
                        (decoded.offset(&record), fields_of(&record, decoded.timestamp(&record).unwrap()))
                    })
                    .collect();
                prop_assert_eq!(read, expected);
            }
        }
    }
}
