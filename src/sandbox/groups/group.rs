//! One group: who is in it, in which phase, under which generation, and what it may be asked.

use std::collections::{BTreeMap, BTreeSet};

use super::member::Member;
use super::offsets::Offsets;
use super::subscription;
use crate::protocol::error_code::ErrorCode;

/// The only protocol type whose metadata the coordinator looks into.
const CONSUMER: &str = "consumer";

#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) phase: Phase,
    pub(super) generation: i32,
    /// None as long as only offsets have been committed: a "simple" group.
    pub(super) protocol_type: Option<String>,
    /// The protocol that this generation has chosen.
    pub(super) protocol: Option<String>,
    pub(super) leader: Option<String>,
    /// In the order of joining: when the leader goes, the oldest takes over.
    pub(super) members: Vec<Member>,
    /// Ids that were given out and not used yet, each with the time at which it is forgotten.
    pub(super) pending: BTreeMap<String, i64>,
    /// By when every member must have asked for its assignment.
    pub(super) sync_deadline_ms: Option<i64>,
    subscribed: Subscribed,
    pub(super) offsets: Offsets,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    #[default]
    Empty,
    /// Waits for the members to join.
    PreparingRebalance {
        deadline_ms: i64,
        initial: Option<InitialDelay>,
    },
    /// All have joined; waits for the leader's assignment.
    CompletingRebalance,
    Stable,
}

/// A group that was empty waits a while for more members, and longer if some come.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InitialDelay {
    pub(super) delay_ms: i64,
    pub(super) remaining_ms: i64,
    pub(super) member_added: bool,
}

/// The topics that the members consume, as far as the coordinator can tell.
#[derive(Debug, Default, PartialEq, Eq)]
enum Subscribed {
    #[default]
    Unknown,
    Topics(BTreeSet<String>),
}

impl Phase {
    /// The name in `ListGroups` and `DescribeGroups`.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance { .. } => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }

    pub(super) const fn is_preparing(&self) -> bool {
        matches!(self, Self::PreparingRebalance { .. })
    }
}

impl Group {
    pub(super) fn member(&self, id: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    pub(super) fn member_mut(&mut self, id: &str) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.id == id)
    }

    pub(super) fn static_member(&self, instance_id: &str) -> Option<&Member> {
        self.members
            .iter()
            .find(|member| member.instance_id.as_deref() == Some(instance_id))
    }

    pub(super) fn is_leader(&self, id: &str) -> bool {
        self.leader.as_deref() == Some(id)
    }

    pub(super) fn add(&mut self, member: Member, protocol_type: &str) {
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type.to_owned());
        }
        self.leader.get_or_insert_with(|| member.id.clone());
        self.pending.remove(&member.id);
        self.members.push(member);
    }

    pub(super) fn remove(&mut self, id: &str) {
        self.members.retain(|member| member.id != id);
        self.pending.remove(id);
        if self.is_leader(id) {
            self.leader = self.members.first().map(|oldest| oldest.id.clone());
        }
    }

    pub(super) fn all_joined(&self) -> bool {
        self.pending.is_empty() && self.members.iter().all(|member| member.joining.is_some())
    }

    pub(super) fn all_synced(&self) -> bool {
        self.members.iter().all(|member| !member.owes_sync)
    }

    /// The most patient member decides.
    pub(super) fn rebalance_timeout_ms(&self) -> i64 {
        let longest = self.members.iter().map(|member| member.rebalance_timeout_ms).max();
        longest.unwrap_or(0).max(0).into()
    }

    /// Whether a member with these protocols can be in the group.
    pub(super) fn supports<'a>(&self, protocol_type: &str, protocols: impl IntoIterator<Item = &'a str>) -> bool {
        let mut protocols = protocols.into_iter();
        if self.phase == Phase::Empty {
            return !protocol_type.is_empty() && protocols.next().is_some();
        }
        self.protocol_type.as_deref() == Some(protocol_type) && protocols.any(|protocol| self.all_support(protocol))
    }

    fn all_support(&self, protocol: &str) -> bool {
        self.members.iter().all(|member| member.supports(protocol))
    }

    /// Each member votes for the first of its protocols that all support; a tie goes to the first one voted for.
    pub(super) fn elect_protocol(&self) -> Option<String> {
        let mut votes: Vec<(&str, usize)> = Vec::new();
        for member in &self.members {
            let Some(vote) = member
                .protocols
                .iter()
                .find(|protocol| self.all_support(&protocol.name))
            else {
                continue;
            };
            match votes.iter_mut().find(|(name, _)| *name == vote.name) {
                Some((_, count)) => *count += 1,
                None => votes.push((&vote.name, 1)),
            }
        }
        let most = votes.iter().map(|&(_, count)| count).max()?;
        votes
            .iter()
            .find(|&&(_, count)| count == most)
            .map(|&(name, _)| name.to_owned())
    }

    /// Makes sure that a member of this generation's leader list has joined. False: nobody has.
    pub(super) fn elect_joined_leader(&mut self) -> bool {
        let Some(leader) = self.leader.as_deref().and_then(|id| self.member(id)) else {
            return false;
        };
        if leader.joining.is_some() {
            return true;
        }
        let Some(joined) = self.members.iter().find(|member| member.joining.is_some()) else {
            return false;
        };
        self.leader = Some(joined.id.clone());
        true
    }

    pub(super) fn begin_generation(&mut self) {
        self.generation = self.generation.wrapping_add(1).max(0);
        self.protocol = self.elect_protocol();
        self.phase = match self.members.is_empty() {
            true => Phase::Empty,
            false => Phase::CompletingRebalance,
        };
        self.forget_syncs();
        self.subscribed = self.read_subscriptions();
    }

    pub(super) fn forget_syncs(&mut self) {
        self.sync_deadline_ms = None;
        for member in &mut self.members {
            member.owes_sync = false;
        }
    }

    /// A member that names itself must be the one that is known by these names.
    pub(super) fn check_member(&self, id: &str, instance_id: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.static_member(instance_id) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(member) if member.id != id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        self.member(id).map(|_| ()).ok_or(ErrorCode::UnknownMemberId)
    }

    pub(super) fn has_consumer_protocol(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    /// What cannot be told counts as consumed, so that its offsets are kept.
    pub(super) fn is_subscribed(&self, topic: &str) -> bool {
        match &self.subscribed {
            Subscribed::Topics(topics) => topics.contains(topic),
            Subscribed::Unknown => self.has_consumer_protocol(),
        }
    }

    fn read_subscriptions(&self) -> Subscribed {
        if !self.has_consumer_protocol() {
            return Subscribed::Unknown;
        }
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let mut topics = BTreeSet::new();
        for metadata in self.members.iter().filter_map(|member| member.metadata(protocol)) {
            match subscription::topics(metadata) {
                Ok(subscribed) => topics.extend(subscribed.into_iter().map(str::to_owned)),
                Err(_) => return Subscribed::Unknown,
            }
        }
        Subscribed::Topics(topics)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;

    #[test]
    fn the_protocol_that_most_members_prefer_of_those_that_all_know_is_chosen() {
        let group = Fixture::stable(&[&["range", "sticky"], &["sticky", "range"], &["new", "sticky", "range"]]);

        assert_eq!(group.describe("g").protocol_data.as_str(), "sticky");
    }

    #[test]
    fn a_member_that_shares_no_protocol_is_refused() {
        let mut group = Fixture::stable(&[&["range"]]);

        let sent = group.join("", &["sticky"]);

        assert_eq!(group.joined(sent).error_code, 23, "INCONSISTENT_GROUP_PROTOCOL");
    }

    #[test]
    fn the_oldest_member_leads_when_the_leader_has_gone() {
        let mut group = Fixture::stable_of(3);
        let members = group.member_ids();
        group.leave(&members[0]);

        let sent = [group.join(&members[1], &["range"]), group.join(&members[2], &["range"])];
        let [second, third] = sent.map(|sent| group.joined(sent));

        assert_eq!(second.leader.as_str(), members[1]);
        assert_eq!(second.members.len(), 2, "the leader is told who the members are");
        assert_eq!(third.leader.as_str(), members[1]);
        assert_eq!(third.members.len(), 0, "and nobody else");
    }
}
