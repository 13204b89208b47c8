//! The ledger's records: what a flow remembers on the target (DESIGN: the ledger is a compacted topic, one partition for
//! each lane).
//!
//! | key | value |
//! |---|---|
//! | `Flow` | whose ledger this is: the clusters' ids, the number of lanes |
//! | `Owner(owner)` | that an instance of kferry holds the lane, or has given it up |
//! | `Lane` | the producer that new mappings of the lane begin with |
//! | `Checkpoint(topic, partition, owner)` | how far the partition has come, and how its next batch would be written |
//! | `Segment(topic, partition, source start, owner)` | a piece of the partition's offset map |
//! | `Group(group, topic, partition)` | which offset was written for a consumer group |
//!
//! Owners, checkpoints and segments carry their writer in the key, so that what an instance writes late, after another has taken
//! over, replaces nothing. Whatever an instance wrote was true when it wrote it: a reader takes the checkpoint of the
//! highest generation, and the segments of all.
//!
//! Keys and values open with a byte for kind and format. A reader refuses a format that it does not know, so an older
//! kferry never goes on from what a newer one wrote. Reading and writing the topic itself is `service`'s.

mod key;
mod value;

#[cfg(test)]
mod tests;

pub use key::{LedgerKey, OwnerId, SegmentName};
pub use value::{Checkpoint, FlowRecord, GroupRecord, LaneRecord, MAX_CUTS, OwnerRecord};

use thiserror::Error;

use crate::offsets::{Segment, SegmentError};
use crate::protocol::primitives::{Reader, WireError, put_varint};

/// Lanes of a new ledger (`kferry.lanes`). Fixed once the ledger exists.
pub const DEFAULT_LANES: i32 = 8;

const FORMAT: u8 = 3;

/// The name of a flow's ledger topic on the target.
pub fn ledger_topic(source_alias: &str, target_alias: &str) -> String {
    format!("kferry-ledger.{source_alias}.{target_alias}.internal")
}

/// Whether a topic is a ledger of any flow. Ledgers are never copied.
pub fn is_ledger_topic(name: &str) -> bool {
    name.starts_with("kferry-ledger.") && name.ends_with(".internal")
}

/// The lane, and so the ledger partition, of a partition: FNV-1a over the topic's name and the partition's number.
///
/// The hash is written into every ledger by what lies where, so it can never change.
pub fn lane_of(topic: &str, partition: i32, lanes: i32) -> i32 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let hash = topic
        .bytes()
        .chain(partition.to_be_bytes())
        .fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    (hash % u64::from(lanes.unsigned_abs().max(1))) as i32
}

/// The transactional id of a lane, by which its writers are fenced. It can never change, nor can it be another lane's.
pub fn lane_transactional_id(ledger_topic: &str, lane: i32) -> String {
    format!("{ledger_topic}-{lane}")
}

/// A record of the ledger, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerRecord {
    Flow(FlowRecord),
    Owner(OwnerRecord),
    Lane(LaneRecord),
    Checkpoint {
        topic: String,
        partition: i32,
        owner: OwnerId,
        checkpoint: Checkpoint,
    },
    Segment {
        topic: String,
        partition: i32,
        owner: OwnerId,
        segment: Segment,
    },
    Group {
        group: String,
        topic: String,
        partition: i32,
        record: GroupRecord,
    },
    /// What was said under the key holds no longer.
    Gone(LedgerKey),
}

impl LedgerRecord {
    /// Key and value as they are produced.
    ///
    /// # Panics
    /// On an empty segment, which has no name.
    pub fn encode(&self) -> (Vec<u8>, Option<Vec<u8>>) {
        let value = match self {
            Self::Flow(record) => record.encode(),
            Self::Owner(record) => record.encode(),
            Self::Lane(record) => record.encode(),
            Self::Checkpoint { checkpoint, .. } => checkpoint.encode(),
            Self::Segment { segment, .. } => segment.encode(),
            Self::Group { record, .. } => record.encode(),
            Self::Gone(key) => return (key.encode(), None),
        };
        (self.key().encode(), Some(value))
    }

    /// What the record is about.
    pub fn key(&self) -> LedgerKey {
        match self.clone() {
            Self::Flow(_) => LedgerKey::Flow,
            Self::Owner(record) => LedgerKey::Owner { owner: record.owner },
            Self::Lane(_) => LedgerKey::Lane,
            Self::Checkpoint {
                topic,
                partition,
                owner,
                ..
            } => LedgerKey::Checkpoint {
                topic,
                partition,
                owner,
            },
            Self::Segment {
                topic,
                partition,
                owner,
                segment,
            } => LedgerKey::Segment {
                topic,
                partition,
                owner,
                source_start: segment.start().expect("only segments with runs are written"),
            },
            Self::Group {
                group,
                topic,
                partition,
                ..
            } => LedgerKey::Group {
                group,
                topic,
                partition,
            },
            Self::Gone(key) => key,
        }
    }

    /// Reads what [`LedgerRecord::encode`] wrote; no value is a tombstone.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Self, LedgerError> {
        let key = LedgerKey::decode(key)?;
        let Some(value) = value else {
            return Ok(Self::Gone(key));
        };
        Ok(match key {
            LedgerKey::Flow => Self::Flow(FlowRecord::decode(value)?),
            LedgerKey::Owner { owner } => Self::Owner(OwnerRecord::decode(owner, value)?),
            LedgerKey::Lane => Self::Lane(LaneRecord::decode(value)?),
            LedgerKey::Checkpoint {
                topic,
                partition,
                owner,
            } => Self::Checkpoint {
                topic,
                partition,
                owner,
                checkpoint: Checkpoint::decode(value)?,
            },
            LedgerKey::Segment {
                topic,
                partition,
                owner,
                source_start,
            } => {
                let segment = Segment::decode(value)?;
                if segment.start() != Some(source_start) {
                    return Err(LedgerError::Impossible("a segment under another segment's name"));
                }
                Self::Segment {
                    topic,
                    partition,
                    owner,
                    segment,
                }
            }
            LedgerKey::Group {
                group,
                topic,
                partition,
            } => Self::Group {
                group,
                topic,
                partition,
                record: GroupRecord::decode(value)?,
            },
        })
    }
}

/// Why bytes are not a ledger record.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LedgerError {
    #[error("ledger record of kind {0}, which this kferry does not know: a newer kferry wrote it")]
    Kind(u8),
    #[error("ledger record of format {0}, this kferry reads {FORMAT}: another version of kferry wrote it")]
    Format(u8),
    #[error("ledger record is impossible: {0}")]
    Impossible(&'static str),
    #[error("ledger record is damaged")]
    Wire(#[from] WireError),
    #[error("ledger record is damaged")]
    Segment(#[from] SegmentError),
}

fn end(reader: &Reader<'_>) -> Result<(), LedgerError> {
    if reader.is_empty() {
        Ok(())
    } else {
        Err(LedgerError::Impossible("bytes left over"))
    }
}

fn topic_partition(reader: &mut Reader<'_>) -> Result<(String, i32), LedgerError> {
    Ok((string(reader)?, reader.varint()?))
}

fn put_topic_partition(bytes: &mut Vec<u8>, topic: &str, partition: i32) {
    put_string(bytes, topic);
    put_varint(bytes, partition);
}

fn string(reader: &mut Reader<'_>) -> Result<String, LedgerError> {
    Ok(reader.string()?.to_owned())
}

/// Names of topics, groups and clusters: brokers take none that is longer than 32,767 bytes.
fn put_string(bytes: &mut Vec<u8>, text: &str) {
    let length = i16::try_from(text.len()).expect("names are short");
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
}
