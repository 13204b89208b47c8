//! Finds the batches in the records of a fetch response.
//!
//! Looks at headers only, allocates nothing and copies 61 bytes a batch: each [`RawBatch`] shares the buffer it was
//! found in. Whether a batch is intact is for [`RawBatch::verify_crc`], which reads all of it.

use std::iter::FusedIterator;

use bytes::Bytes;

use super::crc::crc32c;
use super::header::{BatchHeader, HEADER_LEN, HeaderError, LOG_OVERHEAD, at, field};
use super::legacy::LegacyEntry;

/// Bytes of a message of magic 0 with neither key nor value: the least that any format's length field may say.
const MIN_LENGTH: i32 = 14;

/// A batch as it was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawBatch {
    pub header: BatchHeader,
    /// The whole batch, with its header.
    pub bytes: Bytes,
}

/// What a fetch response's records are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scanned {
    Batch(RawBatch),
    /// Written before Kafka 0.11, or by a client as old.
    Legacy(LegacyEntry),
}

/// Iterates over the batches, up to the end or to the first thing that is none. See [`scan`].
#[derive(Debug, Clone)]
pub struct Scan {
    rest: Bytes,
    /// Where `rest` begins in the records.
    position: usize,
    done: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no record batch at byte {position} of the records, where offset {offset} should begin")]
pub struct ScanError {
    pub position: usize,
    /// What stands where a batch has its base offset.
    pub offset: i64,
    pub source: HeaderError,
}

/// The batch is not what its producer and its broker agreed on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the batch at offset {base_offset} has CRC {computed:#010x}, its header says {stored:#010x}")]
pub struct CrcMismatch {
    pub base_offset: i64,
    pub stored: u32,
    pub computed: u32,
}

/// Goes through `records` batch by batch.
///
/// Brokers cut the records off where the fetch's byte limit falls, so a partial batch at the end is no error: it is left
/// for the next fetch, and counted by [`Scan::partial_tail`]. After an error nothing more comes.
pub fn scan(records: Bytes) -> Scan {
    Scan {
        rest: records,
        position: 0,
        done: false,
    }
}

impl Scan {
    /// Bytes of the partial batch at the end, once the iteration is over.
    pub fn partial_tail(&self) -> usize {
        self.rest.len()
    }

    /// The entry that begins `rest`; `None` when it is not all there.
    fn entry(&mut self) -> Result<Option<Scanned>, HeaderError> {
        let Some(front) = self.rest.first_chunk::<{ at::CRC }>() else {
            return Ok(None);
        };
        let length = i32::from_be_bytes(field(front, at::BATCH_LENGTH));
        if length < MIN_LENGTH {
            return Err(HeaderError::BatchLength(length));
        }
        let size = LOG_OVERHEAD + length as usize;
        if self.rest.len() < size {
            return Ok(None);
        }
        let scanned = match front[at::MAGIC] {
            0 | 1 => {
                let offset = checked_offset(front)?;
                Scanned::Legacy(LegacyEntry {
                    offset,
                    bytes: self.rest.split_to(size),
                })
            }
            _ => {
                let header = BatchHeader::parse(&self.rest[..size])?;
                Scanned::Batch(RawBatch {
                    header,
                    bytes: self.rest.split_to(size),
                })
            }
        };
        self.position += size;
        Ok(Some(scanned))
    }
}

impl Iterator for Scan {
    type Item = Result<Scanned, ScanError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.entry().transpose();
        self.done = !matches!(next, Some(Ok(_)));
        Some(next?.map_err(|source| ScanError {
            position: self.position,
            offset: self.rest.first_chunk::<8>().map_or(-1, offset_field),
            source,
        }))
    }
}

impl FusedIterator for Scan {}

impl RawBatch {
    /// The records as they are stored: compressed, if the header names a codec.
    pub fn payload(&self) -> Bytes {
        self.bytes.slice(HEADER_LEN..)
    }

    /// Reads the whole batch: tells whether it is what the header's CRC was made for.
    pub fn verify_crc(&self) -> Result<(), CrcMismatch> {
        CrcMismatch::check(
            self.header.base_offset(),
            self.header.crc(),
            crc32c(&self.bytes[at::ATTRIBUTES..]),
        )
    }
}

impl CrcMismatch {
    pub(super) fn check(base_offset: i64, stored: u32, computed: u32) -> Result<(), Self> {
        if stored == computed {
            return Ok(());
        }
        Err(Self {
            base_offset,
            stored,
            computed,
        })
    }
}

/// The offset of a message, after which another one must be possible.
fn checked_offset(front: &[u8; at::CRC]) -> Result<i64, HeaderError> {
    let base_offset = offset_field(front);
    if (0..i64::MAX).contains(&base_offset) {
        return Ok(base_offset);
    }
    Err(HeaderError::Offsets {
        base_offset,
        last_offset_delta: 0,
    })
}

fn offset_field<const M: usize>(front: &[u8; M]) -> i64 {
    i64::from_be_bytes(field(front, at::BASE_OFFSET))
}

#[cfg(test)]
mod tests {
    use super::super::golden;
    use super::*;

    fn batches(records: &[u8]) -> Vec<Result<Scanned, ScanError>> {
        scan(Bytes::copy_from_slice(records)).collect()
    }

    #[test]
    fn batches_are_slices_of_the_response() {
        let records = Bytes::from(golden::two_records().repeat(3));
        let mut scan = scan(records.clone());

        for i in 0..3 {
            let Some(Ok(Scanned::Batch(batch))) = scan.next() else {
                panic!("three batches")
            };
            assert_eq!(batch.bytes.as_ptr(), records[89 * i..].as_ptr());
            assert_eq!((batch.bytes.len(), batch.payload().len()), (89, 28));
            assert_eq!(batch.verify_crc(), Ok(()));
        }
        assert_eq!(scan.next(), None);
        assert_eq!(scan.partial_tail(), 0);
    }

    #[test]
    fn a_partial_batch_at_the_end_is_left_at_every_length() {
        let records = Bytes::from(golden::two_records().repeat(2));
        for cut in 89..178 {
            let mut scan = scan(records.slice(..cut));

            assert_eq!(scan.by_ref().filter(Result::is_ok).count(), 1);
            assert_eq!(scan.partial_tail(), cut - 89);
        }
    }

    #[test]
    fn nothing_comes_after_what_is_no_batch() {
        let mut records = golden::two_records().repeat(3);
        records[89 + at::MAGIC] = 9;

        let scanned = batches(&records);

        assert_eq!(scanned.len(), 2);
        let error = ScanError {
            position: 89,
            offset: 42,
            source: HeaderError::UnknownMagic(9),
        };
        assert_eq!(scanned[1], Err(error));
    }

    #[test]
    fn a_length_too_short_for_any_format_is_refused() {
        for length in [-1, 0, 13, i32::MIN] {
            let mut records = golden::two_records();
            records[at::BATCH_LENGTH..at::PARTITION_LEADER_EPOCH].copy_from_slice(&length.to_be_bytes());

            assert!(matches!(&batches(&records)[..], [Err(error)] if error.source == HeaderError::BatchLength(length)));
        }
    }

    #[test]
    fn older_formats_are_told_apart_by_their_magic() {
        let mut records = golden::two_records();
        records[at::MAGIC] = 1;

        let scanned = batches(&records);

        assert!(matches!(&scanned[..], [Ok(Scanned::Legacy(entry))] if entry.offset == 42 && entry.bytes.len() == 89));
    }

    #[test]
    fn a_bit_flipped_anywhere_is_an_error_a_partial_batch_or_a_wrong_crc() {
        let intact = golden::two_records();
        for bit in 0..intact.len() * 8 {
            let mut damaged = intact.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);

            match batches(&damaged).as_slice() {
                [] | [Err(_)] => {}
                [Ok(Scanned::Legacy(_))] => assert_eq!(bit / 8, at::MAGIC),
                // The CRC does not cover the offset and the leader epoch: brokers write those.
                [Ok(Scanned::Batch(batch)), ..] => match bit / 8 {
                    at::BASE_OFFSET..at::BATCH_LENGTH | at::PARTITION_LEADER_EPOCH..at::MAGIC => {}
                    _ => assert!(batch.verify_crc().is_err(), "bit {bit}"),
                },
                more => panic!("bit {bit}: {more:?}"),
            }
        }
    }
}
