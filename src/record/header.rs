//! The 61 bytes at the front of a record batch (magic 2), as a checked view.
//!
//! A [`BatchHeader`] is a copy of the bytes themselves, so that what kferry does not understand survives, with accessors
//! for the fields. It exists only when its lengths, counts and offsets make sense *by themselves*; whether the payload
//! holds what the header says is for [`decode`](fn@super::decode) to find out, and whether the CRC is right for
//! [`RawBatch::verify_crc`](super::RawBatch::verify_crc).
//!
//! ```text
//!  0 base_offset     i64     21 attributes        i16 <- CRC covers from here    43 producer_id    i64
//!  8 batch_length    i32     23 last_offset_delta i32                            51 producer_epoch i16
//! 12 leader_epoch    i32     27 base_timestamp    i64                            53 base_sequence  i32
//! 16 magic           i8      35 max_timestamp     i64                            57 record_count   i32
//! 17 crc             u32                                                         61 records
//! ```

use std::fmt;

use super::codec::{Codec, UnknownCodec};

/// Bytes of a batch before its records.
pub const HEADER_LEN: usize = 61;
/// Bytes of base offset and batch length, which `batch_length` does not count. The same in all formats.
pub const LOG_OVERHEAD: usize = 12;
/// What `batch_length` says of a batch without records.
const MIN_BATCH_LENGTH: usize = HEADER_LEN - LOG_OVERHEAD;

/// Where each field begins.
pub(crate) mod at {
    pub(crate) const BASE_OFFSET: usize = 0;
    pub(crate) const BATCH_LENGTH: usize = 8;
    pub(crate) const PARTITION_LEADER_EPOCH: usize = 12;
    pub(crate) const MAGIC: usize = 16;
    pub(crate) const CRC: usize = 17;
    pub(crate) const ATTRIBUTES: usize = 21;
    pub(crate) const LAST_OFFSET_DELTA: usize = 23;
    pub(crate) const BASE_TIMESTAMP: usize = 27;
    pub(crate) const MAX_TIMESTAMP: usize = 35;
    pub(crate) const PRODUCER_ID: usize = 43;
    pub(crate) const PRODUCER_EPOCH: usize = 51;
    pub(crate) const BASE_SEQUENCE: usize = 53;
    pub(crate) const RECORD_COUNT: usize = 57;
}

/// The bits of `attributes`. Those above are unused; brokers store them as they come.
pub(crate) mod attribute {
    pub(crate) const CODEC: i16 = 0x07;
    pub(crate) const LOG_APPEND_TIME: i16 = 0x08;
    pub(crate) const TRANSACTIONAL: i16 = 0x10;
    pub(crate) const CONTROL: i16 = 0x20;
    /// `base_timestamp` holds the time at which the cleaner may drop the tombstones (KIP-534).
    pub(crate) const DELETE_HORIZON: i16 = 0x40;
}

/// A batch header whose lengths, counts and offsets have been checked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader([u8; HEADER_LEN]);

/// Whose clock the timestamps come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's: each record has its own.
    CreateTime,
    /// The broker's: every record's timestamp is the batch's `max_timestamp`, whatever its delta says.
    LogAppendTime,
}

/// Why some bytes are not the front of a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("a batch header takes {HEADER_LEN} bytes, {have} are there")]
    Truncated { have: usize },
    #[error("record format with magic {0} is not known")]
    UnknownMagic(i8),
    #[error("a batch cannot have length {0}")]
    BatchLength(i32),
    #[error("a batch cannot have {0} records")]
    RecordCount(i32),
    #[error("a batch cannot span offsets {base_offset} and {last_offset_delta} more")]
    Offsets { base_offset: i64, last_offset_delta: i32 },
}

impl BatchHeader {
    /// Checks the first [`HEADER_LEN`] bytes; what follows them is not looked at.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        let header = Self(
            *bytes
                .first_chunk()
                .ok_or(HeaderError::Truncated { have: bytes.len() })?,
        );
        let length = i32::from_be_bytes(header.field(at::BATCH_LENGTH));
        let count = i32::from_be_bytes(header.field(at::RECORD_COUNT));
        let (base_offset, last_offset_delta) = (header.base_offset(), header.last_offset_delta());
        // A batch that the cleaner has emptied keeps its last offset; only one that never had a record may say -1.
        let min_delta = if count == 0 { -1 } else { 0 };

        if header.magic() != 2 {
            Err(HeaderError::UnknownMagic(header.magic()))
        } else if length < MIN_BATCH_LENGTH as i32 {
            Err(HeaderError::BatchLength(length))
        } else if count < 0 {
            Err(HeaderError::RecordCount(count))
        } else if base_offset < 0
            || last_offset_delta < min_delta
            || base_offset.checked_add(i64::from(last_offset_delta) + 1).is_none()
        {
            Err(HeaderError::Offsets {
                base_offset,
                last_offset_delta,
            })
        } else {
            Ok(header)
        }
    }

    pub fn base_offset(&self) -> i64 {
        i64::from_be_bytes(self.field(at::BASE_OFFSET))
    }

    /// The field as it stands: all bytes of the batch but the first [`LOG_OVERHEAD`].
    pub fn batch_length(&self) -> usize {
        u32::from_be_bytes(self.field(at::BATCH_LENGTH)) as usize
    }

    /// All bytes of the batch, what brokers compare with `max.message.bytes`.
    pub fn size(&self) -> usize {
        LOG_OVERHEAD + self.batch_length()
    }

    /// Bytes after the header.
    pub fn payload_len(&self) -> usize {
        self.size() - HEADER_LEN
    }

    pub fn partition_leader_epoch(&self) -> i32 {
        i32::from_be_bytes(self.field(at::PARTITION_LEADER_EPOCH))
    }

    pub fn magic(&self) -> i8 {
        i8::from_be_bytes(self.field(at::MAGIC))
    }

    pub fn crc(&self) -> u32 {
        u32::from_be_bytes(self.field(at::CRC))
    }

    pub fn attributes(&self) -> i16 {
        i16::from_be_bytes(self.field(at::ATTRIBUTES))
    }

    pub fn last_offset_delta(&self) -> i32 {
        i32::from_be_bytes(self.field(at::LAST_OFFSET_DELTA))
    }

    /// What the records' timestamp deltas count from. Not always a record's time: see [`Self::has_delete_horizon`].
    pub fn base_timestamp(&self) -> i64 {
        i64::from_be_bytes(self.field(at::BASE_TIMESTAMP))
    }

    pub fn max_timestamp(&self) -> i64 {
        i64::from_be_bytes(self.field(at::MAX_TIMESTAMP))
    }

    pub fn producer_id(&self) -> i64 {
        i64::from_be_bytes(self.field(at::PRODUCER_ID))
    }

    pub fn producer_epoch(&self) -> i16 {
        i16::from_be_bytes(self.field(at::PRODUCER_EPOCH))
    }

    pub fn base_sequence(&self) -> i32 {
        i32::from_be_bytes(self.field(at::BASE_SEQUENCE))
    }

    pub fn record_count(&self) -> usize {
        u32::from_be_bytes(self.field(at::RECORD_COUNT)) as usize
    }

    /// The last offset the batch accounts for, whether or not compaction has left a record there.
    pub fn last_offset(&self) -> i64 {
        self.base_offset() + i64::from(self.last_offset_delta())
    }

    /// Where to fetch next.
    pub fn next_offset(&self) -> i64 {
        self.last_offset() + 1
    }

    pub fn codec(&self) -> Result<Codec, UnknownCodec> {
        Codec::from_attributes(self.attributes())
    }

    pub fn timestamp_type(&self) -> TimestampType {
        match self.has(attribute::LOG_APPEND_TIME) {
            true => TimestampType::LogAppendTime,
            false => TimestampType::CreateTime,
        }
    }

    pub fn is_transactional(&self) -> bool {
        self.has(attribute::TRANSACTIONAL)
    }

    /// Holds a transaction marker (or another note between brokers) and no data.
    pub fn is_control(&self) -> bool {
        self.has(attribute::CONTROL)
    }

    /// The cleaner has put its deadline for tombstones into `base_timestamp` and counted the deltas anew from there.
    pub fn has_delete_horizon(&self) -> bool {
        self.has(attribute::DELETE_HORIZON)
    }

    /// There are not as many records as offsets: what compaction leaves behind, and what no broker takes from a producer.
    pub fn has_offset_gaps(&self) -> bool {
        self.record_count() as i64 != i64::from(self.last_offset_delta()) + 1
    }

    pub fn as_bytes(&self) -> &[u8; HEADER_LEN] {
        &self.0
    }

    fn has(&self, bit: i16) -> bool {
        self.attributes() & bit != 0
    }

    fn field<const N: usize>(&self, start: usize) -> [u8; N] {
        field(&self.0, start)
    }
}

/// Reads the field that begins at one of the constants in [`at`]: all of it is there, which the compiler sees too.
pub(super) fn field<const M: usize, const N: usize>(front: &[u8; M], start: usize) -> [u8; N] {
    std::array::from_fn(|i| front[start + i])
}

/// Overwrites the field that begins at one of the constants in [`at`].
pub(crate) fn put<const N: usize>(header: &mut [u8; HEADER_LEN], start: usize, value: [u8; N]) {
    header[start..start + N].copy_from_slice(&value);
}

impl fmt::Debug for BatchHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchHeader")
            .field("base_offset", &self.base_offset())
            .field("batch_length", &self.batch_length())
            .field("partition_leader_epoch", &self.partition_leader_epoch())
            .field("crc", &format_args!("{:#010x}", self.crc()))
            .field("attributes", &format_args!("{:#06x}", self.attributes()))
            .field("last_offset_delta", &self.last_offset_delta())
            .field("base_timestamp", &self.base_timestamp())
            .field("max_timestamp", &self.max_timestamp())
            .field("producer_id", &self.producer_id())
            .field("producer_epoch", &self.producer_epoch())
            .field("base_sequence", &self.base_sequence())
            .field("record_count", &self.record_count())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden;
    use super::*;

    /// The golden header with one field overwritten.
    fn with<const N: usize>(start: usize, value: [u8; N]) -> Result<BatchHeader, HeaderError> {
        let mut bytes = golden::two_records();
        bytes[start..start + N].copy_from_slice(&value);
        BatchHeader::parse(&bytes)
    }

    #[test]
    fn every_field_is_read_from_its_place() {
        let header = BatchHeader::parse(&golden::two_records()).unwrap();

        assert_eq!(header.base_offset(), 42);
        assert_eq!(header.batch_length(), 77);
        assert_eq!(header.size(), 89);
        assert_eq!(header.payload_len(), 28);
        assert_eq!(header.partition_leader_epoch(), 5);
        assert_eq!(header.magic(), 2);
        assert_eq!(header.crc(), golden::TWO_RECORDS_CRC);
        assert_eq!(header.attributes(), 0);
        assert_eq!(header.last_offset_delta(), 1);
        assert_eq!(header.base_timestamp(), 1_700_000_000_000);
        assert_eq!(header.max_timestamp(), 1_700_000_000_007);
        assert_eq!(header.producer_id(), 9000);
        assert_eq!(header.producer_epoch(), 3);
        assert_eq!(header.base_sequence(), 17);
        assert_eq!(header.record_count(), 2);
        assert_eq!(header.last_offset(), 43);
        assert_eq!(header.next_offset(), 44);
        assert_eq!(header.codec(), Ok(Codec::None));
        assert_eq!(header.timestamp_type(), TimestampType::CreateTime);
        assert!(!header.is_transactional() && !header.is_control());
        assert!(!header.has_delete_horizon() && !header.has_offset_gaps());
        assert_eq!(header.as_bytes()[..], golden::two_records()[..HEADER_LEN]);
    }

    #[test]
    fn each_attribute_bit_has_its_accessor() {
        let with_attributes = |bits: i16| with(at::ATTRIBUTES, bits.to_be_bytes()).unwrap();

        assert_eq!(with_attributes(0x08).timestamp_type(), TimestampType::LogAppendTime);
        assert!(with_attributes(0x10).is_transactional());
        assert!(with_attributes(0x20).is_control());
        assert!(with_attributes(0x40).has_delete_horizon());
        assert_eq!(with_attributes(0x04).codec(), Ok(Codec::Zstd));
        assert!(with_attributes(0x07).codec().is_err());
    }

    #[test]
    fn a_header_cut_short_is_refused_at_every_length() {
        for have in 0..HEADER_LEN {
            assert_eq!(
                BatchHeader::parse(&golden::two_records()[..have]),
                Err(HeaderError::Truncated { have })
            );
        }
    }

    #[test]
    fn senseless_fields_are_refused() {
        assert_eq!(with(at::MAGIC, [1]), Err(HeaderError::UnknownMagic(1)));
        assert_eq!(with(at::MAGIC, [3]), Err(HeaderError::UnknownMagic(3)));
        assert_eq!(
            with(at::BATCH_LENGTH, 48_i32.to_be_bytes()),
            Err(HeaderError::BatchLength(48))
        );
        assert_eq!(
            with(at::BATCH_LENGTH, (-1_i32).to_be_bytes()),
            Err(HeaderError::BatchLength(-1))
        );
        assert_eq!(
            with(at::RECORD_COUNT, (-1_i32).to_be_bytes()),
            Err(HeaderError::RecordCount(-1))
        );
        assert!(matches!(
            with(at::BASE_OFFSET, (-1_i64).to_be_bytes()),
            Err(HeaderError::Offsets { .. })
        ));
        assert!(matches!(
            with(at::BASE_OFFSET, i64::MAX.to_be_bytes()),
            Err(HeaderError::Offsets { .. })
        ));
        assert!(matches!(
            with(at::LAST_OFFSET_DELTA, (-1_i32).to_be_bytes()),
            Err(HeaderError::Offsets { .. })
        ));
    }

    #[test]
    fn a_batch_emptied_by_the_cleaner_is_a_batch() {
        let header = with(at::RECORD_COUNT, 0_i32.to_be_bytes()).unwrap();

        assert_eq!(header.record_count(), 0);
        assert_eq!(header.next_offset(), 44);
        assert!(header.has_offset_gaps());
    }
}
