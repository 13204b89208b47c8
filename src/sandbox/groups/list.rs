//! `ListGroups`: every group, or those in some states (KIP-518) and of some types (KIP-848).

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Groups, str_bytes};

/// The only type there is here.
const CLASSIC: &str = "classic";

impl Groups {
    pub fn list(&self, request: &ListGroupsRequest) -> ListGroupsResponse {
        let wanted = |filter: &[StrBytes], value: &str| {
            filter.is_empty() || filter.iter().any(|wanted| wanted.trim().eq_ignore_ascii_case(value))
        };
        let groups = self
            .groups
            .iter()
            .filter(|(_, group)| wanted(&request.states_filter, group.phase.name()));
        let listed = groups.map(|(id, group)| {
            ListedGroup::default()
                .with_group_id(GroupId(str_bytes(id)))
                .with_protocol_type(group.protocol_type.as_deref().map(str_bytes).unwrap_or_default())
                .with_group_state(StrBytes::from_static_str(group.phase.name()))
                .with_group_type(StrBytes::from_static_str(CLASSIC))
        });
        match wanted(&request.types_filter, CLASSIC) {
            true => ListGroupsResponse::default().with_groups(listed.collect()),
            false => ListGroupsResponse::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;

    fn listed(states: &[&'static str], types: &[&'static str]) -> Vec<(String, String)> {
        let mut group = Fixture::stable_of(1);
        group.take_id("waiting");
        let filter = |values: &[&'static str]| values.iter().copied().map(StrBytes::from).collect();
        let request = ListGroupsRequest::default()
            .with_states_filter(filter(states))
            .with_types_filter(filter(types));
        let response = group.groups.list(&request);
        let groups = response.groups.iter();
        groups
            .map(|group| (group.group_id.to_string(), group.group_state.to_string()))
            .collect()
    }

    #[test]
    fn all_groups_are_listed_without_a_filter() {
        let both = [("g".into(), "Stable".into()), ("waiting".into(), "Empty".into())];
        assert_eq!(listed(&[], &[]), both);
    }

    #[test]
    fn states_and_types_are_filters_without_regard_to_case() {
        assert_eq!(listed(&["stable"], &[]), [("g".into(), "Stable".into())]);
        assert_eq!(
            listed(&["Empty", "Dead"], &["Classic"]),
            [("waiting".into(), "Empty".into())]
        );
        assert_eq!(listed(&[], &["consumer"]), []);
    }
}
