//! What goes into a partition and what comes out of it.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use crate::offsets::{OffsetPair, Segment, SourceOffset, TargetOffset};
use crate::protocol::error_code::ErrorCode;
use crate::record::HEADER_LEN;
use crate::replication::epochs::{BatchMark, EpochHistory};
use crate::replication::forgetting::WallClock;
use crate::replication::ledger::{Checkpoint, LedgerKey, OwnerId, SegmentName};
use crate::replication::recovery::Beginning;

/// What a partition wants of its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchWish {
    Nothing,
    /// Something as soon as what was fetched is on its way, or as it is known from where on.
    Soon,
    From(FetchStart),
}

/// From where on a partition is to be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchStart {
    pub position: SourceOffset,
    /// The leader epoch of the last batch fetched, or -1 (KIP-320).
    pub last_fetched_epoch: i32,
    /// The batch before the position, which is to be there still.
    pub before: Option<BatchMark>,
    pub topic_id: Uuid,
}

/// What becomes of a partition whose source has changed under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnChange {
    #[default]
    Stop,
    /// Goes on with what there is, and says what is lost.
    Continue,
}

/// What to do when the source is not what it was (`kferry.on.gap`, `kferry.on.truncation`, `kferry.on.recreation`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policies {
    pub gap: OnChange,
    pub truncation: OnChange,
    pub recreation: OnChange,
    /// Where the target may come to hold a record twice, stop instead.
    pub exactly_once: bool,
}

/// Names and ids, and where the copy begins and ends.
#[derive(Debug, Clone)]
pub struct PartitionStart {
    pub topic: Arc<str>,
    pub target_topic: Arc<str>,
    pub partition: i32,
    pub source_topic_id: Uuid,
    pub target_topic_id: Uuid,
    pub position: SourceOffset,
    /// The leader epoch of the last batch below `position`, or -1.
    pub leader_epoch: i32,
    /// That batch.
    pub mark: Option<BatchMark>,
    /// Of what was copied so far.
    pub epochs: EpochHistory,
    /// Just past what the target has acknowledged, or where its log ends if nothing was copied so far.
    pub target_next: TargetOffset,
    /// Where to stop; `None` to follow.
    pub end: Option<SourceOffset>,
    /// The source topic is compacted, as far as is known.
    pub is_compacted: bool,
    /// The source topic or the target topic is.
    pub is_cleaned: bool,
    /// The target keeps the times that it is given.
    pub keeps_time: bool,
    pub beginning: Beginning,
    /// The last owner has given the partition up, or there was none: nothing of its can come late. Whoever begins it too would
    /// find us in the ledger before its first batch.
    pub is_quiet: bool,
    /// The mapping that the copy goes on under; of a new partition the lane's producer.
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub next_sequence: i32,
    /// Where the flow began with this partition.
    pub flow_start: OffsetPair,
    pub cuts: Vec<OffsetPair>,
    pub owner: OwnerId,
    /// The last segment of the offset map in the ledger.
    pub segment: Segment,
    /// The segments before it, by their beginning.
    pub segments: Vec<SegmentName>,
    /// What the ledger says of the partition and the first checkpoint takes the place of.
    pub superseded: Vec<LedgerKey>,
    pub policies: Policies,
    pub clock: WallClock,
}

/// One batch to be produced: the patched header and the payload that it came with.
#[derive(Debug, Clone)]
pub struct OutgoingBatch {
    pub partition: usize,
    pub sequence: i32,
    pub header: [u8; HEADER_LEN],
    pub payload: Bytes,
}

/// What became of a batch that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProduceOutcome {
    Acked {
        base_offset: TargetOffset,
    },
    Refused {
        code: ErrorCode,
        message: Option<String>,
    },
    /// No answer came: the batch may be in the target's log or not.
    Unknown {
        cause: String,
    },
}

/// What a fetch error asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchTrouble {
    /// The leader is elsewhere, or not ready.
    Leader,
    /// The offset is not in the source's log: ask where the log begins and ends.
    OutOfRange,
}

/// What was copied by one ack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    pub records: u64,
    /// Batches of the source, by what became of them.
    pub patched: u64,
    pub reencoded: u64,
    pub coalesced: u64,
}

/// What an operator has to know of a partition that goes on. Ranges are from the first and to the second, exclusive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incident {
    /// The source no longer has these offsets; they were not copied.
    Gap(SourceOffset, SourceOffset),
    /// The source's log was cut back to the first offset; the target holds what it had up to the second.
    Truncated(SourceOffset, SourceOffset),
    /// The source's log was cut back to this offset before it was known that these records were copied from beyond.
    Parted { at: SourceOffset, records: u64 },
    /// The source's log ends at the first offset, and went on to the second when the copy began: what was there between was
    /// lost before it was copied.
    Shortened(SourceOffset, SourceOffset),
    /// The source's topic was created anew; the target holds what it had up to this offset.
    Recreated(SourceOffset),
    /// May be on the target twice: the target has records of ours that could not be found at the source again.
    PerhapsRepeated(SourceOffset, SourceOffset),
    /// On the target somebody else has written.
    ForeignRecords(TargetOffset, TargetOffset),
    /// Records were found on the target that were not known to be there.
    Found { records: u64, position: SourceOffset },
}

/// What a checkpoint of the partition writes to the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionCheckpoint {
    pub checkpoint: Checkpoint,
    pub segments: Vec<Segment>,
    /// What holds no longer, once the rest is written.
    pub gone: Vec<LedgerKey>,
}
