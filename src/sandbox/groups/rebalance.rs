//! How a group goes from one generation to the next, and what happens when a time-out is up.
//!
//! | phase | event | next |
//! |---|---|---|
//! | Empty | a member joins | PreparingRebalance, for the initial delay |
//! | Stable, CompletingRebalance | a member joins, changes, leaves or dies | PreparingRebalance, for the rebalance time-out |
//! | PreparingRebalance | all have joined, or the time is up | CompletingRebalance; Empty if nobody is left |
//! | CompletingRebalance | the leader's assignment arrives | Stable |
//! | CompletingRebalance, Stable | a member never asks for its assignment | it is removed: PreparingRebalance |

use bytes::Bytes;
use kafka_protocol::messages::SyncGroupResponse;

use super::group::{Group, InitialDelay, Phase};
use super::join::{join_error, joined};
use super::{Turn, str_bytes};
use crate::protocol::error_code::ErrorCode;

impl Group {
    /// Begins a rebalance, or goes on with the one that is under way.
    pub(super) fn rebalance(&mut self, turn: &mut Turn<'_>) {
        match &self.phase {
            Phase::PreparingRebalance { initial: None, .. } if self.all_joined() => self.complete_join(turn),
            // The initial delay runs its course, however many have joined.
            Phase::PreparingRebalance { .. } => {}
            Phase::Empty | Phase::CompletingRebalance | Phase::Stable => self.prepare_rebalance(turn),
        }
    }

    pub(super) fn prepare_rebalance(&mut self, turn: &mut Turn<'_>) {
        if self.phase == Phase::CompletingRebalance {
            for member in &mut self.members {
                member.assignment = Bytes::new();
            }
            self.answer_syncs(turn, ErrorCode::RebalanceInProgress);
        }
        self.forget_syncs();
        if self.phase == Phase::Empty {
            let delay_ms = turn.config.initial_rebalance_delay_ms.into();
            self.phase = Phase::PreparingRebalance {
                deadline_ms: turn.in_ms(delay_ms),
                initial: Some(InitialDelay {
                    delay_ms,
                    remaining_ms: (self.rebalance_timeout_ms() - delay_ms).max(0),
                    member_added: false,
                }),
            };
            return;
        }
        self.phase = Phase::PreparingRebalance {
            deadline_ms: turn.in_ms(self.rebalance_timeout_ms()),
            initial: None,
        };
        if self.all_joined() {
            self.complete_join(turn);
        }
    }

    /// Ends the joining: who has not come is out, but for static members, whose sessions decide.
    fn complete_join(&mut self, turn: &mut Turn<'_>) {
        let absent = self
            .members
            .iter()
            .filter(|member| member.joining.is_none() && member.instance_id.is_none());
        for id in absent.map(|member| member.id.clone()).collect::<Vec<_>>() {
            self.remove(&id);
        }
        if !self.elect_joined_leader() && !self.members.is_empty() {
            // Only static members, and none of them has come: wait until one does or its session ends.
            let retry_ms = turn.in_ms(self.rebalance_timeout_ms().max(1));
            if let Phase::PreparingRebalance { deadline_ms, .. } = &mut self.phase {
                *deadline_ms = retry_ms;
            }
            return;
        }
        self.begin_generation();
        if self.phase == Phase::Empty {
            return;
        }
        self.sync_deadline_ms = Some(turn.in_ms(self.rebalance_timeout_ms()));
        for index in 0..self.members.len() {
            let response = joined(self, &self.members[index].id);
            let member = &mut self.members[index];
            member.answer_join(turn, |_| response);
            member.expect_heartbeat(turn);
            member.is_new = false;
            member.owes_sync = true;
        }
    }

    /// Answers all who wait for their assignment.
    pub(super) fn answer_syncs(&mut self, turn: &mut Turn<'_>, error: ErrorCode) {
        let (protocol_type, protocol) = match error {
            ErrorCode::None => (self.protocol_type.as_deref(), self.protocol.as_deref()),
            _ => (None, None),
        };
        for member in &mut self.members {
            let response = SyncGroupResponse::default()
                .with_error_code(error.code())
                .with_protocol_type(protocol_type.map(str_bytes))
                .with_protocol_name(protocol.map(str_bytes))
                .with_assignment(member.assignment.clone());
            if member.answer_sync(turn, response) {
                // Its session may have run out meanwhile: waiting counted as a sign of life.
                member.expect_heartbeat(turn);
            }
        }
    }

    /// A member that is gone, by its own will or not, may still wait for an answer: it gets one that makes it join anew.
    pub(super) fn dismiss(&mut self, id: &str, turn: &mut Turn<'_>) {
        if let Some(member) = self.member_mut(id) {
            member.answer_join(turn, |version| join_error(ErrorCode::UnknownMemberId, "", version));
        }
        self.remove(id);
    }

    pub(super) fn next_deadline_ms(&self) -> Option<i64> {
        let joining = match self.phase {
            Phase::PreparingRebalance { deadline_ms, .. } => Some(deadline_ms),
            Phase::Empty | Phase::CompletingRebalance | Phase::Stable => None,
        };
        let heartbeats = self.members.iter().filter_map(|member| member.heartbeat_deadline_ms);
        let pending = self.pending.values().copied();
        heartbeats
            .chain(pending)
            .chain(joining)
            .chain(self.sync_deadline_ms)
            .min()
    }

    /// Lets everything happen that is due, each time-out once.
    pub(super) fn expire(&mut self, turn: &mut Turn<'_>) {
        self.expire_pending(turn);
        self.expire_sessions(turn);
        self.expire_join(turn);
        self.expire_syncs(turn);
    }

    fn expire_pending(&mut self, turn: &mut Turn<'_>) {
        let before = self.pending.len();
        self.pending.retain(|_, deadline_ms| *deadline_ms > turn.now_ms);
        if self.pending.len() < before && self.phase.is_preparing() && self.all_joined() {
            self.complete_join(turn);
        }
    }

    fn expire_sessions(&mut self, turn: &mut Turn<'_>) {
        let now_ms = turn.now_ms;
        let is_due = |deadline_ms: Option<i64>| deadline_ms.is_some_and(|deadline_ms| deadline_ms <= now_ms);
        let due = self
            .members
            .iter()
            .filter(|member| is_due(member.heartbeat_deadline_ms));
        for id in due.map(|member| member.id.clone()).collect::<Vec<_>>() {
            // An earlier one in this list may have ended the rebalance, which gives the others new time.
            let Some(member) = self
                .member_mut(&id)
                .filter(|member| is_due(member.heartbeat_deadline_ms))
            else {
                continue;
            };
            member.heartbeat_deadline_ms = None;
            if member.is_kept_alive_by_rebalance() {
                continue;
            }
            self.dismiss(&id, turn);
            match self.phase {
                Phase::PreparingRebalance { .. } if self.all_joined() => self.complete_join(turn),
                Phase::PreparingRebalance { .. } | Phase::Empty => {}
                Phase::CompletingRebalance | Phase::Stable => self.prepare_rebalance(turn),
            }
        }
    }

    fn expire_join(&mut self, turn: &mut Turn<'_>) {
        let Phase::PreparingRebalance { deadline_ms, initial } = &mut self.phase else {
            return;
        };
        if *deadline_ms > turn.now_ms {
            return;
        }
        if let Some(initial) = initial
            && initial.member_added
        {
            initial.member_added = false;
            let delay_ms = i64::from(turn.config.initial_rebalance_delay_ms).min(initial.remaining_ms);
            initial.remaining_ms = (initial.remaining_ms - initial.delay_ms).max(0);
            initial.delay_ms = delay_ms;
            *deadline_ms = turn.in_ms(delay_ms);
            if delay_ms > 0 {
                return;
            }
        }
        self.complete_join(turn);
    }

    fn expire_syncs(&mut self, turn: &mut Turn<'_>) {
        if self
            .sync_deadline_ms
            .is_none_or(|deadline_ms| deadline_ms > turn.now_ms)
        {
            return;
        }
        self.sync_deadline_ms = None;
        if self.all_synced() {
            return;
        }
        let silent = self.members.iter().filter(|member| member.owes_sync);
        for id in silent.map(|member| member.id.clone()).collect::<Vec<_>>() {
            self.remove(&id);
        }
        self.prepare_rebalance(turn);
    }
}
