//! Sides that fail: for how long they have, what a refusal calls for, how long to wait.

use std::time::{Duration, Instant};

use crate::protocol::error_code::ErrorCode;

const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Since when a side has failed without a break, and how it failed last.
#[derive(Debug, Default)]
pub(super) struct Trouble(Option<(Instant, String)>);

impl Trouble {
    pub(super) fn note(&mut self, now: Instant, cause: &str) {
        let since = self.0.as_ref().map_or(now, |(since, _)| *since);
        self.0 = Some((since, cause.to_owned()));
    }

    pub(super) fn is_there(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn clear(&mut self) {
        self.0 = None;
    }

    pub(super) fn longer_than(&self, now: Instant, patience: Duration) -> Option<(Duration, String)> {
        let (since, cause) = self.0.as_ref()?;
        let waited = now.saturating_duration_since(*since);
        (waited >= patience).then(|| (waited, cause.clone()))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The batch is certainly not in the log: the same bytes may go out again.
    Retry,
    /// It may be.
    Ask,
    OutOfOrder,
    /// The leader knows the producer by another epoch, or not at all.
    Mapping,
    Stop,
}

/// What a produce error code calls for.
pub(super) fn refusal(code: ErrorCode) -> Refusal {
    match code {
        ErrorCode::OutOfOrderSequenceNumber => Refusal::OutOfOrder,
        ErrorCode::InvalidProducerEpoch | ErrorCode::ProducerFenced | ErrorCode::UnknownProducerId => Refusal::Mapping,
        // Checked before anything is appended.
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::UnknownTopicId
        | ErrorCode::LeaderNotAvailable
        | ErrorCode::NotLeaderOrFollower
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::ThrottlingQuotaExceeded => Refusal::Retry,
        ErrorCode::CorruptMessage
        | ErrorCode::MessageTooLarge
        | ErrorCode::RecordListTooLarge
        | ErrorCode::TopicAuthorizationFailed
        | ErrorCode::ClusterAuthorizationFailed
        | ErrorCode::InvalidTopicException
        | ErrorCode::InvalidTimestamp
        | ErrorCode::InvalidRecord
        | ErrorCode::PolicyViolation
        | ErrorCode::UnsupportedCompressionType
        | ErrorCode::UnsupportedForMessageFormat
        | ErrorCode::InvalidTxnState
        | ErrorCode::InvalidRequiredAcks
        | ErrorCode::Unknown(_) => Refusal::Stop,
        _ => Refusal::Ask,
    }
}

/// Doubles from [`BACKOFF_MIN`] to [`BACKOFF_MAX`].
pub(super) fn backoff(failures: u32) -> Duration {
    BACKOFF_MIN.saturating_mul(1 << failures.min(10)).min(BACKOFF_MAX)
}
