//! What happens to a cluster besides requests: leaders move, brokers restart, the cleaner runs. For tests and the demo.
//!
//! Clients that wait get their answers from the next [`poll`](Cluster::poll).

use super::log::{Isolation, StoredBatch};
use super::topics::{Partition, Topic, topic_name};
use super::{CloseReason, Cluster, ConnectionId};

/// The partition that an operation is meant for does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the sandbox has no partition {partition} of topic {topic}")]
pub struct NoSuchPartition {
    pub topic: String,
    pub partition: i32,
}

impl Cluster {
    pub fn partition(&self, topic: &str, partition: i32) -> Result<&Partition, NoSuchPartition> {
        self.topics
            .get(topic)
            .and_then(|topic| topic.partition(partition))
            .ok_or_else(|| no_such(topic, partition))
    }

    /// All batches of a partition, in order.
    pub fn batches(&self, topic: &str, partition: i32) -> Result<Vec<StoredBatch>, NoSuchPartition> {
        Ok(self.partition(topic, partition)?.log.batches().cloned().collect())
    }

    /// Makes another broker the leader, or none.
    pub fn move_leader(&mut self, topic: &str, partition: i32, leader: Option<i32>) -> Result<(), NoSuchPartition> {
        self.change(topic, partition, |partition, _| partition.elect(leader))?;
        // What could not be marked without a leader can be now.
        self.write_markers();
        Ok(())
    }

    /// Loses the records from `offset` on, as an unclean election does: the next leader has never had them.
    pub fn truncate(&mut self, topic: &str, partition: i32, offset: i64) -> Result<(), NoSuchPartition> {
        self.change(topic, partition, |partition, _| {
            partition.log.truncate_to(offset);
            partition.elect(partition.leader);
        })
    }

    /// Runs the cleaner over all that may be cleaned, whatever the topic's policy says.
    pub fn compact(&mut self, topic: &str, partition: i32) -> Result<(), NoSuchPartition> {
        let now_ms = self.now_ms;
        self.change(topic, partition, |partition, config| {
            partition.log.compact(now_ms, config.delete_retention_ms);
        })
    }

    /// Deletes what retention by age or size no longer keeps.
    pub fn enforce_retention(&mut self, topic: &str, partition: i32) -> Result<(), NoSuchPartition> {
        let now_ms = self.now_ms;
        self.change(topic, partition, |partition, config| {
            partition
                .log
                .enforce_retention(now_ms, config.retention_ms, config.retention_bytes);
        })
    }

    /// Deletes the records before `offset`.
    pub fn delete_records(&mut self, topic: &str, partition: i32, offset: i64) -> Result<(), NoSuchPartition> {
        self.change(topic, partition, |partition, _| partition.log.delete_before(offset))
    }

    /// Forgets the producers whose last records are so old by their own timestamps; brokers check every ten minutes.
    pub fn expire_producers(&mut self, expiration_ms: i64) {
        let now_ms = self.now_ms;
        for partition in self.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            partition.log.expire_producers(now_ms, expiration_ms);
        }
    }

    /// Restarts a broker: its connections and fetch sessions are gone, and of each producer of the partitions that it
    /// leads only the last batch is remembered.
    pub fn restart_broker(&mut self, broker: i32, producer_expiration_ms: i64) {
        let now_ms = self.now_ms;
        let partitions = self.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
        for partition in partitions.filter(|partition| partition.leader == Some(broker)) {
            partition.log.restart(now_ms, producer_expiration_ms);
            partition.elect(Some(broker));
        }
        self.sessions.close_of(broker);
        self.close_connections(broker);
    }

    /// Closes all connections of a broker.
    pub fn close_connections(&mut self, broker: i32) {
        let of_broker =
            |(&id, connection): (&ConnectionId, &super::Connection)| (connection.broker == broker).then_some(id);
        let connections: Vec<_> = self.connections.iter().filter_map(of_broker).collect();
        for id in connections {
            self.close(id, CloseReason::Restart);
        }
    }

    /// Deletes a topic; `false` if there is none of that name.
    pub fn delete_topic(&mut self, name: &str) -> bool {
        let Some(topic) = self.topics.remove(name) else {
            return false;
        };
        self.groups.topic_deleted(name);
        self.touched
            .extend((0..topic.partitions.len() as i32).map(|partition| (topic.id, partition)));
        true
    }

    /// Deletes a topic and creates it again: empty, with another id, and all else as it was.
    pub fn recreate_topic(&mut self, name: &str) -> bool {
        let Some(old) = self.topics.get(name).cloned() else {
            return false;
        };
        self.delete_topic(name);
        let id = self.random.topic_id();
        let partitions = old
            .partitions
            .into_iter()
            .map(|partition| Partition::new(partition.replicas));
        self.topics.insert(Topic {
            id,
            name: topic_name(name),
            config: old.config,
            partitions: partitions.collect(),
        });
        true
    }

    /// Where readers of a partition have to stop.
    pub fn end_offset(&self, topic: &str, partition: i32, isolation: Isolation) -> Result<i64, NoSuchPartition> {
        Ok(self.partition(topic, partition)?.log.readable_end(isolation))
    }

    fn change(
        &mut self,
        topic: &str,
        index: i32,
        change: impl FnOnce(&mut Partition, &super::config::TopicConfig),
    ) -> Result<(), NoSuchPartition> {
        let known = self.topics.get_mut(topic).ok_or_else(|| no_such(topic, index))?;
        let Topic { config, partitions, .. } = known;
        let partition = usize::try_from(index)
            .ok()
            .and_then(|place| partitions.get_mut(place))
            .ok_or_else(|| no_such(topic, index))?;
        change(partition, config);
        self.touch(topic, index);
        Ok(())
    }

    /// A fetch may see this partition with other eyes now.
    pub(super) fn touch(&mut self, topic: &str, partition: i32) {
        if let Some(topic) = self.topics.get(topic) {
            self.touched.insert((topic.id, partition));
        }
    }
}

fn no_such(topic: &str, partition: i32) -> NoSuchPartition {
    NoSuchPartition {
        topic: topic.to_owned(),
        partition,
    }
}
