//! `LeaveGroup`: members go, by their own request or, by instance id, at an administrator's.

use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

use super::group::{Group, Phase};
use super::{Groups, Turn};
use crate::protocol::error_code::ErrorCode;

/// From here on a request names several members (KIP-345).
const BATCHED_VERSION: i16 = 3;

impl Groups {
    pub fn leave(&mut self, request: &LeaveGroupRequest, version: i16, now_ms: i64) -> LeaveGroupResponse {
        if request.group_id.is_empty() {
            return LeaveGroupResponse::default().with_error_code(ErrorCode::InvalidGroupId.code());
        }
        if version < BATCHED_VERSION {
            let single = MemberIdentity::default().with_member_id(request.member_id.clone());
            let outcome = self.leave_all(request, &[single], now_ms);
            let error = outcome.first().map_or(0, |member| member.error_code);
            return LeaveGroupResponse::default().with_error_code(error);
        }
        LeaveGroupResponse::default().with_members(self.leave_all(request, &request.members, now_ms))
    }

    fn leave_all(
        &mut self,
        request: &LeaveGroupRequest,
        leaving: &[MemberIdentity],
        now_ms: i64,
    ) -> Vec<MemberResponse> {
        let Some((group, mut turn)) = self.turn(&request.group_id, now_ms) else {
            return leaving
                .iter()
                .map(|member| response(member, Err(ErrorCode::UnknownMemberId)))
                .collect();
        };
        let responses: Vec<_> = leaving
            .iter()
            .map(|member| response(member, group.leave(member, &mut turn)))
            .collect();
        let anyone_left = responses
            .iter()
            .any(|response| response.error_code == ErrorCode::None.code());
        if anyone_left && group.phase != Phase::Empty {
            group.rebalance(&mut turn);
        }
        responses
    }
}

impl Group {
    fn leave(&mut self, leaving: &MemberIdentity, turn: &mut Turn<'_>) -> Result<(), ErrorCode> {
        let instance_id = leaving.group_instance_id.as_deref();
        let id = if leaving.member_id.is_empty() {
            let member = instance_id.and_then(|instance_id| self.static_member(instance_id));
            member.ok_or(ErrorCode::UnknownMemberId)?.id.clone()
        } else {
            leaving.member_id.to_string()
        };
        if self.pending.remove(&id).is_none() {
            self.check_member(&id, instance_id)?;
            self.dismiss(&id, turn);
        }
        Ok(())
    }
}

fn response(member: &MemberIdentity, outcome: Result<(), ErrorCode>) -> MemberResponse {
    MemberResponse::default()
        .with_member_id(member.member_id.clone())
        .with_group_instance_id(member.group_instance_id.clone())
        .with_error_code(outcome.err().unwrap_or(ErrorCode::None).code())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Fixture, JOIN_VERSION};
    use super::*;
    use kafka_protocol::messages::GroupId;

    fn leave(group: &mut Fixture, members: Vec<MemberIdentity>) -> Vec<i16> {
        let request = LeaveGroupRequest::default()
            .with_group_id(GroupId("g".into()))
            .with_members(members);
        let response = group.groups.leave(&request, 5, group.now_ms);
        assert_eq!(response.error_code, 0);
        response.members.iter().map(|member| member.error_code).collect()
    }

    #[test]
    fn the_others_rebalance_when_a_member_leaves() {
        let mut group = Fixture::stable_of(2);
        let members = group.member_ids();

        assert_eq!(group.leave(&members[0]), 0);

        assert_eq!(group.member_ids(), members[1..]);
        assert_eq!(group.heartbeat(&members[1], 1), 27, "REBALANCE_IN_PROGRESS");
    }

    #[test]
    fn the_last_member_leaves_an_empty_group_of_a_new_generation() {
        let mut group = Fixture::stable_of(1);
        let member = group.member_ids().remove(0);

        assert_eq!(group.leave(&member), 0);
        assert_eq!(group.leave(&member), 25, "UNKNOWN_MEMBER_ID");

        assert_eq!(group.state(), "Empty");
        let id = group.take_id("g");
        let sent = group.join(&id, &["range"]);
        assert_eq!(group.joined(sent).generation_id, 3);
    }

    #[test]
    fn a_member_that_leaves_while_it_waits_is_told_to_join_anew() {
        let mut group = Fixture::stable_of(2);
        let members = group.member_ids();
        let waiting = group.join(&members[0], &["range"]);

        assert_eq!(group.leave(&members[0]), 0);

        assert_eq!(group.joined(waiting).error_code, 25, "UNKNOWN_MEMBER_ID");
    }

    #[test]
    fn several_leave_at_once_and_each_has_its_own_outcome() {
        let mut group = Fixture::new();
        let sent = group.send_join(&Fixture::static_request("a", ""), JOIN_VERSION);
        group.joined(sent);
        let pending = group.take_id("g");

        let errors = leave(
            &mut group,
            vec![
                MemberIdentity::default().with_group_instance_id(Some("a".into())),
                MemberIdentity::default().with_group_instance_id(Some("b".into())),
                MemberIdentity::default().with_member_id(pending.into()),
                MemberIdentity::default().with_member_id("nobody".into()),
            ],
        );

        assert_eq!(errors, [0, 25, 0, 25]);
        assert_eq!(group.state(), "Empty");
    }

    #[test]
    fn a_static_member_cannot_be_removed_under_its_former_id() {
        let mut group = Fixture::new();
        let sent = group.send_join(&Fixture::static_request("a", ""), JOIN_VERSION);
        group.joined(sent);

        let member = MemberIdentity::default()
            .with_member_id("former".into())
            .with_group_instance_id(Some("a".into()));

        assert_eq!(leave(&mut group, vec![member]), [82], "FENCED_INSTANCE_ID");
    }

    #[test]
    fn nobody_can_leave_an_absent_group() {
        let mut group = Fixture::new();

        assert_eq!(group.leave("nobody"), 25, "UNKNOWN_MEMBER_ID");
        assert_eq!(
            leave(&mut group, vec![MemberIdentity::default().with_member_id("a".into())]),
            [25]
        );
    }
}
