//! A group's clients, for the tests of this folder: what they send, and what they have been answered.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DescribeGroupsRequest, GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    SyncGroupRequest, SyncGroupResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::{Answer, Context, GroupResponse, Groups, GroupsConfig, Waiter, str_bytes};

pub(super) const SESSION_MS: i32 = 10_000;
pub(super) const REBALANCE_MS: i32 = 60_000;
/// Versions with which clients of the day come.
pub(super) const JOIN_VERSION: i16 = 9;
pub(super) const SYNC_VERSION: i16 = 5;

pub(super) struct Fixture {
    pub(super) groups: Groups,
    pub(super) now_ms: i64,
    waiters: u64,
    answers: BTreeMap<Waiter, GroupResponse>,
}

/// A request that has been sent, and its answer if it came at once.
pub(super) struct Sent<T> {
    waiter: Waiter,
    now: Option<T>,
}

impl Fixture {
    pub(super) fn new() -> Self {
        Self::with(GroupsConfig::default())
    }

    pub(super) fn with(config: GroupsConfig) -> Self {
        Self {
            groups: Groups::new(config),
            now_ms: 1_000_000,
            waiters: 0,
            answers: BTreeMap::new(),
        }
    }

    /// A stable group "g" of members that prefer these protocols; the first one leads it.
    pub(super) fn stable(protocols: &[&[&str]]) -> Self {
        let mut fixture = Self::new();
        let mut joins = Vec::new();
        for protocols in protocols {
            let id = fixture.take_id("g");
            joins.push(fixture.join(&id, protocols));
        }
        let joins: Vec<_> = joins.into_iter().map(|sent| fixture.joined(sent)).collect();
        for join in &joins {
            let request = Self::sync_request(&join.member_id, join.generation_id, &fixture.member_ids())
                .with_protocol_name(join.protocol_name.clone());
            fixture.send_sync(&request, SYNC_VERSION);
        }
        fixture.settle();
        assert_eq!(fixture.describe("g").group_state.as_str(), "Stable");
        fixture
    }

    /// A stable group "g" of so many members.
    pub(super) fn stable_of(members: usize) -> Self {
        Self::stable(&vec![&["range"][..]; members])
    }

    pub(super) fn join_request(member_id: &str, protocols: &[&str]) -> JoinGroupRequest {
        let protocols = protocols.iter().map(|name| {
            JoinGroupRequestProtocol::default()
                .with_name(str_bytes(name))
                .with_metadata(subscription("topic"))
        });
        JoinGroupRequest::default()
            .with_group_id(GroupId(StrBytes::from_static_str("g")))
            .with_member_id(str_bytes(member_id))
            .with_session_timeout_ms(SESSION_MS)
            .with_rebalance_timeout_ms(REBALANCE_MS)
            .with_protocol_type(StrBytes::from_static_str("consumer"))
            .with_protocols(protocols.collect())
    }

    pub(super) fn static_request(instance_id: &str, member_id: &str) -> JoinGroupRequest {
        Self::join_request(member_id, &["range"]).with_group_instance_id(Some(str_bytes(instance_id)))
    }

    pub(super) fn send_join(&mut self, request: &JoinGroupRequest, version: i16) -> Sent<JoinGroupResponse> {
        let waiter = self.next_waiter();
        let answer = self.groups.join(request, &context(version), waiter, self.now_ms);
        Sent::new(waiter, answer)
    }

    /// Joins "g", with an id.
    pub(super) fn join(&mut self, member_id: &str, protocols: &[&str]) -> Sent<JoinGroupResponse> {
        self.send_join(&Self::join_request(member_id, protocols), JOIN_VERSION)
    }

    /// Has an id given to a new member of the group.
    pub(super) fn take_id(&mut self, group: &str) -> String {
        let request = Self::join_request("", &["range"]).with_group_id(GroupId(str_bytes(group)));
        let sent = self.send_join(&request, JOIN_VERSION);
        let response = sent.now.expect("an id at once");
        assert_eq!(response.error_code, 79, "MEMBER_ID_REQUIRED");
        response.member_id.to_string()
    }

    /// What came, at once or since.
    pub(super) fn joined(&mut self, sent: Sent<JoinGroupResponse>) -> JoinGroupResponse {
        if let Some(response) = sent.now {
            return response;
        }
        self.settle();
        match self.answers.remove(&sent.waiter) {
            Some(GroupResponse::Join(response)) => response,
            other => panic!("no answer to the join but {other:?}"),
        }
    }

    pub(super) fn is_waiting<T>(&mut self, sent: &Sent<T>) -> bool {
        self.settle();
        sent.now.is_none() && !self.answers.contains_key(&sent.waiter)
    }

    /// A member of "g" asks for its assignment; a leader assigns to each of these the bytes of its id.
    pub(super) fn sync(&mut self, member_id: &str, generation: i32, assign_to: &[String]) -> Sent<SyncGroupResponse> {
        let request = Self::sync_request(member_id, generation, assign_to);
        self.send_sync(&request, SYNC_VERSION)
    }

    pub(super) fn sync_request(member_id: &str, generation: i32, assign_to: &[String]) -> SyncGroupRequest {
        let assignments = assign_to.iter().map(|id| {
            SyncGroupRequestAssignment::default()
                .with_member_id(str_bytes(id))
                .with_assignment(Bytes::from(id.clone()))
        });
        SyncGroupRequest::default()
            .with_group_id(GroupId(StrBytes::from_static_str("g")))
            .with_member_id(str_bytes(member_id))
            .with_generation_id(generation)
            .with_protocol_type(Some(StrBytes::from_static_str("consumer")))
            .with_protocol_name(Some(StrBytes::from_static_str("range")))
            .with_assignments(assignments.collect())
    }

    pub(super) fn send_sync(&mut self, request: &SyncGroupRequest, version: i16) -> Sent<SyncGroupResponse> {
        let waiter = self.next_waiter();
        let answer = self.groups.sync(request, &context(version), waiter, self.now_ms);
        Sent::new(waiter, answer)
    }

    pub(super) fn synced(&mut self, sent: Sent<SyncGroupResponse>) -> SyncGroupResponse {
        if let Some(response) = sent.now {
            return response;
        }
        self.settle();
        match self.answers.remove(&sent.waiter) {
            Some(GroupResponse::Sync(response)) => response,
            other => panic!("no answer to the sync but {other:?}"),
        }
    }

    /// The error of a heartbeat.
    pub(super) fn heartbeat(&mut self, member_id: &str, generation: i32) -> i16 {
        let request = HeartbeatRequest::default()
            .with_group_id(GroupId(StrBytes::from_static_str("g")))
            .with_member_id(str_bytes(member_id))
            .with_generation_id(generation);
        self.groups.heartbeat(&request, self.now_ms).error_code
    }

    /// The error of leaving "g" alone, as older clients do.
    pub(super) fn leave(&mut self, member_id: &str) -> i16 {
        let request = LeaveGroupRequest::default()
            .with_group_id(GroupId(StrBytes::from_static_str("g")))
            .with_member_id(str_bytes(member_id));
        self.groups.leave(&request, 1, self.now_ms).error_code
    }

    /// Lets time pass, with everything that it brings.
    pub(super) fn pass_ms(&mut self, ms: i64) {
        let end_ms = self.now_ms + ms;
        while let Some(deadline_ms) = self
            .groups
            .next_deadline_ms()
            .filter(|&deadline_ms| deadline_ms <= end_ms)
        {
            self.now_ms = self.now_ms.max(deadline_ms);
            self.settle();
        }
        self.now_ms = end_ms;
    }

    pub(super) fn describe(&self, group: &str) -> DescribedGroup {
        let request = DescribeGroupsRequest::default().with_groups(vec![GroupId(str_bytes(group))]);
        self.groups.describe(&request, 5).groups.remove(0)
    }

    pub(super) fn state(&self) -> String {
        self.describe("g").group_state.to_string()
    }

    /// The members of "g", oldest first.
    pub(super) fn member_ids(&self) -> Vec<String> {
        self.describe("g")
            .members
            .iter()
            .map(|member| member.member_id.to_string())
            .collect()
    }

    fn next_waiter(&mut self) -> Waiter {
        self.waiters += 1;
        Waiter(self.waiters)
    }

    fn settle(&mut self) {
        while let Some((waiter, response)) = self.groups.poll(self.now_ms) {
            assert!(
                self.answers.insert(waiter, response).is_none(),
                "{waiter:?} is answered twice"
            );
        }
    }
}

impl<T> Sent<T> {
    fn new(waiter: Waiter, answer: Answer<T>) -> Self {
        let now = match answer {
            Answer::Now(response) => Some(response),
            Answer::Parked => None,
        };
        Self { waiter, now }
    }
}

fn context(version: i16) -> Context<'static> {
    Context {
        version,
        client_id: "client",
        client_host: "/127.0.0.1",
    }
}

/// A consumer's metadata: version 0, one topic, no user data.
pub(super) fn subscription(topic: &str) -> Bytes {
    let mut metadata = vec![0, 0, 0, 0, 0, 1, 0, topic.len() as u8];
    metadata.extend_from_slice(topic.as_bytes());
    metadata.extend_from_slice(&[0, 0, 0, 0]);
    metadata.into()
}

pub(super) fn topic_name(name: &str) -> TopicName {
    TopicName(str_bytes(name))
}
