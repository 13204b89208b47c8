//! `SyncGroup`: the leader brings the assignment, the others fetch theirs.

use bytes::Bytes;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use super::group::{Group, Phase};
use super::member::Parked;
use super::{Answer, Context, Groups, Waiter, str_bytes};
use crate::protocol::error_code::ErrorCode;

/// From here on a member says which protocol it believes in (KIP-559).
const PROTOCOL_VERSION: i16 = 5;

impl Groups {
    pub fn sync(
        &mut self,
        request: &SyncGroupRequest,
        context: &Context<'_>,
        waiter: Waiter,
        now_ms: i64,
    ) -> Answer<SyncGroupResponse> {
        let refuse = |error| Answer::Now(sync_error(error));
        let names_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
        if context.version >= PROTOCOL_VERSION && !names_protocol {
            return refuse(ErrorCode::InconsistentGroupProtocol);
        }
        if request.group_id.is_empty() {
            return refuse(ErrorCode::InvalidGroupId);
        }
        let Some((group, mut turn)) = self.turn(&request.group_id, now_ms) else {
            return refuse(ErrorCode::UnknownMemberId);
        };
        if let Err(error) = group.check_sync(request) {
            return refuse(error);
        }
        let (protocol_type, protocol) = (group.protocol_type.clone(), group.protocol.clone());
        let is_stable = group.phase == Phase::Stable;
        let is_leader = group.is_leader(&request.member_id);
        let Some(member) = group.member_mut(&request.member_id) else {
            return refuse(ErrorCode::UnknownMemberId);
        };
        member.owes_sync = false;
        if is_stable {
            return Answer::Now(
                SyncGroupResponse::default()
                    .with_protocol_type(protocol_type.as_deref().map(str_bytes))
                    .with_protocol_name(protocol.as_deref().map(str_bytes))
                    .with_assignment(member.assignment.clone()),
            );
        }
        member.syncing = Some(Parked {
            waiter,
            version: context.version,
        });
        if is_leader {
            group.assign(request);
            group.answer_syncs(&mut turn, ErrorCode::None);
            group.phase = Phase::Stable;
        }
        if group.all_synced() {
            group.sync_deadline_ms = None;
        }
        Answer::Parked
    }
}

impl Group {
    fn check_sync(&self, request: &SyncGroupRequest) -> Result<(), ErrorCode> {
        if self.phase == Phase::Empty {
            return Err(ErrorCode::UnknownMemberId);
        }
        self.check_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        if differs(request.protocol_type.as_deref(), self.protocol_type.as_deref())
            || differs(request.protocol_name.as_deref(), self.protocol.as_deref())
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        match self.phase {
            Phase::PreparingRebalance { .. } => Err(ErrorCode::RebalanceInProgress),
            Phase::Empty | Phase::CompletingRebalance | Phase::Stable => Ok(()),
        }
    }

    /// Whom the leader leaves out gets an empty assignment.
    fn assign(&mut self, request: &SyncGroupRequest) {
        for member in &mut self.members {
            // As in Kafka the last one counts if a member is named twice.
            let mine = request
                .assignments
                .iter()
                .rfind(|assignment| assignment.member_id.as_str() == member.id);
            member.assignment = mine.map_or_else(Bytes::new, |mine| Bytes::copy_from_slice(&mine.assignment));
        }
    }
}

fn differs(theirs: Option<&str>, ours: Option<&str>) -> bool {
    theirs.zip(ours).is_some_and(|(theirs, ours)| theirs != ours)
}

pub(super) fn sync_error(error: ErrorCode) -> SyncGroupResponse {
    SyncGroupResponse::default()
        .with_error_code(error.code())
        .with_protocol_type(None)
        .with_protocol_name(None)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Fixture, REBALANCE_MS};
    use super::*;
    use kafka_protocol::messages::GroupId;

    /// Two members that have joined, the leader first, and their generation.
    fn joined() -> (Fixture, Vec<String>) {
        let mut group = Fixture::new();
        let ids = [group.take_id("g"), group.take_id("g")];
        let sent = ids.each_ref().map(|id| group.join(id, &["range"]));
        for sent in sent {
            assert_eq!(group.joined(sent).generation_id, 1);
        }
        (group, ids.to_vec())
    }

    #[test]
    fn a_follower_waits_until_the_leader_has_assigned() {
        let (mut group, ids) = joined();
        let follower = group.sync(&ids[1], 1, &[]);
        assert!(group.is_waiting(&follower));

        let leader = group.sync(&ids[0], 1, &ids);

        assert_eq!(group.synced(follower).assignment.as_ref(), ids[1].as_bytes());
        assert_eq!(group.synced(leader).assignment.as_ref(), ids[0].as_bytes());
        assert_eq!(group.state(), "Stable");
    }

    #[test]
    fn a_follower_that_comes_late_is_answered_at_once() {
        let (mut group, ids) = joined();
        group.sync(&ids[0], 1, &ids);

        let late = group.sync(&ids[1], 1, &[]);
        let late = group.synced(late);

        assert_eq!(late.assignment.as_ref(), ids[1].as_bytes());
        assert_eq!(late.protocol_name.as_deref(), Some("range"));
    }

    #[test]
    fn whom_the_leader_leaves_out_gets_an_empty_assignment() {
        let (mut group, ids) = joined();
        group.sync(&ids[0], 1, &ids[..1]);

        let sent = group.sync(&ids[1], 1, &[]);
        let left_out = group.synced(sent);

        assert_eq!((left_out.error_code, left_out.assignment.len()), (0, 0));
    }

    #[test]
    fn a_rebalance_sends_waiting_followers_back_to_join() {
        let (mut group, ids) = joined();
        let follower = group.sync(&ids[1], 1, &[]);

        let third = group.take_id("g");
        group.join(&third, &["range"]);

        assert_eq!(group.synced(follower).error_code, 27, "REBALANCE_IN_PROGRESS");
    }

    #[test]
    fn a_member_that_never_asks_for_its_assignment_is_removed() {
        let (mut group, ids) = joined();
        let leader = group.sync(&ids[0], 1, &ids);
        group.synced(leader);

        for _ in 0..REBALANCE_MS / 5_000 {
            group.heartbeat(&ids[0], 1);
            group.heartbeat(&ids[1], 1);
            group.pass_ms(5_000);
        }

        assert_eq!(group.member_ids(), ids[..1]);
        assert_eq!(group.state(), "PreparingRebalance");
    }

    #[test]
    fn a_sync_that_does_not_fit_is_refused() {
        let (mut group, ids) = joined();
        let good = Fixture::sync_request(&ids[1], 1, &[]);
        let cases = [
            (good.clone().with_generation_id(0), 22, "ILLEGAL_GENERATION"),
            (good.clone().with_member_id("nobody".into()), 25, "UNKNOWN_MEMBER_ID"),
            (
                good.clone().with_protocol_name(Some("sticky".into())),
                23,
                "INCONSISTENT_GROUP_PROTOCOL",
            ),
            (good.clone().with_protocol_name(None), 23, "INCONSISTENT_GROUP_PROTOCOL"),
            (
                good.clone().with_group_id(GroupId("absent".into())),
                25,
                "UNKNOWN_MEMBER_ID",
            ),
            (
                good.clone().with_group_instance_id(Some("a".into())),
                25,
                "UNKNOWN_MEMBER_ID",
            ),
        ];
        for (request, error, name) in cases {
            let sent = group.send_sync(&request, PROTOCOL_VERSION);
            assert_eq!(group.synced(sent).error_code, error, "{name}");
        }

        group.leave(&ids[0]);

        let sent = group.send_sync(&good, PROTOCOL_VERSION);
        assert_eq!(group.synced(sent).error_code, 27, "REBALANCE_IN_PROGRESS");
    }
}
