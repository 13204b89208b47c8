//! What a cluster last said of itself: brokers, topics, leaders.
//!
//! A value without I/O: [`Metadata::updated`] takes an answer in and gives the next value. Brokers learn of changes one
//! after the other, so that an answer may be older than what another broker said before. The invariant: of the same
//! topic (by id) a partition's leader epoch never goes back, and no partition disappears (KIP-320, KIP-516).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use kafka_protocol::messages::metadata_response::{MetadataResponse, MetadataResponsePartition, MetadataResponseTopic};
use uuid::Uuid;

use super::error::Malformed;
use crate::protocol::error_code::ErrorCode;

/// A cluster's state at one moment, as far as it has been asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Grows with each answer taken in.
    pub generation: u64,
    pub cluster_id: Arc<str>,
    /// Where admin calls go. With KRaft any broker, which passes them on.
    pub controller_id: Option<i32>,
    pub brokers: BTreeMap<i32, BrokerAddress>,
    pub topics: BTreeMap<Arc<str>, Arc<TopicMetadata>>,
}

/// Where a broker listens, by its own account.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BrokerAddress {
    pub host: String,
    pub port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicMetadata {
    /// Nil before Kafka 2.8.
    pub id: Uuid,
    pub internal: bool,
    /// What the last answer said. With an error, the rest is what was known before.
    pub error: ErrorCode,
    /// In order of their numbers.
    pub partitions: Vec<PartitionMetadata>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionMetadata {
    pub partition: i32,
    pub leader: Option<i32>,
    /// -1 before Kafka 2.1.
    pub leader_epoch: i32,
    pub replicas: usize,
    pub error: ErrorCode,
}

/// Which topics to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicSelection {
    All,
    Names(Vec<String>),
}

impl TopicSelection {
    /// Asks for the other's topics too.
    pub(super) fn join(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::All, _) => {}
            (_, Self::All) => *self = Self::All,
            (Self::Names(names), Self::Names(more)) => {
                names.extend(more);
                names.sort_unstable();
                names.dedup();
            }
        }
    }
}

impl Metadata {
    /// What is known before the first answer.
    pub(super) fn empty() -> Self {
        Self {
            generation: 0,
            cluster_id: "".into(),
            controller_id: None,
            brokers: BTreeMap::new(),
            topics: BTreeMap::new(),
        }
    }

    /// A topic's partition, if it is known.
    pub fn partition(&self, topic: &str, partition: i32) -> Option<&PartitionMetadata> {
        self.topics.get(topic)?.partition(partition)
    }

    /// Takes in an answer about `asked`. Topics that an answer about all of them lacks are gone.
    pub(super) fn updated(&self, answer: MetadataResponse, asked: &TopicSelection) -> Result<Self, Malformed> {
        let cluster_id = answer.cluster_id.as_deref().ok_or(Malformed::NoClusterId)?;
        let mut topics = match asked {
            TopicSelection::All => BTreeMap::new(),
            TopicSelection::Names(_) => self.topics.clone(),
        };
        for topic in answer.topics {
            let name = topic.name.as_ref().ok_or(Malformed::NamelessTopic)?;
            let (name, known) = match self.topics.get_key_value(name.as_str()) {
                Some((name, known)) => (Arc::clone(name), Some(known)),
                None => (Arc::from(name.as_str()), None),
            };
            let topic = TopicMetadata::from_wire(&name, topic)?.not_older_than(known.map(AsRef::as_ref));
            let topic = match known {
                Some(known) if **known == topic => Arc::clone(known),
                _ => Arc::new(topic),
            };
            topics.insert(name, topic);
        }
        let brokers = answer.brokers.iter();
        let brokers = brokers.map(|broker| BrokerAddress::from_wire(broker.node_id.0, &broker.host, broker.port));
        Ok(Self {
            generation: self.generation + 1,
            cluster_id: cluster_id.into(),
            controller_id: (answer.controller_id.0 >= 0).then_some(answer.controller_id.0),
            brokers: brokers.collect::<Result<_, _>>()?,
            topics,
        })
    }
}

impl TopicMetadata {
    pub fn partition(&self, partition: i32) -> Option<&PartitionMetadata> {
        let index = self
            .partitions
            .binary_search_by_key(&partition, |known| known.partition)
            .ok()?;
        self.partitions.get(index)
    }

    fn from_wire(name: &str, topic: MetadataResponseTopic) -> Result<Self, Malformed> {
        let mut partitions: Vec<_> = topic.partitions.iter().map(PartitionMetadata::from_wire).collect();
        partitions.sort_unstable_by_key(|partition| partition.partition);
        let wrong = |partition: i32| Malformed::PartitionNumber {
            topic: name.to_owned(),
            partition,
        };
        let mut previous = -1;
        for partition in &partitions {
            if partition.partition <= previous {
                return Err(wrong(partition.partition));
            }
            previous = partition.partition;
        }
        Ok(Self {
            id: topic.topic_id,
            internal: topic.is_internal,
            error: ErrorCode::from_wire(topic.error_code),
            partitions,
        })
    }

    /// Puts what is known in the place of what is older here.
    fn not_older_than(mut self, known: Option<&Self>) -> Self {
        let Some(known) = known else { return self };
        if self.error != ErrorCode::None {
            return Self {
                error: self.error,
                ..known.clone()
            };
        }
        if self.id != known.id {
            return self; // Created anew: its epochs and partitions have nothing to do with the old ones.
        }
        for partition in &mut self.partitions {
            if let Some(newer) = known.partition(partition.partition)
                && newer.leader_epoch > partition.leader_epoch
            {
                *partition = newer.clone();
            }
        }
        if !self.id.is_nil() {
            let missing = known
                .partitions
                .iter()
                .filter(|known| self.partition(known.partition).is_none());
            let missing: Vec<_> = missing.cloned().collect();
            self.partitions.extend(missing);
            self.partitions.sort_unstable_by_key(|partition| partition.partition);
        }
        self
    }
}

impl PartitionMetadata {
    fn from_wire(partition: &MetadataResponsePartition) -> Self {
        Self {
            partition: partition.partition_index,
            leader: (partition.leader_id.0 >= 0).then_some(partition.leader_id.0),
            leader_epoch: partition.leader_epoch,
            replicas: partition.replica_nodes.len(),
            error: ErrorCode::from_wire(partition.error_code),
        }
    }
}

impl BrokerAddress {
    pub(super) fn from_wire(broker_id: i32, host: &str, port: i32) -> Result<(i32, Self), Malformed> {
        let is_host = (1..=MAX_HOST_LEN).contains(&host.len());
        match u16::try_from(port) {
            Ok(port) if is_host && port > 0 => Ok((
                broker_id,
                Self {
                    host: host.to_owned(),
                    port,
                },
            )),
            _ => Err(Malformed::BrokerAddress {
                broker_id,
                host: host.chars().take(MAX_HOST_LEN).collect(),
                port,
            }),
        }
    }
}

/// `host:port`, with IPv6 addresses in brackets.
impl fmt::Display for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

impl FromStr for BrokerAddress {
    type Err = NotAnAddress;

    fn from_str(address: &str) -> Result<Self, NotAnAddress> {
        let (host, port) = address.rsplit_once(':').ok_or(NotAnAddress)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bare {
            Some(host) => host,
            None if host.contains(':') => return Err(NotAnAddress), // IPv6 needs its brackets.
            None => host,
        };
        let port = port.parse().map_err(|_| NotAnAddress)?;
        if host.is_empty() || host.len() > MAX_HOST_LEN || port == 0 {
            return Err(NotAnAddress);
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

/// Something that is not of the form `host:port`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not of the form host:port")]
pub struct NotAnAddress;

/// The length limit of domain names (RFC 1035).
const MAX_HOST_LEN: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::metadata_response::MetadataResponseBroker;
    use kafka_protocol::messages::{BrokerId, TopicName};
    use kafka_protocol::protocol::StrBytes;

    const ID: Uuid = Uuid::from_u128(1);

    fn broker(id: i32, host: &str, port: i32) -> MetadataResponseBroker {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(id))
            .with_host(StrBytes::from_string(host.to_owned()))
            .with_port(port)
    }

    fn topic(name: &'static str, id: Uuid, partitions: &[(i32, i32, i32)]) -> MetadataResponseTopic {
        let partition = |&(index, leader, epoch): &(i32, i32, i32)| {
            MetadataResponsePartition::default()
                .with_partition_index(index)
                .with_leader_id(BrokerId(leader))
                .with_leader_epoch(epoch)
        };
        MetadataResponseTopic::default()
            .with_name(Some(TopicName(StrBytes::from_static_str(name))))
            .with_topic_id(id)
            .with_partitions(partitions.iter().map(partition).collect())
    }

    fn answer(topics: Vec<MetadataResponseTopic>) -> MetadataResponse {
        MetadataResponse::default()
            .with_cluster_id(Some(StrBytes::from_static_str("c1")))
            .with_controller_id(BrokerId(1))
            .with_brokers(vec![broker(1, "one", 9092)])
            .with_topics(topics)
    }

    fn names() -> TopicSelection {
        TopicSelection::Names(Vec::new())
    }

    fn known(topics: Vec<MetadataResponseTopic>) -> Metadata {
        Metadata::empty().updated(answer(topics), &TopicSelection::All).unwrap()
    }

    fn leader(metadata: &Metadata, partition: i32) -> Option<(Option<i32>, i32)> {
        let partition = metadata.partition("t", partition)?;
        Some((partition.leader, partition.leader_epoch))
    }

    #[test]
    fn an_older_leader_epoch_never_replaces_a_newer_one() {
        let before = known(vec![topic("t", ID, &[(0, 1, 5), (1, 1, 5)])]);
        let after = before
            .updated(answer(vec![topic("t", ID, &[(0, 2, 4), (1, 2, 6)])]), &names())
            .unwrap();
        assert_eq!(leader(&after, 0), Some((Some(1), 5)));
        assert_eq!(leader(&after, 1), Some((Some(2), 6)));
        assert_eq!(after.generation, before.generation + 1);
    }

    #[test]
    fn a_topic_created_anew_starts_with_its_own_epochs() {
        let before = known(vec![topic("t", ID, &[(0, 1, 5), (1, 1, 5)])]);
        let anew = topic("t", Uuid::from_u128(2), &[(0, 2, 0)]);
        let after = before.updated(answer(vec![anew]), &names()).unwrap();
        assert_eq!(leader(&after, 0), Some((Some(2), 0)));
        assert_eq!(leader(&after, 1), None);
    }

    #[test]
    fn a_late_answer_takes_no_partition_away() {
        let before = known(vec![topic("t", ID, &[(0, 1, 5), (1, 1, 5)])]);
        let after = before
            .updated(answer(vec![topic("t", ID, &[(0, 1, 5)])]), &names())
            .unwrap();
        assert_eq!(leader(&after, 1), Some((Some(1), 5)));
    }

    #[test]
    fn a_topic_in_error_keeps_what_was_known() {
        let before = known(vec![topic("t", ID, &[(0, 1, 5)])]);
        let unknown = topic("t", Uuid::nil(), &[]).with_error_code(3);
        let after = before.updated(answer(vec![unknown]), &names()).unwrap();
        assert_eq!(leader(&after, 0), Some((Some(1), 5)));
        assert_eq!(after.topics["t"].error, ErrorCode::UnknownTopicOrPartition);
    }

    #[test]
    fn only_an_answer_about_all_topics_forgets_one() {
        let before = known(vec![topic("t", ID, &[(0, 1, 5)])]);
        assert!(
            before
                .updated(answer(vec![]), &names())
                .unwrap()
                .topics
                .contains_key("t")
        );
        assert!(
            before
                .updated(answer(vec![]), &TopicSelection::All)
                .unwrap()
                .topics
                .is_empty()
        );
    }

    #[test]
    fn no_leader_and_no_controller_are_none() {
        let answer = answer(vec![topic("t", ID, &[(0, -1, 5)])]).with_controller_id(BrokerId(-1));
        let metadata = Metadata::empty().updated(answer, &names()).unwrap();
        assert_eq!(leader(&metadata, 0), Some((None, 5)));
        assert_eq!(metadata.controller_id, None);
    }

    #[test]
    fn partitions_that_are_negative_or_twice_are_refused() {
        for partitions in [[(0, 1, 1), (0, 1, 1)], [(-1, 1, 1), (0, 1, 1)]] {
            let refused = Metadata::empty().updated(answer(vec![topic("t", ID, &partitions)]), &names());
            assert!(matches!(refused, Err(Malformed::PartitionNumber { .. })), "{refused:?}");
        }
    }

    #[test]
    fn addresses_that_cannot_be_are_refused() {
        let long = "h".repeat(70_000);
        for (host, port) in [
            ("", 9092),
            ("one", 0),
            ("one", -1),
            ("one", 65_536),
            (long.as_str(), 9092),
        ] {
            let refused = Metadata::empty().updated(answer(vec![]).with_brokers(vec![broker(1, host, port)]), &names());
            assert!(matches!(refused, Err(Malformed::BrokerAddress { .. })), "{port}");
        }
    }

    #[test]
    fn a_cluster_without_an_id_is_refused() {
        let refused = Metadata::empty().updated(answer(vec![]).with_cluster_id(None), &names());
        assert_eq!(refused, Err(Malformed::NoClusterId));
    }

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for address in ["one:9092", "127.0.0.1:1", "[::1]:65535"] {
            assert_eq!(
                address.parse::<BrokerAddress>().map(|address| address.to_string()),
                Ok(address.to_owned())
            );
        }
        for address in ["", "one", ":9092", "one:", "one:0", "one:65536", "::1:9092", "one:x"] {
            assert_eq!(address.parse::<BrokerAddress>(), Err(NotAnAddress), "{address}");
        }
    }

    #[test]
    fn selections_join_without_repeating() {
        let mut selection = TopicSelection::Names(vec!["b".into()]);
        selection.join(TopicSelection::Names(vec!["a".into(), "b".into()]));
        assert_eq!(selection, TopicSelection::Names(vec!["a".into(), "b".into()]));
        selection.join(TopicSelection::All);
        selection.join(TopicSelection::Names(vec![]));
        assert_eq!(selection, TopicSelection::All);
    }
}
