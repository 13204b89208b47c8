//! What a flow's partitions are called on either side: fixed while the flow runs.

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use super::topics::exists;
use crate::cluster::Metadata;
use crate::replication::flow::{End, FlowPartition, Leader};

/// One partition by its names and ids.
#[derive(Debug, Clone)]
pub(super) struct Route {
    pub(super) topic: Arc<str>,
    pub(super) target_topic: Arc<str>,
    pub(super) target_topic_id: Uuid,
    pub(super) partition: i32,
}

/// All partitions of a flow, by the index that the state machine knows them by.
#[derive(Debug)]
pub(super) struct Routes {
    routes: Vec<Route>,
    by_source: HashMap<Arc<str>, HashMap<i32, usize>>,
    by_target: HashMap<Arc<str>, HashMap<i32, usize>>,
}

impl Routes {
    pub(super) fn new(partitions: &[FlowPartition]) -> Self {
        let routes: Vec<Route> = partitions
            .iter()
            .map(|FlowPartition { start, .. }| Route {
                topic: Arc::clone(&start.topic),
                target_topic: Arc::clone(&start.target_topic),
                target_topic_id: start.target_topic_id,
                partition: start.partition,
            })
            .collect();
        let index_by = |name: fn(&Route) -> &Arc<str>| {
            let mut index: HashMap<Arc<str>, HashMap<i32, usize>> = HashMap::new();
            for (i, route) in routes.iter().enumerate() {
                index
                    .entry(Arc::clone(name(route)))
                    .or_default()
                    .insert(route.partition, i);
            }
            index
        };
        Self {
            by_source: index_by(|r| &r.topic),
            by_target: index_by(|r| &r.target_topic),
            routes,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.routes.len()
    }

    pub(super) fn route(&self, index: usize) -> &Route {
        &self.routes[index]
    }

    pub(super) fn by_source(&self, topic: &str, partition: i32) -> Option<usize> {
        self.by_source.get(topic)?.get(&partition).copied()
    }

    pub(super) fn by_target(&self, topic: &str, partition: i32) -> Option<usize> {
        self.by_target.get(topic)?.get(&partition).copied()
    }

    /// The topics' names on one side.
    pub(super) fn topics(&self, end: End) -> Vec<String> {
        let index = match end {
            End::Source => &self.by_source,
            End::Target => &self.by_target,
        };
        let mut names: Vec<String> = index.keys().map(|name| name.to_string()).collect();
        names.sort_unstable();
        names
    }

    /// The leader of every partition, in the order of their indexes.
    pub(super) fn leaders(&self, end: End, metadata: &Metadata) -> Vec<Leader> {
        self.routes
            .iter()
            .map(|route| match end {
                End::Source => leader(metadata, &route.topic, route.partition),
                End::Target => leader(metadata, &route.target_topic, route.partition),
            })
            .collect()
    }
}

fn leader(metadata: &Metadata, topic: &str, partition: i32) -> Leader {
    let Some(topic) = metadata.topics.get(topic).filter(|_| exists(metadata, topic)) else {
        return Leader::Missing;
    };
    let Some(found) = topic.partition(partition) else {
        return Leader::Missing;
    };
    match found.leader {
        Some(broker) => Leader::Known {
            broker,
            epoch: found.leader_epoch,
            topic_id: topic.id,
        },
        None => Leader::Absent,
    }
}
