//! Consumer groups: which there are, where they stand, where they should.

use std::collections::BTreeMap;

use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::offset_fetch_response::{OffsetFetchResponsePartition, OffsetFetchResponsePartitions};
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
        // Before version 8 the topics stand alone, and then with their group.
        let alone = answer.topics.into_iter().map(|topic| {
            let of = |it: OffsetFetchResponsePartition| {
                (it.partition_index, it.error_code, it.committed_offset, it.metadata)
            };
            (topic.name, topic.partitions.into_iter().map(of).collect::<Vec<_>>())
        });
        let mut topics: Vec<_> = alone.collect();
        for of_group in answer.groups {
            outcome(&connection, API, subject, of_group.error_code, None)?;
            topics.extend(of_group.topics.into_iter().map(|topic| {
                let of = |it: OffsetFetchResponsePartitions| {
                    (it.partition_index, it.error_code, it.committed_offset, it.metadata)
                };
                (topic.name, topic.partitions.into_iter().map(of).collect())
            }));
        }
        let mut offsets = Vec::new();
        for (topic, partitions) in topics {
            for (partition, code, offset, metadata) in partitions {
                outcome(&connection, API, subject, code, None)?;
                // Below zero: it has committed none.
                if offset >= 0 {
                    offsets.push(GroupOffset {
                        topic: topic.to_string(),
                        partition,
                        offset,
                        metadata: metadata.map(|text| text.to_string()),
                    });
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
                // These are said of the whole group.
                if code.recovery() == Recovery::FindCoordinator || code == ErrorCode::CoordinatorLoadInProgress {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::scripted_broker::{
        Asked, Say, ScriptedBroker, all_versions, cluster, cluster_offering, versions_up_to,
    };
    use kafka_protocol::messages::api_versions_response::ApiVersionsResponse;
    use kafka_protocol::messages::list_groups_response::ListedGroup as Listed;
    use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
    use kafka_protocol::messages::offset_fetch_response::{
        OffsetFetchResponseGroup, OffsetFetchResponseTopic, OffsetFetchResponseTopics,
    };
    use kafka_protocol::messages::{
        BrokerId, FindCoordinatorResponse, ListGroupsResponse, OffsetCommitResponse, OffsetFetchResponse,
    };

    /// A cluster whose broker coordinates all groups; `say` gets the other requests.
    async fn coordinator(
        offered: ApiVersionsResponse,
        say: impl Fn(&Asked) -> Say + Send + Sync + 'static,
    ) -> (ScriptedBroker, Cluster) {
        cluster_offering(offered, move |asked, _| match asked.api {
            ApiKey::FindCoordinator => found(asked),
            _ => say(asked),
        })
        .await
    }

    fn found(asked: &Asked) -> Say {
        use kafka_protocol::messages::find_coordinator_response::Coordinator;
        let coordinator = Coordinator::default().with_node_id(BrokerId(1));
        asked.answer(&FindCoordinatorResponse::default().with_coordinators(vec![coordinator]))
    }

    fn at(partition: i32, offset: i64) -> GroupOffset {
        GroupOffset {
            topic: "t".to_owned(),
            partition,
            offset,
            metadata: Some(String::new()),
        }
    }

    /// Partition 0 at 7, partition 1 without an offset.
    fn standing() -> OffsetFetchResponse {
        let partition = |index, offset| {
            OffsetFetchResponsePartitions::default()
                .with_partition_index(index)
                .with_committed_offset(offset)
        };
        let topic = OffsetFetchResponseTopics::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![partition(0, 7), partition(1, -1)]);
        let group = OffsetFetchResponseGroup::default()
            .with_group_id(named("g"))
            .with_topics(vec![topic]);
        OffsetFetchResponse::default().with_groups(vec![group])
    }

    /// One code for each partition that was asked for.
    fn committed(asked: &Asked, code: impl Fn(i32) -> ErrorCode) -> Say {
        let topics = asked.request::<OffsetCommitRequest>().topics.into_iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|it| {
                OffsetCommitResponsePartition::default()
                    .with_partition_index(it.partition_index)
                    .with_error_code(code(it.partition_index).code())
            });
            OffsetCommitResponseTopic::default()
                .with_name(topic.name)
                .with_partitions(partitions.collect())
        });
        asked.answer(&OffsetCommitResponse::default().with_topics(topics.collect()))
    }

    #[tokio::test]
    async fn groups_are_listed_with_what_their_coordinator_says() {
        let (_broker, cluster) = cluster(|asked, _| {
            let group = Listed::default()
                .with_group_id(named("g"))
                .with_protocol_type(StrBytes::from_static_str("consumer"))
                .with_group_state(StrBytes::from_static_str("Empty"))
                .with_group_type(StrBytes::from_static_str("Classic"));
            asked.answer(&ListGroupsResponse::default().with_groups(vec![group]))
        })
        .await;
        let expected = ListedGroup {
            name: "g".to_owned(),
            protocol_type: "consumer".to_owned(),
            state: "Empty".to_owned(),
            kind: "Classic".to_owned(),
        };
        assert_eq!(cluster.list_groups().await.unwrap(), [expected]);
    }

    #[tokio::test]
    async fn a_partition_without_an_offset_is_left_out() {
        let (_broker, cluster) = coordinator(all_versions(), |asked| asked.answer(&standing())).await;
        assert_eq!(cluster.fetch_group_offsets("g").await.unwrap(), [at(0, 7)]);
    }

    #[tokio::test]
    async fn an_older_broker_is_asked_about_one_group() {
        let offered = versions_up_to(ApiKey::OffsetFetch, 7);
        let (broker, cluster) = coordinator(offered, |asked| {
            let partition = OffsetFetchResponsePartition::default()
                .with_partition_index(0)
                .with_committed_offset(7);
            let topic = OffsetFetchResponseTopic::default()
                .with_name(topic_name("t"))
                .with_partitions(vec![partition]);
            asked.answer(&OffsetFetchResponse::default().with_topics(vec![topic]))
        })
        .await;
        assert_eq!(cluster.fetch_group_offsets("g").await.unwrap(), [at(0, 7)]);
        let asked = broker.asked(ApiKey::OffsetFetch)[0].request::<OffsetFetchRequest>();
        assert_eq!((asked.group_id, asked.topics), (named("g"), None));
    }

    #[tokio::test]
    async fn a_group_whose_coordinator_has_moved_is_asked_about_again() {
        let (broker, cluster) = cluster(|asked, count| match asked.api {
            ApiKey::FindCoordinator => found(asked),
            _ if count == 1 => {
                let mut moved = standing();
                moved.groups[0].error_code = ErrorCode::NotCoordinator.code();
                asked.answer(&moved)
            }
            _ => asked.answer(&standing()),
        })
        .await;
        assert_eq!(cluster.fetch_group_offsets("g").await.unwrap(), [at(0, 7)]);
        assert_eq!(broker.asked(ApiKey::FindCoordinator).len(), 2);
    }

    #[tokio::test]
    async fn a_partition_whose_offset_cannot_be_told_fails_the_question() {
        let (_broker, cluster) = coordinator(all_versions(), |asked| {
            let mut refused = standing();
            refused.groups[0].topics[0].partitions[1].error_code = ErrorCode::TopicAuthorizationFailed.code();
            asked.answer(&refused)
        })
        .await;
        let error = cluster.fetch_group_offsets("g").await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::TopicAuthorizationFailed));
        assert!(error.to_string().contains("group g"), "{error}");
    }

    #[tokio::test]
    async fn offsets_are_committed_without_a_member_and_without_an_epoch() {
        let (broker, cluster) = coordinator(all_versions(), |asked| committed(asked, |_| ErrorCode::None)).await;
        let codes = cluster.commit_group_offsets("g", &[at(0, 7), at(1, 8)]).await.unwrap();
        assert_eq!(codes, [ErrorCode::None, ErrorCode::None]);
        let asked = broker.asked(ApiKey::OffsetCommit)[0].request::<OffsetCommitRequest>();
        assert_eq!(
            (asked.generation_id_or_member_epoch, asked.member_id.as_str()),
            (-1, "")
        );
        let partitions: Vec<_> = asked.topics[0]
            .partitions
            .iter()
            .map(|it| (it.partition_index, it.committed_offset, it.committed_leader_epoch))
            .collect();
        assert_eq!(partitions, [(0, 7, -1), (1, 8, -1)]);
    }

    #[tokio::test]
    async fn each_partition_has_its_own_answer_and_one_left_out_is_not_taken_for_success() {
        let (_broker, cluster) = coordinator(all_versions(), |asked| {
            let mut kept = asked.clone();
            let mut request = asked.request::<OffsetCommitRequest>();
            request.topics[0].partitions.truncate(2);
            kept.body = crate::cluster::scripted_broker::encoded(&request, asked.version).into();
            committed(&kept, |partition| match partition {
                0 => ErrorCode::UnknownMemberId,
                _ => ErrorCode::None,
            })
        })
        .await;
        let offsets = [at(0, 7), at(1, 8), at(2, 9)];
        let codes = cluster.commit_group_offsets("g", &offsets).await.unwrap();
        let expected = [
            ErrorCode::UnknownMemberId,
            ErrorCode::None,
            ErrorCode::UnknownServerError,
        ];
        assert_eq!(codes, expected);
    }

    #[tokio::test]
    async fn a_commit_to_a_coordinator_that_still_loads_is_made_again() {
        let (broker, cluster) = cluster(|asked, count| match asked.api {
            ApiKey::FindCoordinator => found(asked),
            _ if count == 1 => committed(asked, |_| ErrorCode::CoordinatorLoadInProgress),
            _ => committed(asked, |_| ErrorCode::None),
        })
        .await;
        let codes = cluster.commit_group_offsets("g", &[at(0, 7)]).await.unwrap();
        assert_eq!(codes, [ErrorCode::None]);
        assert_eq!(broker.asked(ApiKey::OffsetCommit).len(), 2);
    }
}
