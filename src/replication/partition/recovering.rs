//! Recovering: nothing is taken for granted of what was sent, the target is asked where its log stands.

use std::time::Instant;

use super::trouble::backoff;
use super::{AfterDraining, Incident, PartitionReplicator, Phase, Progress};
use crate::offsets::{OffsetPair, SourceOffset, TargetOffset};
use crate::replication::ledger::MAX_CUTS;
use crate::replication::recovery::{Beginning, Known, Recovered};
use crate::replication::stopped::Stopped;

impl PartitionReplicator {
    /// What is known, where the target has to be asked now.
    pub fn poll_recovery(&mut self, now: Instant) -> Option<Known> {
        if !self.wants_recovery(now) {
            return None;
        }
        self.phase = Phase::Recovering {
            under_way: true,
            not_before: None,
        };
        Some(Known {
            position: self.acked_position,
            leader_epoch: self.acked_epoch,
            target_next: self.target_next,
            producer_id: self.producer.0,
            producer_epoch: self.producer.1,
            next_sequence: self.acked_sequence,
            beginning: self.beginning,
            is_quiet: self.is_quiet,
            is_compacted: self.start.is_compacted,
            is_cleaned: self.start.is_cleaned,
            keeps_time: self.start.keeps_time,
            is_refused: self.is_refused,
        })
    }

    /// Whether [`Self::poll_recovery`] would give something now.
    pub fn wants_recovery(&self, now: Instant) -> bool {
        match self.phase {
            Phase::Recovering {
                under_way: false,
                not_before,
            } => self.stopped.is_none() && !self.is_done() && not_before.is_none_or(|at| at <= now),
            _ => false,
        }
    }

    /// Takes where the target's log stands.
    pub fn handle_recovered(&mut self, now: Instant, recovered: Recovered) -> Progress {
        if !self.is_recovering() || self.sending_stopped {
            return Progress::default();
        }
        if let Some((from, to)) = recovered.perhaps_repeated {
            if self.start.policies.exactly_once {
                self.stop(Stopped::Unmatched { from, to });
                return Progress::default();
            }
            self.incidents.push(Incident::PerhapsRepeated(from, to));
        }
        if self.beginning == Beginning::Restart {
            self.close_segment();
            self.cut(recovered.position, recovered.target_next);
        }
        let records: i64 = recovered.runs.iter().map(|run| run.count).sum();
        for run in recovered.runs {
            self.push_run(run);
        }
        self.fetch_position = recovered.position;
        self.last_fetched_epoch = recovered.leader_epoch;
        (self.acked_position, self.acked_epoch) = (recovered.position, recovered.leader_epoch);
        self.target_next = recovered.target_next;
        self.producer = (recovered.producer_id, recovered.producer_epoch);
        (self.next_sequence, self.acked_sequence) = (recovered.next_sequence, recovered.next_sequence);
        self.is_known_to_leader = recovered.is_known_to_leader;
        self.last_ack = Some(now);
        (self.is_refused, self.is_quiet, self.in_doubt) = (false, false, false);
        self.failures = 0;
        self.target_trouble.clear();
        if records > 0 {
            self.incidents.push(Incident::Found {
                records: records as u64,
                position: recovered.position,
            });
        }
        self.phase = match recovered.is_new_mapping {
            true => Phase::AwaitingLedger { writing: false },
            false => Phase::Streaming,
        };
        Progress {
            records: records as u64,
            ..Progress::default()
        }
    }

    /// It could not be found out; it is tried again.
    pub fn handle_recovery_failed(&mut self, now: Instant, cause: &str) {
        if self.is_recovering() {
            self.failures += 1;
            self.target_trouble.note(now, cause);
            self.phase = Phase::Recovering {
                under_way: false,
                not_before: Some(now + backoff(self.failures)),
            };
        }
    }

    /// Forgets what was sent and not acked: where it came to is found out, and it is fetched again from there.
    pub(super) fn enter_recovery(&mut self, now: Instant) {
        assert!(self.in_flight == 0, "what is in flight has its outcome first");
        self.unacked.clear();
        self.prepared.clear();
        self.prepared_bytes = 0;
        self.empty_fetches = 0;
        if let Some(position) = self.restart_at.take() {
            (self.acked_position, self.acked_epoch) = (position, -1);
        }
        (self.fetch_position, self.last_fetched_epoch) = (self.acked_position, self.acked_epoch);
        self.phase = Phase::Recovering {
            under_way: false,
            not_before: Some(now + backoff(self.failures)),
        };
    }

    /// Goes on at `position` of a source that has become another.
    pub(super) fn restart(&mut self, now: Instant, position: SourceOffset) {
        self.beginning = Beginning::Restart;
        self.prepared.clear();
        self.prepared_bytes = 0;
        self.restart_at = Some(position);
        match self.in_flight {
            0 => self.enter_recovery(now),
            _ => self.phase = Phase::Draining(AfterDraining::Recover),
        }
    }

    /// From here on the map is another.
    fn cut(&mut self, source: SourceOffset, target: TargetOffset) {
        let cuts = &mut self.start.cuts;
        cuts.retain(|cut| cut.source < source);
        if cuts.len() == MAX_CUTS {
            cuts.remove(0);
        }
        cuts.push(OffsetPair { source, target });
        if source <= self.start.flow_start.source {
            self.start.flow_start = OffsetPair { source, target };
        }
    }
}
