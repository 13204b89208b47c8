//! The topics of a cluster, by name and by id.

use std::collections::BTreeMap;

use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::config::TopicConfig;
use super::log::PartitionLog;
use crate::protocol::error_code::ErrorCode;

/// Kafka's limit: a longer name does not fit into the name of a directory.
const MAX_NAME_LEN: usize = 249;

#[derive(Debug, Clone)]
pub struct Topic {
    pub id: Uuid,
    pub name: TopicName,
    pub config: TopicConfig,
    pub partitions: Vec<Partition>,
}

#[derive(Debug, Clone)]
pub struct Partition {
    /// `None`: all brokers that have it are down.
    pub leader: Option<i32>,
    pub leader_epoch: i32,
    pub replicas: Vec<i32>,
    pub log: PartitionLog,
}

/// All topics. Each id belongs to one name, and is never used again.
#[derive(Debug, Clone, Default)]
pub struct Topics {
    by_name: BTreeMap<String, Topic>,
    names: BTreeMap<Uuid, TopicName>,
}

impl Partition {
    pub fn new(replicas: Vec<i32>) -> Self {
        let mut log = PartitionLog::default();
        log.begin_epoch(0);
        Self {
            leader: replicas.first().copied(),
            leader_epoch: 0,
            replicas,
            log,
        }
    }

    /// Another broker leads from now on, or none does.
    pub fn elect(&mut self, leader: Option<i32>) {
        self.leader = leader;
        self.leader_epoch += 1;
        if leader.is_some() {
            self.log.begin_epoch(self.leader_epoch);
        }
    }

    /// Whether `broker` may answer for the partition to a client that believes in `current_leader_epoch` (-1: in none).
    pub fn check_leader(&self, broker: i32, current_leader_epoch: i32) -> Result<(), ErrorCode> {
        if self.leader != Some(broker) {
            Err(ErrorCode::NotLeaderOrFollower)
        } else if current_leader_epoch < 0 || current_leader_epoch == self.leader_epoch {
            Ok(())
        } else if current_leader_epoch < self.leader_epoch {
            Err(ErrorCode::FencedLeaderEpoch)
        } else {
            Err(ErrorCode::UnknownLeaderEpoch)
        }
    }
}

impl Topic {
    pub fn partition(&self, index: i32) -> Option<&Partition> {
        self.partitions.get(usize::try_from(index).ok()?)
    }

    pub fn partition_mut(&mut self, index: i32) -> Option<&mut Partition> {
        self.partitions.get_mut(usize::try_from(index).ok()?)
    }

    pub fn replication_factor(&self) -> usize {
        self.partitions.first().map_or(0, |partition| partition.replicas.len())
    }

    /// Kafka keeps committed offsets and transactions in topics; the sandbox has none of these, so clients never see one.
    pub fn is_internal(&self) -> bool {
        matches!(self.name.as_str(), "__consumer_offsets" | "__transaction_state")
    }
}

impl Topics {
    pub fn get(&self, name: &str) -> Option<&Topic> {
        self.by_name.get(name)
    }

    pub fn get_mut(&mut self, name: &str) -> Option<&mut Topic> {
        self.by_name.get_mut(name)
    }

    pub fn has(&self, name: &str, partition: i32) -> bool {
        self.get(name).is_some_and(|topic| topic.partition(partition).is_some())
    }

    pub fn name_of(&self, id: Uuid) -> Option<&TopicName> {
        self.names.get(&id)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Topic> {
        self.by_name.values()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Topic> {
        self.by_name.values_mut()
    }

    pub fn insert(&mut self, topic: Topic) {
        self.names.insert(topic.id, topic.name.clone());
        if let Some(replaced) = self.by_name.insert(topic.name.to_string(), topic) {
            self.names.remove(&replaced.id);
        }
    }

    pub fn remove(&mut self, name: &str) -> Option<Topic> {
        let topic = self.by_name.remove(name)?;
        self.names.remove(&topic.id);
        Some(topic)
    }
}

/// Whether a topic may have this name; the text is for the client.
pub fn check_name(name: &str) -> Result<(), String> {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() {
        Err("Topic name is invalid: the empty string is not allowed".to_owned())
    } else if name == "." || name == ".." {
        Err(format!("Topic name is invalid: '{name}' is not allowed"))
    } else if name.len() > MAX_NAME_LEN {
        Err(format!(
            "Topic name is invalid: the length of '{name}' is longer than the max allowed length {MAX_NAME_LEN}"
        ))
    } else if !name.chars().all(is_legal) {
        Err(format!(
            "Topic name is invalid: '{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        ))
    } else {
        Ok(())
    }
}

/// Whether the names of metrics would not tell these topics apart, for which brokers refuse the second.
pub fn collide(a: &str, b: &str) -> bool {
    let alike = |byte| if byte == b'.' { b'_' } else { byte };
    a.len() == b.len() && a.bytes().map(alike).eq(b.bytes().map(alike))
}

pub fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_a_directory_may_be_called() {
        for name in ["a", "orders.eu_1-x", &"n".repeat(249)] {
            assert_eq!(check_name(name), Ok(()));
        }
        for name in ["", ".", "..", "a b", "ä", "a/b", &"n".repeat(250)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn an_old_leader_epoch_is_fenced_and_a_new_one_unknown() {
        let mut partition = Partition::new(vec![1, 2]);
        partition.leader_epoch = 3;

        assert_eq!(partition.check_leader(1, 3), Ok(()));
        assert_eq!(partition.check_leader(1, -1), Ok(()));
        assert_eq!(partition.check_leader(1, 2), Err(ErrorCode::FencedLeaderEpoch));
        assert_eq!(partition.check_leader(1, 4), Err(ErrorCode::UnknownLeaderEpoch));
        assert_eq!(partition.check_leader(2, 3), Err(ErrorCode::NotLeaderOrFollower));
    }
}
