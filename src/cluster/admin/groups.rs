//! Consumer groups: which there are, where they stand, where they should.

use std::collections::BTreeMap;

use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, OffsetCommitRequest, OffsetFetchRequest};
use kafka_protocol::protocol::StrBytes;

use super::coordinator::CoordinatorKind;
use super::outcome;
use super::rounds::Retry;
use crate::cluster::call::topic_name;
use crate::cluster::client::Cluster;
use crate::cluster::connections::Purpose;
use crate::cluster::error::ClusterError;
use crate::cluster::metadata::TopicSelection;
use crate::protocol::ApiKey;
use crate::protocol::error_code::{ErrorCode, Recovery};

/// A group by what its coordinator says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedGroup {
    pub name: String,
    /// `consumer`, or empty where no member has ever joined; Connect's and others have their own.
    pub protocol_type: String,
    /// `Empty`, `Stable`, …; empty before Kafka 2.6.
    pub state: String,
    /// `Classic`, `Consumer` (KIP-848), `Share` (KIP-932), …; empty before Kafka 3.8.
    pub kind: String,
}

/// Where a group stands in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOffset {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub metadata: Option<String>,
}

impl Cluster {
    /// All groups. Each broker knows those that it coordinates.
    pub async fn list_groups(&self) -> Result<Vec<ListedGroup>, ClusterError> {
        let brokers = Retry::new(self, nothing())
            .run(|| async { Ok(self.metadata().brokers.clone()) })
            .await?;
        let mut groups = BTreeMap::new();
        for broker in brokers.into_keys() {
            let listed = Retry::new(self, nothing()).run(|| self.groups_of(broker)).await?;
            groups.extend(listed.into_iter().map(|group| (group.name.clone(), group)));
        }
        Ok(groups.into_values().collect())
    }

    async fn groups_of(&self, broker: i32) -> Result<Vec<ListedGroup>, ClusterError> {
        let connection = self.connection(broker, Purpose::Admin).await?;
        let answer = connection.call(ListGroupsRequest::default()).await?;
        outcome(&connection, ApiKey::ListGroups, String::new, answer.error_code, None)?;
        let listed = answer.groups.into_iter().map(|group| ListedGroup {
            name: group.group_id.to_string(),
            protocol_type: group.protocol_type.to_string(),
            state: group.group_state.to_string(),
            kind: group.group_type.to_string(),
        });
        Ok(listed.collect())
    }

    /// Where a group stands, in all partitions in which it has committed.
    pub async fn fetch_group_offsets(&self, group: &str) -> Result<Vec<GroupOffset>, ClusterError> {
        Retry::new(self, nothing()).run(|| self.ask_group_offsets(group)).await
    }

    async fn ask_group_offsets(&self, group: &str) -> Result<Vec<GroupOffset>, ClusterError> {
        const API: ApiKey = ApiKey::OffsetFetch;
        let coordinator = self.find_coordinator(CoordinatorKind::Group, group).await?;
        let connection = self.connection(coordinator, Purpose::Admin).await?;
        // From version 8 on several groups can be asked about at once.
        let request = match connection.version(API)? {
            ..8 => OffsetFetchRequest::default()
                .with_group_id(named(group))
                .with_topics(None),
            _ => {
                let of_group = OffsetFetchRequestGroup::default()
                    .with_group_id(named(group))
                    .with_topics(None);
                OffsetFetchRequest::default().with_groups(vec![of_group])
            }
        };
        let answer = connection.call(request).await?;
        let subject = || subject(group);
        outcome(&connection, API, subject, answer.error_code, None)?;
        let mut offsets = Vec::new();
        let mut take = |topic: &str, partition: i32, code: i16, offset: i64, metadata: Option<StrBytes>| {
            outcome(&connection, API, subject, code, None)?;
            if offset >= 0 {
                offsets.push(GroupOffset {
                    topic: topic.to_owned(),
                    partition,
                    offset,
                    metadata: metadata.map(|text| text.to_string()),
                });
            }
            Ok(())
        };
        for topic in answer.topics {
            for it in topic.partitions {
                take(
                    &topic.name,
                    it.partition_index,
                    it.error_code,
                    it.committed_offset,
                    it.metadata,
                )?;
            }
        }
        for of_group in answer.groups {
            outcome(&connection, API, subject, of_group.error_code, None)?;
            for topic in of_group.topics {
                for it in topic.partitions {
                    take(
                        &topic.name,
                        it.partition_index,
                        it.error_code,
                        it.committed_offset,
                        it.metadata,
                    )?;
                }
            }
        }
        Ok(offsets)
    }

    /// Sets where a group stands, as one without members does: a broker refuses that for a group that has some. Says what
    /// became of each partition, in the order of `offsets`.
    pub async fn commit_group_offsets(
        &self,
        group: &str,
        offsets: &[GroupOffset],
    ) -> Result<Vec<ErrorCode>, ClusterError> {
        Retry::new(self, nothing())
            .run(|| self.ask_commit(group, offsets))
            .await
    }

    async fn ask_commit(&self, group: &str, offsets: &[GroupOffset]) -> Result<Vec<ErrorCode>, ClusterError> {
        const API: ApiKey = ApiKey::OffsetCommit;
        let coordinator = self.find_coordinator(CoordinatorKind::Group, group).await?;
        let connection = self.connection(coordinator, Purpose::Admin).await?;
        let topics = offsets.chunk_by(|one, other| one.topic == other.topic).map(|of_topic| {
            let partition = |offset: &GroupOffset| {
                OffsetCommitRequestPartition::default()
                    .with_partition_index(offset.partition)
                    .with_committed_offset(offset.offset)
                    // Epochs of another cluster mean nothing here, and would trap consumers (KIP-1279).
                    .with_committed_leader_epoch(-1)
                    .with_committed_metadata(offset.metadata.clone().map(StrBytes::from_string))
            };
            OffsetCommitRequestTopic::default()
                .with_name(topic_name(&of_topic[0].topic))
                .with_partitions(of_topic.iter().map(partition).collect())
        });
        let request = OffsetCommitRequest::default()
            .with_group_id(named(group))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(topics.collect());
        let answer = connection.call(request).await?;
        let mut codes = BTreeMap::new();
        for topic in answer.topics {
            for it in topic.partitions {
                let code = ErrorCode::from_wire(it.error_code);
                if code.recovery() == Recovery::FindCoordinator {
                    return Err(connection.peer().refused(API, subject(group), code));
                }
                codes.insert((topic.name.to_string(), it.partition_index), code);
            }
        }
        let code = |offset: &GroupOffset| codes.get(&(offset.topic.clone(), offset.partition)).copied();
        Ok(offsets
            .iter()
            .map(|offset| code(offset).unwrap_or(ErrorCode::UnknownServerError))
            .collect())
    }
}

fn nothing() -> TopicSelection {
    TopicSelection::Names(Vec::new())
}

fn named(group: &str) -> GroupId {
    GroupId(StrBytes::from_string(group.to_owned()))
}

fn subject(group: &str) -> String {
    format!("group {group}")
}
