//! What goes into a flow and what comes out of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::offsets::SourceOffset;
use crate::protocol::error_code::ErrorCode;
use crate::replication::budget::Reservation;
use crate::replication::epochs::{BatchMark, Truncation};
use crate::replication::fate::FateContext;
use crate::replication::partition::{OutgoingBatch, PartitionCheckpoint, PartitionStart, ProduceOutcome, SourceLog};
use crate::replication::prepare::{PrepareError, Prepared};
use crate::replication::recovery::{Known, Recovered};
use crate::replication::stopped::Stopped;

/// One connection to one broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    pub broker: i32,
    pub connection: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Source,
    Target,
}

/// A partition, and what its batches must look like on the target.
#[derive(Debug, Clone)]
pub struct FlowPartition {
    pub start: PartitionStart,
    /// Why it can't be copied, where that is known before the start.
    pub stopped: Option<Stopped>,
    pub max_batch_bytes: usize,
    pub keep_append_time: bool,
}

/// Who leads a partition, and which topic the name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leader {
    Known {
        broker: i32,
        epoch: i32,
        topic_id: Uuid,
    },
    /// An election is under way.
    Absent,
    /// The topic or the partition does not exist.
    Missing,
}

#[derive(Debug)]
pub enum Action {
    Fetch(FetchJob),
    Produce(ProduceJob),
    RefreshMetadata(End),
    /// Ask where the source's log begins and ends.
    AskSourceRange(usize),
    Checkpoint(CheckpointJob),
    Recover(RecoverJob),
    /// Ask the ledger whether somebody else has taken the flow over.
    ConfirmOwnership,
}

/// Fetch what this slot's last job asked for, with these changes.
#[derive(Debug)]
pub struct FetchJob {
    pub slot: Slot,
    /// What is new, or has changed.
    pub wanted: Vec<WantedPartition>,
    /// What is not asked for any more.
    pub unwanted: Vec<usize>,
    pub max_bytes: usize,
    /// How long the broker may wait for records.
    pub max_wait: Duration,
    pub hold: Reservation,
}

#[derive(Debug, Clone, Copy)]
pub struct WantedPartition {
    pub index: usize,
    pub leader_epoch: i32,
    pub last_fetched_epoch: i32,
    /// The batch before the offset, which is to be there.
    pub before: Option<BatchMark>,
    pub topic_id: Uuid,
    pub max_bytes: usize,
    pub context: FateContext,
    /// Batches of less are put together; see [`FlowLimits`](super::FlowLimits).
    pub coalesce_below: usize,
}

#[derive(Debug)]
pub struct ProduceJob {
    pub slot: Slot,
    pub batches: Vec<OutgoingBatch>,
    /// From then on another instance may have the flow: what could not be sent before is not sent.
    pub send_before: Instant,
}

/// Partitions of one lane of which has to be found out where the target's log stands.
#[derive(Debug)]
pub struct RecoverJob {
    pub lane: i32,
    pub partitions: Vec<(usize, Known)>,
}

/// Why a partition could not be taken over.
#[derive(Debug, Clone)]
pub enum RecoveryFailure {
    /// It is tried again.
    Later(String),
    Stop(Stopped),
    /// The source's log is not the one that was copied.
    Truncated(Truncation),
}

/// What one checkpoint writes, by lane.
#[derive(Debug)]
pub struct CheckpointJob {
    pub lanes: BTreeMap<i32, Vec<(usize, PartitionCheckpoint)>>,
}

#[derive(Debug)]
pub enum Event {
    /// A fetch came to its end. Partitions that are not listed had nothing.
    Fetched {
        slot: Slot,
        partitions: Vec<FetchedPart>,
        held_back: bool,
    },
    FetchFailed {
        slot: Slot,
        cause: String,
    },
    /// The outcome of each batch of a request: partition, sequence, outcome.
    Produced {
        slot: Slot,
        outcomes: Vec<(usize, i32, ProduceOutcome)>,
    },
    Leaders {
        end: End,
        leaders: Vec<Leader>,
    },
    RefreshFailed(End),
    SourceRange {
        partition: usize,
        log_start: SourceOffset,
        log_end: SourceOffset,
    },
    /// How a partition goes on; of a job there is one for each partition, and [`Event::RecoveryEnded`] behind them.
    Recovered {
        index: usize,
        outcome: Result<Recovered, RecoveryFailure>,
    },
    RecoveryEnded {
        lane: i32,
    },
    /// Nobody else has taken the flow over; or that could not be found out.
    Ownership {
        confirmed: bool,
    },
    /// Another instance has.
    Superseded {
        generation: i32,
    },
    /// A checkpoint came to its end: what of it is not in the ledger, and why.
    Checkpointed {
        failed: CheckpointJob,
        cause: Option<String>,
    },
}

/// A partition's part of a fetch's answer.
#[derive(Debug)]
pub struct FetchedPart {
    pub index: usize,
    /// The offset that was asked for.
    pub asked: SourceOffset,
    pub fetch: PartitionFetch,
}

/// What a fetch brought for one partition.
#[derive(Debug)]
pub enum PartitionFetch {
    Records { prepared: Prepared, log: SourceLog },
    Refused(ErrorCode),
    Truncated(Truncation),
}

impl PartitionFetch {
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Records { prepared, .. } if prepared.is_empty())
    }

    /// Brokers answer with one whole batch at least, if there is any (KIP-74). Where none came for anybody, a part of
    /// one is damage: its length, which no checksum covers, is wrong.
    pub(super) fn expect_whole_batches(&mut self) {
        if let Self::Records { prepared, .. } = self
            && prepared.partial_tail > 0
        {
            let (position, bytes) = (prepared.next_position.0, prepared.partial_tail);
            prepared.damage = Some(PrepareError::NeverWhole { position, bytes });
        }
    }
}

/// What was done since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    pub records: u64,
    pub bytes: u64,
    pub patched: u64,
    pub reencoded: u64,
    /// Batches of the source that were put together.
    pub coalesced: u64,
    pub skipped: u64,
    /// Source offsets left behind, of copied and of skipped records alike.
    pub offsets: u64,
}
