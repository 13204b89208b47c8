//! `TxnOffsetCommit`: offsets that count once their transaction has been committed.
//!
//! That the producer may do so (its transactional id, its epoch, an open transaction) is the caller's to check.

use kafka_protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequestPartition;
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};

use super::Groups;
use super::offset_commit::Committer;
use crate::protocol::error_code::ErrorCode;

impl Groups {
    pub fn commit_transactional_offsets(
        &mut self,
        request: &TxnOffsetCommitRequest,
        partition_exists: impl Fn(&str, i32) -> bool,
        now_ms: i64,
    ) -> TxnOffsetCommitResponse {
        let committer = Committer {
            generation: request.generation_id,
            member_id: &request.member_id,
            instance_id: request.group_instance_id.as_deref(),
            is_transactional: true,
        };
        let is_known = |topic: &str, partition: &TxnOffsetCommitRequestPartition| {
            partition_exists(topic, partition.partition_index)
        };
        let any_known = request
            .topics
            .iter()
            .any(|topic| topic.partitions.iter().any(|p| is_known(&topic.name, p)));
        let admitted = if !any_known {
            Ok(())
        } else if request.group_id.is_empty() {
            Err(ErrorCode::InvalidGroupId)
        } else {
            self.admit(&request.group_id, committer, ErrorCode::IllegalGeneration, now_ms)
        };

        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                let outcome = if is_known(&topic.name, partition) {
                    admitted.and_then(|()| self.commit_one_pending(request, &topic.name, partition))
                } else {
                    Err(ErrorCode::UnknownTopicOrPartition)
                };
                TxnOffsetCommitResponsePartition::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(outcome.err().unwrap_or(ErrorCode::None).code())
            });
            TxnOffsetCommitResponseTopic::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions.collect())
        });
        TxnOffsetCommitResponse::default().with_topics(topics.collect())
    }

    fn commit_one_pending(
        &mut self,
        request: &TxnOffsetCommitRequest,
        topic: &str,
        partition: &TxnOffsetCommitRequestPartition,
    ) -> Result<(), ErrorCode> {
        let metadata = partition.committed_metadata.as_ref();
        let offset = self.next_commit(partition.committed_offset, partition.committed_leader_epoch, metadata)?;
        if let Some(group) = self.groups.get_mut(request.group_id.as_str()) {
            group
                .offsets
                .commit_pending(request.producer_id.0, topic, partition.partition_index, offset);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Fixture, topic_name};
    use super::*;
    use kafka_protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequestTopic;
    use kafka_protocol::messages::{GroupId, ProducerId};

    fn request(producer_id: i64, offset: i64) -> TxnOffsetCommitRequest {
        let partition = TxnOffsetCommitRequestPartition::default().with_committed_offset(offset);
        TxnOffsetCommitRequest::default()
            .with_group_id(GroupId("g".into()))
            .with_producer_id(ProducerId(producer_id))
            .with_topics(vec![
                TxnOffsetCommitRequestTopic::default()
                    .with_name(topic_name("topic"))
                    .with_partitions(vec![partition]),
            ])
    }

    fn commit(group: &mut Fixture, request: &TxnOffsetCommitRequest) -> i16 {
        let response = group
            .groups
            .commit_transactional_offsets(request, |_, _| true, group.now_ms);
        response.topics[0].partitions[0].error_code
    }

    fn committed(group: &Fixture) -> Option<i64> {
        group.groups.groups["g"]
            .offsets
            .committed("topic", 0)
            .map(|committed| committed.offset)
    }

    #[test]
    fn an_offset_counts_once_its_transaction_is_committed() {
        let mut group = Fixture::new();
        assert_eq!(commit(&mut group, &request(1, 7)), 0);
        assert_eq!(committed(&group), None);

        group.groups.complete_transaction(2, true);
        assert_eq!(committed(&group), None, "another producer's transaction");
        group.groups.complete_transaction(1, true);

        assert_eq!(committed(&group), Some(7));
    }

    #[test]
    fn an_aborted_transaction_leaves_the_offset_as_it_was() {
        let mut group = Fixture::new();
        commit(&mut group, &request(1, 7));
        group.groups.complete_transaction(1, true);
        commit(&mut group, &request(1, 9));

        group.groups.complete_transaction(1, false);

        assert_eq!(committed(&group), Some(7));
    }

    #[test]
    fn a_transaction_does_not_overwrite_what_was_committed_after_its_own_offset() {
        let mut group = Fixture::new();
        commit(&mut group, &request(1, 7));
        commit(&mut group, &request(2, 9));
        group.groups.complete_transaction(2, true);

        group.groups.complete_transaction(1, true);

        assert_eq!(committed(&group), Some(9));
    }

    #[test]
    fn a_nameless_transaction_gets_into_a_group_with_members_and_a_named_one_is_checked() {
        let mut group = Fixture::stable_of(1);
        let member = group.member_ids().remove(0);
        let by = |member: &str, generation| {
            request(1, 7)
                .with_member_id(member.to_owned().into())
                .with_generation_id(generation)
        };

        assert_eq!(commit(&mut group, &request(1, 7)), 0);
        assert_eq!(commit(&mut group, &by(&member, 1)), 0);
        assert_eq!(commit(&mut group, &by(&member, 0)), 22, "ILLEGAL_GENERATION");
        assert_eq!(commit(&mut group, &by("nobody", 1)), 25, "UNKNOWN_MEMBER_ID");
    }

    #[test]
    fn a_generation_of_an_absent_group_is_illegal() {
        let mut group = Fixture::new();

        assert_eq!(
            commit(&mut group, &request(1, 7).with_generation_id(1)),
            22,
            "ILLEGAL_GENERATION"
        );
    }
}
