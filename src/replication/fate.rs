//! What becomes of a batch. One function decides, from the header alone, and nothing else may.

use super::aborted::AbortedTransactions;
use crate::record::{BatchHeader, TimestampType};

/// What the target asks of a batch, and where the copy of a partition stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FateContext {
    /// Records below are not wanted: they were copied before, or lie before the start.
    pub start_offset: i64,
    /// The target topic's `max.message.bytes`: the largest batch, its 12 bytes of log overhead included.
    pub max_batch_bytes: usize,
    /// The target keeps the times that it is given, so a batch stamped by the source's broker must carry that stamp
    /// in each record (DESIGN §2.3; a header can't say it, brokers refuse the bit from clients).
    pub keep_append_time: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchFate {
    Skip(SkipReason),
    PatchHeader,
    Reencode(ReencodeReason),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    AbortedTransaction,
    BelowStart,
    ControlBatch,
    EmptiedByCompaction,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReencodeReason {
    AppendTime,
    OffsetGaps,
    StraddlesStart,
    TooLarge,
}

/// Decides what becomes of a batch.
pub fn fate(header: &BatchHeader, aborted: &AbortedTransactions, context: &FateContext) -> BatchFate {
    if header.next_offset() <= context.start_offset {
        BatchFate::Skip(SkipReason::BelowStart) // A fetch answers with the whole batch that holds its offset.
    } else if header.is_control() {
        BatchFate::Skip(SkipReason::ControlBatch) // Brokers take no control records from clients.
    } else if header.record_count() == 0 {
        BatchFate::Skip(SkipReason::EmptiedByCompaction)
    } else if aborted.contains(header) {
        BatchFate::Skip(SkipReason::AbortedTransaction)
    } else if header.base_offset() < context.start_offset {
        BatchFate::Reencode(ReencodeReason::StraddlesStart)
    } else if header.has_offset_gaps() {
        // On produce a broker wants last_offset_delta + 1 == record_count. A header that only says so would be
        // believed where the batch is not compressed, and the offsets inside would overlap the next batch's.
        BatchFate::Reencode(ReencodeReason::OffsetGaps)
    } else if context.keep_append_time && header.timestamp_type() == TimestampType::LogAppendTime {
        BatchFate::Reencode(ReencodeReason::AppendTime)
    } else if header.size() > context.max_batch_bytes {
        BatchFate::Reencode(ReencodeReason::TooLarge)
    } else {
        BatchFate::PatchHeader
    }
}
