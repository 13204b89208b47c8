//! Leaders that move, topics that vanish or are created anew, on either side.

use std::time::{Duration, Instant};

use super::{End, FlowReplicator, Leader, Slot};
use crate::replication::stopped::Stopped;

/// A broker that has just started may not know a topic for a while; this much later it is gone.
const MISSING_BELIEVED: Duration = Duration::from_secs(30);

impl FlowReplicator {
    pub(super) fn handle_leaders(&mut self, now: Instant, end: End, leaders: Vec<Leader>) {
        self.refresh[end as usize].under_way = false;
        for (index, leader) in leaders.into_iter().enumerate().take(self.members.len()) {
            match end {
                End::Source => self.handle_source_leader(now, index, leader),
                End::Target => self.handle_target_leader(now, index, leader),
            }
        }
    }

    fn handle_source_leader(&mut self, now: Instant, index: usize, leader: Leader) {
        let Some((broker, epoch)) = self.believe(now, index, End::Source, leader) else {
            return;
        };
        let connection = (index % usize::from(self.limits.source_connections)) as u16;
        let slot = Slot { broker, connection };
        let member = &mut self.members[index];
        let moved = member.source.is_none_or(|(old, _)| old != slot);
        let old = member.source.replace((slot, epoch)).map(|(old, _)| old);
        if moved {
            if let Some(state) = old.and_then(|old| self.sources.get_mut(&old)) {
                state.members.retain(|other| *other != index);
            }
            self.sources.entry(slot).or_default().members.push(index);
        }
        self.rouse(index);
    }

    fn handle_target_leader(&mut self, now: Instant, index: usize, leader: Leader) {
        let Some((broker, _)) = self.believe(now, index, End::Target, leader) else {
            return;
        };
        let connection = (index % usize::from(self.limits.target_connections)) as u16;
        let slot = Slot { broker, connection };
        let member = &mut self.members[index];
        if member.target != Some(slot)
            && let Some(old) = member.target.replace(slot)
        {
            member.replicator.handle_target_leader_changed();
            if std::mem::take(&mut member.queued) {
                let state = self.targets.entry(old).or_default();
                state.ready.retain(|other| *other != index);
            }
        }
        self.enqueue(now, index);
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
