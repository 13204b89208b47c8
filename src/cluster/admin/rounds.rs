//! Asking again: which items, when, and for how long.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::cluster::backoff::Backoff;
use crate::cluster::client::Cluster;
use crate::cluster::error::ClusterError;
use crate::cluster::metadata::TopicSelection;
use crate::cluster::now;
use crate::protocol::error_code::Recovery;

/// How often and how long one call is tried.
pub(super) struct Retry<'a> {
    cluster: &'a Cluster,
    /// What to ask metadata about when it proves stale.
    topics: TopicSelection,
    backoff: Backoff,
    begun: Instant,
}

impl<'a> Retry<'a> {
    pub(super) fn new(cluster: &'a Cluster, topics: TopicSelection) -> Self {
        Self {
            cluster,
            topics,
            backoff: cluster.backoff(),
            begun: now(),
        }
    }

    /// Tries until it works out, and no longer than there is sense in it.
    pub(super) async fn run<T, F>(mut self, mut attempt: impl FnMut() -> F) -> Result<T, ClusterError>
    where
        F: Future<Output = Result<T, ClusterError>>,
    {
        loop {
            match attempt().await {
                Ok(answer) => return Ok(answer),
                Err(error) => self.after(error).await?,
            }
        }
    }

    /// Waits until the next attempt, or gives the error back if there should be none.
    async fn after(&mut self, error: ClusterError) -> Result<(), ClusterError> {
        let wait = self.backoff.next_wait();
        let deadline = self.deadline(&error);
        if now() + wait >= deadline {
            return Err(error);
        }
        sleep(wait).await;
        if matches!(error.recovery(), Recovery::RefreshMetadata | Recovery::Reconnect) {
            match timeout_at(deadline, self.cluster.refresh_metadata(self.topics.clone())).await {
                Ok(Err(error)) if error.recovery() == Recovery::Stop => return Err(error),
                // If the rest of the cluster is away too, the next attempt will tell.
                _ => {}
            }
        }
        Ok(())
    }

    /// Until when there is sense in another attempt after such an error.
    fn deadline(&self, error: &ClusterError) -> Instant {
        let longest = self.cluster.config().admin_timeout;
        let patience = match error.recovery() {
            Recovery::None | Recovery::Stop => Duration::ZERO,
            _ if error.is_unknown_topic() => UNKNOWN_TOPIC_PATIENCE.min(longest),
            Recovery::RefreshMetadata
            | Recovery::Reconnect
            | Recovery::Backoff
            | Recovery::FindCoordinator
            | Recovery::ResetSession => longest,
        };
        self.begun + patience
    }
}

/// Many items, each with an answer of its own, in requests that together weigh `chunk` at most, or hold one item.
pub(super) struct Rounds<'a, I> {
    pub(super) cluster: &'a Cluster,
    /// What to ask metadata about when it proves stale.
    pub(super) topics: TopicSelection,
    pub(super) items: Vec<I>,
    pub(super) weigh: fn(&I) -> usize,
    pub(super) chunk: usize,
}

impl<I: Clone> Rounds<'_, I> {
    /// Asks until each item has its answer. `ask` gives one for each item that it is given, in their order, or one error
    /// for all. `done` says which refusals mean that the item was done before.
    pub(super) async fn run<T, F>(
        self,
        mut ask: impl FnMut(Vec<I>) -> F,
        done: impl Fn(&ClusterError) -> Option<T>,
    ) -> Vec<(I, Result<T, ClusterError>)>
    where
        F: Future<Output = Result<Vec<Result<T, ClusterError>>, ClusterError>>,
    {
        let mut retry = Retry::new(self.cluster, self.topics);
        let mut items: Vec<_> = self.items.into_iter().map(Item::new).collect();
        loop {
            let mut open: Vec<_> = items.iter_mut().filter(|item| item.is_open(&retry)).collect();
            let mut rest = &mut open[..];
            while !rest.is_empty() {
                let count = prefix(rest, |item| (self.weigh)(&item.what), self.chunk);
                let (chunk, others) = rest.split_at_mut(count);
                rest = others;
                match ask(chunk.iter().map(|item| item.what.clone()).collect()).await {
                    Ok(answers) => {
                        assert_eq!(answers.len(), chunk.len(), "one answer for each item");
                        chunk
                            .iter_mut()
                            .zip(answers)
                            .for_each(|(item, answer)| item.take(answer, &done));
                    }
                    Err(error) => chunk.iter_mut().for_each(|item| item.take(Err(error.clone()), &done)),
                }
            }
            // The error with the most patience decides whether there is another round.
            let errors = items.iter().filter_map(|item| item.answer.as_ref()?.as_ref().err());
            let Some(error) = errors.max_by_key(|error| retry.deadline(error)).cloned() else {
                break;
            };
            if retry.after(error).await.is_err() {
                break;
            }
        }
        let answered = |item: Item<I, T>| (item.what, item.answer.expect("each item has been asked about"));
        items.into_iter().map(answered).collect()
    }
}

/// How many items from the front weigh no more than that together: one at the least.
fn prefix<I>(items: &[I], weigh: impl Fn(&I) -> usize, most: usize) -> usize {
    let mut left = most;
    let fits = |item: &&I| {
        let rest = left.checked_sub(weigh(item));
        left = rest.unwrap_or(0);
        rest.is_some()
    };
    items.iter().take_while(fits).count().max(1)
}

/// An item and the last answer about it.
struct Item<I, T> {
    what: I,
    answer: Option<Result<T, ClusterError>>,
    /// Whether an attempt may have succeeded of which we do not know it.
    is_doubtful: bool,
}

impl<I, T> Item<I, T> {
    fn new(what: I) -> Self {
        Self {
            what,
            answer: None,
            is_doubtful: false,
        }
    }

    /// Whether it is worth asking.
    fn is_open(&self, retry: &Retry<'_>) -> bool {
        match &self.answer {
            None => true,
            Some(Ok(_)) => false,
            Some(Err(error)) => now() < retry.deadline(error),
        }
    }

    fn take(&mut self, answer: Result<T, ClusterError>, done: &impl Fn(&ClusterError) -> Option<T>) {
        let answer = match answer {
            Err(error) if self.is_doubtful => done(&error).ok_or(error),
            answer => answer,
        };
        self.is_doubtful |= answer.as_ref().is_err_and(ClusterError::is_outcome_unknown);
        self.answer = Some(answer);
    }
}

/// A new topic is known to all brokers within moments.
const UNKNOWN_TOPIC_PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::admin::{MOST_PARTITIONS_AT_ONCE, NewTopic, OffsetSpec};
    use crate::cluster::error::with_causes;
    use crate::cluster::fetch::Isolation;
    use crate::cluster::scripted_broker::{Asked, Say, cluster};
    use crate::protocol::ApiKey;
    use crate::protocol::error_code::ErrorCode;
    use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
    use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
    use kafka_protocol::messages::{
        CreateTopicsRequest, CreateTopicsResponse, ListOffsetsRequest, ListOffsetsResponse,
    };

    fn new_topics(count: usize) -> Vec<NewTopic> {
        let topic = |index| NewTopic {
            name: format!("n{index}"),
            partitions: 1,
            replication_factor: -1,
            configs: Vec::new(),
        };
        (0..count).map(topic).collect()
    }

    /// The same code for each topic.
    fn created(asked: &Asked, code: ErrorCode) -> Say {
        let topics = asked.request::<CreateTopicsRequest>().topics;
        let results = topics.into_iter().map(|topic| {
            CreatableTopicResult::default()
                .with_name(topic.name)
                .with_error_code(code.code())
        });
        asked.answer(&CreateTopicsResponse::default().with_topics(results.collect()))
    }

    fn listed(asked: &Asked, code: ErrorCode) -> Say {
        let topics = asked.request::<ListOffsetsRequest>().topics;
        let topics = topics.into_iter().map(|topic| {
            let partitions = topic.partitions.into_iter().map(|partition| {
                ListOffsetsPartitionResponse::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(code.code())
                    .with_offset(42)
            });
            ListOffsetsTopicResponse::default()
                .with_name(topic.name)
                .with_partitions(partitions.collect())
        });
        asked.answer(&ListOffsetsResponse::default().with_topics(topics.collect()))
    }

    #[tokio::test]
    async fn a_large_request_is_cut_into_several_and_answered_in_order() {
        let (broker, cluster) = cluster(|asked, _| created(asked, ErrorCode::None)).await;
        let answers = cluster.create_topics(new_topics(1001)).await;
        assert!(answers.iter().all(|(_, answer)| answer.is_ok()));
        assert!(
            answers
                .iter()
                .map(|(topic, _)| topic.name.clone())
                .eq((0..1001).map(|index| format!("n{index}")))
        );
        assert_eq!(broker.asked(ApiKey::CreateTopics).len(), 3);
    }

    #[tokio::test]
    async fn a_request_holds_no_more_partitions_than_a_controller_takes() {
        let (broker, cluster) = cluster(|asked, _| created(asked, ErrorCode::None)).await;
        let mut topics = new_topics(10);
        topics.iter_mut().for_each(|topic| topic.partitions = 2000);
        topics[4].partitions = MOST_PARTITIONS_AT_ONCE;
        let answers = cluster.create_topics(topics).await;
        assert!(answers.iter().all(|(_, answer)| answer.is_ok()));
        let of_request = |asked: &Asked| asked.request::<CreateTopicsRequest>().topics.len();
        let sizes: Vec<_> = broker.asked(ApiKey::CreateTopics).iter().map(of_request).collect();
        assert_eq!(sizes, [2, 2, 1, 2, 2, 1]);
    }

    #[tokio::test]
    async fn a_broker_that_is_not_the_controller_is_followed_by_a_refresh_and_another_attempt() {
        let (broker, cluster) = cluster(|asked, count| {
            created(
                asked,
                if count == 0 {
                    ErrorCode::NotController
                } else {
                    ErrorCode::None
                },
            )
        })
        .await;
        let before = broker.asked(ApiKey::Metadata).len();
        let answers = cluster.create_topics(new_topics(1)).await;
        assert!(answers[0].1.is_ok(), "{answers:?}");
        assert!(broker.asked(ApiKey::Metadata).len() > before);
    }

    #[tokio::test]
    async fn only_items_without_a_final_answer_are_asked_about_again() {
        let (broker, cluster) = cluster(|asked, count| {
            let topics = asked.request::<CreateTopicsRequest>().topics;
            let codes = [
                ErrorCode::None,
                ErrorCode::InvalidReplicationFactor,
                ErrorCode::ThrottlingQuotaExceeded,
            ];
            let results = topics.into_iter().zip(codes).map(|(topic, code)| {
                let code = if count == 0 { code } else { ErrorCode::None };
                CreatableTopicResult::default()
                    .with_name(topic.name)
                    .with_error_code(code.code())
            });
            asked.answer(&CreateTopicsResponse::default().with_topics(results.collect()))
        })
        .await;
        let answers = cluster.create_topics(new_topics(3)).await;
        let codes: Vec<_> = answers
            .iter()
            .map(|(_, answer)| answer.as_ref().err().and_then(ClusterError::code))
            .collect();
        assert_eq!(codes, [None, Some(ErrorCode::InvalidReplicationFactor), None]);
        let again = broker.asked(ApiKey::CreateTopics)[1].request::<CreateTopicsRequest>();
        assert_eq!(
            again
                .topics
                .iter()
                .map(|topic| topic.name.to_string())
                .collect::<Vec<_>>(),
            ["n2"]
        );
    }

    #[tokio::test]
    async fn a_topic_that_exists_after_a_lost_answer_was_created_by_us() {
        let (_broker, cluster) = cluster(|asked, count| {
            if count == 0 {
                Say::Close
            } else {
                created(asked, ErrorCode::TopicAlreadyExists)
            }
        })
        .await;
        let answers = cluster.create_topics(new_topics(1)).await;
        assert!(answers[0].1.is_ok(), "{answers:?}");
    }

    #[tokio::test]
    async fn a_topic_that_existed_before_is_an_error() {
        let (broker, cluster) = cluster(|asked, _| created(asked, ErrorCode::TopicAlreadyExists)).await;
        let answers = cluster.create_topics(new_topics(1)).await;
        assert_eq!(
            answers[0].1.as_ref().unwrap_err().code(),
            Some(ErrorCode::TopicAlreadyExists)
        );
        assert_eq!(broker.asked(ApiKey::CreateTopics).len(), 1);
    }

    #[tokio::test]
    async fn an_answer_that_leaves_a_topic_out_is_refused() {
        let (_broker, cluster) = cluster(|asked, _| asked.answer(&CreateTopicsResponse::default())).await;
        let answers = cluster.create_topics(new_topics(1)).await;
        let text = with_causes(answers[0].1.as_ref().unwrap_err());
        assert!(text.contains("topic n0 is not answered"), "{text}");
    }

    #[tokio::test]
    async fn offsets_are_asked_for_again_when_the_leader_has_moved() {
        let (_broker, cluster) = cluster(|asked, count| {
            listed(
                asked,
                if count == 0 {
                    ErrorCode::NotLeaderOrFollower
                } else {
                    ErrorCode::None
                },
            )
        })
        .await;
        let answers = cluster
            .list_offsets(vec![("t".into(), 0)], OffsetSpec::Latest(Isolation::ReadCommitted))
            .await;
        assert_eq!(answers[0].1.as_ref().unwrap().offset, 42);
    }

    #[tokio::test]
    async fn a_partition_that_does_not_exist_is_an_error_before_long() {
        let (broker, cluster) = cluster(|asked, _| listed(asked, ErrorCode::None)).await;
        let partitions = vec![("t".into(), 0), ("t".into(), 7)];
        let answers = cluster.list_offsets(partitions, OffsetSpec::Earliest).await;
        assert!(answers[0].1.is_ok());
        let text = answers[1].1.as_ref().unwrap_err().to_string();
        assert_eq!(
            text,
            "source cluster A has no partition 7 of topic t, or does not show it"
        );
        assert_eq!(
            broker.asked(ApiKey::ListOffsets).len(),
            1,
            "what is answered is not asked again"
        );
    }

    #[tokio::test]
    async fn trying_ends_when_the_time_is_over() {
        let (_broker, cluster) = cluster(|asked, _| created(asked, ErrorCode::NotController)).await;
        let begin = now();
        let answers = cluster.create_topics(new_topics(1)).await;
        assert_eq!(
            answers[0].1.as_ref().unwrap_err().code(),
            Some(ErrorCode::NotController)
        );
        assert!(begin.elapsed() <= cluster.config().admin_timeout);
    }
}
