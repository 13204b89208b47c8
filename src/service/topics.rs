//! Asks both clusters for topics, and applies what is planned for the target.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use crate::cluster::{Cluster, ClusterError, MOST_PARTITIONS_AT_ONCE, Metadata, NewTopic, TopicSelection as Asked};
use crate::protocol::error_code::ErrorCode;
use crate::reconcile::configs::BatchConfigs;
use crate::reconcile::topics::{SourceTopic, TopicChange, TopicSelection};
use crate::replication::stopped::chain;

/// The source's topics that are to be copied, with the configs set on each.
pub(super) async fn source_topics(
    source: &Cluster,
    selection: &TopicSelection,
) -> Result<Vec<SourceTopic>, ClusterError> {
    let metadata = source.refresh_metadata(Asked::All).await?;
    let selected: Vec<_> = metadata
        .topics
        .iter()
        .filter(|(name, topic)| selection.selects(name, topic.internal))
        .collect();
    let names: Vec<String> = selected.iter().map(|(name, _)| name.to_string()).collect();
    let mut configs: HashMap<_, _> = source.topic_configs(names).await.into_iter().collect();
    Ok(selected
        .into_iter()
        .map(|(name, topic)| {
            let entries = match configs.remove(name.as_ref()) {
                Some(Ok(entries)) => Some(entries),
                Some(Err(error)) => {
                    tracing::warn!(topic = %name, error = %chain(&error), "the source's topic configs can't be read");
                    None
                }
                None => None,
            };
            SourceTopic {
                name: name.to_string(),
                target_name: selection.target_name(name),
                partitions: topic.partitions.len() as i32,
                is_compacted: entries.iter().flatten().any(|entry| {
                    entry.name == "cleanup.policy"
                        && entry.value.as_deref().is_some_and(|policy| policy.contains("compact"))
                }),
                configs: entries.map(|entries| {
                    let own = entries.into_iter().filter(|entry| entry.is_of_topic());
                    own.filter_map(|entry| Some((entry.name, entry.value?))).collect()
                }),
            }
        })
        .collect())
}

/// How many partitions the target has of each of these topics.
pub(super) async fn target_partitions(
    target: &Cluster,
    names: Vec<String>,
) -> Result<BTreeMap<String, i32>, ClusterError> {
    let metadata = target.refresh_metadata(Asked::Names(names.clone())).await?;
    Ok(names
        .into_iter()
        .filter(|name| exists(&metadata, name))
        .filter_map(|name| {
            let partitions = metadata.topics.get(name.as_str())?.partitions.len() as i32;
            Some((name, partitions))
        })
        .collect())
}

/// Makes the changes: first what has to be created, then what has to grow.
pub(super) async fn apply(
    target: &Cluster,
    changes: Vec<TopicChange>,
    replication_factor: i16,
) -> Result<(), ClusterError> {
    let mut new_topics = Vec::new();
    let mut grown = Vec::new();
    for change in changes {
        match change {
            TopicChange::Create {
                name,
                partitions,
                configs,
            } => {
                tracing::info!(topic = %name, partitions, "creating topic on the target");
                let first = partitions.min(MOST_PARTITIONS_AT_ONCE);
                grown.extend(steps(first, partitions).map(|total| (name.clone(), total)));
                new_topics.push(NewTopic {
                    name,
                    partitions: first,
                    replication_factor,
                    configs,
                });
            }
            TopicChange::Grow { name, before, after } => {
                tracing::info!(topic = %name, before, after, "adding partitions on the target");
                grown.extend(steps(before, after).map(|total| (name.clone(), total)));
            }
        }
    }
    if !new_topics.is_empty() {
        for (_, result) in target.create_topics(new_topics).await {
            unless(ErrorCode::TopicAlreadyExists, result)?;
        }
    }
    for (name, total) in grown {
        target.create_partitions(&name, total).await?;
    }
    Ok(())
}

/// Numbers of partitions on the way, as many at a time as a controller takes.
fn steps(before: i32, after: i32) -> impl Iterator<Item = i32> {
    let next = move |total: &i32| (*total < after).then(|| after.min(*total + MOST_PARTITIONS_AT_ONCE));
    std::iter::successors(next(&before), next)
}

/// Somebody else may have created the topic meanwhile; that is as good.
fn unless(tolerated: ErrorCode, result: Result<(), ClusterError>) -> Result<(), ClusterError> {
    match result {
        Err(error) if error.code() != Some(tolerated) => Err(error),
        _ => Ok(()),
    }
}

/// Results by key, or the first error.
pub(super) fn all<K: Eq + Hash, V>(results: Vec<(K, Result<V, ClusterError>)>) -> Result<HashMap<K, V>, ClusterError> {
    results.into_iter().map(|(key, result)| Ok((key, result?))).collect()
}

/// Whether a cluster has a topic, by its last word.
pub(super) fn exists(metadata: &Metadata, topic: &str) -> bool {
    metadata.topics.get(topic).is_some_and(|topic| {
        !matches!(
            topic.error,
            ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId
        )
    })
}

/// What each target topic asks of its batches.
pub(super) async fn batch_configs(target: &Cluster, names: Vec<String>) -> HashMap<String, BatchConfigs> {
    let mut known = HashMap::new();
    for (name, configs) in target.topic_configs(names).await {
        match configs {
            Ok(entries) => {
                let pairs = entries
                    .iter()
                    .map(|entry| (entry.name.as_str(), entry.value.as_deref()));
                known.insert(name, BatchConfigs::from_entries(pairs));
            }
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(topic = %name, %error, "the target's topic configs can't be read; defaults are assumed");
            }
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_grows_by_as_many_partitions_as_a_controller_takes() {
        let most = MOST_PARTITIONS_AT_ONCE;
        assert_eq!(steps(3, 3).count(), 0);
        assert_eq!(steps(3, 7).collect::<Vec<_>>(), [7]);
        assert_eq!(
            steps(3, 2 * most + 4).collect::<Vec<_>>(),
            [most + 3, 2 * most + 3, 2 * most + 4]
        );
    }
}
