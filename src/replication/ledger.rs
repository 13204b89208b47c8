//! The ledger's records: what a flow remembers on the target (DESIGN: the ledger is a compacted topic, one partition for
//! each lane).
//!
//! | key | value |
//! |---|---|
//! | `Flow` | whose ledger this is: the clusters' ids, the number of lanes |
//! | `Checkpoint(topic, partition)` | how far the partition has come, and how its next batch would be written |
//! | `Segment(topic, partition, source start)` | a piece of the partition's offset map |
//!
//! Keys and values open with a byte for kind and format. A reader refuses a format that it does not know, so an older
//! kferry never goes on from what a newer one wrote. Reading and writing the topic itself is `service`'s.

use thiserror::Error;
use uuid::Uuid;

use crate::offsets::{Segment, SegmentError, SourceOffset, TargetOffset};
use crate::protocol::primitives::{Reader, WireError, put_varint, put_varlong};

/// Lanes of a new ledger (`kferry.lanes`). Fixed once the ledger exists.
pub const DEFAULT_LANES: i32 = 8;

const FORMAT: u8 = 1;
const KIND_FLOW: u8 = 1;
const KIND_CHECKPOINT: u8 = 2;
const KIND_SEGMENT: u8 = 3;

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

/// What a ledger record is about. Of several records with one key the last one counts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LedgerKey {
    Flow,
    Checkpoint {
        topic: String,
        partition: i32,
    },
    Segment {
        topic: String,
        partition: i32,
        source_start: SourceOffset,
    },
}

impl LedgerKey {
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Flow => vec![KIND_FLOW],
            Self::Checkpoint { topic, partition } => {
                let mut bytes = vec![KIND_CHECKPOINT];
                put_topic_partition(&mut bytes, topic, *partition);
                bytes
            }
            Self::Segment {
                topic,
                partition,
                source_start,
            } => {
                let mut bytes = vec![KIND_SEGMENT];
                put_topic_partition(&mut bytes, topic, *partition);
                put_varlong(&mut bytes, source_start.0);
                bytes
            }
        }
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, LedgerError> {
        let mut reader = Reader::new(bytes);
        let key = match reader.u8()? {
            KIND_FLOW => Self::Flow,
            KIND_CHECKPOINT => {
                let (topic, partition) = topic_partition(&mut reader)?;
                Self::Checkpoint { topic, partition }
            }
            KIND_SEGMENT => {
                let (topic, partition) = topic_partition(&mut reader)?;
                Self::Segment {
                    topic,
                    partition,
                    source_start: SourceOffset(reader.varlong()?),
                }
            }
            other => return Err(LedgerError::Kind(other)),
        };
        end(&reader)?;
        Ok(key)
    }
}

/// Whose ledger it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowRecord {
    pub source_cluster_id: String,
    pub target_cluster_id: String,
    pub lanes: i32,
}

impl FlowRecord {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        put_string(&mut bytes, &self.source_cluster_id);
        put_string(&mut bytes, &self.target_cluster_id);
        put_varint(&mut bytes, self.lanes);
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, LedgerError> {
        let mut reader = versioned(bytes)?;
        let record = Self {
            source_cluster_id: string(&mut reader)?,
            target_cluster_id: string(&mut reader)?,
            lanes: reader.varint()?,
        };
        if record.lanes < 1 {
            return Err(LedgerError::Impossible("lanes"));
        }
        end(&reader)?;
        Ok(record)
    }
}

/// How far a partition has come, and how its next batch would be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Everything below is on the target, or was skipped for good.
    pub source_position: SourceOffset,
    /// The leader epoch of the last batch taken, or -1; tells a truncated source (KIP-320).
    pub source_leader_epoch: i32,
    /// Nil where the broker knows no topic ids (before Kafka 2.8).
    pub source_topic_id: Uuid,
    pub target_topic_id: Uuid,
    /// Just past the last record that the target acknowledged.
    pub target_next: TargetOffset,
    /// Producer id, epoch and the sequence number of the next record written under them.
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub next_sequence: i32,
}

impl Checkpoint {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        put_varlong(&mut bytes, self.source_position.0);
        put_varint(&mut bytes, self.source_leader_epoch);
        bytes.extend_from_slice(self.source_topic_id.as_bytes());
        bytes.extend_from_slice(self.target_topic_id.as_bytes());
        put_varlong(&mut bytes, self.target_next.0);
        put_varlong(&mut bytes, self.producer_id);
        put_varint(&mut bytes, i32::from(self.producer_epoch));
        put_varint(&mut bytes, self.next_sequence);
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, LedgerError> {
        let mut reader = versioned(bytes)?;
        let checkpoint = Self {
            source_position: SourceOffset(reader.varlong()?),
            source_leader_epoch: reader.varint()?,
            source_topic_id: reader.uuid()?,
            target_topic_id: reader.uuid()?,
            target_next: TargetOffset(reader.varlong()?),
            producer_id: reader.varlong()?,
            producer_epoch: i16::try_from(reader.varint()?).map_err(|_| LedgerError::Impossible("producer epoch"))?,
            next_sequence: reader.varint()?,
        };
        end(&reader)?;
        if checkpoint.source_position.0 < 0 || checkpoint.target_next.0 < 0 || checkpoint.next_sequence < 0 {
            return Err(LedgerError::Impossible("a negative position"));
        }
        Ok(checkpoint)
    }
}

/// A record of the ledger, as written. A value of `None` is a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerRecord {
    Flow(FlowRecord),
    Checkpoint {
        topic: String,
        partition: i32,
        checkpoint: Checkpoint,
    },
    Segment {
        topic: String,
        partition: i32,
        segment: Segment,
    },
}

impl LedgerRecord {
    /// Key and value as they are produced.
    ///
    /// # Panics
    /// On an empty segment, which has no name.
    pub fn encode(&self) -> (Vec<u8>, Vec<u8>) {
        match self {
            Self::Flow(flow) => (LedgerKey::Flow.encode(), flow.encode()),
            Self::Checkpoint {
                topic,
                partition,
                checkpoint,
            } => {
                let key = LedgerKey::Checkpoint {
                    topic: topic.clone(),
                    partition: *partition,
                };
                (key.encode(), checkpoint.encode())
            }
            Self::Segment {
                topic,
                partition,
                segment,
            } => {
                let source_start = segment.start().expect("only segments with runs are written");
                let key = LedgerKey::Segment {
                    topic: topic.clone(),
                    partition: *partition,
                    source_start,
                };
                (key.encode(), segment.encode())
            }
        }
    }

    pub fn decode(key: &[u8], value: &[u8]) -> Result<Self, LedgerError> {
        Ok(match LedgerKey::decode(key)? {
            LedgerKey::Flow => Self::Flow(FlowRecord::decode(value)?),
            LedgerKey::Checkpoint { topic, partition } => Self::Checkpoint {
                topic,
                partition,
                checkpoint: Checkpoint::decode(value)?,
            },
            LedgerKey::Segment {
                topic,
                partition,
                source_start,
            } => {
                let segment = Segment::decode(value)?;
                if segment.start() != Some(source_start) {
                    return Err(LedgerError::Impossible("a segment under another segment's name"));
                }
                Self::Segment {
                    topic,
                    partition,
                    segment,
                }
            }
        })
    }
}

/// Why bytes are not a ledger record.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LedgerError {
    #[error("ledger record of kind {0}, which this kferry does not know: a newer kferry wrote it")]
    Kind(u8),
    #[error("ledger record of format {0}, this kferry reads {FORMAT}: a newer kferry wrote it")]
    Format(u8),
    #[error("ledger record is impossible: {0}")]
    Impossible(&'static str),
    #[error("ledger record is damaged")]
    Wire(#[from] WireError),
    #[error("ledger record is damaged")]
    Segment(#[from] SegmentError),
}

fn versioned(bytes: &[u8]) -> Result<Reader<'_>, LedgerError> {
    let mut reader = Reader::new(bytes);
    match reader.u8()? {
        FORMAT => Ok(reader),
        other => Err(LedgerError::Format(other)),
    }
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

/// Topic names and cluster ids: at most 249 bytes where a broker gave them.
fn put_string(bytes: &mut Vec<u8>, text: &str) {
    let length = i16::try_from(text.len()).expect("names are short");
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::offsets::Run;

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            source_position: SourceOffset(300),
            source_leader_epoch: 4,
            source_topic_id: Uuid::from_u128(1),
            target_topic_id: Uuid::from_u128(2),
            target_next: TargetOffset(290),
            producer_id: 1000,
            producer_epoch: 0,
            next_sequence: 290,
        }
    }

    fn records() -> Vec<LedgerRecord> {
        let mut segment = Segment::default();
        segment.push(Run {
            source_start: SourceOffset(5),
            target_start: TargetOffset(0),
            count: 10,
        });
        vec![
            LedgerRecord::Flow(FlowRecord {
                source_cluster_id: "MkU3OEVBNTcwNTJENDM2Qg".into(),
                target_cluster_id: "Some-Other-Cluster-Id_".into(),
                lanes: 8,
            }),
            LedgerRecord::Checkpoint {
                topic: "orders".into(),
                partition: 3,
                checkpoint: checkpoint(),
            },
            LedgerRecord::Segment {
                topic: "orders".into(),
                partition: 3,
                segment,
            },
        ]
    }

    #[test]
    fn what_is_written_is_read() {
        for record in records() {
            let (key, value) = record.encode();
            assert_eq!(LedgerRecord::decode(&key, &value), Ok(record));
        }
    }

    #[test]
    fn golden_checkpoint() {
        let mut golden = vec![1]; // format
        golden.extend([0xd8, 0x04]); // source position 300
        golden.push(8); // source leader epoch 4
        golden.extend(Uuid::from_u128(1).as_bytes());
        golden.extend(Uuid::from_u128(2).as_bytes());
        golden.extend([0xc4, 0x04]); // target next 290
        golden.extend([0xd0, 0x0f]); // producer id 1000
        golden.push(0); // producer epoch 0
        golden.extend([0xc4, 0x04]); // next sequence 290
        assert_eq!(checkpoint().encode(), golden);
        let key = LedgerKey::Checkpoint {
            topic: "orders".into(),
            partition: 3,
        };
        assert_eq!(key.encode(), [&[2, 0, 6][..], b"orders", &[6]].concat());
    }

    #[test]
    fn a_cut_record_is_an_error_at_every_length() {
        for record in records() {
            let (key, value) = record.encode();
            for cut in 0..key.len() {
                assert!(LedgerRecord::decode(&key[..cut], &value).is_err());
            }
            // A segment cut between two runs is a shorter segment: the broker's CRC guards against that, not we.
            for cut in 0..value.len() {
                assert!(
                    LedgerRecord::decode(&key, &value[..cut]).is_err(),
                    "{record:?} cut to {cut}"
                );
            }
        }
    }

    #[test]
    fn a_newer_format_is_refused() {
        let (key, mut value) = records().remove(1).encode();
        value[0] = 2;
        assert_eq!(LedgerRecord::decode(&key, &value), Err(LedgerError::Format(2)));
        assert_eq!(LedgerKey::decode(&[9]), Err(LedgerError::Kind(9)));
    }

    #[test]
    fn lanes_never_move() {
        // Written into ledgers by what lies where: these values may never change.
        assert_eq!(lane_of("orders", 0, 8), 4);
        assert_eq!(lane_of("orders", 1, 8), 7);
        assert_eq!(lane_of("a.b-c_d", 1234, 8), 5);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(key in prop::collection::vec(any::<u8>(), 0..60), value in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = LedgerRecord::decode(&key, &value);
        }
    }
}
