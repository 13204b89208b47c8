//! What may go wrong, and how often it did.

use std::collections::BTreeMap;
use std::fmt;

use kferry::protocol::ApiKey;
use kferry::protocol::error_code::ErrorCode;

/// The kinds of faults. A seed enables some of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum FaultKind {
    /// A request never arrives, and its connection breaks.
    RequestLost,
    /// It was carried out, and its connection breaks instead of an answer.
    ResponseLost,
    /// It was carried out, and its leader dies before anybody else has it: the next leader's log is shorter.
    Unreplicated,
    /// Nothing arrives any more, and nobody is told.
    Silence,
    /// Some bytes take seconds.
    Slow,
    /// Answered with an error that may pass.
    Refused,
    /// The answer is damaged on its way.
    Damaged,
    /// A cluster cannot be reached for a while.
    Parted,
    /// A broker goes down and comes back, with what a restarted broker remembers.
    Restart,
    /// A partition gets another leader.
    LeaderMoved,
    /// A partition has no leader for a while.
    LeaderAway,
    /// Groups and transactions get other coordinators.
    CoordinatorMoved,
    /// They have none for a while.
    CoordinatorAway,
    /// Brokers forget producers whose records are old.
    ProducersForgotten,
    /// The cleaner runs over the ledger.
    LedgerCompacted,
    /// The cleaner runs over a compacted topic of the source.
    SourceCompacted,
    /// Retention takes what was copied.
    Retention,
    /// An unclean election at the source: the next leader's log is shorter.
    SourceCutBack,
    /// A broker of the source comes back with a shorter log, and nobody has missed it.
    SourceTailLost,
    /// The process is killed.
    Killed,
    /// It is killed at a certain request.
    KilledAt,
    /// What a killed process had sent arrives when its successor is at work.
    SentBeforeDeath,
    /// The process is stopped, another one takes over, it goes on.
    Stopped,
    /// Another process begins while one runs.
    Rival,
}

impl FaultKind {
    pub(crate) const ALL: [Self; 24] = [
        Self::RequestLost,
        Self::ResponseLost,
        Self::Unreplicated,
        Self::Silence,
        Self::Slow,
        Self::Refused,
        Self::Damaged,
        Self::Parted,
        Self::Restart,
        Self::LeaderMoved,
        Self::LeaderAway,
        Self::CoordinatorMoved,
        Self::CoordinatorAway,
        Self::ProducersForgotten,
        Self::LedgerCompacted,
        Self::SourceCompacted,
        Self::Retention,
        Self::SourceCutBack,
        Self::SourceTailLost,
        Self::Killed,
        Self::KilledAt,
        Self::SentBeforeDeath,
        Self::Stopped,
        Self::Rival,
    ];

    /// Befalls single requests; the others come from time to time.
    pub(crate) fn is_of_requests(self) -> bool {
        matches!(
            self,
            Self::RequestLost | Self::ResponseLost | Self::Unreplicated | Self::Silence | Self::Refused | Self::Damaged
        )
    }
}

/// The errors that may pass, with which a broker may answer.
pub(crate) fn refusals(api: ApiKey) -> &'static [ErrorCode] {
    match api {
        ApiKey::Produce => &[
            ErrorCode::NotEnoughReplicas,
            ErrorCode::NotLeaderOrFollower,
            ErrorCode::RequestTimedOut,
            ErrorCode::KafkaStorageError,
            ErrorCode::NotEnoughReplicasAfterAppend,
            ErrorCode::UnknownServerError,
        ],
        ApiKey::Fetch => &[
            ErrorCode::NotLeaderOrFollower,
            ErrorCode::KafkaStorageError,
            ErrorCode::FencedLeaderEpoch,
            ErrorCode::UnknownLeaderEpoch,
            ErrorCode::FetchSessionIdNotFound,
            ErrorCode::InvalidFetchSessionEpoch,
            ErrorCode::UnknownServerError,
            ErrorCode::OffsetNotAvailable,
        ],
        ApiKey::InitProducerId | ApiKey::EndTxn => &[
            ErrorCode::ConcurrentTransactions,
            ErrorCode::NotCoordinator,
            ErrorCode::CoordinatorLoadInProgress,
            ErrorCode::CoordinatorNotAvailable,
            ErrorCode::UnknownServerError,
        ],
        ApiKey::AddPartitionsToTxn => &[
            ErrorCode::ConcurrentTransactions,
            ErrorCode::NotCoordinator,
            ErrorCode::CoordinatorLoadInProgress,
            ErrorCode::UnknownServerError,
        ],
        ApiKey::FindCoordinator => &[ErrorCode::CoordinatorNotAvailable, ErrorCode::UnknownServerError],
        ApiKey::DescribeProducers => &[ErrorCode::NotLeaderOrFollower, ErrorCode::UnknownServerError],
        ApiKey::ListOffsets => &[
            ErrorCode::NotLeaderOrFollower,
            ErrorCode::LeaderNotAvailable,
            ErrorCode::OffsetNotAvailable,
            ErrorCode::FencedLeaderEpoch,
            ErrorCode::UnknownServerError,
        ],
        ApiKey::Metadata => &[ErrorCode::LeaderNotAvailable],
        ApiKey::CreateTopics => &[ErrorCode::NotController, ErrorCode::RequestTimedOut],
        _ => &[],
    }
}

/// How often each fault has befallen what.
#[derive(Debug, Clone, Default)]
pub(crate) struct Coverage(BTreeMap<(FaultKind, &'static str), u64>);

impl Coverage {
    pub(crate) fn count(&mut self, kind: FaultKind, what: &'static str) {
        *self.0.entry((kind, what)).or_insert(0) += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (cell, count) in &other.0 {
            *self.0.entry(*cell).or_insert(0) += count;
        }
    }

    pub(crate) fn of(&self, kind: FaultKind) -> u64 {
        self.0
            .iter()
            .filter_map(|((of, _), count)| (*of == kind).then_some(count))
            .sum()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for kind in FaultKind::ALL {
            write!(f, "{kind:?} {}", self.of(kind))?;
            let cells = self.0.iter().filter(|((of, what), _)| *of == kind && !what.is_empty());
            let cells: Vec<String> = cells.map(|((_, what), count)| format!("{what} {count}")).collect();
            match cells.is_empty() {
                true => writeln!(f)?,
                false => writeln!(f, ": {}", cells.join(", "))?,
            }
        }
        Ok(())
    }
}

/// The name of an API, for counting.
pub(crate) fn api_name(api: ApiKey) -> &'static str {
    match api {
        ApiKey::Produce => "Produce",
        ApiKey::Fetch => "Fetch",
        ApiKey::ListOffsets => "ListOffsets",
        ApiKey::Metadata => "Metadata",
        ApiKey::FindCoordinator => "FindCoordinator",
        ApiKey::ApiVersions => "ApiVersions",
        ApiKey::CreateTopics => "CreateTopics",
        ApiKey::InitProducerId => "InitProducerId",
        ApiKey::AddPartitionsToTxn => "AddPartitionsToTxn",
        ApiKey::EndTxn => "EndTxn",
        ApiKey::DescribeConfigs => "DescribeConfigs",
        ApiKey::DescribeProducers => "DescribeProducers",
        _ => "other",
    }
}
