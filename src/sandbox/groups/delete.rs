//! `DeleteGroups`: forgets empty groups and their offsets.

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use super::Groups;
use super::group::Phase;
use crate::protocol::error_code::ErrorCode;

impl Groups {
    pub fn delete(&mut self, request: &DeleteGroupsRequest) -> DeleteGroupsResponse {
        let results = request.groups_names.iter().map(|id| {
            let error = self.delete_one(id);
            DeletableGroupResult::default()
                .with_group_id(id.clone())
                .with_error_code(error.code())
        });
        DeleteGroupsResponse::default().with_results(results.collect())
    }

    fn delete_one(&mut self, id: &str) -> ErrorCode {
        match self.groups.get(id).map(|group| &group.phase) {
            None => ErrorCode::GroupIdNotFound,
            Some(Phase::Empty) => {
                self.groups.remove(id);
                ErrorCode::None
            }
            Some(Phase::PreparingRebalance { .. } | Phase::CompletingRebalance | Phase::Stable) => {
                ErrorCode::NonEmptyGroup
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;
    use kafka_protocol::messages::GroupId;

    fn delete(group: &mut Fixture) -> i16 {
        let request = DeleteGroupsRequest::default().with_groups_names(vec![GroupId("g".into())]);
        group.groups.delete(&request).results[0].error_code
    }

    #[test]
    fn a_group_with_members_stays() {
        let mut group = Fixture::stable_of(1);

        assert_eq!(delete(&mut group), 68, "NON_EMPTY_GROUP");
        assert_eq!(group.state(), "Stable");
    }

    #[test]
    fn an_empty_group_goes() {
        let mut group = Fixture::stable_of(1);
        let member = group.member_ids().remove(0);
        group.leave(&member);

        assert_eq!(delete(&mut group), 0);
        assert_eq!(delete(&mut group), 69, "GROUP_ID_NOT_FOUND");
        assert_eq!(group.state(), "Dead");
    }
}
