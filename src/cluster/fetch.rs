//! Reads records.
//!
//! The answer's batches stay slices of the frame in which they came; nothing looks into them here.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::fetch_request::{self, FetchRequest, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::{BrokerId, TopicName};
use uuid::Uuid;

use super::call::topic_name;
use super::connection::Connection;
use super::error::ClusterError;
use super::fetch_session::{FetchSession, SessionFailure, SessionRequest};
use crate::protocol::ApiKey;
use crate::protocol::fetch_response::{self, FetchedPartition};

/// A partition to read, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchPartition {
    pub topic: Arc<str>,
    /// Nil if not known: then the request names topics instead, and a topic created anew goes unnoticed.
    pub topic_id: Uuid,
    pub partition: i32,
    pub fetch_offset: i64,
    /// The leader's epoch as the metadata has it, so that a leader that is no longer one says so. -1 if not known.
    pub current_leader_epoch: i32,
    /// The leader epoch of the batch before `fetch_offset`, so that a truncated log is noticed (KIP-320). -1 for none.
    pub last_fetched_epoch: i32,
    /// For this partition. Exceeded if its first batch is larger.
    pub max_bytes: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchOptions {
    /// How long the broker waits for `min_bytes`.
    pub max_wait_ms: i32,
    pub min_bytes: i32,
    /// For the whole answer. Exceeded if the first batch is larger.
    pub max_bytes: i32,
    pub isolation: Isolation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    ReadUncommitted,
    ReadCommitted,
}

impl Isolation {
    pub(super) fn to_wire(self) -> i8 {
        match self {
            Self::ReadUncommitted => 0,
            Self::ReadCommitted => 1,
        }
    }
}

/// An answer. A partition about which there is nothing to say may be missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    pub throttle_time_ms: i32,
    pub partitions: Vec<(Arc<str>, FetchedPartition)>,
}

/// Fetches from the partitions that are wanted. `session` belongs to the connection's fetches; after an error, or on
/// another connection, it begins anew by itself. At most one fetch at a time.
pub async fn fetch(
    connection: &Connection,
    session: &mut FetchSession,
    wanted: &[FetchPartition],
    options: &FetchOptions,
) -> Result<Fetched, ClusterError> {
    match fetch_once(connection, session, wanted, options).await? {
        Ok(fetched) => Ok(fetched),
        // The second request is a full one, about which the broker has nothing to say.
        Err(SessionFailure::Lost(code)) => {
            tracing::debug!(peer = %connection.peer(), code = code.name(), "fetch session lost, beginning another");
            let again = fetch_once(connection, session, wanted, options).await?;
            again.map_err(|failure| error(connection, failure))
        }
        Err(failure) => Err(error(connection, failure)),
    }
}

async fn fetch_once(
    connection: &Connection,
    session: &mut FetchSession,
    wanted: &[FetchPartition],
    options: &FetchOptions,
) -> Result<Result<Fetched, SessionFailure>, ClusterError> {
    let version = version(connection, wanted)?;
    let request = encode(&session.request(wanted, version > LAST_BY_NAME), version, options);
    let held = Duration::from_millis(u64::try_from(options.max_wait_ms).unwrap_or(0));
    let body = connection.exchange(version, &request, held).await?;
    let answer = fetch_response::scan(body, version);
    let answer = answer.map_err(|cause| connection.malformed(ApiKey::Fetch, cause))?;
    let throttle_time_ms = answer.throttle_time_ms;
    Ok(session.answer(answer).map(|partitions| Fetched {
        throttle_time_ms,
        partitions,
    }))
}

/// Topic ids need one for each topic.
fn version(connection: &Connection, wanted: &[FetchPartition]) -> Result<i16, ClusterError> {
    let version = connection.version(ApiKey::Fetch)?;
    let by_name = wanted.iter().any(|partition| partition.topic_id.is_nil());
    Ok(if by_name { version.min(LAST_BY_NAME) } else { version })
}

fn encode(request: &SessionRequest, version: i16, options: &FetchOptions) -> FetchRequest {
    let topics = chunks(&request.partitions).map(|(name, topic_id, partitions)| {
        FetchTopic::default()
            .with_topic(name)
            .with_topic_id(topic_id)
            .with_partitions(
                partitions
                    .iter()
                    .map(|partition| encode_partition(partition, version))
                    .collect(),
            )
    });
    let forgotten = chunks(&request.forgotten).map(|(name, topic_id, partitions)| {
        ForgottenTopic::default()
            .with_topic(name)
            .with_topic_id(topic_id)
            .with_partitions(partitions.iter().map(|partition| partition.partition).collect())
    });
    let encoded = FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(options.max_wait_ms)
        .with_min_bytes(options.min_bytes)
        .with_max_bytes(options.max_bytes)
        .with_isolation_level(options.isolation.to_wire())
        .with_topics(topics.collect())
        .with_forgotten_topics_data(forgotten.collect());
    if version < FIRST_WITH_SESSIONS {
        return encoded; // Without an id in the answers the session stays at full requests.
    }
    encoded
        .with_session_id(request.session_id)
        .with_session_epoch(request.session_epoch)
}

fn encode_partition(partition: &FetchPartition, version: i16) -> fetch_request::FetchPartition {
    fetch_request::FetchPartition::default()
        .with_partition(partition.partition)
        .with_fetch_offset(partition.fetch_offset)
        .with_current_leader_epoch(partition.current_leader_epoch)
        .with_last_fetched_epoch(if version >= 12 {
            partition.last_fetched_epoch
        } else {
            -1
        })
        .with_partition_max_bytes(partition.max_bytes)
}

/// Neighbours of one topic together. The order, which is the order in which the broker fills its answer, stays.
fn chunks(partitions: &[FetchPartition]) -> impl Iterator<Item = (TopicName, Uuid, &[FetchPartition])> {
    let chunks = partitions.chunk_by(|one, other| one.topic == other.topic && one.topic_id == other.topic_id);
    chunks.map(|chunk| {
        let name = topic_name(&chunk[0].topic);
        (name, chunk[0].topic_id, chunk)
    })
}

fn error(connection: &Connection, failure: SessionFailure) -> ClusterError {
    match failure {
        SessionFailure::Lost(code) | SessionFailure::Refused(code) => connection.refused(ApiKey::Fetch, "", code),
        SessionFailure::Malformed(cause) => connection.malformed(ApiKey::Fetch, cause),
    }
}

const LAST_BY_NAME: i16 = 12;
const FIRST_WITH_SESSIONS: i16 = 7;
