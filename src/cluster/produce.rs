//! Writes records.
//!
//! What comes back is checked against what was asked: each partition is answered, once. Brokers answer in any order, and
//! from Kafka 4.1 on by topic id. Without an answer the outcome is unknown; see [`ClusterError::is_outcome_unknown`].

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

use super::call::millis;
use super::connection::Connection;
use super::error::{ClusterError, Malformed};
use crate::protocol::ApiKey;
use crate::protocol::encoding::TopicRef;
use crate::protocol::produce_request::{self, ProduceRequest, ProduceTopic};
use crate::protocol::produce_response::{self, ProducedPartition};

/// An answer: one entry for each partition of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Produced {
    pub throttle_time_ms: i32,
    pub partitions: Vec<(Arc<str>, ProducedPartition)>,
}

/// Queues a produce request before it returns, so that requests go out in the order of the calls. The broker waits for
/// the replicas for at most `timeout`. What could not be sent before `send_before` is not sent: [`ClusterError::TooLate`].
///
/// # Panics
///
/// If a batch's header does not have the length of its payload.
pub fn produce(
    connection: &Connection,
    topics: Vec<ProduceTopic>,
    timeout: Duration,
    send_before: Option<Instant>,
) -> impl Future<Output = Result<Produced, ClusterError>> + Send + use<> {
    let unanswered = Unanswered::new(&topics);
    let request = ProduceRequest {
        timeout_ms: millis(timeout),
        topics,
    };
    let sent = version(connection, &request.topics).map(|version| {
        let encode =
            |correlation_id, client_id: &str| produce_request::encode(version, correlation_id, client_id, &request);
        (
            version,
            connection.send(ApiKey::Produce, version, timeout, send_before, encode),
        )
    });
    let connection = connection.clone();
    async move {
        let (version, answer) = sent?;
        let body = answer.body().await?;
        let malformed = |cause| connection.peer().malformed(ApiKey::Produce, cause);
        let answer = produce_response::decode(&body, version).map_err(|cause| malformed(cause.into()))?;
        connection.throttle(answer.throttle_time_ms);
        let partitions = unanswered.match_up(answer.partitions).map_err(malformed)?;
        Ok(Produced {
            throttle_time_ms: answer.throttle_time_ms,
            partitions,
        })
    }
}

/// Topic ids need one for each topic.
fn version(connection: &Connection, topics: &[ProduceTopic]) -> Result<i16, ClusterError> {
    let version = connection.version(ApiKey::Produce)?;
    let by_name = topics.iter().any(|topic| topic.id.is_nil());
    Ok(if by_name { version.min(LAST_BY_NAME) } else { version })
}

/// The partitions of a request that have no answer yet.
struct Unanswered {
    /// By name and by id.
    topics: HashMap<TopicRef, Arc<str>>,
    partitions: HashSet<(Arc<str>, i32)>,
}

impl Unanswered {
    fn new(request: &[ProduceTopic]) -> Self {
        let mut topics = HashMap::new();
        let mut partitions = HashSet::new();
        for topic in request {
            topics.insert(TopicRef::Name(Arc::clone(&topic.name)), Arc::clone(&topic.name));
            topics.insert(TopicRef::Id(topic.id), Arc::clone(&topic.name));
            for partition in &topic.partitions {
                let first = partitions.insert((Arc::clone(&topic.name), partition.partition));
                // Brokers would drop one of the two and say that all is well.
                assert!(
                    first,
                    "a request has one batch for {}-{}",
                    topic.name, partition.partition
                );
            }
        }
        Self { topics, partitions }
    }

    fn match_up(mut self, answers: Vec<ProducedPartition>) -> Result<Vec<(Arc<str>, ProducedPartition)>, Malformed> {
        let named = |answer: ProducedPartition| {
            let key = self
                .topics
                .get(&answer.topic)
                .map(|name| (Arc::clone(name), answer.partition));
            match key.and_then(|key| self.partitions.take(&key)) {
                Some((name, _)) => Ok((name, answer)),
                None => Err(Malformed::NotAsked {
                    subject: format!("partition {} of topic {}", answer.partition, answer.topic),
                }),
            }
        };
        let named = answers.into_iter().map(named).collect::<Result<Vec<_>, _>>()?;
        match self.partitions.iter().next() {
            None => Ok(named),
            Some((topic, partition)) => Err(Malformed::Unanswered {
                subject: format!("partition {partition} of topic {topic}"),
            }),
        }
    }
}

const LAST_BY_NAME: i16 = 12;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::error_code::ErrorCode;
    use crate::protocol::produce_request::ProducePartition;
    use bytes::Bytes;
    use uuid::Uuid;

    const ID: Uuid = Uuid::from_u128(7);

    fn request(partitions: &[i32]) -> Unanswered {
        let partition = |&partition: &i32| ProducePartition {
            partition,
            header: [0; 61],
            payload: Bytes::new(),
        };
        Unanswered::new(&[ProduceTopic {
            name: "t".into(),
            id: ID,
            partitions: partitions.iter().map(partition).collect(),
        }])
    }

    fn answer(topic: TopicRef, partition: i32) -> ProducedPartition {
        ProducedPartition {
            topic,
            partition,
            error: ErrorCode::None,
            base_offset: 0,
            log_append_time_ms: -1,
            log_start_offset: 0,
            record_errors: Vec::new(),
            error_message: None,
            current_leader: None,
        }
    }

    #[test]
    fn answers_are_matched_by_topic_and_partition_in_any_order() {
        for topic in [TopicRef::Name("t".into()), TopicRef::Id(ID)] {
            let answers = [2, 0, 1].map(|partition| answer(topic.clone(), partition));
            let matched = request(&[0, 1, 2]).match_up(answers.into()).unwrap();
            let matched: Vec<_> = matched
                .iter()
                .map(|(name, answer)| (name.as_ref(), answer.partition))
                .collect();
            assert_eq!(matched, [("t", 2), ("t", 0), ("t", 1)]);
        }
    }

    #[test]
    fn answers_that_are_missing_foreign_or_twice_are_refused() {
        let name = || TopicRef::Name("t".into());
        let missing = request(&[0, 1]).match_up(vec![answer(name(), 0)]);
        assert!(matches!(missing, Err(Malformed::Unanswered { .. })), "{missing:?}");
        for answers in [
            vec![answer(name(), 0), answer(name(), 0)],
            vec![answer(name(), 1)],
            vec![answer(TopicRef::Name("u".into()), 0)],
            vec![answer(TopicRef::Id(Uuid::from_u128(8)), 0)],
        ] {
            let refused = request(&[0]).match_up(answers);
            assert!(matches!(refused, Err(Malformed::NotAsked { .. })), "{refused:?}");
        }
    }

    #[test]
    #[should_panic(expected = "one batch for t-3")]
    fn two_batches_for_one_partition_are_our_mistake() {
        request(&[3, 3]);
    }
}
