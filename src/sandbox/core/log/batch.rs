//! A batch as a partition's log keeps it: its header rewritten, its payload a slice of the request it came in.

use bytes::{Bytes, BytesMut};

use crate::record::header::put;
use crate::record::header::{at, attribute};
use crate::record::{BatchHeader, HEADER_LEN, RawBatch, TimestampType, crc};

/// One batch of a log. Header and payload are apart, so that storing a batch copies 61 bytes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBatch {
    pub header: BatchHeader,
    pub payload: Bytes,
}

impl StoredBatch {
    /// Both parts in one buffer, for whoever wants to look into the batch.
    pub fn to_raw(&self) -> RawBatch {
        let mut bytes = BytesMut::with_capacity(self.header.size());
        bytes.extend_from_slice(self.header.as_bytes());
        bytes.extend_from_slice(&self.payload);
        RawBatch {
            header: self.header,
            bytes: bytes.freeze(),
        }
    }
}

impl From<RawBatch> for StoredBatch {
    fn from(batch: RawBatch) -> Self {
        Self {
            header: batch.header,
            payload: batch.payload(),
        }
    }
}

/// The header with the place in the log that the leader gives it. Neither field is covered by the CRC.
pub(super) fn placed(header: &BatchHeader, base_offset: i64, leader_epoch: i32) -> BatchHeader {
    edited(header, |bytes| {
        put(bytes, at::BASE_OFFSET, base_offset.to_be_bytes());
        put(bytes, at::PARTITION_LEADER_EPOCH, leader_epoch.to_be_bytes());
    })
}

/// The header with the timestamps that the broker insists on, and its CRC adjusted to them.
pub(super) fn timestamped(header: &BatchHeader, timestamps: TimestampType, max_timestamp: i64) -> BatchHeader {
    let attributes = match timestamps {
        TimestampType::CreateTime => header.attributes() & !attribute::LOG_APPEND_TIME,
        TimestampType::LogAppendTime => header.attributes() | attribute::LOG_APPEND_TIME,
    };
    if attributes == header.attributes() && max_timestamp == header.max_timestamp() {
        return *header;
    }
    edited(header, |bytes| {
        put(bytes, at::ATTRIBUTES, attributes.to_be_bytes());
        put(bytes, at::MAX_TIMESTAMP, max_timestamp.to_be_bytes());
        let crc = crc::patched(
            header.crc(),
            &header.as_bytes()[at::ATTRIBUTES..],
            &bytes[at::ATTRIBUTES..],
            header.payload_len(),
        );
        put(bytes, at::CRC, crc.to_be_bytes());
    })
}

/// Changes fields and keeps what [`BatchHeader`] promises: the callers only write values that a log can hold.
fn edited(header: &BatchHeader, edit: impl FnOnce(&mut [u8; HEADER_LEN])) -> BatchHeader {
    let mut bytes = *header.as_bytes();
    edit(&mut bytes);
    BatchHeader::parse(&bytes).unwrap_or(*header)
}
