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
            backoff: Backoff::new(cluster.config().backoff),
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
    pub(super) async fn after(&mut self, error: ClusterError) -> Result<(), ClusterError> {
        let refresh = match error.recovery() {
            Recovery::None | Recovery::Stop => return Err(error),
            Recovery::RefreshMetadata | Recovery::Reconnect => true,
            Recovery::Backoff | Recovery::FindCoordinator | Recovery::ResetSession => false,
        };
        let config = self.cluster.config();
        let patience = if error.is_unknown_topic() {
            UNKNOWN_TOPIC_PATIENCE
        } else {
            config.admin_timeout
        };
        let deadline = self.begun + patience.min(config.admin_timeout);
        let wait = self.backoff.next_wait();
        if now() + wait >= deadline {
            return Err(error);
        }
        sleep(wait).await;
        if refresh {
            match timeout_at(deadline, self.cluster.refresh_metadata(self.topics.clone())).await {
                Ok(Err(error)) if error.recovery() == Recovery::Stop => return Err(error),
                // If the rest of the cluster is away too, the next attempt will tell.
                _ => {}
            }
        }
        Ok(())
    }
}

/// Many items, each with an answer of its own, at most `chunk` in a request.
pub(super) struct Rounds<'a, I> {
    pub(super) cluster: &'a Cluster,
    pub(super) topics: TopicSelection,
    pub(super) items: Vec<I>,
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
        let mut answers: Vec<Option<Result<T, ClusterError>>> = self.items.iter().map(|_| None).collect();
        let mut doubtful = vec![false; self.items.len()];
        let mut open: Vec<usize> = (0..self.items.len()).collect();
        while !open.is_empty() {
            let mut reason = None;
            for chunk in open.chunks(self.chunk) {
                let items = chunk.iter().map(|&index| self.items[index].clone()).collect();
                let mut answered = ask(items).await.map(Vec::into_iter);
                for &index in chunk {
                    let answer = match &mut answered {
                        Ok(answers) => answers.next().expect("one answer for each item"),
                        Err(error) => Err(error.clone()),
                    };
                    let answer = match answer {
                        Err(error) if doubtful[index] => done(&error).ok_or(error),
                        answer => answer,
                    };
                    if let Err(error) = &answer {
                        doubtful[index] |= error.is_outcome_unknown();
                        if is_passing(error) {
                            reason = Some(error.clone());
                        }
                    }
                    answers[index] = Some(answer);
                }
            }
            open.retain(|&index| matches!(&answers[index], Some(Err(error)) if is_passing(error)));
            if let Some(error) = reason
                && retry.after(error).await.is_err()
            {
                break;
            }
        }
        self.items
            .into_iter()
            .zip(answers.into_iter().map(|answer| answer.expect("asked at least once")))
            .collect()
    }
}

/// Whether another attempt may fare better.
fn is_passing(error: &ClusterError) -> bool {
    !matches!(error.recovery(), Recovery::None | Recovery::Stop)
}

/// A new topic is known to all brokers within moments.
const UNKNOWN_TOPIC_PATIENCE: Duration = Duration::from_secs(5);
