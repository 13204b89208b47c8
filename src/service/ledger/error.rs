//! Why the ledger could not be read or written.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::super::reader::ReadError;
use crate::cluster::ClusterError;
use crate::protocol::error_code::{ErrorCode, Recovery};
use crate::record::{EncodeError, HeaderError};
use crate::replication::ledger::{LedgerError, OwnerId};

#[derive(Debug, Clone, Error)]
pub enum LedgerStoreError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("the ledger can't be read")]
    Read(#[source] Arc<ReadError>),
    #[error("the ledger {topic} can't be understood")]
    Record { topic: Arc<str>, source: LedgerError },
    #[error("the ledger {topic} refused a write: {}", code.name())]
    Refused { topic: Arc<str>, code: ErrorCode },
    #[error("the ledger {topic} has no leader for partition {lane}")]
    NoLeader { topic: Arc<str>, lane: i32 },
    #[error("a ledger record can't be written down")]
    Encode(#[source] Arc<EncodeError>),
    #[error("a ledger record can't be written down")]
    Header(#[from] HeaderError),
    #[error(
        "the ledger {topic} belongs to another source cluster ({found}, this one is {expected}): give this flow another \
         name with --flow, or delete that topic to begin anew"
    )]
    OtherSource {
        topic: Arc<str>,
        found: String,
        expected: String,
    },
    #[error(
        "another kferry has taken over this flow (ledger {topic}, generation {}): only one may run it; stop the other one \
         first if this one should", by.generation
    )]
    Superseded { topic: Arc<str>, by: OwnerId },
    #[error("the ledger {topic} did not answer for partition {lane} within {} s", after.as_secs())]
    Silent {
        topic: Arc<str>,
        lane: i32,
        after: Duration,
    },
    #[error("the ledger's task has ended")]
    Ended,
}

impl LedgerStoreError {
    /// Whether the same may work a little later.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Cluster(error) => !matches!(error.recovery(), Recovery::None | Recovery::Stop),
            Self::Refused { code, .. } => !matches!(code.recovery(), Recovery::None | Recovery::Stop),
            Self::NoLeader { .. } | Self::Silent { .. } => true,
            Self::Read(error) => error.may_pass(),
            Self::Record { .. }
            | Self::Encode(_)
            | Self::Header(_)
            | Self::OtherSource { .. }
            | Self::Superseded { .. }
            | Self::Ended => false,
        }
    }
}

impl From<ReadError> for LedgerStoreError {
    fn from(error: ReadError) -> Self {
        Self::Read(Arc::new(error))
    }
}

impl From<EncodeError> for LedgerStoreError {
    fn from(error: EncodeError) -> Self {
        Self::Encode(Arc::new(error))
    }
}
