//! One Kafka cluster as a client sees it: connections, metadata, fetch, produce and admin calls.
//!
//! Everything that has to do with a broker being slow, away, elsewhere or wrong is dealt with here: time-outs, redials,
//! backoff, refreshes of metadata. What is fetched and what is produced is decided above; bytes pass through unread.
//!
//! What holds throughout:
//! - Requests on a connection are sent, and answered, in the order in which they were queued. One that goes unanswered
//!   ends the connection, and with it everything behind it: a connection is either in order or closed.
//! - Every wait has an end, every error names the broker, and [`ClusterError::recovery`] says what to do next.
//! - Nothing is allocated because a peer claims a length or a count.
//!
//! | module | what it does |
//! |---|---|
//! | [`client`] | [`Cluster`]: one connection for each broker and purpose, and the metadata |
//! | [`config`] | whom to connect to, and how long to wait |
//! | [`error`] | what can go wrong, and what to do then |
//! | [`metadata`] | brokers, topics, leaders: what a cluster last said of itself |
//! | `refresher` | the task that keeps it fresh |
//! | [`mod@fetch`] | reads records; [`fetch_session`] makes requests incremental |
//! | [`mod@produce`] | writes records |
//! | [`admin`] | topics, configs, offsets, producer ids |
//! | [`connection`] | a connection with its handshake done |
//! | `brokers`, `connections` | where brokers are; which connections are open; redials |
//! | `call`, `api_versions` | one message there and back; which versions both sides speak |
//! | `wire` | one socket: requests in order out, answers in order in |
//! | `frame_reader`, `outgoing`, `throttle`, `dial` | its parts |
//! | [`buffer_pool`] | buffers for large frames, used again |
//! | [`backoff`] | how long to wait before trying again |
//! | [`world`] | the network, the time of day, randomness: what a simulation puts something else in the place of |

pub mod admin;
mod api_versions;
pub mod backoff;
mod brokers;
pub mod buffer_pool;
mod call;
pub mod client;
pub mod config;
pub mod connection;
mod connections;
mod dial;
pub mod error;
pub mod fetch;
pub mod fetch_session;
mod frame_reader;
pub mod metadata;
mod outgoing;
pub mod produce;
mod refresher;
#[cfg(test)]
mod scripted_broker;
mod throttle;
mod wire;
pub mod world;

pub use admin::{
    ActiveProducer, ClusterDescription, ConfigEntry, ConfigSource, CoordinatorKind, GroupOffset, ListedGroup,
    ListedOffset, MOST_PARTITIONS_AT_ONCE, NewTopic, OffsetSpec,
};
pub use buffer_pool::BufferPool;
pub use client::Cluster;
pub use config::ClusterConfig;
pub use connection::Connection;
pub use connections::Purpose;
pub use error::{ClusterError, Peer, Side};
pub use fetch::{FetchOptions, FetchPartition, Fetched, Isolation, fetch};
pub use fetch_session::FetchSession;
pub use metadata::{BrokerAddress, Metadata, PartitionMetadata, TopicMetadata, TopicSelection};
pub use produce::{Produced, produce};
pub use wire::Answer;
pub use world::{RealWorld, World};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex. None of ours is held where code can panic, so that a poisoned one is as good as any.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The one place in this folder that reads the clock.
#[expect(clippy::disallowed_methods, reason = "an I/O folder; deadlines need the clock")]
fn now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}
