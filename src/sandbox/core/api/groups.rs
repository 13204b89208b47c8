//! The APIs of consumer groups: hands them to [`Groups`](crate::sandbox::groups::Groups), if the group is this broker's.

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponseTopic,
};
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, HeartbeatRequest,
    HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, ListGroupsRequest,
    ListGroupsResponse, OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse,
    OffsetFetchRequest, OffsetFetchResponse, SyncGroupRequest, SyncGroupResponse,
};

use super::{Call, Cluster, Outcome};
use crate::protocol::error_code::ErrorCode;
use crate::sandbox::core::wire::RequestError;
use crate::sandbox::groups::{Answer, Context, Waiter};

/// The core does not see where a client comes from.
const CLIENT_HOST: &str = "/127.0.0.1";

const FIRST_OFFSET_FETCH_OF_GROUPS: i16 = 8;

impl Call<'_> {
    fn context(&self) -> Context<'_> {
        Context {
            version: self.head.version,
            client_id: &self.head.client_id,
            client_host: CLIENT_HOST,
        }
    }

    fn waiter(&self) -> Waiter {
        Waiter(self.connection.0)
    }
}

pub(super) fn join(cluster: &mut Cluster, call: &Call, request: JoinGroupRequest) -> Result<Outcome, RequestError> {
    let answer = match cluster.check_coordinator(call, &request.group_id) {
        Ok(()) => cluster
            .groups
            .join(&request, &call.context(), call.waiter(), cluster.now_ms),
        Err(code) => Answer::Now(
            JoinGroupResponse::default()
                .with_error_code(code.code())
                .with_member_id(request.member_id.clone()),
        ),
    };
    match answer {
        Answer::Now(response) => call.head.encode(&response).map(Outcome::Answer),
        Answer::Parked => Ok(Outcome::WaitForGroup),
    }
}

pub(super) fn sync(cluster: &mut Cluster, call: &Call, request: SyncGroupRequest) -> Result<Outcome, RequestError> {
    let answer = match cluster.check_coordinator(call, &request.group_id) {
        Ok(()) => cluster
            .groups
            .sync(&request, &call.context(), call.waiter(), cluster.now_ms),
        Err(code) => Answer::Now(SyncGroupResponse::default().with_error_code(code.code())),
    };
    match answer {
        Answer::Now(response) => call.head.encode(&response).map(Outcome::Answer),
        Answer::Parked => Ok(Outcome::WaitForGroup),
    }
}

pub(super) fn heartbeat(cluster: &mut Cluster, call: &Call, request: HeartbeatRequest) -> HeartbeatResponse {
    match cluster.check_coordinator(call, &request.group_id) {
        Ok(()) => cluster.groups.heartbeat(&request, cluster.now_ms),
        Err(code) => HeartbeatResponse::default().with_error_code(code.code()),
    }
}

pub(super) fn leave(cluster: &mut Cluster, call: &Call, request: LeaveGroupRequest) -> LeaveGroupResponse {
    match cluster.check_coordinator(call, &request.group_id) {
        Ok(()) => cluster.groups.leave(&request, call.head.version, cluster.now_ms),
        Err(code) => LeaveGroupResponse::default().with_error_code(code.code()),
    }
}

/// Each broker lists the groups that it coordinates.
pub(super) fn list(cluster: &mut Cluster, call: &Call, request: ListGroupsRequest) -> ListGroupsResponse {
    if let Some(code) = call.refused() {
        return ListGroupsResponse::default().with_error_code(code.code());
    }
    let mut response = cluster.groups.list(&request);
    response
        .groups
        .retain(|group| cluster.coordinator_of(&group.group_id) == Some(call.broker));
    response
}

pub(super) fn describe(
    cluster: &mut Cluster,
    call: &Call,
    mut request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let mut refused = Vec::new();
    request.groups.retain(|id| match cluster.check_coordinator(call, id) {
        Ok(()) => true,
        Err(code) => {
            refused.push(
                DescribedGroup::default()
                    .with_group_id(id.clone())
                    .with_error_code(code.code()),
            );
            false
        }
    });
    let mut response = cluster.groups.describe(&request, call.head.version);
    response.groups.append(&mut refused);
    response
}

pub(super) fn delete(cluster: &mut Cluster, call: &Call, mut request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let mut refused = Vec::new();
    request
        .groups_names
        .retain(|id| match cluster.check_coordinator(call, id) {
            Ok(()) => true,
            Err(code) => {
                refused.push(
                    DeletableGroupResult::default()
                        .with_group_id(id.clone())
                        .with_error_code(code.code()),
                );
                false
            }
        });
    let mut response = cluster.groups.delete(&request);
    response.results.append(&mut refused);
    response
}

pub(super) fn commit_offsets(cluster: &mut Cluster, call: &Call, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let failed = |code: ErrorCode| {
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                OffsetCommitResponsePartition::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(code.code())
            });
            OffsetCommitResponseTopic::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions.collect())
        });
        OffsetCommitResponse::default().with_topics(topics.collect())
    };
    if let Err(code) = cluster.check_coordinator(call, &request.group_id) {
        return failed(code);
    }
    let topics = &cluster.topics;
    cluster.groups.commit_offsets(
        &request,
        call.head.version,
        |topic, index| topics.has(topic, index),
        cluster.now_ms,
    )
}

pub(super) fn delete_offsets(cluster: &mut Cluster, call: &Call, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let topics = &cluster.topics;
    match cluster.check_coordinator(call, &request.group_id) {
        Ok(()) => cluster
            .groups
            .delete_offsets(&request, |topic, index| topics.has(topic, index)),
        Err(code) => OffsetDeleteResponse::default().with_error_code(code.code()),
    }
}

pub(super) fn fetch_offsets(
    cluster: &mut Cluster,
    call: &Call,
    mut request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    if call.head.version < FIRST_OFFSET_FETCH_OF_GROUPS {
        return match cluster.check_coordinator(call, &request.group_id) {
            Ok(()) => cluster.groups.fetch_offsets(&request, call.head.version),
            Err(code) => failed_fetch(&request, code),
        };
    }
    let mut refused = Vec::new();
    request
        .groups
        .retain(|group| match cluster.check_coordinator(call, &group.group_id) {
            Ok(()) => true,
            Err(code) => {
                refused.push(
                    OffsetFetchResponseGroup::default()
                        .with_group_id(group.group_id.clone())
                        .with_error_code(code.code()),
                );
                false
            }
        });
    let mut response = cluster.groups.fetch_offsets(&request, call.head.version);
    response.groups.append(&mut refused);
    response
}

/// From version 2 on the response has an error of its own; before, each partition has it.
fn failed_fetch(request: &OffsetFetchRequest, code: ErrorCode) -> OffsetFetchResponse {
    let topics = request.topics.iter().flatten().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|&index| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(index)
                .with_committed_offset(-1)
                .with_error_code(code.code())
        });
        OffsetFetchResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    OffsetFetchResponse::default()
        .with_error_code(code.code())
        .with_topics(topics.collect())
}
