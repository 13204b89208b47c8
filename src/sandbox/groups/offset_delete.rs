//! `OffsetDelete`: takes committed offsets back, but not of topics that the members consume (KIP-496).

use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use super::Groups;
use super::group::{Group, Phase};
use crate::protocol::error_code::ErrorCode;

impl Groups {
    pub fn delete_offsets(
        &mut self,
        request: &OffsetDeleteRequest,
        partition_exists: impl Fn(&str, i32) -> bool,
    ) -> OffsetDeleteResponse {
        let refuse = |error: ErrorCode| OffsetDeleteResponse::default().with_error_code(error.code());
        if request.group_id.is_empty() {
            return refuse(ErrorCode::InvalidGroupId);
        }
        let Some(group) = self.groups.get_mut(request.group_id.as_str()) else {
            return refuse(ErrorCode::GroupIdNotFound);
        };
        if group.phase != Phase::Empty && !group.has_consumer_protocol() {
            return refuse(ErrorCode::NonEmptyGroup);
        }
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                let error = match partition_exists(&topic.name, partition.partition_index) {
                    true => group.delete_offset(&topic.name, partition.partition_index),
                    false => ErrorCode::UnknownTopicOrPartition,
                };
                OffsetDeleteResponsePartition::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(error.code())
            });
            OffsetDeleteResponseTopic::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions.collect())
        });
        OffsetDeleteResponse::default().with_topics(topics.collect())
    }
}

impl Group {
    fn delete_offset(&mut self, topic: &str, partition: i32) -> ErrorCode {
        if self.is_subscribed(topic) {
            return ErrorCode::GroupSubscribedToTopic;
        }
        self.offsets.forget(topic, partition);
        ErrorCode::None
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Fixture, topic_name};
    use super::*;
    use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
    use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
    use kafka_protocol::messages::{GroupId, OffsetCommitRequest};

    fn with_offsets(mut group: Fixture) -> Fixture {
        let member = group.member_ids().first().cloned().unwrap_or_default();
        let generation = if member.is_empty() { -1 } else { 1 };
        let topics = ["topic", "other"].map(|name| {
            let partition = OffsetCommitRequestPartition::default().with_committed_offset(7);
            OffsetCommitRequestTopic::default()
                .with_name(topic_name(name))
                .with_partitions(vec![partition])
        });
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId("g".into()))
            .with_member_id(member.into())
            .with_generation_id_or_member_epoch(generation)
            .with_topics(topics.to_vec());
        group.groups.commit_offsets(&request, 8, |_, _| true, group.now_ms);
        group
    }

    fn delete(group: &mut Fixture, topic: &str) -> (i16, Option<i16>) {
        let partition = OffsetDeleteRequestPartition::default();
        let topic = OffsetDeleteRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![partition]);
        let request = OffsetDeleteRequest::default()
            .with_group_id(GroupId("g".into()))
            .with_topics(vec![topic]);
        let response = group.groups.delete_offsets(&request, |topic, _| topic != "absent");
        (
            response.error_code,
            response.topics.first().map(|topic| topic.partitions[0].error_code),
        )
    }

    #[test]
    fn an_empty_group_loses_the_offset() {
        let mut group = with_offsets(Fixture::new());

        assert_eq!(delete(&mut group, "topic"), (0, Some(0)));

        let offsets = &group.groups.groups["g"].offsets;
        assert!(offsets.committed("topic", 0).is_none());
        assert!(offsets.committed("other", 0).is_some());
    }

    #[test]
    fn a_topic_that_a_member_consumes_keeps_its_offset() {
        let mut group = with_offsets(Fixture::stable_of(1));

        assert_eq!(delete(&mut group, "topic"), (0, Some(86)), "GROUP_SUBSCRIBED_TO_TOPIC");
        assert_eq!(delete(&mut group, "other"), (0, Some(0)));
        assert_eq!(delete(&mut group, "absent"), (0, Some(3)), "UNKNOWN_TOPIC_OR_PARTITION");
    }

    #[test]
    fn an_absent_group_is_not_found() {
        assert_eq!(delete(&mut Fixture::new(), "topic"), (69, None), "GROUP_ID_NOT_FOUND");
    }
}
