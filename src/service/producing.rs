//! The task of one target slot: sends what it is told to, in that order, and reports what became of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::routes::Routes;
use crate::cluster::{Cluster, ClusterError, Produced, Purpose, produce};
use crate::offsets::TargetOffset;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::produce_request::{ProducePartition, ProduceTopic};
use crate::protocol::produce_response::ProducedPartition;
use crate::replication::flow::{Event, ProduceJob, Slot};
use crate::replication::partition::{OutgoingBatch, ProduceOutcome};
use crate::replication::stopped::chain;

/// How long a broker may wait for its replicas before it answers REQUEST_TIMED_OUT.
pub(super) const PRODUCE_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) async fn run_slot(
    slot: Slot,
    target: Cluster,
    routes: Arc<Routes>,
    mut jobs: mpsc::Receiver<ProduceJob>,
    events: mpsc::Sender<Event>,
) {
    while let Some(job) = jobs.recv().await {
        let sent: Vec<(usize, i32)> = job
            .batches
            .iter()
            .map(|batch| (batch.partition, batch.sequence))
            .collect();
        let purpose = Purpose::Produce(usize::from(slot.connection));
        let answer = match target.connection(slot.broker, purpose).await {
            // Queued here, in the order of the jobs; awaited aside, so that the next can follow.
            Ok(connection) => {
                let topics = by_topic(&routes, job.batches);
                Ok(produce(
                    &connection,
                    topics,
                    PRODUCE_TIMEOUT,
                    Some(job.send_before.into()),
                ))
            }
            Err(error) => Err(error),
        };
        let (routes, events) = (Arc::clone(&routes), events.clone());
        tokio::spawn(async move {
            let result = match answer {
                Ok(answer) => answer.await,
                Err(error) => Err(error),
            };
            // The flow may have ended; then nobody asks what became of the batches.
            let _ = events
                .send(Event::Produced {
                    slot,
                    outcomes: outcomes(slot, &routes, sent, result),
                })
                .await;
        });
    }
}

fn by_topic(routes: &Routes, batches: Vec<OutgoingBatch>) -> Vec<ProduceTopic> {
    let mut topics: Vec<ProduceTopic> = Vec::new();
    let mut positions: HashMap<Arc<str>, usize> = HashMap::new();
    for batch in batches {
        let route = routes.route(batch.partition);
        let position = *positions.entry(Arc::clone(&route.target_topic)).or_insert_with(|| {
            let (name, id) = (Arc::clone(&route.target_topic), route.target_topic_id);
            topics.push(ProduceTopic {
                name,
                id,
                partitions: Vec::new(),
            });
            topics.len() - 1
        });
        topics[position].partitions.push(ProducePartition {
            partition: route.partition,
            header: batch.header,
            payload: batch.payload,
        });
    }
    topics
}

/// One outcome for each batch that was sent. What the response does not name has an unknown one.
fn outcomes(
    slot: Slot,
    routes: &Routes,
    sent: Vec<(usize, i32)>,
    result: Result<Produced, ClusterError>,
) -> Vec<(usize, i32, ProduceOutcome)> {
    let mut answered: HashMap<usize, ProduceOutcome> = HashMap::new();
    let unanswered = match result {
        Ok(response) => {
            for (topic, part) in response.partitions {
                // By topic and partition, never by position: brokers answer in another order (Kafka 2.8, 3.9).
                if let Some(index) = routes.by_target(&topic, part.partition) {
                    answered.insert(index, outcome(part));
                }
            }
            "the response does not name the partition".to_owned()
        }
        Err(error) => {
            tracing::warn!(broker = slot.broker, error = %chain(&error), "produce failed, trying again");
            chain(&error)
        }
    };
    sent.into_iter()
        .map(|(index, sequence)| {
            let unknown = || ProduceOutcome::Unknown {
                cause: unanswered.clone(),
            };
            (index, sequence, answered.remove(&index).unwrap_or_else(unknown))
        })
        .collect()
}

fn outcome(part: ProducedPartition) -> ProduceOutcome {
    match part.error {
        ErrorCode::None => ProduceOutcome::Acked {
            base_offset: TargetOffset(part.base_offset),
        },
        code => ProduceOutcome::Refused {
            code,
            message: refusal_text(part),
        },
    }
}

/// The broker's message, and which record it is about.
fn refusal_text(part: ProducedPartition) -> Option<String> {
    let record = part.record_errors.into_iter().next();
    match (part.error_message, record) {
        (message, Some((index, text))) => {
            let texts: Vec<String> = message.into_iter().chain(text).collect();
            Some(format!("record {index} of the batch: {}", texts.join(": ")))
        }
        (message, None) => message,
    }
}
