//! What ledger records say. A value opens with its format.

use uuid::Uuid;

use super::{FORMAT, LedgerError, OwnerId, end, put_string, string};
use crate::offsets::{OffsetPair, SourceOffset, TargetOffset};
use crate::protocol::primitives::{Reader, put_varint, put_varlong};
use crate::replication::epochs::{BatchMark, EpochHistory, EpochStart, MAX_EPOCHS};

/// Whose ledger it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowRecord {
    pub source_cluster_id: String,
    pub target_cluster_id: String,
    pub lanes: i32,
}

/// Who holds a lane. Of several the one of the highest generation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnerRecord {
    pub owner: OwnerId,
    /// The owner has ended, with nothing on its way: no batch of its can come late.
    pub released: bool,
}

/// The producer that mappings of the lane begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneRecord {
    pub producer_id: i64,
    pub producer_epoch: i16,
    /// The id belongs to the lane's transactional id, by which it can be fenced.
    pub is_transactional: bool,
}

/// How far a partition has come, and how its next batch would be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The topic's name on the target.
    pub target_topic: String,
    /// Nil where the broker knows no topic ids (before Kafka 2.8).
    pub source_topic_id: Uuid,
    pub target_topic_id: Uuid,
    /// Where the flow began with the partition.
    pub start: OffsetPair,
    /// Everything below is on the target, or was skipped for good.
    pub source_position: SourceOffset,
    /// The leader epoch of the last batch taken, or -1; tells a truncated source (KIP-320).
    pub source_leader_epoch: i32,
    /// That batch, so that another in its place is noticed; not of a topic that is compacted.
    pub source_mark: Option<BatchMark>,
    /// Under which leader epochs what was copied was written.
    pub source_epochs: EpochHistory,
    /// Just past the last record that the target acknowledged.
    pub target_next: TargetOffset,
    /// Producer id and epoch of the mapping, and the sequence number of the next record: within a mapping it is the number of
    /// records written, modulo 2³¹.
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub next_sequence: i32,
    /// Where the source has lost records that had been copied, oldest first: from there on it has become another, and what
    /// the map says of offsets at or past the pair's source offset, and puts below its target offset, is void.
    pub cuts: Vec<OffsetPair>,
}

/// Cuts that a checkpoint remembers. A source that has lost records more often than this has other troubles.
pub const MAX_CUTS: usize = 64;

/// What kferry last wrote for a consumer group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupRecord {
    pub source_offset: SourceOffset,
    pub target_offset: TargetOffset,
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

impl OwnerRecord {
    pub fn encode(&self) -> Vec<u8> {
        vec![FORMAT, u8::from(self.released)]
    }

    pub fn decode(owner: OwnerId, bytes: &[u8]) -> Result<Self, LedgerError> {
        let mut reader = versioned(bytes)?;
        let record = Self {
            owner,
            released: flag(&mut reader)?,
        };
        end(&reader)?;
        Ok(record)
    }
}

impl LaneRecord {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        put_varlong(&mut bytes, self.producer_id);
        put_varint(&mut bytes, i32::from(self.producer_epoch));
        bytes.push(u8::from(self.is_transactional));
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, LedgerError> {
        let mut reader = versioned(bytes)?;
        let record = Self {
            producer_id: reader.varlong()?,
            producer_epoch: epoch(&mut reader)?,
            is_transactional: flag(&mut reader)?,
        };
        end(&reader)?;
        Ok(record)
    }
}

impl Checkpoint {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        put_string(&mut bytes, &self.target_topic);
        bytes.extend_from_slice(self.source_topic_id.as_bytes());
        bytes.extend_from_slice(self.target_topic_id.as_bytes());
        put_varlong(&mut bytes, self.start.source.0);
        put_varlong(&mut bytes, self.start.target.0);
        put_varlong(&mut bytes, self.source_position.0);
        put_varint(&mut bytes, self.source_leader_epoch);
        put_varlong(&mut bytes, self.target_next.0);
        put_varlong(&mut bytes, self.producer_id);
        put_varint(&mut bytes, i32::from(self.producer_epoch));
        put_varint(&mut bytes, self.next_sequence);
        match self.source_mark {
            None => bytes.push(0),
            Some(mark) => {
                bytes.push(1);
                put_varlong(&mut bytes, mark.base_offset.0);
                bytes.extend_from_slice(&mark.crc.to_be_bytes());
            }
        }
        let epochs = self.source_epochs.entries();
        put_varint(&mut bytes, epochs.len() as i32);
        for entry in epochs {
            put_varint(&mut bytes, entry.epoch);
            put_varlong(&mut bytes, entry.start.0);
        }
        for cut in &self.cuts {
            put_varlong(&mut bytes, cut.source.0);
            put_varlong(&mut bytes, cut.target.0);
        }
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, LedgerError> {
        let mut reader = versioned(bytes)?;
        let mut checkpoint = Self {
            target_topic: string(&mut reader)?,
            source_topic_id: reader.uuid()?,
            target_topic_id: reader.uuid()?,
            start: OffsetPair {
                source: SourceOffset(position(&mut reader)?),
                target: TargetOffset(position(&mut reader)?),
            },
            source_position: SourceOffset(position(&mut reader)?),
            source_leader_epoch: reader.varint()?,
            target_next: TargetOffset(position(&mut reader)?),
            producer_id: reader.varlong()?,
            producer_epoch: epoch(&mut reader)?,
            next_sequence: reader.varint()?,
            source_mark: mark(&mut reader)?,
            source_epochs: epochs(&mut reader)?,
            cuts: Vec::new(),
        };
        while !reader.is_empty() {
            if checkpoint.cuts.len() == MAX_CUTS {
                return Err(LedgerError::Impossible("cuts"));
            }
            checkpoint.cuts.push(OffsetPair {
                source: SourceOffset(position(&mut reader)?),
                target: TargetOffset(position(&mut reader)?),
            });
        }
        if checkpoint.next_sequence < 0 {
            return Err(LedgerError::Impossible("a negative sequence"));
        }
        Ok(checkpoint)
    }
}

impl GroupRecord {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        put_varlong(&mut bytes, self.source_offset.0);
        put_varlong(&mut bytes, self.target_offset.0);
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, LedgerError> {
        let mut reader = versioned(bytes)?;
        let record = Self {
            source_offset: SourceOffset(reader.varlong()?),
            target_offset: TargetOffset(position(&mut reader)?),
        };
        end(&reader)?;
        Ok(record)
    }
}

fn mark(reader: &mut Reader<'_>) -> Result<Option<BatchMark>, LedgerError> {
    if !flag(reader)? {
        return Ok(None);
    }
    Ok(Some(BatchMark {
        base_offset: SourceOffset(position(reader)?),
        crc: reader.u32()?,
    }))
}

fn epochs(reader: &mut Reader<'_>) -> Result<EpochHistory, LedgerError> {
    let mut history = EpochHistory::default();
    let count = reader.varint()?;
    if !usize::try_from(count).is_ok_and(|count| count <= MAX_EPOCHS) {
        return Err(LedgerError::Impossible("leader epochs"));
    }
    for _ in 0..count {
        history.take(EpochStart {
            epoch: reader.varint()?,
            start: SourceOffset(position(reader)?),
        });
    }
    Ok(history)
}

fn versioned(bytes: &[u8]) -> Result<Reader<'_>, LedgerError> {
    let mut reader = Reader::new(bytes);
    match reader.u8()? {
        FORMAT => Ok(reader),
        other => Err(LedgerError::Format(other)),
    }
}

fn position(reader: &mut Reader<'_>) -> Result<i64, LedgerError> {
    let position = reader.varlong()?;
    if position < 0 {
        return Err(LedgerError::Impossible("a negative position"));
    }
    Ok(position)
}

fn epoch(reader: &mut Reader<'_>) -> Result<i16, LedgerError> {
    i16::try_from(reader.varint()?).map_err(|_| LedgerError::Impossible("producer epoch"))
}

fn flag(reader: &mut Reader<'_>) -> Result<bool, LedgerError> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(LedgerError::Impossible("a flag")),
    }
}
