//! Leaders that move, topics that vanish or are created anew, on either side.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::{End, FlowReplicator, Leader, Slot};
use crate::replication::stopped::Stopped;

/// A broker that has just started may not know a topic for a while; this much later it is gone.
const MISSING_BELIEVED: Duration = Duration::from_secs(30);

impl FlowReplicator {
    pub(super) fn handle_leaders(&mut self, now: Instant, end: End, leaders: Vec<Leader>) {
        self.refresh[end as usize].under_way = false;
        let mut left = BTreeSet::new();
        for (index, leader) in leaders.into_iter().enumerate().take(self.members.len()) {
            match end {
                End::Source => self.handle_source_leader(now, index, leader),
                End::Target => left.extend(self.handle_target_leader(now, index, leader)),
            }
        }
        for slot in left {
            let state = self.targets.entry(slot).or_default();
            state.ready.retain(|index| self.members[*index].target == Some(slot));
        }
    }

    fn handle_source_leader(&mut self, now: Instant, index: usize, leader: Leader) {
        let Some((broker, epoch)) = self.believe(now, index, End::Source, leader) else {
            return;
        };
        let connection = (index % usize::from(self.limits.source_connections)) as u16;
        let slot = Slot { broker, connection };
        let old = self.members[index].source.replace((slot, epoch));
        if old == Some((slot, epoch)) {
            return;
        }
        if let Some((old, _)) = old.filter(|(old, _)| *old != slot) {
            self.leave_source_slot(index, old);
        }
        self.note_wish(index);
    }

    /// Returns the slot that the partition has left, and in whose queue it may be.
    fn handle_target_leader(&mut self, now: Instant, index: usize, leader: Leader) -> Option<Slot> {
        let (broker, _) = self.believe(now, index, End::Target, leader)?;
        let connection = (index % usize::from(self.limits.target_connections)) as u16;
        let slot = Slot { broker, connection };
        let member = &mut self.members[index];
        let old = member.target.replace(slot).filter(|old| *old != slot);
        if old.is_some() {
            member.replicator.handle_target_leader_changed();
            member.queued = false;
        }
        self.enqueue(now, index);
        old
    }

    /// The leader to go on with, if there is one. A topic that is gone, or another one under its name, stops the
    /// partition.
    fn believe(&mut self, now: Instant, index: usize, end: End, leader: Leader) -> Option<(i32, i32)> {
        let member = &mut self.members[index];
        let (known, deleted) = match end {
            End::Source => (member.replicator.source_topic_id(), Stopped::SourceDeleted),
            End::Target => (member.replicator.target_topic_id(), Stopped::TargetDeleted),
        };
        // A source that was read to the end, or a target that has everything, is not waited for.
        let waits = match end {
            End::Source => member.replicator.needs_source(),
            End::Target => !member.replicator.is_settled(),
        };
        let missing_since = &mut member.missing_since[end as usize];
        if !matches!(leader, Leader::Missing) {
            *missing_since = None;
        }
        let reason = match leader {
            Leader::Known {
                broker,
                epoch,
                topic_id,
            } if topic_id == known || topic_id.is_nil() || known.is_nil() => {
                if end == End::Target {
                    self.update(now, index, |replicator| replicator.handle_target_leader(now, true));
                }
                return Some((broker, epoch));
            }
            _ if end == End::Source && !waits => return None,
            Leader::Known { topic_id, .. } if end == End::Source => {
                self.update(now, index, |replicator| replicator.handle_recreated(now, topic_id));
                return None;
            }
            Leader::Known { .. } => Stopped::TargetRecreated,
            Leader::Missing if now >= *missing_since.get_or_insert(now) + MISSING_BELIEVED => deleted,
            Leader::Absent | Leader::Missing if !waits => return None,
            Leader::Absent | Leader::Missing => {
                self.refresh[end as usize].wanted = true;
                self.update(now, index, |replicator| match end {
                    End::Source => replicator.handle_fetch_failed(now, "no leader"),
                    End::Target => replicator.handle_target_leader(now, false),
                });
                self.lose_patience(now, index);
                return None;
            }
        };
        self.update(now, index, |replicator| match end {
            End::Source => replicator.stop_fetching(reason),
            End::Target => replicator.stop(reason),
        });
        None
    }
}
