//! The task that keeps a cluster's metadata fresh.
//!
//! It is the only one that asks for metadata, on demand and on a timer. Demands that come while an answer is on its way
//! are too late for it, and share the next one.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::client::Inner;
use super::error::ClusterError;
use super::metadata::{Metadata, TopicSelection};
use super::now;

/// Somebody wants fresh metadata.
#[derive(Debug)]
pub(super) struct Demand {
    pub(super) topics: TopicSelection,
    pub(super) reply: oneshot::Sender<Result<Arc<Metadata>, ClusterError>>,
}

/// Runs until the cluster is dropped.
pub(super) async fn run(cluster: Weak<Inner>, mut demands: mpsc::Receiver<Demand>, max_age: Duration) {
    // What the timer asks about: everything that was ever asked about.
    let mut interest = TopicSelection::Names(Vec::new());
    let mut last = now();
    loop {
        let first = tokio::select! {
            demand = demands.recv() => match demand {
                Some(demand) => Some(demand),
                None => return,
            },
            () = sleep_until(last + max_age) => None,
        };
        keep_distance(last).await;
        let mut waiting: Vec<Demand> = first.into_iter().collect();
        while let Ok(demand) = demands.try_recv() {
            waiting.push(demand);
        }
        let topics = if waiting.is_empty() {
            interest.clone()
        } else {
            joined(&waiting)
        };
        interest.join(topics.clone());

        let Some(cluster) = cluster.upgrade() else { return };
        let answer = cluster.refresh(&topics).await;
        drop(cluster);
        last = now();
        if let (Err(error), true) = (&answer, waiting.is_empty()) {
            tracing::warn!(%error, "cannot refresh the metadata; it will be tried again");
        }
        for demand in waiting {
            // Whoever asked may have lost interest.
            let _ = demand.reply.send(answer.clone());
        }
    }
}

/// Whoever finds no leader asks again at once; the brokers are spared that.
async fn keep_distance(last: Instant) {
    sleep_until(last + DISTANCE).await;
}

fn joined(demands: &[Demand]) -> TopicSelection {
    let mut topics = TopicSelection::Names(Vec::new());
    for demand in demands {
        topics.join(demand.topics.clone());
    }
    topics
}

/// Kafka's `retry.backoff.ms`.
const DISTANCE: Duration = Duration::from_millis(100);
