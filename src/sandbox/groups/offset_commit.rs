//! `OffsetCommit`: by a member of the present generation, or by anyone while the group is empty or absent.

use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};
use kafka_protocol::protocol::StrBytes;

use super::Groups;
use super::group::{Group, Phase};
use super::offsets::CommittedOffset;
use crate::protocol::error_code::ErrorCode;

/// From here on a member is told that its group is gone, and not that its generation is (KIP-848).
const GROUP_NOT_FOUND_VERSION: i16 = 9;

/// Who commits. A commit from outside has generation -1 and no names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Committer<'a> {
    pub(super) generation: i32,
    pub(super) member_id: &'a str,
    pub(super) instance_id: Option<&'a str>,
    pub(super) is_transactional: bool,
}

impl Groups {
    pub fn commit_offsets(
        &mut self,
        request: &OffsetCommitRequest,
        version: i16,
        partition_exists: impl Fn(&str, i32) -> bool,
        now_ms: i64,
    ) -> OffsetCommitResponse {
        let committer = Committer {
            generation: request.generation_id_or_member_epoch,
            member_id: &request.member_id,
            instance_id: request.group_instance_id.as_deref(),
            is_transactional: false,
        };
        let absent = match version {
            GROUP_NOT_FOUND_VERSION.. => ErrorCode::GroupIdNotFound,
            _ => ErrorCode::IllegalGeneration,
        };
        let is_known =
            |topic: &str, partition: &OffsetCommitRequestPartition| partition_exists(topic, partition.partition_index);
        // Kafka looks at the partitions first: if none of them exists, the group is not even asked for.
        let any_known = request
            .topics
            .iter()
            .any(|topic| topic.partitions.iter().any(|p| is_known(&topic.name, p)));
        let admitted = if any_known {
            self.admit(&request.group_id, committer, absent, now_ms)
        } else {
            Ok(())
        };

        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                let outcome = if is_known(&topic.name, partition) {
                    admitted.and_then(|()| self.commit_one(&request.group_id, &topic.name, partition))
                } else {
                    Err(ErrorCode::UnknownTopicOrPartition)
                };
                OffsetCommitResponsePartition::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(outcome.err().unwrap_or(ErrorCode::None).code())
            });
            OffsetCommitResponseTopic::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions.collect())
        });
        OffsetCommitResponse::default().with_topics(topics.collect())
    }

    /// Lets a commit into its group, which the first one from outside creates.
    pub(super) fn admit(
        &mut self,
        group_id: &str,
        committer: Committer<'_>,
        absent: ErrorCode,
        now_ms: i64,
    ) -> Result<(), ErrorCode> {
        if !self.groups.contains_key(group_id) {
            if committer.generation >= 0 {
                return Err(absent);
            }
            self.groups.insert(group_id.to_owned(), Group::default());
        }
        let Some((group, turn)) = self.turn(group_id, now_ms) else {
            return Err(absent);
        };
        group.check_commit(committer)?;
        // A commit is a sign of life, but not while the leader's assignment is awaited, nor in a transaction.
        let counts = group.phase == Phase::Stable || group.phase.is_preparing();
        if counts
            && !committer.is_transactional
            && let Some(member) = group.member_mut(committer.member_id)
        {
            member.expect_heartbeat(&turn);
        }
        Ok(())
    }

    fn commit_one(
        &mut self,
        group_id: &str,
        topic: &str,
        partition: &OffsetCommitRequestPartition,
    ) -> Result<(), ErrorCode> {
        let metadata = partition.committed_metadata.as_ref();
        let offset = self.next_commit(partition.committed_offset, partition.committed_leader_epoch, metadata)?;
        if let Some(group) = self.groups.get_mut(group_id) {
            group.offsets.commit(topic, partition.partition_index, offset);
        }
        Ok(())
    }

    pub(super) fn next_commit(
        &mut self,
        offset: i64,
        leader_epoch: i32,
        metadata: Option<&StrBytes>,
    ) -> Result<CommittedOffset, ErrorCode> {
        if metadata.is_some_and(|metadata| metadata.len() > self.config.offset_metadata_max_bytes) {
            return Err(ErrorCode::OffsetMetadataTooLarge);
        }
        self.commits += 1;
        Ok(CommittedOffset::new(offset, leader_epoch, metadata, self.commits))
    }
}

impl Group {
    fn check_commit(&self, committer: Committer<'_>) -> Result<(), ErrorCode> {
        let Committer {
            generation,
            member_id,
            instance_id,
            is_transactional,
        } = committer;
        if generation < 0 && self.phase == Phase::Empty {
            return Ok(());
        }
        if generation >= 0 || !member_id.is_empty() || instance_id.is_some() {
            self.check_member(member_id, instance_id)?;
            if generation != self.generation {
                return Err(ErrorCode::IllegalGeneration);
            }
        } else if !is_transactional {
            return Err(ErrorCode::UnknownMemberId);
        }
        // In a transaction a nameless commit gets into a group with members: so does Kafka have it.
        if !is_transactional && self.phase == Phase::CompletingRebalance {
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Fixture, JOIN_VERSION, SESSION_MS, topic_name};
    use super::*;
    use kafka_protocol::messages::GroupId;
    use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestTopic;

    /// Partition 0 of "topic", for "g", by an outsider.
    fn request(offset: i64) -> OffsetCommitRequest {
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
        OffsetCommitRequest::default()
            .with_group_id(GroupId("g".into()))
            .with_topics(vec![
                OffsetCommitRequestTopic::default()
                    .with_name(topic_name("topic"))
                    .with_partitions(vec![partition]),
            ])
    }

    fn by(member: &str, generation: i32) -> OffsetCommitRequest {
        request(1)
            .with_member_id(member.to_owned().into())
            .with_generation_id_or_member_epoch(generation)
    }

    fn commit(group: &mut Fixture, request: &OffsetCommitRequest, version: i16) -> i16 {
        let exists = |topic: &str, partition| topic == "topic" && partition < 2;
        let response = group.groups.commit_offsets(request, version, exists, group.now_ms);
        response.topics[0].partitions[0].error_code
    }

    fn committed(group: &Fixture) -> Option<i64> {
        let offsets = &group.groups.groups.get("g")?.offsets;
        offsets.committed("topic", 0).map(|committed| committed.offset)
    }

    #[test]
    fn an_outsider_commits_to_an_absent_group_and_so_creates_a_simple_one() {
        let mut group = Fixture::new();

        assert_eq!(commit(&mut group, &request(7), 8), 0);

        assert_eq!(committed(&group), Some(7));
        let described = group.describe("g");
        assert_eq!(
            (described.group_state.as_str(), described.protocol_type.as_str()),
            ("Empty", "")
        );
    }

    #[test]
    fn an_outsider_commits_to_an_empty_group() {
        let mut group = Fixture::stable_of(1);
        let member = group.member_ids().remove(0);
        assert_eq!(
            commit(&mut group, &request(7), 8),
            25,
            "UNKNOWN_MEMBER_ID: it has members"
        );
        group.leave(&member);

        assert_eq!(commit(&mut group, &request(7), 8), 0);

        assert_eq!(committed(&group), Some(7));
    }

    #[test]
    fn a_member_commits_in_its_own_generation_only() {
        let mut group = Fixture::stable_of(1);
        let member = group.member_ids().remove(0);

        assert_eq!(commit(&mut group, &by(&member, 1), 8), 0);
        assert_eq!(commit(&mut group, &by(&member, 0), 8), 22, "ILLEGAL_GENERATION");
        assert_eq!(commit(&mut group, &by(&member, -1), 8), 22, "ILLEGAL_GENERATION");
        assert_eq!(commit(&mut group, &by("nobody", 1), 8), 25, "UNKNOWN_MEMBER_ID");
        group.leave(&member);
        assert_eq!(commit(&mut group, &by(&member, 1), 8), 25, "UNKNOWN_MEMBER_ID");
    }

    #[test]
    fn the_former_self_of_a_static_member_cannot_commit() {
        let mut group = Fixture::new();
        let sent = group.send_join(&Fixture::static_request("a", ""), JOIN_VERSION);
        let id = group.joined(sent).member_id;
        let sent = group.sync(&id, 1, &[]);
        group.synced(sent);

        let by_instance =
            |member: &str, instance: &str| by(member, 1).with_group_instance_id(Some(instance.to_owned().into()));

        assert_eq!(
            commit(&mut group, &by_instance("former", "a"), 8),
            82,
            "FENCED_INSTANCE_ID"
        );
        assert_eq!(commit(&mut group, &by_instance(&id, "b"), 8), 25, "UNKNOWN_MEMBER_ID");
        assert_eq!(commit(&mut group, &by_instance(&id, "a"), 8), 0);
    }

    #[test]
    fn nobody_commits_between_the_join_and_the_assignment_and_members_may_while_others_join() {
        let mut group = Fixture::stable_of(2);
        let members = group.member_ids();
        let first = group.join(&members[0], &["range"]);
        assert_eq!(commit(&mut group, &by(&members[1], 1), 8), 0);

        let second = group.join(&members[1], &["range"]);
        group.joined(first);
        group.joined(second);

        assert_eq!(group.state(), "CompletingRebalance");
        assert_eq!(commit(&mut group, &by(&members[1], 2), 8), 27, "REBALANCE_IN_PROGRESS");
        assert_eq!(commit(&mut group, &by(&members[1], 1), 8), 22, "ILLEGAL_GENERATION");
    }

    #[test]
    fn a_generation_of_an_absent_group_is_illegal_and_since_version_nine_the_group_is_unknown() {
        let mut group = Fixture::new();

        assert_eq!(commit(&mut group, &by("a", 1), 8), 22, "ILLEGAL_GENERATION");
        assert_eq!(commit(&mut group, &by("a", 1), 9), 69, "GROUP_ID_NOT_FOUND");
    }

    #[test]
    fn a_commit_is_a_sign_of_life() {
        let mut group = Fixture::stable_of(1);
        let member = group.member_ids().remove(0);

        for _ in 0..5 {
            group.pass_ms(i64::from(SESSION_MS) - 1);
            assert_eq!(commit(&mut group, &by(&member, 1), 8), 0);
        }
    }

    #[test]
    fn each_partition_has_its_own_outcome_and_none_is_committed_that_does_not_exist() {
        let mut group = Fixture::new();
        let partition = |index| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(index)
                .with_committed_offset(1)
        };
        let long = StrBytes::from_string("x".repeat(4097));
        let topic = |name: &str, partitions| {
            OffsetCommitRequestTopic::default()
                .with_name(topic_name(name))
                .with_partitions(partitions)
        };
        let request = request(0).with_topics(vec![
            topic(
                "topic",
                vec![
                    partition(0),
                    partition(1).with_committed_metadata(Some(long)),
                    partition(2),
                ],
            ),
            topic("absent", vec![partition(0)]),
        ]);

        let exists = |topic: &str, partition| topic == "topic" && partition < 2;
        let response = group.groups.commit_offsets(&request, 8, exists, 0);

        let errors: Vec<_> = response
            .topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(|p| p.error_code))
            .collect();
        assert_eq!(errors, [0, 12, 3, 3]);
    }

    #[test]
    fn a_commit_to_nothing_that_exists_creates_no_group() {
        let mut group = Fixture::new();
        let response = group.groups.commit_offsets(&request(1), 8, |_, _| false, 0);

        assert_eq!(
            response.topics[0].partitions[0].error_code, 3,
            "UNKNOWN_TOPIC_OR_PARTITION"
        );
        assert_eq!(group.state(), "Dead");
    }
}
