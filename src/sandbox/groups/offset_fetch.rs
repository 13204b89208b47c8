//! `OffsetFetch`: what a group has committed, for some partitions or for all it has.

use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::group::Group;
use super::{Groups, str_bytes};
use crate::protocol::error_code::ErrorCode;

/// From here on a request asks for several groups (KIP-709).
const BATCHED_VERSION: i16 = 8;

impl Groups {
    pub fn fetch_offsets(&self, request: &OffsetFetchRequest, version: i16) -> OffsetFetchResponse {
        let stable = request.require_stable;
        if version >= BATCHED_VERSION {
            let groups = request.groups.iter().map(|wanted| {
                let topics = wanted.topics.as_ref().map(|topics| {
                    let each = topics
                        .iter()
                        .map(|topic| (&topic.name, topic.partition_indexes.as_slice()));
                    each.collect::<Vec<_>>()
                });
                OffsetFetchResponseGroup::default()
                    .with_group_id(wanted.group_id.clone())
                    .with_topics(self.fetch_group(&wanted.group_id, topics.as_deref(), stable))
            });
            return OffsetFetchResponse::default().with_groups(groups.collect());
        }
        let topics = request.topics.as_ref().map(|topics| {
            let each = topics
                .iter()
                .map(|topic| (&topic.name, topic.partition_indexes.as_slice()));
            each.collect::<Vec<_>>()
        });
        let fetched = self.fetch_group(&request.group_id, topics.as_deref(), stable);
        OffsetFetchResponse::default().with_topics(fetched.into_iter().map(before_batches).collect())
    }

    fn fetch_group(
        &self,
        group_id: &str,
        wanted: Option<&[(&TopicName, &[i32])]>,
        stable: bool,
    ) -> Vec<OffsetFetchResponseTopics> {
        let group = self.groups.get(group_id);
        let Some(wanted) = wanted else {
            return group.map(|group| group.fetch_all(stable)).unwrap_or_default();
        };
        let topics = wanted.iter().map(|&(name, partitions)| {
            let fetched = partitions
                .iter()
                .map(|&partition| fetched(group, name, partition, stable));
            OffsetFetchResponseTopics::default()
                .with_name(name.clone())
                .with_partitions(fetched.collect())
        });
        topics.collect()
    }
}

impl Group {
    fn fetch_all(&self, stable: bool) -> Vec<OffsetFetchResponseTopics> {
        let topics = self.offsets.all_committed().iter().map(|(topic, partitions)| {
            let fetched = partitions
                .keys()
                .map(|&partition| fetched(Some(self), topic, partition, stable));
            OffsetFetchResponseTopics::default()
                .with_name(TopicName(str_bytes(topic)))
                .with_partitions(fetched.collect())
        });
        topics.collect()
    }
}

/// A partition without an offset, or without a group, has offset -1 and no error.
fn fetched(group: Option<&Group>, topic: &str, partition: i32, stable: bool) -> OffsetFetchResponsePartitions {
    let none = OffsetFetchResponsePartitions::default()
        .with_partition_index(partition)
        .with_committed_offset(-1)
        .with_committed_leader_epoch(-1)
        .with_metadata(Some(StrBytes::default()));
    let Some(group) = group else {
        return none;
    };
    if stable && group.offsets.is_pending(topic, partition) {
        return none.with_error_code(ErrorCode::UnstableOffsetCommit.code());
    }
    let Some(committed) = group.offsets.committed(topic, partition) else {
        return none;
    };
    none.with_committed_offset(committed.offset)
        .with_committed_leader_epoch(committed.leader_epoch)
        .with_metadata(Some(committed.metadata()))
}

/// The same in the older versions' types.
fn before_batches(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic {
    let partitions = topic.partitions.into_iter().map(|partition| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(partition.partition_index)
            .with_committed_offset(partition.committed_offset)
            .with_committed_leader_epoch(partition.committed_leader_epoch)
            .with_metadata(partition.metadata)
            .with_error_code(partition.error_code)
    });
    OffsetFetchResponseTopic::default()
        .with_name(topic.name)
        .with_partitions(partitions.collect())
}

#[cfg(test)]
mod tests {
    use super::super::GroupsConfig;
    use super::super::testing::topic_name;
    use super::*;
    use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
    use kafka_protocol::messages::offset_fetch_request::{
        OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    };
    use kafka_protocol::messages::txn_offset_commit_request::{
        TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
    };
    use kafka_protocol::messages::{GroupId, OffsetCommitRequest, ProducerId, TxnOffsetCommitRequest};

    /// Group "g" has 7 for partition 0 of "a" and of "b".
    fn groups() -> Groups {
        let mut groups = Groups::new(GroupsConfig::default());
        let topics = ["a", "b"].map(|name| {
            let partition = OffsetCommitRequestPartition::default()
                .with_committed_offset(7)
                .with_committed_leader_epoch(3)
                .with_committed_metadata(Some("note".into()));
            OffsetCommitRequestTopic::default()
                .with_name(topic_name(name))
                .with_partitions(vec![partition])
        });
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId("g".into()))
            .with_topics(topics.to_vec());
        groups.commit_offsets(&request, 8, |_, _| true, 0);
        groups
    }

    fn of_a(partitions: &[i32]) -> OffsetFetchRequest {
        let topic = OffsetFetchRequestTopic::default()
            .with_name(topic_name("a"))
            .with_partition_indexes(partitions.to_vec());
        OffsetFetchRequest::default()
            .with_group_id(GroupId("g".into()))
            .with_topics(Some(vec![topic]))
    }

    #[test]
    fn a_partition_without_an_offset_has_minus_one_and_no_error() {
        let fetched = groups().fetch_offsets(&of_a(&[0, 1]), 7);

        let partitions = &fetched.topics[0].partitions;
        let seen = partitions.iter().map(|p| {
            (
                p.partition_index,
                p.committed_offset,
                p.committed_leader_epoch,
                p.error_code,
            )
        });
        assert_eq!(seen.collect::<Vec<_>>(), [(0, 7, 3, 0), (1, -1, -1, 0)]);
        assert_eq!(partitions[0].metadata.as_deref(), Some("note"));
    }

    #[test]
    fn an_absent_group_has_no_offsets_and_no_error() {
        let request = of_a(&[0]).with_group_id(GroupId("absent".into()));

        let fetched = groups().fetch_offsets(&request, 7);

        assert_eq!(fetched.error_code, 0);
        assert_eq!(fetched.topics[0].partitions[0].committed_offset, -1);
        assert!(groups().fetch_offsets(&request.with_topics(None), 7).topics.is_empty());
    }

    #[test]
    fn no_topics_mean_all() {
        let fetched = groups().fetch_offsets(&of_a(&[]).with_topics(None), 7);

        let names: Vec<_> = fetched.topics.iter().map(|topic| topic.name.to_string()).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn several_groups_are_asked_at_once() {
        let of_b = OffsetFetchRequestTopics::default()
            .with_name(topic_name("b"))
            .with_partition_indexes(vec![0]);
        let request = OffsetFetchRequest::default().with_groups(vec![
            OffsetFetchRequestGroup::default()
                .with_group_id(GroupId("g".into()))
                .with_topics(None),
            OffsetFetchRequestGroup::default()
                .with_group_id(GroupId("absent".into()))
                .with_topics(Some(vec![of_b])),
        ]);

        let fetched = groups().fetch_offsets(&request, 8);

        let [known, absent] = &fetched.groups[..] else {
            panic!("two groups, not {fetched:?}")
        };
        assert_eq!((known.group_id.as_str(), known.topics.len()), ("g", 2));
        assert_eq!(absent.topics[0].partitions[0].committed_offset, -1);
    }

    #[test]
    fn an_offset_in_an_open_transaction_is_unstable_for_those_who_ask_for_stable_ones() {
        let mut groups = groups();
        let partition = TxnOffsetCommitRequestPartition::default().with_committed_offset(9);
        let topic = TxnOffsetCommitRequestTopic::default()
            .with_name(topic_name("a"))
            .with_partitions(vec![partition]);
        let request = TxnOffsetCommitRequest::default()
            .with_group_id(GroupId("g".into()))
            .with_producer_id(ProducerId(1))
            .with_topics(vec![topic]);
        groups.commit_transactional_offsets(&request, |_, _| true, 0);

        let seen = |groups: &Groups, stable| {
            let fetched = groups.fetch_offsets(&of_a(&[0]).with_require_stable(stable), 7);
            let partition = &fetched.topics[0].partitions[0];
            (partition.committed_offset, partition.error_code)
        };
        assert_eq!(seen(&groups, false), (7, 0));
        assert_eq!(seen(&groups, true), (-1, 88), "UNSTABLE_OFFSET_COMMIT");

        groups.complete_transaction(1, true);

        assert_eq!(seen(&groups, true), (9, 0));
    }

    #[test]
    fn a_deleted_topic_takes_its_offsets_along() {
        let mut groups = groups();

        groups.topic_deleted("a");

        assert_eq!(
            groups.fetch_offsets(&of_a(&[0]), 7).topics[0].partitions[0].committed_offset,
            -1
        );
        assert_eq!(groups.fetch_offsets(&of_a(&[]).with_topics(None), 7).topics.len(), 1);
    }
}
