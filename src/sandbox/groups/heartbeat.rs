//! `Heartbeat`: a member is alive, and learns whether it has to join again.

use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use super::group::{Group, Phase};
use super::{Groups, Turn};
use crate::protocol::error_code::ErrorCode;

impl Groups {
    pub fn heartbeat(&mut self, request: &HeartbeatRequest, now_ms: i64) -> HeartbeatResponse {
        let error = if request.group_id.is_empty() {
            ErrorCode::InvalidGroupId
        } else if let Some((group, turn)) = self.turn(&request.group_id, now_ms) {
            group.heartbeat(request, &turn).err().unwrap_or(ErrorCode::None)
        } else {
            ErrorCode::UnknownMemberId
        };
        HeartbeatResponse::default().with_error_code(error.code())
    }
}

impl Group {
    fn heartbeat(&mut self, request: &HeartbeatRequest, turn: &Turn<'_>) -> Result<(), ErrorCode> {
        self.check_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        if let Some(member) = self.member_mut(&request.member_id) {
            member.expect_heartbeat(turn);
        }
        match self.phase {
            Phase::PreparingRebalance { .. } => Err(ErrorCode::RebalanceInProgress),
            Phase::Empty => Err(ErrorCode::UnknownMemberId),
            // The answer to a join has come, and heartbeats begin before the assignment has.
            Phase::CompletingRebalance | Phase::Stable => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Fixture, SESSION_MS};

    #[test]
    fn a_member_that_dies_is_removed_and_the_others_rebalance() {
        let mut group = Fixture::stable_of(2);
        let members = group.member_ids();
        group.pass_ms(i64::from(SESSION_MS) - 1);
        assert_eq!(group.heartbeat(&members[1], 1), 0);

        group.pass_ms(1);

        assert_eq!(group.member_ids(), members[1..]);
        assert_eq!(group.heartbeat(&members[1], 1), 27, "REBALANCE_IN_PROGRESS");
        assert_eq!(group.heartbeat(&members[0], 1), 25, "UNKNOWN_MEMBER_ID");
    }

    #[test]
    fn a_group_whose_members_have_all_died_is_empty() {
        let mut group = Fixture::stable_of(2);

        group.pass_ms(i64::from(SESSION_MS));

        assert_eq!(group.state(), "Empty");
        assert_eq!(group.groups.next_deadline_ms(), None);
    }

    #[test]
    fn heartbeats_keep_a_member_alive() {
        let mut group = Fixture::stable_of(1);
        let member = group.member_ids().remove(0);

        for _ in 0..10 {
            group.pass_ms(i64::from(SESSION_MS) - 1);
            assert_eq!(group.heartbeat(&member, 1), 0);
        }
    }

    #[test]
    fn a_member_that_waits_in_a_rebalance_needs_no_heartbeats() {
        let mut group = Fixture::stable_of(2);
        let members = group.member_ids();
        let waiting = group.join(&members[0], &["range"]);

        for _ in 0..5 {
            group.pass_ms(i64::from(SESSION_MS) - 1);
            group.heartbeat(&members[1], 1);
        }

        assert!(group.is_waiting(&waiting));
        assert_eq!(group.member_ids(), members);
    }

    #[test]
    fn an_id_that_nobody_uses_is_forgotten_after_a_session() {
        let mut group = Fixture::new();
        let id = group.take_id("g");

        group.pass_ms(i64::from(SESSION_MS));

        let sent = group.join(&id, &["range"]);
        assert_eq!(group.joined(sent).error_code, 25, "UNKNOWN_MEMBER_ID");
    }

    #[test]
    fn an_older_generation_is_fenced() {
        let mut group = Fixture::stable_of(1);
        let member = group.member_ids().remove(0);

        assert_eq!(group.heartbeat(&member, 0), 22, "ILLEGAL_GENERATION");
        assert_eq!(group.heartbeat(&member, 2), 22, "ILLEGAL_GENERATION");
    }
}
