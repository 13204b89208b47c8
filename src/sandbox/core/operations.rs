//! What happens to a cluster besides requests: leaders move, brokers restart, the cleaner runs. For tests and the demo.
//!
//! Clients that wait get their answers from the next [`poll`](Cluster::poll).

use super::log::{Isolation, StoredBatch, StoredRecord};
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

    /// The records of a partition that a consumer gets.
    ///
    /// # Panics
    /// Where a batch cannot be read: a test that has produced one knows why.
    pub fn records(
        &self,
        topic: &str,
        partition: i32,
        isolation: Isolation,
    ) -> Result<Vec<StoredRecord>, NoSuchPartition> {
        let records = self.partition(topic, partition)?.log.records(isolation);
        Ok(records.unwrap_or_else(|error| panic!("{topic}-{partition} has a batch that nobody can read: {error}")))
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

    /// The same under the same leader epoch, as a broker does that has lost its power, and is back before anybody has missed it
    /// (before Kafka 4).
    pub fn lose_tail(&mut self, topic: &str, partition: i32, offset: i64) -> Result<(), NoSuchPartition> {
        self.change(topic, partition, |partition, _| partition.log.truncate_to(offset))
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

    /// Makes the next broker the coordinator of whatever a broker coordinates. What the coordinators know goes with them.
    pub fn move_coordinators(&mut self) {
        self.first_coordinator = Some(self.first_coordinator.map_or(0, |first| first + 1));
    }

    /// Nothing has a coordinator until they move.
    pub fn lose_coordinators(&mut self) {
        self.first_coordinator = None;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::error_code::ErrorCode;
    use crate::sandbox::core::testing::{TestClient, batch, batch_with, code, stamped, transactional};

    const DAY_MS: i64 = 86_400_000;

    #[test]
    fn the_old_leader_takes_nothing_any_more() {
        let mut client = TestClient::of(2);
        client.create_topic("t", 1, &[]);
        client.cluster.move_leader("t", 0, Some(2)).unwrap();

        let refused = client.produce("t", 0, batch(&["a"]));
        assert_eq!(code(refused.error_code), ErrorCode::NotLeaderOrFollower);

        client.connection = client.cluster.connect(2);
        assert_eq!(client.produce("t", 0, batch(&["a"])).base_offset, 0);
        assert_eq!(
            client.cluster.batches("t", 0).unwrap()[0]
                .header
                .partition_leader_epoch(),
            1
        );
    }

    #[test]
    fn a_partition_without_leader_keeps_its_transaction_from_ending() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 2, &[]);
        let identity = client.begin("x", "t", 0);
        assert_eq!(client.add("x", identity, "t", 1), ErrorCode::None);
        client.cluster.move_leader("t", 1, None).unwrap();

        assert_eq!(client.end_txn("x", identity, true), ErrorCode::None);
        client.now_ms += 1000;
        client.cluster.poll(client.now_ms);
        assert_eq!(client.end_txn("x", identity, true), ErrorCode::ConcurrentTransactions);
        assert_eq!(client.cluster.batches("t", 0).unwrap().len(), 1, "the other is marked");

        client.cluster.move_leader("t", 1, Some(1)).unwrap();
        assert_eq!(client.end_txn("x", identity, true), ErrorCode::None);
        assert_eq!(client.cluster.batches("t", 1).unwrap().len(), 1);
    }

    #[test]
    fn a_transaction_is_concurrent_until_its_markers_are_there() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 1, &[]);
        let identity = client.begin("x", "t", 0);
        client.produce_in("x", "t", 0, batch_with(transactional(identity, 0), &["a"]));

        assert_eq!(client.end_txn("x", identity, true), ErrorCode::None);
        assert_eq!(client.end_txn("x", identity, true), ErrorCode::ConcurrentTransactions);
        assert_eq!(client.add("x", identity, "t", 0), ErrorCode::ConcurrentTransactions);

        let due = client.cluster.next_deadline().unwrap();
        client.cluster.poll(due);
        assert_eq!(client.end_txn("x", identity, true), ErrorCode::None);
        let marker = client.cluster.batches("t", 0).unwrap()[1].header;
        assert_eq!(
            (marker.size(), marker.attributes(), marker.base_sequence()),
            (78, 0x30, -1)
        );
    }

    #[test]
    fn a_batch_needs_a_transaction_that_its_partition_is_part_of() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 2, &[]);
        let identity = client.begin("x", "t", 0);

        let elsewhere = client.produce_in("x", "t", 1, batch_with(transactional(identity, 0), &["a"]));
        assert_eq!(code(elsewhere.error_code), ErrorCode::InvalidTxnState);
        client.produce_in("x", "t", 0, batch_with(transactional(identity, 0), &["a"]));
        let plain = client.produce("t", 0, batch_with(stamped(identity.0, identity.1, 1), &["b"]));
        assert_eq!(code(plain.error_code), ErrorCode::InvalidTxnState);
    }

    #[test]
    fn a_fence_needs_the_marker_and_not_only_the_epoch() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 1, &[]);
        let old = client.begin("x", "t", 0);
        client.end("x", old, true);
        client.produce("t", 0, batch_with(stamped(old.0, old.1, 0), &["a"]));

        let new = client.begin("x", "t", 0);
        let zombie = client.produce("t", 0, batch_with(stamped(old.0, old.1, 1), &["b"]));
        assert_eq!(code(zombie.error_code), ErrorCode::None);
        client.end("x", new, true);
        let zombie = client.produce("t", 0, batch_with(stamped(old.0, old.1, 2), &["c"]));
        assert_eq!(code(zombie.error_code), ErrorCode::InvalidProducerEpoch);
    }

    #[test]
    fn a_transaction_goes_on_under_the_next_coordinator() {
        let mut client = TestClient::of(2);
        client.create_topic("t", 1, &[]);
        let first = client.cluster.coordinator_of("x").unwrap();
        client.connection = client.cluster.connect(first);
        let identity = client.begin("x", "t", 0);

        client.cluster.lose_coordinators();
        assert_eq!(client.cluster.coordinator_of("x"), None);
        assert_eq!(client.end_txn("x", identity, true), ErrorCode::NotCoordinator);
        client.cluster.move_coordinators();
        client.cluster.move_coordinators();

        assert_eq!(client.end_txn("x", identity, true), ErrorCode::NotCoordinator);
        client.connection = client.cluster.connect(3 - first);
        assert_eq!(client.end_txn("x", identity, true), ErrorCode::None);
    }

    #[test]
    fn a_restarted_broker_has_a_short_memory_and_no_connections() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 1, &[]);
        for sequence in 0..2 {
            client.produce("t", 0, batch_with(stamped(7, 0, sequence), &["a"]));
        }
        client.cluster.restart_broker(1, DAY_MS);

        assert_eq!(client.cluster.poll(client.now_ms).len(), 1, "one connection is closed");
        client.connection = client.cluster.connect(1);
        let last = client.produce("t", 0, batch_with(stamped(7, 0, 1), &["a"]));
        let second_last = client.produce("t", 0, batch_with(stamped(7, 0, 0), &["a"]));
        assert_eq!((code(last.error_code), last.base_offset), (ErrorCode::None, 1));
        assert_eq!(code(second_last.error_code), ErrorCode::OutOfOrderSequenceNumber);
    }

    #[test]
    fn producers_of_old_records_expire_while_they_write() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 1, &[]);
        client.now_ms += 2 * DAY_MS;
        client.produce("t", 0, batch_with(stamped(7, 1, 0), &["two days old"]));
        client.cluster.expire_producers(DAY_MS);

        let zombie = client.produce("t", 0, batch_with(stamped(7, 0, 99), &["b"]));
        assert_eq!(code(zombie.error_code), ErrorCode::None);
    }

    #[test]
    fn records_come_out_as_a_consumer_sees_them() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 1, &[]);
        client.produce("t", 0, batch(&["a", "b"]));
        let identity = client.begin("x", "t", 0);
        client.produce_in("x", "t", 0, batch_with(transactional(identity, 0), &["aborted"]));
        client.end("x", identity, false);
        client.produce("t", 0, batch(&["c"]));
        client.cluster.delete_records("t", 0, 1).unwrap();
        let keys = |isolation| {
            let records = client.cluster.records("t", 0, isolation).unwrap();
            let each = records.into_iter().map(|record| (record.offset, record.key.unwrap()));
            each.map(|(offset, key)| (offset, String::from_utf8(key.into()).unwrap()))
                .collect::<Vec<_>>()
        };
        let pairs = |pairs: &[(i64, &str)]| {
            pairs
                .iter()
                .map(|&(offset, key)| (offset, key.to_owned()))
                .collect::<Vec<_>>()
        };

        assert_eq!(keys(Isolation::ReadCommitted), pairs(&[(1, "b"), (4, "c")]));
        assert_eq!(
            keys(Isolation::ReadUncommitted),
            pairs(&[(1, "b"), (2, "aborted"), (4, "c")])
        );
    }

    #[test]
    fn a_recreated_topic_is_empty_and_another() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 3, &[("retention.ms", "1000")]);
        client.produce("t", 0, batch(&["a"]));
        let old = client.cluster.topics().get("t").unwrap().clone();

        assert!(client.cluster.recreate_topic("t"));

        let new = client.cluster.topics().get("t").unwrap();
        assert_ne!(new.id, old.id);
        assert_eq!((new.partitions.len(), &new.config), (3, &old.config));
        assert_eq!(client.cluster.end_offset("t", 0, Isolation::ReadUncommitted), Ok(0));
        assert!(client.cluster.topics().name_of(old.id).is_none());
    }

    #[test]
    fn what_does_not_exist_is_named() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 1, &[]);

        let error = client.cluster.compact("t", 1).unwrap_err();
        assert_eq!(error.to_string(), "the sandbox has no partition 1 of topic t");
    }
}
