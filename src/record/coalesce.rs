//! Puts the records of neighbouring batches into one batch.
//!
//! Only what depends on the batch is written anew: a record's length, its time and its offset, which count from the batch's
//! first record. Attributes, key, value and headers move as bytes, and nothing looks into them. What comes out is dense, without a
//! producer, at base offset 0, and ready for [`patch::for_produce`](super::patch::for_produce).
//!
//! The new batch gets a new CRC, which would bless damaged records: callers verify each batch's own first.

use bytes::Bytes;

use super::codec::Codec;
use super::crc;
use super::decode::{DecodeLimits, RecordError, decode_payload};
use super::encode::{BatchFacts, BatchOptions, EncodeError, header};
use super::header::BatchHeader;
use crate::protocol::primitives::{Reader, WireError, put_varint, put_varlong, varint_len, varlong_len};

/// What a record may grow by: two bytes of length, four of time (some weeks in milliseconds), two of offset.
const GROWTH: usize = 8;

/// So many bytes are summed at a time, while they are still in the processor's cache.
const SUMMED_TOGETHER: usize = 32 << 10;

/// A batch in the making.
#[derive(Debug)]
pub struct Merger {
    codec: Codec,
    /// Decompressed.
    records: Vec<u8>,
    /// How long `records` may become.
    limit: usize,
    count: u32,
    base_timestamp: i64,
    max_timestamp: i64,
    /// Of the first `summed` bytes of `records`.
    crc: u32,
    summed: usize,
}

/// A batch that is made.
#[derive(Debug)]
pub struct Merged {
    pub header: BatchHeader,
    pub payload: Vec<u8>,
    /// The merger's buffer, where the records were compressed into another one.
    pub unused: Option<Vec<u8>>,
}

/// Whether a batch's records are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    Taken,
    /// They would make the new batch too large, or its times too far apart. It is as it was.
    NoRoom,
}

/// What so many records of so many bytes may take in another batch.
pub const fn largest(bytes: usize, count: usize) -> usize {
    bytes + count * GROWTH
}

impl Merger {
    /// For batches of this codec, of up to `limit` bytes of records before they are compressed. `buffer` is written over.
    pub fn new(codec: Codec, limit: usize, mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        Self {
            codec,
            records: buffer,
            limit,
            count: 0,
            base_timestamp: 0,
            max_timestamp: -1, // As in Kafka: the time of a batch without any.
            crc: 0,
            summed: 0,
        }
    }

    /// Adds the records of a batch without offset gaps. The first batch always has room.
    ///
    /// # Errors
    /// If they can't be read. The new batch is as it was.
    pub fn push(&mut self, header: BatchHeader, payload: &Bytes, limits: &DecodeLimits) -> Result<Pushed, RecordError> {
        let decoded = decode_payload(header, payload.clone(), limits)?;
        let (records, count) = (decoded.bytes(), header.record_count());
        let largest = largest(records.len(), count);
        if self.count == 0 {
            self.base_timestamp = header.base_timestamp();
        } else if self.records.len() + largest > self.limit {
            return Ok(Pushed::NoRoom);
        }
        let Some(later) = header.base_timestamp().checked_sub(self.base_timestamp) else {
            return Ok(Pushed::NoRoom);
        };
        self.records.reserve(largest);
        let before = (self.records.len(), self.count, self.max_timestamp);
        let pushed = self.push_records(records, count, later);
        if !matches!(pushed, Ok(Pushed::Taken)) {
            self.records.truncate(before.0);
            (self.count, self.max_timestamp) = (before.1, before.2);
        } else if self.codec == Codec::None && self.records.len() - self.summed >= SUMMED_TOGETHER {
            self.sum();
        }
        pushed
    }

    /// Records whose batch is so many milliseconds `later` than the first one.
    fn push_records(&mut self, records: &[u8], count: usize, later: i64) -> Result<Pushed, RecordError> {
        let mut rest = Reader::new(records);
        for index in 0..count {
            if rest.is_empty() {
                let (claimed, found) = (count, index);
                return Err(RecordError::MissingRecords { claimed, found });
            }
            let record = Record::read(&mut rest).map_err(|source| RecordError::Malformed { index, source })?;
            if usize::try_from(record.offset_delta) != Ok(index) {
                return Err(RecordError::OffsetDelta {
                    index,
                    offset_delta: record.offset_delta,
                    previous: index as i32 - 1,
                    last: count as i32 - 1,
                });
            }
            let after_base = record.timestamp_delta.checked_add(later);
            let timestamp = after_base.and_then(|delta| delta.checked_add(self.base_timestamp));
            let (Some(after_base), Some(timestamp)) = (after_base, timestamp) else {
                return Ok(Pushed::NoRoom);
            };
            self.put(&record, after_base);
            self.max_timestamp = self.max_timestamp.max(timestamp);
            self.count += 1;
        }
        match rest.remaining() {
            0 => Ok(Pushed::Taken),
            bytes => Err(RecordError::LeftOver { claimed: count, bytes }),
        }
    }

    #[inline]
    fn put(&mut self, record: &Record<'_>, timestamp_delta: i64) {
        let offset_delta = self.count as i32;
        let length = 1 + varlong_len(timestamp_delta) + varint_len(offset_delta) + record.rest.len();
        put_varint(&mut self.records, length as i32);
        self.records.push(record.attributes);
        put_varlong(&mut self.records, timestamp_delta);
        put_varint(&mut self.records, offset_delta);
        self.records.extend_from_slice(record.rest);
    }

    fn sum(&mut self) {
        let new = &self.records[self.summed..];
        self.crc = crc::combined(self.crc, crc::crc32c(new), new.len());
        self.summed = self.records.len();
    }

    /// The new batch.
    pub fn finish(mut self) -> Result<Merged, EncodeError> {
        let facts = BatchFacts {
            count: self.count,
            last_offset_delta: self.count as i32 - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
        };
        let options = BatchOptions {
            codec: self.codec,
            ..BatchOptions::default()
        };
        let (payload, payload_crc, unused) = match self.codec {
            Codec::None => {
                self.sum();
                (self.records, self.crc, None)
            }
            codec => {
                let payload = codec.compress(&self.records)?;
                let crc = crc::crc32c(&payload);
                (payload, crc, Some(self.records))
            }
        };
        Ok(Merged {
            header: header(&options, facts, payload.len(), payload_crc)?,
            payload,
            unused,
        })
    }
}

/// A record, looked at no further than is needed.
struct Record<'a> {
    attributes: u8,
    timestamp_delta: i64,
    offset_delta: i32,
    /// Key, value and headers as they are written.
    rest: &'a [u8],
}

impl<'a> Record<'a> {
    #[inline]
    fn read(records: &mut Reader<'a>) -> Result<Self, WireError> {
        let at = records.position();
        let length = records.varint()?;
        let length = usize::try_from(length).map_err(|_| WireError::NegativeLength { at, length })?;
        let body = records.take(length)?;
        let mut fields = Reader::new(body);
        let (attributes, timestamp_delta, offset_delta) = (fields.u8()?, fields.varlong()?, fields.varint()?);
        let rest = &body[fields.position()..];
        Ok(Self {
            attributes,
            timestamp_delta,
            offset_delta,
            rest,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::encode::BatchBuilder;
    use super::super::golden;
    use super::super::header::HEADER_LEN;
    use super::super::patch::ProducerStamp;
    use super::super::scan::RawBatch;
    use super::*;
    use crate::record::{self, decode};

    const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    const LIMIT: usize = 1 << 20;

    /// A record's time, and all of it that does not depend on its batch.
    type Seen = (i64, Vec<u8>);

    fn seen(batch: &RawBatch) -> Vec<Seen> {
        let decoded = decode(batch, &DecodeLimits::default()).unwrap();
        let of_record = |record: Result<record::Record<'_>, RecordError>| {
            let record = record.unwrap();
            (decoded.timestamp(&record).unwrap(), record.after_offset_delta.to_vec())
        };
        decoded.records().map(of_record).collect()
    }

    /// Of records at these times, as a transactional producer would write it.
    fn batch(codec: Codec, times: &[i64], value: &[u8]) -> RawBatch {
        let mut batch = BatchBuilder::new(BatchOptions {
            codec,
            base_offset: 700,
            transactional: true,
            producer: Some(ProducerStamp {
                producer_id: 5,
                producer_epoch: 1,
                base_sequence: 3,
            }),
            ..BatchOptions::default()
        });
        for time in times {
            batch.push(*time, Some(b"key"), Some(value), &[(b"h", None), (b"h", Some(b"x"))]);
        }
        golden::batch(batch.build().unwrap())
    }

    fn push(merger: &mut Merger, batch: &RawBatch) -> Result<Pushed, RecordError> {
        merger.push(batch.header, &batch.payload(), &DecodeLimits::default())
    }

    fn merged(merger: Merger) -> RawBatch {
        let Merged { header, payload, .. } = merger.finish().unwrap();
        let batch = golden::batch([&header.as_bytes()[..], &payload].concat());
        assert_eq!(batch.verify_crc(), Ok(()));
        assert_eq!(
            (
                batch.header.base_offset(),
                batch.header.producer_id(),
                batch.header.has_offset_gaps()
            ),
            (0, -1, false)
        );
        assert!(!batch.header.is_transactional());
        batch
    }

    #[test]
    fn records_of_several_batches_lie_in_one_in_their_order() {
        for codec in CODECS {
            let batches = [
                batch(codec, &[1_000, 1_500], b"a"),
                batch(codec, &[900], b"bb"),
                batch(codec, &[3_000_000_000, 7], b""),
            ];
            let mut merger = Merger::new(codec, LIMIT, Vec::new());
            for batch in &batches {
                assert_eq!(push(&mut merger, batch).unwrap(), Pushed::Taken);
            }

            let merged = merged(merger);

            assert_eq!(merged.header.codec(), Ok(codec));
            assert_eq!(merged.header.base_timestamp(), 1_000);
            assert_eq!(merged.header.max_timestamp(), 3_000_000_000);
            assert_eq!(seen(&merged), batches.iter().flat_map(seen).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_has_no_room_leaves_the_batch_as_it_was() {
        let (first, large) = (batch(Codec::None, &[5], b"a"), batch(Codec::None, &[6; 100], b"bb"));
        let mut merger = Merger::new(Codec::None, 1_000, Vec::new());
        assert_eq!(push(&mut merger, &first).unwrap(), Pushed::Taken);
        assert_eq!(push(&mut merger, &large).unwrap(), Pushed::NoRoom);
        assert_eq!(seen(&merged(merger)), seen(&first));
    }

    #[test]
    fn the_first_batch_has_room_whatever_its_size() {
        let large = batch(Codec::None, &[6; 100], b"bb");
        let mut merger = Merger::new(Codec::None, 10, Vec::new());
        assert_eq!(push(&mut merger, &large).unwrap(), Pushed::Taken);
        assert_eq!(seen(&merged(merger)), seen(&large));
    }

    #[test]
    fn times_too_far_apart_for_one_batch_stay_apart() {
        let (first, other) = (batch(Codec::None, &[-2], b"a"), batch(Codec::None, &[i64::MAX], b"b"));
        let mut merger = Merger::new(Codec::None, LIMIT, Vec::new());
        push(&mut merger, &first).unwrap();
        assert_eq!(push(&mut merger, &other).unwrap(), Pushed::NoRoom);
        assert_eq!(seen(&merged(merger)), seen(&first));
    }

    #[test]
    fn records_that_are_not_what_the_header_says_are_refused_and_leave_no_trace() {
        let good = batch(Codec::None, &[5, 6], b"a");
        let payload = good.payload();
        let mut gaps = BatchBuilder::new(BatchOptions::default());
        gaps.push_at(0, 5, None, Some(b"a"), &[]);
        gaps.push_at(2, 5, None, Some(b"a"), &[]);
        let gaps = golden::batch(gaps.build().unwrap());
        let cases = [
            (good.header, payload.slice(..payload.len() / 2)),
            (good.header, payload.slice(..payload.len() - 1)),
            (good.header, [&payload[..], &[0]].concat().into()),
            (gaps.header, gaps.payload()),
        ];
        let mut merger = Merger::new(Codec::None, LIMIT, Vec::new());
        push(&mut merger, &good).unwrap();
        for (header, payload) in cases {
            assert!(merger.push(header, &payload, &DecodeLimits::default()).is_err());
        }
        assert_eq!(seen(&merged(merger)), seen(&good));
    }

    proptest! {
        #[test]
        fn every_record_survives_in_its_order(
            batches in vec((vec(-5_000_000_000..5_000_000_000_i64, 1..40), 0..300_usize), 1..12),
            limit in 100..20_000_usize,
        ) {
            for codec in CODECS {
                let mut merger = Merger::new(codec, limit, Vec::new());
                let mut expected = Vec::new();
                for (times, len) in &batches {
                    let batch = batch(codec, times, &b"abcdefghij".repeat(30)[..*len]);
                    if push(&mut merger, &batch).unwrap() == Pushed::Taken {
                        expected.extend(seen(&batch));
                    }
                }
                let merged = merged(merger);
                prop_assert_eq!(seen(&merged), expected);
                prop_assert!(codec != Codec::None || merged.bytes.len() <= limit.max(40 * 340) + HEADER_LEN);
            }
        }
    }
}
