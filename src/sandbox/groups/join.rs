//! `JoinGroup`: a member asks to be in the next generation, and waits until that begins.

use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use kafka_protocol::protocol::StrBytes;

use super::group::{Group, Phase};
use super::member::{Member, Parked};
use super::sync::sync_error;
use super::{Answer, Context, Groups, Turn, Waiter, str_bytes};
use crate::protocol::error_code::ErrorCode;

/// From here on a member without an id is given one and told to come back with it (KIP-394).
const MEMBER_ID_REQUIRED_VERSION: i16 = 4;
/// From here on the protocol's name may be null.
const NULL_PROTOCOL_VERSION: i16 = 7;
/// From here on a leader that comes back can be told to leave the assignment as it is (KIP-814).
const SKIP_ASSIGNMENT_VERSION: i16 = 9;

impl Groups {
    pub fn join(
        &mut self,
        request: &JoinGroupRequest,
        context: &Context<'_>,
        waiter: Waiter,
        now_ms: i64,
    ) -> Answer<JoinGroupResponse> {
        let refuse = |error| Answer::Now(join_error(error, &request.member_id, context.version));
        let sessions = self.config.min_session_timeout_ms..=self.config.max_session_timeout_ms;
        if request.group_id.is_empty() {
            return refuse(ErrorCode::InvalidGroupId);
        }
        if !sessions.contains(&request.session_timeout_ms) {
            return refuse(ErrorCode::InvalidSessionTimeout);
        }
        let is_unknown = request.member_id.is_empty();
        if is_unknown {
            self.groups.entry(request.group_id.to_string()).or_default();
        }
        let new_id = is_unknown.then(|| {
            let prefix = request.group_instance_id.as_deref().unwrap_or(context.client_id);
            self.new_member_id(prefix)
        });
        let Some((group, mut turn)) = self.turn(&request.group_id, now_ms) else {
            return refuse(ErrorCode::UnknownMemberId);
        };
        let protocols = request.protocols.iter().map(|protocol| protocol.name.as_str());
        if !group.supports(&request.protocol_type, protocols) {
            return refuse(ErrorCode::InconsistentGroupProtocol);
        }
        let mut join = Join {
            group,
            request,
            context,
            parked: Parked {
                waiter,
                version: context.version,
            },
        };
        match new_id {
            Some(id) => join.new_member(id, &mut turn),
            None => join.known_member(&mut turn),
        }
    }
}

/// One request, on its way into its group.
struct Join<'a> {
    group: &'a mut Group,
    request: &'a JoinGroupRequest,
    context: &'a Context<'a>,
    parked: Parked,
}

impl Join<'_> {
    fn new_member(&mut self, id: String, turn: &mut Turn<'_>) -> Answer<JoinGroupResponse> {
        let Some(instance_id) = &self.request.group_instance_id else {
            if self.context.version < MEMBER_ID_REQUIRED_VERSION {
                return self.add(id, turn);
            }
            let response = join_error(ErrorCode::MemberIdRequired, &id, self.context.version);
            self.group
                .pending
                .insert(id, turn.in_ms(self.request.session_timeout_ms.into()));
            return Answer::Now(response);
        };
        match self.group.static_member(instance_id).map(|member| member.id.clone()) {
            Some(old_id) => self.replace(&old_id, id, turn),
            None => self.add(id, turn),
        }
    }

    fn known_member(&mut self, turn: &mut Turn<'_>) -> Answer<JoinGroupResponse> {
        let id = self.request.member_id.as_str();
        if self.group.pending.contains_key(id) {
            if self.request.group_instance_id.is_some() {
                // Ids are given out in advance to dynamic members only.
                return Answer::Now(join_error(ErrorCode::UnknownServerError, id, self.context.version));
            }
            return self.add(id.to_owned(), turn);
        }
        if let Err(error) = self.group.check_member(id, self.request.group_instance_id.as_deref()) {
            return Answer::Now(join_error(error, id, self.context.version));
        }
        let unchanged = self.group.member(id).is_some_and(|member| member.matches(self.request));
        match self.group.phase {
            // Its answer was lost, or it does not know that it has one.
            Phase::CompletingRebalance if unchanged => Answer::Now(joined(self.group, id)),
            // A leader that comes back has a reason, such as new partitions.
            Phase::Stable if unchanged && !self.group.is_leader(id) => Answer::Now(joined(self.group, id)),
            Phase::PreparingRebalance { .. } | Phase::CompletingRebalance | Phase::Stable => {
                self.park(id);
                self.group.rebalance(turn);
                Answer::Parked
            }
            // Not reached: an empty group has no member to be this one.
            Phase::Empty => Answer::Now(join_error(ErrorCode::UnknownMemberId, id, self.context.version)),
        }
    }

    fn add(&mut self, id: String, turn: &mut Turn<'_>) -> Answer<JoinGroupResponse> {
        if let Phase::PreparingRebalance {
            initial: Some(initial), ..
        } = &mut self.group.phase
        {
            initial.member_added = true;
        }
        let mut member = Member::new(id, self.request, self.context);
        member.joining = Some(self.parked);
        member.heartbeat_deadline_ms = Some(turn.in_ms(turn.config.new_member_join_timeout_ms));
        self.group.add(member, &self.request.protocol_type);
        self.group.rebalance(turn);
        Answer::Parked
    }

    /// Takes over the member's new protocols and lets it wait for the next generation.
    fn park(&mut self, id: &str) {
        let (request, parked) = (self.request, self.parked);
        if let Some(member) = self.group.member_mut(id) {
            member.update(request, parked.version);
            member.joining = Some(parked);
        }
    }

    /// A static member that has restarted: it takes the place of its former self, whose requests are fenced.
    fn replace(&mut self, old_id: &str, id: String, turn: &mut Turn<'_>) -> Answer<JoinGroupResponse> {
        let old_leader = self.group.leader.clone();
        let protocol = self.group.protocol.clone();
        let Some(member) = self.group.member_mut(old_id) else {
            return Answer::Now(join_error(ErrorCode::UnknownMemberId, &id, self.context.version));
        };
        member.answer_join(turn, |version| join_error(ErrorCode::FencedInstanceId, old_id, version));
        member.answer_sync(turn, sync_error(ErrorCode::FencedInstanceId));
        member.id.clone_from(&id);
        member.owes_sync = false;
        member.expect_heartbeat(turn);
        if old_leader.as_deref() == Some(old_id) {
            self.group.leader = Some(id.clone());
        }
        self.park(&id);
        match self.group.phase {
            Phase::Stable if self.group.elect_protocol() == protocol => {
                Answer::Now(self.came_back(&id, old_leader.as_deref().unwrap_or_default()))
            }
            // The leader may have assigned to the old id already, which would leave the new one with nothing.
            Phase::CompletingRebalance => {
                self.group.prepare_rebalance(turn);
                Answer::Parked
            }
            Phase::Stable | Phase::PreparingRebalance { .. } | Phase::Empty => {
                self.group.rebalance(turn);
                Answer::Parked
            }
        }
    }

    /// The answer to a static member that changes nothing: no rebalance.
    fn came_back(&mut self, id: &str, old_leader: &str) -> JoinGroupResponse {
        if let Some(member) = self.group.member_mut(id) {
            member.joining = None;
        }
        let response = joined(self.group, id);
        if self.context.version >= SKIP_ASSIGNMENT_VERSION {
            return response.with_skip_assignment(self.group.is_leader(id));
        }
        // Named by its old id it does not take itself for the leader, and so does not assign anew.
        response.with_leader(str_bytes(old_leader)).with_members(Vec::new())
    }
}

/// The answer to a member of the present generation. Only the leader is told who is in it.
pub(super) fn joined(group: &Group, id: &str) -> JoinGroupResponse {
    let protocol = group.protocol.as_deref().unwrap_or_default();
    let told: &[Member] = if group.is_leader(id) { &group.members } else { &[] };
    let members = told.iter().map(|member| {
        JoinGroupResponseMember::default()
            .with_member_id(str_bytes(&member.id))
            .with_group_instance_id(member.instance_id.as_deref().map(str_bytes))
            .with_metadata(member.metadata(protocol).cloned().unwrap_or_default())
    });
    JoinGroupResponse::default()
        .with_generation_id(group.generation)
        .with_protocol_type(group.protocol_type.as_deref().map(str_bytes))
        .with_protocol_name(group.protocol.as_deref().map(str_bytes))
        .with_leader(group.leader.as_deref().map(str_bytes).unwrap_or_default())
        .with_member_id(str_bytes(id))
        .with_members(members.collect())
}

pub(super) fn join_error(error: ErrorCode, member_id: &str, version: i16) -> JoinGroupResponse {
    JoinGroupResponse::default()
        .with_error_code(error.code())
        .with_member_id(str_bytes(member_id))
        .with_protocol_name((version < NULL_PROTOCOL_VERSION).then(StrBytes::default))
}

#[cfg(test)]
mod tests {
    use super::super::GroupsConfig;
    use super::super::testing::{Fixture, JOIN_VERSION, REBALANCE_MS, SESSION_MS};
    use super::*;
    use kafka_protocol::messages::GroupId;

    #[test]
    fn a_first_member_leads_the_first_generation() {
        let mut group = Fixture::new();
        let id = group.take_id("g");

        let sent = group.join(&id, &["range"]);
        let joined = group.joined(sent);

        assert_eq!((joined.error_code, joined.generation_id), (0, 1));
        assert_eq!(joined.leader.as_str(), id);
        assert_eq!(joined.protocol_name.as_deref(), Some("range"));
        assert_eq!(joined.members.len(), 1);
    }

    #[test]
    fn clients_that_cannot_come_back_with_an_id_are_let_in_without() {
        let mut group = Fixture::new();

        let sent = group.send_join(&Fixture::join_request("", &["range"]), 3);
        let joined = group.joined(sent);

        assert_eq!(joined.error_code, 0);
        assert!(joined.member_id.starts_with("client-"));
    }

    #[test]
    fn two_members_rebalance_into_one_generation() {
        let mut group = Fixture::stable_of(1);
        let first = group.member_ids().remove(0);
        let second = group.take_id("g");
        let waiting = group.join(&second, &["range"]);
        assert!(group.is_waiting(&waiting), "the first member has to join again");
        assert_eq!(group.heartbeat(&first, 1), 27, "REBALANCE_IN_PROGRESS");

        let rejoined = group.join(&first, &["range"]);
        let [first_join, second_join] = [rejoined, waiting].map(|sent| group.joined(sent));

        assert_eq!((first_join.generation_id, second_join.generation_id), (2, 2));
        assert_eq!(first_join.leader, second_join.leader);
        assert_eq!(first_join.members.len(), 2);
    }

    #[test]
    fn a_member_that_does_not_join_again_in_time_is_left_out() {
        let mut group = Fixture::stable_of(1);
        let first = group.member_ids().remove(0);
        let second = group.take_id("g");
        let waiting = group.join(&second, &["range"]);

        let mut passed_ms = 0;
        while group.is_waiting(&waiting) {
            assert!(passed_ms <= REBALANCE_MS, "the rebalance ends");
            group.pass_ms(i64::from(SESSION_MS) / 2);
            passed_ms += SESSION_MS / 2;
            group.heartbeat(&first, 1); // Alive, yet it does not come.
        }

        assert_eq!(passed_ms, REBALANCE_MS);
        assert_eq!(group.joined(waiting).leader.as_str(), second);
        assert_eq!(group.member_ids(), [second]);
    }

    #[test]
    fn an_empty_group_waits_for_more_members_as_long_as_some_come() {
        let mut group = Fixture::with(GroupsConfig {
            initial_rebalance_delay_ms: 3_000,
            ..GroupsConfig::default()
        });
        let request = Fixture::join_request("", &["range"]);
        let first = group.send_join(&request, 3);
        group.pass_ms(2_000);
        let second = group.send_join(&request, 3);

        group.pass_ms(2_000);
        assert!(group.is_waiting(&first), "the second one has prolonged the delay");
        group.pass_ms(2_000);

        let [first, second] = [first, second].map(|sent| group.joined(sent));
        assert_eq!((first.generation_id, second.generation_id), (1, 1));
    }

    #[test]
    fn a_follower_that_joins_again_unchanged_disturbs_nobody_and_a_leader_begins_a_rebalance() {
        let mut group = Fixture::stable_of(2);
        let members = group.member_ids();

        let follower = group.join(&members[1], &["range"]);
        assert_eq!(group.joined(follower).generation_id, 1);
        assert_eq!(group.state(), "Stable");

        let leader = group.join(&members[0], &["range"]);
        assert!(group.is_waiting(&leader));
        assert_eq!(group.state(), "PreparingRebalance");
    }

    #[test]
    fn a_follower_with_other_protocols_begins_a_rebalance() {
        let mut group = Fixture::stable_of(2);
        let members = group.member_ids();

        let follower = group.join(&members[1], &["range", "sticky"]);

        assert!(group.is_waiting(&follower));
        assert_eq!(group.state(), "PreparingRebalance");
    }

    #[test]
    fn a_join_whose_answer_was_lost_is_answered_again() {
        let mut group = Fixture::new();
        let id = group.take_id("g");
        let lost = group.join(&id, &["range"]);
        group.joined(lost);

        let again = group.join(&id, &["range"]);

        assert_eq!(group.joined(again).generation_id, 1);
        assert_eq!(group.state(), "CompletingRebalance");
    }

    /// A stable group of one static member "a".
    fn stable_static() -> (Fixture, String) {
        let mut group = Fixture::new();
        let sent = group.send_join(&Fixture::static_request("a", ""), JOIN_VERSION);
        let joined = group.joined(sent);
        let id = joined.member_id.to_string();
        let sent = group.sync(&id, 1, std::slice::from_ref(&id));
        group.synced(sent);
        (group, id)
    }

    #[test]
    fn a_static_member_that_comes_back_gets_its_assignment_without_a_rebalance() {
        let (mut group, old) = stable_static();

        let sent = group.send_join(&Fixture::static_request("a", ""), JOIN_VERSION);
        let back = group.joined(sent);

        assert_eq!((back.error_code, back.generation_id), (0, 1));
        assert_ne!(back.member_id.as_str(), old);
        assert!(back.skip_assignment, "the leader is told not to assign");
        assert_eq!((back.leader.as_str(), back.members.len()), (back.member_id.as_str(), 1));
        let sent = group.sync(back.member_id.as_str(), 1, &[]);
        assert_eq!(group.synced(sent).assignment.as_ref(), old.as_bytes());
        assert_eq!(group.heartbeat(&old, 1), 25, "UNKNOWN_MEMBER_ID");
    }

    #[test]
    fn an_older_static_leader_that_comes_back_is_not_told_that_it_leads() {
        let (mut group, old) = stable_static();

        let sent = group.send_join(&Fixture::static_request("a", ""), 8);
        let back = group.joined(sent);

        assert_eq!((back.leader.as_str(), back.members.len()), (old.as_str(), 0));
    }

    #[test]
    fn the_former_self_of_a_static_member_is_fenced() {
        let (mut group, old) = stable_static();
        let sent = group.send_join(&Fixture::static_request("a", ""), JOIN_VERSION);
        group.joined(sent);

        let sent = group.send_join(&Fixture::static_request("a", &old), JOIN_VERSION);

        assert_eq!(group.joined(sent).error_code, 82, "FENCED_INSTANCE_ID");
    }

    #[test]
    fn a_static_member_that_restarts_while_joining_fences_the_join_that_waits() {
        let (mut group, old) = stable_static();
        let other = group.take_id("g");
        let other = group.join(&other, &["range"]);
        let waiting = group.take_id("g"); // Keeps the group from completing.
        let former = group.send_join(&Fixture::static_request("a", &old), JOIN_VERSION);

        let back = group.send_join(&Fixture::static_request("a", ""), JOIN_VERSION);

        assert_eq!(group.joined(former).error_code, 82, "FENCED_INSTANCE_ID");
        group.leave(&waiting);
        assert_eq!(group.joined(back).generation_id, 2);
        assert_eq!(group.joined(other).generation_id, 2);
    }

    #[test]
    fn a_static_member_that_restarts_before_the_assignment_begins_a_rebalance() {
        let mut group = Fixture::new();
        let sent = group.send_join(&Fixture::static_request("a", ""), JOIN_VERSION);
        group.joined(sent);

        let sent = group.send_join(&Fixture::static_request("a", ""), JOIN_VERSION);

        assert_eq!(group.joined(sent).generation_id, 2);
    }

    #[test]
    fn an_absent_static_member_stays_in_the_group_until_its_session_ends() {
        let (mut group, _) = stable_static();
        let other = group.take_id("g");

        let sent = group.join(&other, &["range"]);
        group.pass_ms(i64::from(SESSION_MS) - 1);
        assert!(group.is_waiting(&sent));
        group.pass_ms(1);

        assert_eq!(group.joined(sent).leader.as_str(), other);
        assert_eq!(group.member_ids(), [other]);
    }

    #[test]
    fn requests_that_make_no_sense_are_refused() {
        let mut group = Fixture::new();
        let good = Fixture::join_request("", &["range"]);
        let cases = [
            (good.clone().with_group_id(GroupId::default()), 24, "INVALID_GROUP_ID"),
            (
                good.clone().with_session_timeout_ms(5_999),
                26,
                "INVALID_SESSION_TIMEOUT",
            ),
            (
                good.clone().with_session_timeout_ms(1_800_001),
                26,
                "INVALID_SESSION_TIMEOUT",
            ),
            (good.clone().with_member_id("nobody".into()), 25, "UNKNOWN_MEMBER_ID"),
            (good.with_protocols(Vec::new()), 23, "INCONSISTENT_GROUP_PROTOCOL"),
        ];

        for (request, error, name) in cases {
            let sent = group.send_join(&request, JOIN_VERSION);
            assert_eq!(group.joined(sent).error_code, error, "{name}");
        }
    }

    #[test]
    fn an_error_names_no_protocol_and_older_clients_get_an_empty_name() {
        assert_eq!(join_error(ErrorCode::UnknownMemberId, "a", 7).protocol_name, None);
        assert_eq!(
            join_error(ErrorCode::UnknownMemberId, "a", 6).protocol_name,
            Some(StrBytes::default())
        );
    }
}
