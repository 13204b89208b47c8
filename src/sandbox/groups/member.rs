//! A member of a group, and the requests of it that are held back.

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse, SyncGroupResponse};

use super::{Context, GroupResponse, Turn, Waiter};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Protocol {
    pub(super) name: String,
    pub(super) metadata: Bytes,
}

/// A request that waits for its answer. The version decides how some nulls are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parked {
    pub(super) waiter: Waiter,
    pub(super) version: i16,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: String,
    pub(super) instance_id: Option<String>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) session_timeout_ms: i32,
    pub(super) rebalance_timeout_ms: i32,
    /// In the member's order of preference.
    pub(super) protocols: Vec<Protocol>,
    pub(super) assignment: Bytes,
    pub(super) joining: Option<Parked>,
    pub(super) syncing: Option<Parked>,
    /// It has joined and is yet to ask for its assignment in this generation.
    pub(super) owes_sync: bool,
    /// It has not been through a rebalance yet.
    pub(super) is_new: bool,
    /// None while only a rebalance can decide about it.
    pub(super) heartbeat_deadline_ms: Option<i64>,
}

impl Member {
    pub(super) fn new(id: String, request: &JoinGroupRequest, context: &Context<'_>) -> Self {
        let mut member = Self {
            id,
            instance_id: request.group_instance_id.as_ref().map(|id| id.to_string()),
            client_id: context.client_id.to_owned(),
            client_host: context.client_host.to_owned(),
            session_timeout_ms: 0,
            rebalance_timeout_ms: 0,
            protocols: Vec::new(),
            assignment: Bytes::new(),
            joining: None,
            syncing: None,
            owes_sync: false,
            is_new: true,
            heartbeat_deadline_ms: None,
        };
        member.update(request, context.version);
        member
    }

    pub(super) fn update(&mut self, request: &JoinGroupRequest, version: i16) {
        self.session_timeout_ms = request.session_timeout_ms;
        // Version 0 has no rebalance time-out; the session's serves for both.
        self.rebalance_timeout_ms = match version {
            0 => request.session_timeout_ms,
            _ => request.rebalance_timeout_ms,
        };
        self.protocols = protocols(&request.protocols);
    }

    pub(super) fn supports(&self, protocol: &str) -> bool {
        self.metadata(protocol).is_some()
    }

    pub(super) fn metadata(&self, protocol: &str) -> Option<&Bytes> {
        self.protocols.iter().find(|p| p.name == protocol).map(|p| &p.metadata)
    }

    pub(super) fn matches(&self, request: &JoinGroupRequest) -> bool {
        self.protocols.len() == request.protocols.len()
            && self
                .protocols
                .iter()
                .zip(&request.protocols)
                .all(|(mine, theirs)| mine.name == theirs.name.as_str() && mine.metadata == theirs.metadata)
    }

    /// Whoever waits in a rebalance is alive. New members are not trusted so far: they may have given up and come back
    /// under another id.
    pub(super) fn is_kept_alive_by_rebalance(&self) -> bool {
        !self.is_new && (self.joining.is_some() || self.syncing.is_some())
    }

    pub(super) fn expect_heartbeat(&mut self, turn: &Turn<'_>) {
        self.heartbeat_deadline_ms = Some(turn.in_ms(self.session_timeout_ms.into()));
    }

    pub(super) fn answer_join(&mut self, turn: &mut Turn<'_>, response: impl FnOnce(i16) -> JoinGroupResponse) {
        if let Some(parked) = self.joining.take() {
            let response = GroupResponse::Join(response(parked.version));
            turn.answers.push_back((parked.waiter, response));
        }
    }

    pub(super) fn answer_sync(&mut self, turn: &mut Turn<'_>, response: SyncGroupResponse) -> bool {
        let Some(parked) = self.syncing.take() else {
            return false;
        };
        turn.answers.push_back((parked.waiter, GroupResponse::Sync(response)));
        true
    }
}

fn protocols(requested: &[JoinGroupRequestProtocol]) -> Vec<Protocol> {
    let copied = requested.iter().map(|protocol| Protocol {
        name: protocol.name.to_string(),
        metadata: Bytes::copy_from_slice(&protocol.metadata),
    });
    copied.collect()
}
