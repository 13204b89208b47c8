//! What can go wrong between kferry and a cluster.
//!
//! Every error says which cluster and, where there is one, which broker at which address. [`ClusterError::recovery`] is
//! the one place that says what to do next; [`ClusterError::is_outcome_unknown`] tells whether a request may have been
//! carried out although no answer came.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::protocol::ApiKey;
use crate::protocol::error_code::{ErrorCode, Recovery};
use crate::protocol::primitives::WireError;

/// Which of a flow's two clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    Source,
    Target,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Target => "target",
        })
    }
}

/// A broker as messages name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub side: Side,
    pub alias: Arc<str>,
    /// Not known of an address from the bootstrap list.
    pub broker_id: Option<i32>,
    /// `host:port` as configured or advertised.
    pub address: Arc<str>,
}

impl Peer {
    /// An answer that cannot be one to what was asked.
    pub fn malformed(&self, api: ApiKey, cause: impl Into<Malformed>) -> ClusterError {
        ClusterError::Malformed {
            peer: self.clone(),
            api,
            cause: cause.into(),
        }
    }

    /// An error code about `subject`, which is empty for the whole request.
    pub fn refused(&self, api: ApiKey, subject: impl Into<String>, code: ErrorCode) -> ClusterError {
        ClusterError::Refused {
            peer: self.clone(),
            api,
            subject: subject.into(),
            code,
            message: None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cluster {}, broker ", self.side, self.alias)?;
        match self.broker_id {
            Some(id) => write!(f, "{id} at {}", self.address),
            None => write!(f, "at {}", self.address),
        }
    }
}

/// A failed attempt to do something with a cluster.
#[derive(Debug, Clone, Error)]
pub enum ClusterError {
    #[error("{address:?} in the bootstrap list of {side} cluster {alias} is not of the form host:port")]
    BadAddress {
        side: Side,
        alias: Arc<str>,
        address: String,
    },

    /// No broker could be asked, at none of the known addresses.
    #[error("cannot reach {side} cluster {alias}{}", list(.attempts))]
    Unreachable {
        side: Side,
        alias: Arc<str>,
        /// The last attempt at each address.
        attempts: Vec<Attempt>,
    },

    #[error("cannot connect to {peer}")]
    Connect {
        peer: Peer,
        #[source]
        cause: ConnectFailure,
    },

    #[error("lost the connection to {peer} before it answered {api:?}")]
    Disconnected {
        peer: Peer,
        api: ApiKey,
        /// Whether some of the request may have left.
        sent: bool,
        #[source]
        cause: ConnectionFailure,
    },

    #[error("{peer} did not answer {api:?} within {after:?}")]
    TimedOut { peer: Peer, api: ApiKey, after: Duration },

    #[error("{peer} sent an answer to {api:?} that is not one")]
    Malformed {
        peer: Peer,
        api: ApiKey,
        #[source]
        cause: Malformed,
    },

    /// The broker understood, and answered with an error code.
    #[error("{peer} refused {api:?}{}: {}{}", of(.subject), .code.name(), detail(.message))]
    Refused {
        peer: Peer,
        api: ApiKey,
        /// What of the request was refused, such as `topic orders`; empty for all of it.
        subject: String,
        code: ErrorCode,
        message: Option<String>,
    },

    #[error("{peer} speaks {}, kferry speaks versions {ours}", offered(.api, .theirs))]
    UnsupportedVersion {
        peer: Peer,
        api: ApiKey,
        ours: VersionRange,
        theirs: Option<VersionRange>,
    },

    /// Another cluster answers where this one was.
    #[error("{peer} belongs to cluster {found}, not to {expected}")]
    WrongCluster {
        peer: Peer,
        expected: String,
        found: String,
    },

    #[error("{side} cluster {alias} has no broker {broker_id} at the moment")]
    UnknownBroker {
        side: Side,
        alias: Arc<str>,
        broker_id: i32,
    },

    #[error("partition {partition} of topic {topic} has no leader on {side} cluster {alias} at the moment")]
    NoLeader {
        side: Side,
        alias: Arc<str>,
        topic: String,
        partition: i32,
    },

    #[error("{side} cluster {alias} has no {subject}, or does not show it")]
    NoTopic {
        side: Side,
        alias: Arc<str>,
        /// `topic orders`, or `partition 7 of topic orders`.
        subject: String,
    },

    /// More requests wait for the connection than ought to.
    #[error("more than {limit} requests wait for {peer}")]
    QueueFull { peer: Peer, api: ApiKey, limit: usize },

    /// There was no use in sending the request any more.
    #[error("{api:?} for {peer} had to wait for too long, and was not sent")]
    TooLate { peer: Peer, api: ApiKey },

    /// The request could not be written; a mistake of ours.
    #[error("cannot write {api:?} for {peer}: {reason}")]
    Unwritable { peer: Peer, api: ApiKey, reason: String },
}

impl ClusterError {
    /// What to do next. No `_` arm: a new failure has to choose.
    pub fn recovery(&self) -> Recovery {
        match self {
            Self::Refused { code, .. } => code.recovery(),
            // It may have moved, and its partitions with it.
            Self::Connect { .. } | Self::UnknownBroker { .. } | Self::NoLeader { .. } | Self::NoTopic { .. } => {
                Recovery::RefreshMetadata
            }
            Self::Disconnected { .. } | Self::TimedOut { .. } => Recovery::Reconnect,
            Self::Unreachable { attempts, .. } => {
                let hopeless = |attempt: &Attempt| attempt.cause.recovery() == Recovery::Stop;
                if !attempts.is_empty() && attempts.iter().all(hopeless) {
                    Recovery::Stop
                } else {
                    Recovery::Backoff
                }
            }
            Self::QueueFull { .. } | Self::TooLate { .. } => Recovery::Backoff,
            Self::BadAddress { .. }
            | Self::Malformed { .. }
            | Self::UnsupportedVersion { .. }
            | Self::WrongCluster { .. }
            | Self::Unwritable { .. } => Recovery::Stop,
        }
    }

    /// Whether the broker may have done what it was asked to do.
    pub fn is_outcome_unknown(&self) -> bool {
        match self {
            Self::TimedOut { .. } | Self::Malformed { .. } => true,
            Self::Disconnected { sent, .. } => *sent,
            Self::Refused { code, .. } => matches!(
                code,
                // These may come after the fact.
                ErrorCode::UnknownServerError | ErrorCode::RequestTimedOut | ErrorCode::NotEnoughReplicasAfterAppend
            ),
            Self::BadAddress { .. }
            | Self::Unreachable { .. }
            | Self::Connect { .. }
            | Self::UnsupportedVersion { .. }
            | Self::WrongCluster { .. }
            | Self::UnknownBroker { .. }
            | Self::NoLeader { .. }
            | Self::NoTopic { .. }
            | Self::QueueFull { .. }
            | Self::TooLate { .. }
            | Self::Unwritable { .. } => false,
        }
    }

    pub fn side(&self) -> Side {
        match self {
            Self::BadAddress { side, .. }
            | Self::Unreachable { side, .. }
            | Self::UnknownBroker { side, .. }
            | Self::NoLeader { side, .. }
            | Self::NoTopic { side, .. } => *side,
            Self::Connect { peer, .. }
            | Self::Disconnected { peer, .. }
            | Self::TimedOut { peer, .. }
            | Self::Malformed { peer, .. }
            | Self::Refused { peer, .. }
            | Self::UnsupportedVersion { peer, .. }
            | Self::WrongCluster { peer, .. }
            | Self::QueueFull { peer, .. }
            | Self::TooLate { peer, .. }
            | Self::Unwritable { peer, .. } => peer.side,
        }
    }

    /// Whether the broker, or its version, does not offer what was asked for.
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::UnsupportedVersion { .. }) || self.code() == Some(ErrorCode::UnsupportedVersion)
    }

    /// The broker's error code, if that is what failed.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether a topic or partition does not exist, by what was heard last.
    pub fn is_unknown_topic(&self) -> bool {
        match self {
            Self::NoTopic { .. } => true,
            Self::Refused { code, .. } => {
                matches!(code, ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId)
            }
            _ => false,
        }
    }
}

/// One address that was tried, and what came of it.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub address: Arc<str>,
    pub cause: ClusterError,
}

/// Why no connection came about.
#[derive(Debug, Clone, Error)]
pub enum ConnectFailure {
    #[error("its name cannot be resolved")]
    Resolve(#[source] Arc<io::Error>),
    #[error("its name resolves to no address")]
    NoAddress,
    /// One entry for each address, in the order tried.
    #[error("{}", join(.0.iter().map(|(address, cause)| format!("{address}: {cause}")), ", "))]
    Addresses(Vec<(SocketAddr, Arc<io::Error>)>),
    #[error("its name was not resolved within {0:?}")]
    ResolveTimedOut(Duration),
}

/// Why a connection ended.
#[derive(Debug, Clone, Error)]
pub enum ConnectionFailure {
    #[error("the broker closed it")]
    ClosedByPeer,
    #[error("the broker closed it after {have} of {need} bytes of an answer")]
    ClosedMidFrame { have: usize, need: usize },
    #[error("its socket failed")]
    Io(#[source] Arc<io::Error>),
    #[error("an earlier {api:?} was not answered within {after:?}")]
    TimedOut { api: ApiKey, after: Duration },
    #[error("an earlier answer was none")]
    Malformed(#[source] Malformed),
    #[error("kferry closed it: {0}")]
    Closed(&'static str),
}

/// What is wrong with what a broker sent.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Malformed {
    #[error("it carries correlation id {found} instead of {expected}")]
    CorrelationId { expected: i32, found: i32 },
    #[error("nothing was asked")]
    Unasked,
    #[error(transparent)]
    Wire(#[from] WireError),
    /// In the words of the decoder.
    #[error("{0}")]
    Undecodable(String),
    #[error("it offers versions {range} of API {api_key}")]
    VersionRange { api_key: i16, range: VersionRange },
    #[error("it does not say which cluster this is")]
    NoClusterId,
    #[error("it has a topic without a name")]
    NamelessTopic,
    #[error("broker {broker_id} has the address {host:?}, port {port}")]
    BrokerAddress { broker_id: i32, host: String, port: i32 },
    #[error("{subject} is answered without having been asked, or twice")]
    NotAsked { subject: String },
    #[error("{subject} is not answered")]
    Unanswered { subject: String },
    #[error("it gives out producer id {id} with epoch {epoch}")]
    ProducerId { id: i64, epoch: i16 },
    #[error("topic {topic} has a partition numbered {partition}, or has it twice")]
    PartitionNumber { topic: String, partition: i32 },
}

/// From, to, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionRange {
    pub min: i16,
    pub max: i16,
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.min, self.max)
    }
}

fn list(attempts: &[Attempt]) -> String {
    let attempt = |attempt: &Attempt| format!("; {}: {}", attempt.address, with_causes(&attempt.cause));
    attempts.iter().map(attempt).collect()
}

/// An error and its chain of causes in one line.
pub(super) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn join(items: impl Iterator<Item = String>, separator: &str) -> String {
    items.collect::<Vec<_>>().join(separator)
}

fn of(subject: &str) -> String {
    if subject.is_empty() {
        String::new()
    } else {
        format!(" of {subject}")
    }
}

fn detail(message: &Option<String>) -> String {
    message
        .as_ref()
        .map_or_else(String::new, |message| format!(" ({message})"))
}

fn offered(api: &ApiKey, theirs: &Option<VersionRange>) -> String {
    match theirs {
        Some(range) => format!("versions {range} of {api:?}"),
        None => format!("no {api:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Peer {
        Peer {
            side: Side::Target,
            alias: "B".into(),
            broker_id: Some(3),
            address: "kafka-3:9092".into(),
        }
    }

    #[test]
    fn unreachable_names_every_address_and_its_cause() {
        let attempt = |address: &str, cause: &str| Attempt {
            address: address.into(),
            cause: ClusterError::Connect {
                peer: Peer {
                    broker_id: None,
                    address: address.into(),
                    ..peer()
                },
                cause: ConnectFailure::Resolve(Arc::new(io::Error::other(cause.to_owned()))),
            },
        };
        let error = ClusterError::Unreachable {
            side: Side::Target,
            alias: "B".into(),
            attempts: vec![
                attempt("one:9092", "no such host"),
                attempt("two:9092", "server failure"),
            ],
        };
        assert_eq!(
            error.to_string(),
            "cannot reach target cluster B\
             ; one:9092: cannot connect to target cluster B, broker at one:9092: its name cannot be resolved: no such host\
             ; two:9092: cannot connect to target cluster B, broker at two:9092: its name cannot be resolved: server failure"
        );
    }

    #[test]
    fn a_refusal_names_broker_api_subject_and_code() {
        let error = ClusterError::Refused {
            peer: peer(),
            api: ApiKey::CreateTopics,
            subject: "topic orders".to_owned(),
            code: ErrorCode::TopicAlreadyExists,
            message: Some("it is there".to_owned()),
        };
        assert_eq!(
            error.to_string(),
            "target cluster B, broker 3 at kafka-3:9092 refused CreateTopics of topic orders: TOPIC_ALREADY_EXISTS (it is there)"
        );
        assert_eq!(error.recovery(), Recovery::Stop);
    }

    #[test]
    fn the_outcome_is_known_only_of_what_was_not_sent() {
        let disconnected = |sent| ClusterError::Disconnected {
            peer: peer(),
            api: ApiKey::Produce,
            sent,
            cause: ConnectionFailure::ClosedByPeer,
        };
        assert!(disconnected(true).is_outcome_unknown());
        assert!(!disconnected(false).is_outcome_unknown());
    }

    #[test]
    fn an_error_is_small_enough_to_return_by_value() {
        assert!(size_of::<ClusterError>() <= 128, "{}", size_of::<ClusterError>());
    }
}
