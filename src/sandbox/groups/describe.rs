//! `DescribeGroups`: a group's state and members.

use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};
use kafka_protocol::protocol::StrBytes;

use super::group::{Group, Phase};
use super::{Groups, str_bytes};
use crate::protocol::error_code::ErrorCode;

/// From here on an absent group is an error, and not one that is dead (KIP-1043).
const GROUP_NOT_FOUND_VERSION: i16 = 6;
/// What one may do with a group where nobody is denied anything: read, delete, describe, and its configuration's
/// describe and alter; each a bit at the operation's code.
const ALL_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;

impl Groups {
    pub fn describe(&self, request: &DescribeGroupsRequest, version: i16) -> DescribeGroupsResponse {
        let groups = request.groups.iter().map(|id| {
            let described = match self.groups.get(id.as_str()) {
                Some(group) => group.describe(),
                None => absent(id, version),
            };
            let described = described.with_group_id(id.clone());
            match request.include_authorized_operations && described.error_code == 0 {
                true => described.with_authorized_operations(ALL_OPERATIONS),
                false => described,
            }
        });
        DescribeGroupsResponse::default().with_groups(groups.collect())
    }
}

impl Group {
    fn describe(&self) -> DescribedGroup {
        // What has been chosen and assigned is shown once it holds.
        let protocol = self.protocol.as_deref().filter(|_| self.phase == Phase::Stable);
        let members = self.members.iter().map(|member| {
            let described = DescribedGroupMember::default()
                .with_member_id(str_bytes(&member.id))
                .with_group_instance_id(member.instance_id.as_deref().map(str_bytes))
                .with_client_id(str_bytes(&member.client_id))
                .with_client_host(str_bytes(&member.client_host));
            match protocol {
                Some(protocol) => described
                    .with_member_metadata(member.metadata(protocol).cloned().unwrap_or_default())
                    .with_member_assignment(member.assignment.clone()),
                None => described,
            }
        });
        DescribedGroup::default()
            .with_group_state(StrBytes::from_static_str(self.phase.name()))
            .with_protocol_type(self.protocol_type.as_deref().map(str_bytes).unwrap_or_default())
            .with_protocol_data(protocol.map(str_bytes).unwrap_or_default())
            .with_members(members.collect())
    }
}

fn absent(id: &GroupId, version: i16) -> DescribedGroup {
    let dead = DescribedGroup::default().with_group_state(StrBytes::from_static_str("Dead"));
    if version < GROUP_NOT_FOUND_VERSION {
        return dead;
    }
    dead.with_error_code(ErrorCode::GroupIdNotFound.code())
        .with_error_message(Some(StrBytes::from_string(format!("Group {} not found.", id.as_str()))))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Fixture, subscription};
    use super::*;

    #[test]
    fn a_stable_group_shows_what_its_members_asked_for_and_got() {
        let group = Fixture::stable_of(1);

        let described = group.describe("g");

        assert_eq!(
            (described.protocol_type.as_str(), described.protocol_data.as_str()),
            ("consumer", "range")
        );
        let member = &described.members[0];
        assert_eq!(member.member_metadata, subscription("topic"));
        assert_eq!(member.member_assignment.as_ref(), member.member_id.as_bytes());
        assert_eq!(
            (member.client_id.as_str(), member.client_host.as_str()),
            ("client", "/127.0.0.1")
        );
    }

    #[test]
    fn a_rebalancing_group_shows_who_is_in_it_only() {
        let mut group = Fixture::stable_of(2);
        let members = group.member_ids();
        group.leave(&members[0]);

        let described = group.describe("g");

        assert_eq!(described.group_state.as_str(), "PreparingRebalance");
        assert_eq!((described.protocol_data.as_str(), described.members.len()), ("", 1));
        assert!(described.members[0].member_assignment.is_empty());
    }

    #[test]
    fn an_absent_group_is_dead_and_since_version_six_not_found() {
        let groups = Groups::default();
        let request = DescribeGroupsRequest::default().with_groups(vec![GroupId("absent".into())]);

        let seen = [5, 6].map(|version| {
            let described = groups.describe(&request, version).groups.remove(0);
            (described.group_state.to_string(), described.error_code)
        });

        assert_eq!(seen, [("Dead".into(), 0), ("Dead".into(), 69)]);
    }
}
