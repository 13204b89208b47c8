//! What ledger records are about. Of several records with one key the last one counts.

use super::{LedgerError, end, put_string, put_topic_partition, string, topic_partition};
use crate::offsets::SourceOffset;
use crate::protocol::primitives::{Reader, put_varint, put_varlong};

const FLOW: u8 = 1;
const CHECKPOINT: u8 = 2;
const SEGMENT: u8 = 3;
const OWNER: u8 = 4;
const LANE: u8 = 5;
const GROUP: u8 = 6;

/// One instance of kferry while it holds a flow: the later one has the higher generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OwnerId {
    /// From 1 on.
    pub generation: i32,
    /// Random; tells two instances apart that started at once.
    pub instance: u64,
}

/// A segment of a partition's offset map in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentName {
    pub start: SourceOffset,
    pub owner: OwnerId,
    /// Where its last run ends.
    pub end: SourceOffset,
}

impl SegmentName {
    pub fn key(&self, topic: &str, partition: i32) -> LedgerKey {
        LedgerKey::Segment {
            topic: topic.to_owned(),
            partition,
            owner: self.owner,
            source_start: self.start,
        }
    }
}

/// The key of a record. One byte says the kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LedgerKey {
    Flow,
    Owner {
        owner: OwnerId,
    },
    Lane,
    Checkpoint {
        topic: String,
        partition: i32,
        owner: OwnerId,
    },
    Segment {
        topic: String,
        partition: i32,
        owner: OwnerId,
        source_start: SourceOffset,
    },
    Group {
        group: String,
        topic: String,
        partition: i32,
    },
}

impl LedgerKey {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Self::Flow => bytes.push(FLOW),
            Self::Owner { owner } => {
                bytes.push(OWNER);
                owner.put(&mut bytes);
            }
            Self::Lane => bytes.push(LANE),
            Self::Checkpoint {
                topic,
                partition,
                owner,
            } => {
                bytes.push(CHECKPOINT);
                put_topic_partition(&mut bytes, topic, *partition);
                owner.put(&mut bytes);
            }
            Self::Segment {
                topic,
                partition,
                owner,
                source_start,
            } => {
                bytes.push(SEGMENT);
                put_topic_partition(&mut bytes, topic, *partition);
                owner.put(&mut bytes);
                put_varlong(&mut bytes, source_start.0);
            }
            Self::Group {
                group,
                topic,
                partition,
            } => {
                bytes.push(GROUP);
                put_string(&mut bytes, group);
                put_topic_partition(&mut bytes, topic, *partition);
            }
        }
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, LedgerError> {
        let mut reader = Reader::new(bytes);
        let key = match reader.u8()? {
            FLOW => Self::Flow,
            OWNER => Self::Owner {
                owner: OwnerId::read(&mut reader)?,
            },
            LANE => Self::Lane,
            CHECKPOINT => {
                let (topic, partition) = topic_partition(&mut reader)?;
                Self::Checkpoint {
                    topic,
                    partition,
                    owner: OwnerId::read(&mut reader)?,
                }
            }
            SEGMENT => {
                let (topic, partition) = topic_partition(&mut reader)?;
                Self::Segment {
                    topic,
                    partition,
                    owner: OwnerId::read(&mut reader)?,
                    source_start: SourceOffset(reader.varlong()?),
                }
            }
            GROUP => {
                let group = string(&mut reader)?;
                let (topic, partition) = topic_partition(&mut reader)?;
                Self::Group {
                    group,
                    topic,
                    partition,
                }
            }
            other => return Err(LedgerError::Kind(other)),
        };
        end(&reader)?;
        Ok(key)
    }
}

impl OwnerId {
    pub(super) fn put(self, bytes: &mut Vec<u8>) {
        put_varint(bytes, self.generation);
        bytes.extend_from_slice(&self.instance.to_be_bytes());
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, LedgerError> {
        let generation = reader.varint()?;
        if generation < 1 {
            return Err(LedgerError::Impossible("owner generation"));
        }
        let instance = reader.i64()? as u64;
        Ok(Self { generation, instance })
    }
}
