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

/// Fetches from the partitions that the session wants. It belongs to the connection's fetches; after an error, or on another
/// connection, it begins anew by itself. At most one fetch at a time.
pub async fn fetch(
    connection: &Connection,
    session: &mut FetchSession,
    options: &FetchOptions,
) -> Result<Fetched, ClusterError> {
    match fetch_once(connection, session, options).await? {
        Ok(fetched) => Ok(fetched),
        // The second request is a full one, about which the broker has nothing to say.
        Err(SessionFailure::Lost(code)) => {
            tracing::debug!(peer = %connection.peer(), code = code.name(), "fetch session lost, beginning another");
            let again = fetch_once(connection, session, options).await?;
            again.map_err(|failure| error(connection, failure))
        }
        Err(failure) => Err(error(connection, failure)),
    }
}

async fn fetch_once(
    connection: &Connection,
    session: &mut FetchSession,
    options: &FetchOptions,
) -> Result<Result<Fetched, SessionFailure>, ClusterError> {
    let version = version(connection, session)?;
    let request = encode(&session.request(version > LAST_BY_NAME), version, options);
    let held = Duration::from_millis(u64::try_from(options.max_wait_ms).unwrap_or(0));
    let body = connection.exchange(version, &request, held).await?;
    let answer = fetch_response::scan(body, version);
    let answer = answer.map_err(|cause| connection.peer().malformed(ApiKey::Fetch, cause))?;
    let throttle_time_ms = answer.throttle_time_ms;
    Ok(session.answer(answer).map(|partitions| Fetched {
        throttle_time_ms,
        partitions,
    }))
}

/// Topic ids need one for each topic.
fn version(connection: &Connection, session: &FetchSession) -> Result<i16, ClusterError> {
    let version = connection.version(ApiKey::Fetch)?;
    Ok(match session.knows_ids() {
        true => version,
        false => version.min(LAST_BY_NAME),
    })
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
        SessionFailure::Lost(code) | SessionFailure::Refused(code) => {
            connection.peer().refused(ApiKey::Fetch, "", code)
        }
        SessionFailure::Malformed(cause) => connection.peer().malformed(ApiKey::Fetch, cause),
    }
}

const LAST_BY_NAME: i16 = 12;
const FIRST_WITH_SESSIONS: i16 = 7;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::client::Cluster;
    use crate::cluster::connections::Purpose;
    use crate::cluster::scripted_broker::{broker, config};
    use crate::protocol::error_code::ErrorCode;
    use crate::protocol::versions;
    use kafka_protocol::messages::FetchResponse;
    use kafka_protocol::protocol::{Decodable, Encodable};
    use std::sync::atomic::{AtomicUsize, Ordering};

    const OPTIONS: FetchOptions = FetchOptions {
        max_wait_ms: 100,
        min_bytes: 1,
        max_bytes: 1 << 20,
        isolation: Isolation::ReadCommitted,
    };

    fn wanted(topics: u128, partitions: i32) -> Vec<FetchPartition> {
        let partition = |topic, partition| FetchPartition {
            topic: format!("t{topic}").into(),
            topic_id: Uuid::from_u128(topic),
            partition,
            fetch_offset: 5,
            current_leader_epoch: 3,
            last_fetched_epoch: 2,
            max_bytes: 1000,
        };
        (1..=topics)
            .flat_map(|topic| (0..partitions).map(move |index| partition(topic, index)))
            .collect()
    }

    #[test]
    fn every_version_that_we_speak_can_be_written() {
        let (min, max) = versions::spoken(ApiKey::Fetch).unwrap();
        for version in min..=max {
            let request = SessionRequest {
                session_id: 9,
                session_epoch: 4,
                partitions: wanted(2, 3),
                forgotten: if version >= FIRST_WITH_SESSIONS {
                    wanted(1, 1)
                } else {
                    Vec::new()
                },
            };
            let mut body = Vec::new();
            encode(&request, version, &OPTIONS).encode(&mut body, version).unwrap();
            let read = FetchRequest::decode(&mut bytes::Bytes::from(body), version).unwrap();
            assert_eq!(
                (read.topics.len(), read.topics[1].partitions.len()),
                (2, 3),
                "{version}"
            );
            assert_eq!(read.topics[0].partitions[0].fetch_offset, 5);
            let epochs = if version >= 12 {
                (3, 2)
            } else if version >= 9 {
                (3, -1)
            } else {
                (-1, -1)
            };
            let partition = &read.topics[0].partitions[0];
            assert_eq!(
                (partition.current_leader_epoch, partition.last_fetched_epoch),
                epochs,
                "{version}"
            );
            let session = if version >= FIRST_WITH_SESSIONS {
                (9, 4)
            } else {
                (0, -1)
            };
            assert_eq!((read.session_id, read.session_epoch), session, "{version}");
        }
    }

    #[test]
    fn the_order_of_partitions_stays() {
        let mut mixed = wanted(2, 2);
        mixed.swap(1, 2);
        let request = SessionRequest {
            session_id: 0,
            session_epoch: 0,
            partitions: mixed,
            forgotten: Vec::new(),
        };
        let encoded = encode(&request, 17, &OPTIONS);
        let order: Vec<_> = encoded
            .topics
            .iter()
            .flat_map(|topic| {
                topic
                    .partitions
                    .iter()
                    .map(|partition| (topic.topic.to_string(), partition.partition))
            })
            .collect();
        assert_eq!(
            order,
            [("t1".into(), 0), ("t2".into(), 0), ("t1".into(), 1), ("t2".into(), 1)]
        );
    }

    /// Fetches twice from a broker that answers the n-th request with the n-th code.
    async fn fetch_twice(codes: &'static [i16]) -> (Vec<(i32, usize)>, Vec<Option<ErrorCode>>) {
        let count = AtomicUsize::new(0);
        let broker = broker(move |asked| {
            let answer = || {
                let code = codes[count.fetch_add(1, Ordering::SeqCst)];
                let session_id = if code == 0 { 9 } else { 0 };
                asked.answer(
                    &FetchResponse::default()
                        .with_error_code(code)
                        .with_session_id(session_id),
                )
            };
            (asked.api == ApiKey::Fetch).then(answer)
        });
        let broker = broker.await;
        let cluster = Cluster::connect(config(vec![broker.address()])).await.unwrap();
        let connection = cluster.connection(1, Purpose::Fetch(0)).await.unwrap();
        let mut session = FetchSession::default();
        wanted(2, 10).into_iter().for_each(|partition| session.want(partition));
        let mut outcomes = Vec::new();
        for _ in 0..2 {
            let fetched = fetch(&connection, &mut session, &OPTIONS).await;
            outcomes.push(fetched.err().and_then(|error| error.code()));
        }
        let requests = broker.asked(ApiKey::Fetch);
        let shapes = requests.iter().map(|asked| {
            let request = asked.request::<FetchRequest>();
            (
                request.session_epoch,
                request.topics.iter().map(|topic| topic.partitions.len()).sum(),
            )
        });
        (shapes.collect(), outcomes)
    }

    #[tokio::test]
    async fn a_lost_session_is_replaced_without_the_caller_noticing() {
        let (requests, outcomes) = fetch_twice(&[0, 70, 0]).await;
        assert_eq!(requests, [(0, 20), (1, 0), (0, 20)]);
        assert_eq!(outcomes, [None, None]);
    }

    #[tokio::test]
    async fn a_session_that_is_lost_again_at_once_is_an_error() {
        let (requests, outcomes) = fetch_twice(&[0, 71, 71]).await;
        assert_eq!(requests, [(0, 20), (1, 0), (0, 20)]);
        assert_eq!(outcomes, [None, Some(ErrorCode::InvalidFetchSessionEpoch)]);
    }
}
