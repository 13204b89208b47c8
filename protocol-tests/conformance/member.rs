//! A group and its members, as far as cases need them.

use std::future::Future;

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, OffsetCommitRequest,
    OffsetFetchRequest, SyncGroupRequest, TopicName,
};
use kferry::protocol::error_code::ErrorCode;

use crate::cluster::{TestCluster, unique};
use crate::probe::{Probe, text};

/// What all members of a group say.
#[derive(Clone)]
pub(crate) struct Group<'a> {
    pub(crate) id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) session_timeout_ms: i32,
    pub(crate) protocols: Vec<&'static str>,
    /// What they consume.
    pub(crate) topic: String,
    pub(crate) versions: GroupVersions,
    /// For requests that are answered at once.
    pub(crate) probe: &'a Probe,
}

/// In which version each request is sent; by default in one that all releases know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GroupVersions {
    pub(crate) join: i16,
    pub(crate) sync: i16,
    pub(crate) heartbeat: i16,
    pub(crate) leave: i16,
    pub(crate) commit: i16,
    pub(crate) fetch: i16,
}

impl Default for GroupVersions {
    fn default() -> Self {
        Self {
            join: 7,
            sync: 5,
            heartbeat: 4,
            leave: 4,
            commit: 8,
            fetch: 7,
        }
    }
}

/// What a member was answered when it joined.
#[derive(Debug, Clone)]
pub(crate) struct Joined {
    pub(crate) error: ErrorCode,
    pub(crate) member_id: String,
    pub(crate) generation: i32,
    pub(crate) leader: String,
    pub(crate) members: Vec<String>,
}

/// An offset for partition 0 of a topic. [`Commit::of`] is an outsider's.
#[derive(Debug, Clone)]
pub(crate) struct Commit<'a> {
    /// Another one than the group's.
    pub(crate) version: Option<i16>,
    pub(crate) topic: String,
    pub(crate) offset: i64,
    pub(crate) metadata: String,
    pub(crate) generation: i32,
    pub(crate) member: String,
    pub(crate) instance_id: Option<&'a str>,
}

impl Commit<'_> {
    pub(crate) fn of(topic: &str, offset: i64) -> Self {
        Self {
            version: None,
            topic: topic.to_owned(),
            offset,
            metadata: String::new(),
            generation: -1,
            member: String::new(),
            instance_id: None,
        }
    }
}

impl<'a> Group<'a> {
    /// One that nobody has used, of a coordinator that is there.
    pub(crate) async fn new(cluster: &'a TestCluster) -> Self {
        let group = Self {
            id: unique("group"),
            instance_id: None,
            session_timeout_ms: 6_000,
            protocols: vec!["range"],
            topic: "topic".to_owned(),
            versions: GroupVersions::default(),
            probe: &cluster.probe,
        };
        cluster.probe.find_coordinator(0, &group.id).await;
        // Older coordinators say so once they have loaded their groups; before, they answer as if all were well.
        while group.heartbeat_of("nobody", 0).await != ErrorCode::UnknownMemberId {
            tokio::task::yield_now().await;
        }
        group
    }

    pub(crate) async fn join(&self, probe: &Probe, member_id: &str) -> Joined {
        self.start_join(probe, member_id).await
    }

    /// The request is on its way when this returns.
    pub(crate) fn start_join(&self, probe: &Probe, member_id: &str) -> impl Future<Output = Joined> + use<> {
        let protocols = self.protocols.iter().map(|name| {
            JoinGroupRequestProtocol::default()
                .with_name(text(name))
                .with_metadata(self.subscription())
        });
        let request = JoinGroupRequest::default()
            .with_group_id(GroupId(text(&self.id)))
            .with_group_instance_id(self.instance_id.as_deref().map(text))
            .with_member_id(text(member_id))
            .with_session_timeout_ms(self.session_timeout_ms)
            .with_rebalance_timeout_ms(30_000)
            .with_protocol_type(text("consumer"))
            .with_protocols(protocols.collect());
        let answer = probe.start(self.versions.join, &request);
        async move { joined(answer.await.expect("an answer")) }
    }

    /// The only member of the group, or the only one that has joined.
    pub(crate) async fn member(&self, probe: &Probe) -> Joined {
        let mut joined = self.join(probe, "").await;
        if joined.error == ErrorCode::MemberIdRequired {
            joined = self.join(probe, &joined.member_id).await;
        }
        assert_eq!(joined.error, ErrorCode::None);
        joined
    }

    /// The only member of the group, with its assignment.
    pub(crate) async fn stable_member(&self, probe: &Probe) -> Joined {
        let member = self.member(probe).await;
        let (error, _) = self.sync(probe, &member, &[(&member.member_id, "all")]).await;
        assert_eq!(error, ErrorCode::None);
        // Older coordinators answer first and then enter the state, but not between two requests about the group.
        assert_eq!(self.heartbeat(&member).await, ErrorCode::None);
        member
    }

    pub(crate) async fn sync(&self, probe: &Probe, member: &Joined, assigned: &[(&str, &str)]) -> (ErrorCode, Bytes) {
        self.start_sync(probe, member, assigned).await
    }

    pub(crate) fn start_sync(
        &self,
        probe: &Probe,
        member: &Joined,
        assigned: &[(&str, &str)],
    ) -> impl Future<Output = (ErrorCode, Bytes)> + use<> {
        let assignments = assigned.iter().map(|(member, assignment)| {
            SyncGroupRequestAssignment::default()
                .with_member_id(text(member))
                .with_assignment(Bytes::from((*assignment).to_owned()))
        });
        let request = SyncGroupRequest::default()
            .with_group_id(GroupId(text(&self.id)))
            .with_group_instance_id(self.instance_id.as_deref().map(text))
            .with_member_id(text(&member.member_id))
            .with_generation_id(member.generation)
            .with_protocol_type(Some(text("consumer")))
            .with_protocol_name(Some(text("range")))
            .with_assignments(assignments.collect());
        let answer = probe.start(self.versions.sync, &request);
        async move {
            let response = answer.await.expect("an answer");
            (ErrorCode::from_wire(response.error_code), response.assignment)
        }
    }

    pub(crate) async fn heartbeat(&self, member: &Joined) -> ErrorCode {
        self.heartbeat_of(&member.member_id, member.generation).await
    }

    async fn heartbeat_of(&self, member_id: &str, generation: i32) -> ErrorCode {
        let request = HeartbeatRequest::default()
            .with_group_id(GroupId(text(&self.id)))
            .with_group_instance_id(self.instance_id.as_deref().map(text))
            .with_member_id(text(member_id))
            .with_generation_id(generation);
        ErrorCode::from_wire(self.probe.send(self.versions.heartbeat, &request).await.error_code)
    }

    pub(crate) async fn leave(&self, member_id: &str) -> ErrorCode {
        let request = LeaveGroupRequest::default().with_group_id(GroupId(text(&self.id)));
        if self.versions.leave < 3 {
            // Each leaves for itself.
            let request = request.with_member_id(text(member_id));
            return ErrorCode::from_wire(self.probe.send(self.versions.leave, &request).await.error_code);
        }
        let member = MemberIdentity::default().with_member_id(text(member_id));
        let request = request.with_members(vec![member]);
        let response = self.probe.send(self.versions.leave, &request).await;
        assert_eq!(response.error_code, 0);
        ErrorCode::from_wire(response.members[0].error_code)
    }

    pub(crate) async fn commit(&self, commit: &Commit<'_>) -> ErrorCode {
        let partition = OffsetCommitRequestPartition::default()
            .with_committed_offset(commit.offset)
            .with_committed_metadata(Some(text(&commit.metadata)));
        let topic = OffsetCommitRequestTopic::default()
            .with_name(TopicName(text(&commit.topic)))
            .with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(text(&self.id)))
            .with_generation_id_or_member_epoch(commit.generation)
            .with_member_id(text(&commit.member))
            .with_group_instance_id(commit.instance_id.map(text))
            .with_topics(vec![topic]);
        let version = commit.version.unwrap_or(self.versions.commit);
        let response = self.probe.send(version, &request).await;
        ErrorCode::from_wire(response.topics[0].partitions[0].error_code)
    }

    /// The offset for partition 0 of a topic; with `stable`, not while a transaction is about to change it.
    pub(crate) async fn committed(&self, topic: &str, stable: bool) -> (i64, ErrorCode) {
        let request = OffsetFetchRequest::default().with_require_stable(stable);
        if self.versions.fetch < 8 {
            let topic = OffsetFetchRequestTopic::default()
                .with_name(TopicName(text(topic)))
                .with_partition_indexes(vec![0]);
            let request = request
                .with_group_id(GroupId(text(&self.id)))
                .with_topics(Some(vec![topic]));
            let response = self.probe.send(self.versions.fetch, &request).await;
            assert_eq!(response.error_code, 0);
            let partition = &response.topics[0].partitions[0];
            return (partition.committed_offset, ErrorCode::from_wire(partition.error_code));
        }
        let topic = OffsetFetchRequestTopics::default()
            .with_name(TopicName(text(topic)))
            .with_partition_indexes(vec![0]);
        let group = OffsetFetchRequestGroup::default()
            .with_group_id(GroupId(text(&self.id)))
            .with_topics(Some(vec![topic]));
        let request = request.with_groups(vec![group]);
        let response = self.probe.send(self.versions.fetch, &request).await;
        assert_eq!(response.groups[0].error_code, 0);
        let partition = &response.groups[0].topics[0].partitions[0];
        (partition.committed_offset, ErrorCode::from_wire(partition.error_code))
    }

    /// A consumer's metadata: version 0, one topic, no user data.
    fn subscription(&self) -> Bytes {
        let len = (self.topic.len() as u16).to_be_bytes();
        [&[0, 0, 0, 0, 0, 1][..], &len, self.topic.as_bytes(), &[0; 4]]
            .concat()
            .into()
    }
}

fn joined(response: JoinGroupResponse) -> Joined {
    Joined {
        error: ErrorCode::from_wire(response.error_code),
        member_id: response.member_id.to_string(),
        generation: response.generation_id,
        leader: response.leader.to_string(),
        members: response
            .members
            .iter()
            .map(|member| member.member_id.to_string())
            .collect(),
    }
}
