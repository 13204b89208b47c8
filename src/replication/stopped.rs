//! Why a partition stopped, in words that say what to do. The others go on.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::prepare::PrepareError;
use crate::offsets::{SourceOffset, TargetOffset};
use crate::protocol::error_code::ErrorCode;

#[derive(Debug, Clone, Error)]
pub enum Stopped {
    #[error(
        "source: offsets {from} to {to} (exclusive) are gone from the source's log before they were copied; to go on \
         without them, begin under another name (--flow), or delete the ledger"
    )]
    SourceGap { from: SourceOffset, to: SourceOffset },
    #[error(
        "source: the log was truncated: offsets {end} to {position} (exclusive) were copied, and the source has lost them; \
         to go on at {end} with what it has instead, say so (--on-truncation continue)"
    )]
    SourceTruncated { position: SourceOffset, end: SourceOffset },
    #[error(
        "source: the log was truncated: {records} records from offset {at} on were copied, and the source has lost them; \
         to go on at {at} with what it has instead, say so (--on-truncation continue)"
    )]
    SourceParted { at: SourceOffset, records: u64 },
    #[error(
        "source: the log was truncated at offset {at} or below, and may have other records there now; {position} was the next \
         offset to copy; where they part nobody can tell: compare both sides (kferry verify), and begin under another name \
         (--flow)"
    )]
    SourceAltered { at: SourceOffset, position: SourceOffset },
    #[error(
        "source: the topic was deleted and created anew (its id changed); to copy the new one, begin under another name \
         (--flow, --prefix)"
    )]
    SourceRecreated,
    #[error("source: the topic does not exist any more")]
    SourceDeleted,
    #[error("source: {}, copied up to offset {position}", chain(cause.as_ref()))]
    SourceUnreadable {
        position: SourceOffset,
        cause: Arc<PrepareError>,
    },
    #[error(
        "target: the record at source offset {offset} has {size} bytes in a batch of its own, the target topic takes \
         {limit}: raise max.message.bytes of the target topic"
    )]
    RecordTooLarge { offset: i64, size: usize, limit: usize },
    #[error("source: could not be read for {} s ({cause}); copied up to offset {position}", waited.as_secs())]
    SourceUnavailable {
        position: SourceOffset,
        waited: Duration,
        cause: String,
    },
    #[error(
        "source: nothing came from offsets {from} to {to} (exclusive), again and again, although the log is said to go on"
    )]
    SourceEmpty { from: SourceOffset, to: SourceOffset },
    #[error("source: refused to be read: {}", code.name())]
    SourceRefused { code: ErrorCode },
    #[error(
        "target: source offsets {from} to {to} (exclusive), a batch of {size} bytes, refused with {}{}; {}",
        code.name(), message.as_ref().map(|text| format!(" ({text})")).unwrap_or_default(), advice(*code)
    )]
    TargetRefused {
        code: ErrorCode,
        message: Option<String>,
        from: SourceOffset,
        to: SourceOffset,
        size: usize,
    },
    #[error("target: took nothing for {} s ({cause}); copied up to source offset {position}", waited.as_secs())]
    TargetUnavailable {
        position: SourceOffset,
        waited: Duration,
        cause: String,
    },
    #[error(
        "target: it holds records from source offsets {from} to {to} (exclusive) that are not at the source as they were \
         copied, so where the copy came to can't be known; without exactly-once the copy goes on from {from}"
    )]
    Unmatched { from: SourceOffset, to: SourceOffset },
    /// A leader that has forgotten a producer takes any batch of its, also behind one that it has just refused.
    #[error(
        "target: source offsets {from} to {to} (exclusive) are not there, and later ones are: to have all of them in order, \
         copy the topic anew under another name"
    )]
    TargetIncomplete { from: SourceOffset, to: SourceOffset },
    #[error(
        "target: where the topic's log stands may not be asked ({}): give the principal READ and DESCRIBE on the target \
         topic", code.name()
    )]
    TargetUnreadable { code: ErrorCode },
    #[error("another kferry has taken over this flow (generation {generation}): only one may run it")]
    Superseded { generation: i32 },
    #[error("target: the topic was deleted and created anew (its id changed), copied records are gone")]
    TargetRecreated,
    #[error("target: the topic does not exist any more")]
    TargetDeleted,
    #[error("target: the log ends at {log_end}, but everything below {expected} had been written: it was truncated")]
    TargetTruncated {
        expected: TargetOffset,
        log_end: TargetOffset,
    },
    #[error(
        "target: acknowledged offset {answered} where {expected} or more was due: its log was truncated or created anew"
    )]
    TargetWentBack {
        expected: TargetOffset,
        answered: TargetOffset,
    },
}

/// What an operator can do about a refusal.
fn advice(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => {
            "raise max.message.bytes of the target topic (and segment.bytes where it is smaller)"
        }
        ErrorCode::TopicAuthorizationFailed | ErrorCode::ClusterAuthorizationFailed => {
            "give the principal WRITE on the target topic"
        }
        ErrorCode::InvalidTimestamp => {
            "the records' times lie outside message.timestamp.before.max.ms and message.timestamp.after.max.ms of the \
             target topic: widen them"
        }
        ErrorCode::InvalidRecord => "a compacted target takes no records without a key: change its cleanup.policy",
        ErrorCode::CorruptMessage => "the batch was damaged on the way to the target: run again",
        ErrorCode::UnsupportedCompressionType => "the target is too old for zstd",
        _ => "see the target broker's log",
    }
}

/// An error with its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
