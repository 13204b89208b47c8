//! The records inside a batch.
//!
//! [`decode`] opens a batch, within limits; iterating over it checks every record as it comes: its fields fill exactly its
//! length, there are as many as the header says and nothing after them, and offsets rise strictly within the batch. Keys,
//! values and headers stay slices of the decompressed bytes. Headers are an ordered list in which a key may come twice and
//! need not be UTF-8; null is not empty.

use std::iter::FusedIterator;

use bytes::Bytes;

use super::codec::{Codec, CodecError, UnknownCodec};
use super::header::{BatchHeader, TimestampType};
use super::scan::RawBatch;
use crate::protocol::primitives::{Reader, WireError};

/// The least a record takes: its length, attributes, two deltas, null key, null value, no headers.
const MIN_RECORD_LEN: usize = 7;

/// What opening a batch may cost. Compressed bytes and record counts are the peer's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Of the records, decompressed.
    pub max_bytes: usize,
    pub max_records: usize,
}

impl DecodeLimits {
    /// Above a hundred times the default `max.message.bytes`: what compresses better than that is a bomb or nearly one.
    pub const DEFAULT_MAX_BYTES: usize = 128 << 20;
    pub const DEFAULT_MAX_RECORDS: usize = 1 << 20;
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self {
            max_bytes: Self::DEFAULT_MAX_BYTES,
            max_records: Self::DEFAULT_MAX_RECORDS,
        }
    }
}

/// A record, borrowed from the decompressed bytes of its batch.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// Unused by Kafka, kept as they are.
    pub attributes: i8,
    pub timestamp_delta: i64,
    pub offset_delta: i32,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: Headers<'a>,
    /// Key, value and headers as they are written, which is all of a record that does not depend on its batch.
    pub after_offset_delta: &'a [u8],
}

/// Iterates over the headers of a record, in their order.
#[derive(Debug, Clone)]
pub struct Headers<'a> {
    raw: &'a [u8],
    rest: Reader<'a>,
    remaining: usize,
}

/// The records of a batch, decompressed.
#[derive(Debug, Clone)]
pub struct Decoded {
    header: BatchHeader,
    records: Bytes,
}

/// Iterates over records, up to the end or to the first that is malformed.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    rest: Reader<'a>,
    claimed: usize,
    read: usize,
    previous_offset_delta: i32,
    last_offset_delta: i32,
    failed: bool,
}

/// Why the records of a batch cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error(transparent)]
    UnknownCodec(#[from] UnknownCodec),
    #[error("cannot decompress the batch")]
    Codec(#[from] CodecError),
    #[error("the batch has {claimed} records, more than {limit}")]
    TooManyRecords { claimed: usize, limit: usize },
    #[error("the batch should have {claimed} records and has {found}")]
    MissingRecords { claimed: usize, found: usize },
    #[error("{bytes} bytes follow the {claimed} records of the batch")]
    LeftOver { claimed: usize, bytes: usize },
    #[error("record {index} of the batch is malformed")]
    Malformed { index: usize, source: WireError },
    #[error("record {index} has offset delta {offset_delta}, after {previous} and with {last} as the batch's last")]
    OffsetDelta {
        index: usize,
        offset_delta: i32,
        previous: i32,
        last: i32,
    },
    #[error("the timestamp {base} plus {delta} is out of range")]
    Timestamp { base: i64, delta: i64 },
}

/// Opens a batch: decompresses its records if need be. They are checked when they are iterated over.
pub fn decode(batch: &RawBatch, limits: &DecodeLimits) -> Result<Decoded, RecordError> {
    decode_payload(batch.header, batch.payload(), limits)
}

/// Opens a batch whose header lies apart from its payload.
pub fn decode_payload(header: BatchHeader, payload: Bytes, limits: &DecodeLimits) -> Result<Decoded, RecordError> {
    let claimed = header.record_count();
    if claimed > limits.max_records {
        return Err(RecordError::TooManyRecords {
            claimed,
            limit: limits.max_records,
        });
    }
    let records = match header.codec()? {
        Codec::None => payload,
        // A batch that has been emptied holds nothing to decompress, whatever its attributes say.
        _ if payload.is_empty() => payload,
        codec => codec.decompress(&payload, limits.max_bytes)?.into(),
    };
    Ok(Decoded { header, records })
}

/// Iterates over `count` records in decompressed bytes.
pub fn records(payload: &[u8], count: usize) -> Records<'_> {
    Records {
        rest: Reader::new(payload),
        claimed: count,
        read: 0,
        previous_offset_delta: -1,
        last_offset_delta: i32::MAX,
        failed: false,
    }
}

impl Decoded {
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The records as they are written, decompressed.
    pub fn bytes(&self) -> &Bytes {
        &self.records
    }

    pub fn records(&self) -> Records<'_> {
        let last_offset_delta = self.header.last_offset_delta();
        Records {
            last_offset_delta,
            ..records(&self.records, self.header.record_count())
        }
    }

    pub fn offset(&self, record: &Record<'_>) -> i64 {
        self.header.base_offset() + i64::from(record.offset_delta)
    }

    /// The record's time as consumers see it.
    pub fn timestamp(&self, record: &Record<'_>) -> Result<i64, RecordError> {
        match self.header.timestamp_type() {
            TimestampType::CreateTime => self.create_time(record),
            TimestampType::LogAppendTime => Ok(self.header.max_timestamp()),
        }
    }

    /// The time that the producer gave the record, also where the broker has put its own before it.
    pub fn create_time(&self, record: &Record<'_>) -> Result<i64, RecordError> {
        let (base, delta) = (self.header.base_timestamp(), record.timestamp_delta);
        base.checked_add(delta).ok_or(RecordError::Timestamp { base, delta })
    }
}

impl<'a> Records<'a> {
    fn read_next(&mut self) -> Result<Option<Record<'a>>, RecordError> {
        let (index, claimed) = (self.read, self.claimed);
        if index == claimed {
            return match self.rest.remaining() {
                0 => Ok(None),
                bytes => Err(RecordError::LeftOver { claimed, bytes }),
            };
        }
        if self.rest.remaining() < MIN_RECORD_LEN {
            return Err(RecordError::MissingRecords { claimed, found: index });
        }
        let record = Record::read(&mut self.rest).map_err(|source| RecordError::Malformed { index, source })?;
        let (offset_delta, previous, last) = (record.offset_delta, self.previous_offset_delta, self.last_offset_delta);
        if offset_delta <= previous || offset_delta > last {
            return Err(RecordError::OffsetDelta {
                index,
                offset_delta,
                previous,
                last,
            });
        }
        self.read += 1;
        self.previous_offset_delta = offset_delta;
        Ok(Some(record))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.read_next();
        self.failed = next.is_err();
        next.transpose()
    }
}

impl FusedIterator for Records<'_> {}

impl<'a> Record<'a> {
    fn read(payload: &mut Reader<'a>) -> Result<Self, WireError> {
        let at = payload.position();
        let length = payload.varint()?;
        let length = usize::try_from(length).map_err(|_| WireError::NegativeLength { at, length })?;
        let body = payload.take(length)?;
        let mut fields = Reader::new(body);
        let attributes = fields.i8()?;
        let timestamp_delta = fields.varlong()?;
        let offset_delta = fields.varint()?;
        let after_offset_delta = &body[fields.position()..];
        let key = nullable_bytes(&mut fields)?;
        let value = nullable_bytes(&mut fields)?;
        let headers = Headers::read(&mut fields)?;
        fields.finish()?;
        Ok(Self {
            attributes,
            timestamp_delta,
            offset_delta,
            key,
            value,
            headers,
            after_offset_delta,
        })
    }
}

impl<'a> Headers<'a> {
    /// The headers as they are written, with their count.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Reads over all the headers, so that iterating over them later cannot fail.
    fn read(fields: &mut Reader<'a>) -> Result<Self, WireError> {
        let mut start = fields.clone();
        let count = length(fields)?;
        // A header takes two bytes at least.
        if count > fields.remaining() / 2 {
            let (at, have) = (start.position(), fields.remaining());
            return Err(WireError::CountTooLarge {
                at,
                count: count as u32,
                have,
            });
        }
        let rest = fields.clone();
        for _ in 0..count {
            header(fields)?;
        }
        let raw = start.take(fields.position() - start.position())?;
        Ok(Self {
            raw,
            rest,
            remaining: count,
        })
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.remaining = self.remaining.checked_sub(1)?;
        header(&mut self.rest).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

impl ExactSizeIterator for Headers<'_> {}

fn header<'a>(fields: &mut Reader<'a>) -> Result<(&'a [u8], Option<&'a [u8]>), WireError> {
    let key_len = length(fields)?;
    Ok((fields.take(key_len)?, nullable_bytes(fields)?))
}

fn length(fields: &mut Reader<'_>) -> Result<usize, WireError> {
    let at = fields.position();
    let length = fields.varint()?;
    usize::try_from(length).map_err(|_| WireError::NegativeLength { at, length })
}

/// Kafka writes null as the length -1, and reads any negative one as null.
fn nullable_bytes<'a>(fields: &mut Reader<'a>) -> Result<Option<&'a [u8]>, WireError> {
    match usize::try_from(fields.varint()?) {
        Ok(len) => fields.take(len).map(Some),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden;
    use super::super::golden::batch;
    use super::*;

    fn read_all(bytes: &Bytes) -> Result<usize, RecordError> {
        let decoded = decode(&batch(bytes.clone()), &DecodeLimits::default())?;
        decoded.records().try_fold(0, |read, record| record.map(|_| read + 1))
    }

    #[test]
    fn null_is_not_empty_and_headers_are_an_ordered_list_of_bytes() {
        let decoded = decode(&batch(golden::two_records()), &DecodeLimits::default()).unwrap();
        let records: Vec<Record> = decoded.records().map(Result::unwrap).collect();

        let [first, second] = &records[..] else {
            panic!("two records")
        };
        assert_eq!((first.key, first.value), (Some(&b"k"[..]), Some(&b"v1"[..])));
        assert_eq!(
            first.headers.clone().collect::<Vec<_>>(),
            [(&b"h"[..], Some(&[0xFF][..]))]
        );
        assert_eq!((second.key, second.value), (None, Some(&[][..])));
        assert_eq!(
            second.headers.clone().collect::<Vec<_>>(),
            [(&b"h"[..], None), (&b"h"[..], Some(&b"x"[..]))]
        );
        assert_eq!(second.headers.raw(), b"\x04\x02h\x01\x02h\x02x");
        assert_eq!(second.after_offset_delta, b"\x01\x00\x04\x02h\x01\x02h\x02x");
        assert_eq!((decoded.offset(first), decoded.offset(second)), (42, 43));
        assert_eq!(decoded.timestamp(second).unwrap(), 1_700_000_000_007);
    }

    #[test]
    fn what_java_wrote_is_read_in_every_codec() {
        for bytes in golden::in_every_codec() {
            let batch = batch(bytes);
            assert_eq!(batch.verify_crc(), Ok(()));
            let decoded = decode(&batch, &DecodeLimits::default()).unwrap();

            for (i, record) in decoded.records().enumerate() {
                let record = record.unwrap();
                assert_eq!(record.key, Some(format!("key-{i}").as_bytes()));
                assert_eq!(
                    record.value,
                    Some(format!("value value value value value {i}").as_bytes())
                );
                assert_eq!(
                    record.headers.clone().collect::<Vec<_>>(),
                    [(&b"header"[..], Some(&b"header"[..]))]
                );
                assert_eq!(decoded.offset(&record), 7 + i as i64);
                assert_eq!(decoded.timestamp(&record).unwrap(), 1_700_000_000_000 + i as i64);
            }
            assert_eq!(decoded.records().count(), 3);
        }
    }

    #[test]
    fn the_append_time_is_the_time_of_every_record() {
        let mut bytes = golden::two_records();
        bytes[22] = 0x08;
        let decoded = decode(&batch(bytes), &DecodeLimits::default()).unwrap();
        let first = decoded.records().next().unwrap().unwrap();

        assert_eq!(decoded.timestamp(&first).unwrap(), 1_700_000_000_007);
        assert_eq!(decoded.create_time(&first).unwrap(), 1_700_000_000_000);
    }

    #[test]
    fn a_timestamp_out_of_range_is_an_error() {
        let mut bytes = golden::two_records();
        bytes[27..35].copy_from_slice(&i64::MAX.to_be_bytes());
        let decoded = decode(&batch(bytes), &DecodeLimits::default()).unwrap();
        let second = decoded.records().nth(1).unwrap().unwrap();

        assert!(matches!(
            decoded.timestamp(&second),
            Err(RecordError::Timestamp { delta: 7, .. })
        ));
    }

    #[test]
    fn the_count_must_be_what_the_payload_holds() {
        let payload = &golden::two_records()[61..];

        let read = |count| records(payload, count).last().unwrap();
        assert!(matches!(read(1), Err(RecordError::LeftOver { claimed: 1, bytes: 14 })));
        assert!(read(2).is_ok());
        assert!(matches!(
            read(3),
            Err(RecordError::MissingRecords { claimed: 3, found: 2 })
        ));
        assert!(matches!(read(usize::MAX), Err(RecordError::MissingRecords { .. })));
    }

    #[test]
    fn offsets_rise_within_the_batch() {
        for (position, delta) in [(64, 0x02), (78, 0x00), (78, 0x04), (64, 0x01)] {
            let mut bytes = golden::two_records();
            bytes[position] = delta;

            assert!(
                matches!(read_all(&bytes.into()), Err(RecordError::OffsetDelta { .. })),
                "{position} {delta}"
            );
        }
    }

    #[test]
    fn limits_hold_before_anything_is_decompressed() {
        let many = DecodeLimits {
            max_records: 2,
            ..DecodeLimits::default()
        };
        let large = DecodeLimits {
            max_bytes: 100,
            ..DecodeLimits::default()
        };
        for bytes in golden::in_every_codec() {
            let batch = batch(bytes);

            assert!(matches!(
                decode(&batch, &many),
                Err(RecordError::TooManyRecords { claimed: 3, limit: 2 })
            ));
            let opened = decode(&batch, &large);
            match batch.header.codec().unwrap() {
                Codec::None => assert!(opened.is_ok()),
                _ => assert!(matches!(
                    opened,
                    Err(RecordError::Codec(CodecError::TooLarge { limit: 100, .. }))
                )),
            }
        }
    }

    #[test]
    fn a_payload_cut_at_any_length_is_an_error() {
        for bytes in golden::in_every_codec() {
            for length in 61..bytes.len() {
                let mut cut = bytes[..length].to_vec();
                cut[8..12].copy_from_slice(&(length as u32 - 12).to_be_bytes());

                let read = read_all(&cut.into());
                assert!(
                    read.is_err(),
                    "{} cut at {length}: {read:?}",
                    batch(bytes.clone()).header.codec().unwrap()
                );
            }
        }
    }

    #[test]
    fn a_bit_flipped_in_any_payload_never_panics() {
        for bytes in golden::in_every_codec() {
            for bit in 61 * 8..bytes.len() * 8 {
                let mut damaged = bytes.to_vec();
                damaged[bit / 8] ^= 1 << (bit % 8);
                let damaged = Bytes::from(damaged);

                assert!(batch(damaged.clone()).verify_crc().is_err());
                let _any_outcome = read_all(&damaged);
            }
        }
    }
}
