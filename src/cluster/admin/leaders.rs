//! Questions about partitions, asked of their leaders.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::rounds::Rounds;
use crate::cluster::client::Cluster;
use crate::cluster::connection::Connection;
use crate::cluster::error::{ClusterError, Malformed};
use crate::cluster::metadata::TopicSelection;
use crate::protocol::ApiKey;

pub(super) type Partition = (Arc<str>, i32);

/// What a leader answers of each partition that it was asked about.
pub(super) type Answers<T> = HashMap<Partition, Result<T, ClusterError>>;

#[derive(Debug)]
pub(super) struct Asked {
    pub(super) partition: Partition,
    pub(super) leader_epoch: i32,
}

/// Asks each partition's leader, until each partition has its answer or there is no sense in asking.
pub(super) async fn ask_leaders<T, F>(
    cluster: &Cluster,
    partitions: Vec<Partition>,
    ask: impl Fn(Cluster, i32, Vec<Asked>) -> F + Clone + Send + 'static,
) -> Vec<(Partition, Result<T, ClusterError>)>
where
    T: Clone + Send + 'static,
    F: Future<Output = Result<Answers<T>, ClusterError>> + Send + 'static,
{
    let mut topics: Vec<_> = partitions.iter().map(|(topic, _)| topic.to_string()).collect();
    topics.sort_unstable();
    topics.dedup();
    let rounds = Rounds {
        cluster,
        topics: TopicSelection::Names(topics),
        weigh: |_| 1,
        chunk: partitions.len().max(1),
        items: partitions,
    };
    rounds
        .run(|partitions| round(cluster, partitions, &ask), |_| None)
        .await
}

/// All leaders at the same time: one that is away does not keep the others waiting.
async fn round<T, F>(
    cluster: &Cluster,
    partitions: Vec<Partition>,
    ask: &(impl Fn(Cluster, i32, Vec<Asked>) -> F + Clone + Send + 'static),
) -> Result<Vec<Result<T, ClusterError>>, ClusterError>
where
    T: Clone + Send + 'static,
    F: Future<Output = Result<Answers<T>, ClusterError>> + Send + 'static,
{
    let metadata = cluster.metadata();
    let mut leaders: BTreeMap<i32, Vec<Asked>> = BTreeMap::new();
    for (topic, partition) in &partitions {
        if let Some(known) = metadata.partition(topic, *partition)
            && let Some(leader) = known.leader
        {
            leaders.entry(leader).or_default().push(Asked {
                partition: (Arc::clone(topic), *partition),
                leader_epoch: known.leader_epoch,
            });
        }
    }
    let mut asked = JoinSet::new();
    for (leader, partitions) in leaders {
        let (cluster, ask) = (cluster.clone(), ask.clone());
        asked.spawn(async move {
            let named: Vec<Partition> = partitions.iter().map(|asked| asked.partition.clone()).collect();
            let answers = ask(cluster, leader, partitions).await;
            (named, answers)
        });
    }
    let mut answers: Answers<T> = HashMap::new();
    while let Some(answered) = asked.join_next().await {
        match answered {
            Ok((_, Ok(answered))) => answers.extend(answered),
            // The one error for all.
            Ok((named, Err(error))) => {
                answers.extend(named.into_iter().map(|partition| (partition, Err(error.clone()))))
            }
            Err(_) => {} // The runtime stops.
        }
    }
    let unasked = |(topic, partition): &Partition| match metadata.partition(topic, *partition) {
        Some(_) => Err(cluster.no_leader(topic, *partition)),
        None => Err(cluster.no_topic(subject(topic, *partition))),
    };
    let answer = |partition| answers.get(partition).cloned().unwrap_or_else(|| unasked(partition));
    Ok(partitions.iter().map(answer).collect())
}

/// An answer that leaves a partition out is none.
pub(super) fn all_answered<T>(
    connection: &Connection,
    api: ApiKey,
    asked: &[Asked],
    answers: Answers<T>,
) -> Result<Answers<T>, ClusterError> {
    match asked.iter().find(|asked| !answers.contains_key(&asked.partition)) {
        None => Ok(answers),
        Some(Asked {
            partition: (topic, partition),
            ..
        }) => Err(connection.peer().malformed(
            api,
            Malformed::Unanswered {
                subject: subject(topic, *partition),
            },
        )),
    }
}

pub(super) fn subject(topic: &str, partition: i32) -> String {
    format!("partition {partition} of topic {topic}")
}
