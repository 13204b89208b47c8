//! The classic consumer-group coordinator: every group of a cluster, as one state machine.
//!
//! Requests come in decoded and an answer goes out: at once, or later through [`Groups::poll`] where Kafka holds the
//! request back until the other members have joined or the leader has assigned. Time is a parameter, and nothing here
//! knows connections, authorization or other coordinators: the caller finds the broker, checks the transactional id of
//! a `TxnOffsetCommit`, and says which partitions exist.
//!
//! Invariant: a parked request is answered exactly once, or given up for a newer request of the same member, as Kafka
//! does. What is kept of a request is copied, so that no group holds on to the frame that it came in.
//!
//! One file for each API; what several share is in [`group`] (the state), [`member`], [`rebalance`] (its transitions
//! and time-outs) and [`offsets`]. The model is Kafka's own coordinator; KIP-345 (static members), KIP-394 (member
//! ids before joining) and KIP-447 (transactional offsets) are in it, the consumer protocol of KIP-848 is not.

mod delete;
mod describe;
mod group;
mod heartbeat;
mod join;
mod leave;
mod list;
mod member;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offsets;
mod rebalance;
mod subscription;
mod sync;
#[cfg(test)]
mod testing;
mod txn_offset_commit;

use std::collections::{BTreeMap, VecDeque};

use kafka_protocol::messages::{JoinGroupResponse, SyncGroupResponse};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use group::Group;

/// What the broker's configuration says about groups; the defaults are Kafka's, but for the delay.
#[derive(Debug, Clone)]
pub struct GroupsConfig {
    /// `group.initial.rebalance.delay.ms`: how long an empty group waits for more members. Kafka's default is 3000.
    pub initial_rebalance_delay_ms: i32,
    pub min_session_timeout_ms: i32,
    pub max_session_timeout_ms: i32,
    pub offset_metadata_max_bytes: usize,
    /// How long a member without an id may wait in a rebalance. It cannot send heartbeats yet.
    pub new_member_join_timeout_ms: i64,
    /// Member ids are made of this and a counter.
    pub seed: u64,
}

impl Default for GroupsConfig {
    fn default() -> Self {
        Self {
            initial_rebalance_delay_ms: 0,
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            offset_metadata_max_bytes: 4096,
            new_member_join_timeout_ms: 300_000,
            seed: 0,
        }
    }
}

/// The caller's name for a request that is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Waiter(pub u64);

/// What becomes of a request that Kafka may hold back.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer<T> {
    Now(T),
    /// The answer comes from [`Groups::poll`], perhaps at its next call.
    Parked,
}

/// The answer to a parked request.
#[derive(Debug, Clone, PartialEq)]
pub enum GroupResponse {
    Join(JoinGroupResponse),
    Sync(SyncGroupResponse),
}

/// What a request's header and connection say.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    pub version: i16,
    pub client_id: &'a str,
    /// As Java prints an address: `/127.0.0.1`.
    pub client_host: &'a str,
}

/// All groups of a cluster.
#[derive(Debug, Default)]
pub struct Groups {
    config: GroupsConfig,
    groups: BTreeMap<String, Group>,
    answers: VecDeque<(Waiter, GroupResponse)>,
    member_ids: u64,
    /// Orders the commits: a transaction that ends does not overwrite what was committed after its own.
    commits: u64,
}

impl Groups {
    pub fn new(config: GroupsConfig) -> Self {
        Self {
            config,
            ..Self::default()
        }
    }

    /// The next answer to a parked request, after everything that `now_ms` brings has happened.
    pub fn poll(&mut self, now_ms: i64) -> Option<(Waiter, GroupResponse)> {
        let mut turn = Turn {
            config: &self.config,
            now_ms,
            answers: &mut self.answers,
        };
        for group in self.groups.values_mut() {
            group.expire(&mut turn);
        }
        self.answers.pop_front()
    }

    /// When [`Groups::poll`] has something to do if no request comes before. In the past: now.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        if !self.answers.is_empty() {
            return Some(i64::MIN);
        }
        self.groups.values().filter_map(Group::next_deadline_ms).min()
    }

    /// Ends a transaction on every group: its offsets become the committed ones, or are forgotten.
    pub fn complete_transaction(&mut self, producer_id: i64, committed: bool) {
        for group in self.groups.values_mut() {
            group.offsets.complete_transaction(producer_id, committed);
        }
    }

    /// Forgets the offsets of a topic that has been deleted.
    pub fn topic_deleted(&mut self, topic: &str) {
        for group in self.groups.values_mut() {
            group.offsets.forget_topic(topic);
        }
    }

    fn turn<'a>(&'a mut self, group_id: &str, now_ms: i64) -> Option<(&'a mut Group, Turn<'a>)> {
        let group = self.groups.get_mut(group_id)?;
        let turn = Turn {
            config: &self.config,
            now_ms,
            answers: &mut self.answers,
        };
        Some((group, turn))
    }

    /// As Kafka's: a prefix that people recognise and a UUID.
    fn new_member_id(&mut self, prefix: &str) -> String {
        self.member_ids += 1;
        format!("{prefix}-{}", Uuid::from_u64_pair(self.config.seed, self.member_ids))
    }
}

/// What a step of a group needs besides the group.
struct Turn<'a> {
    config: &'a GroupsConfig,
    now_ms: i64,
    answers: &'a mut VecDeque<(Waiter, GroupResponse)>,
}

impl Turn<'_> {
    fn in_ms(&self, ms: i64) -> i64 {
        self.now_ms.saturating_add(ms.max(0))
    }
}

fn str_bytes(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
