//! Recovering: nothing is taken for granted of what was sent, the target is asked where its log stands.

use std::collections::VecDeque;
use std::time::Instant;

use super::trouble::backoff;
use super::{AfterDraining, Incident, OnChange, PartitionReplicator, Phase, Progress};
use crate::offsets::{OffsetPair, SourceOffset, TargetOffset};
use crate::replication::ledger::{MAX_CUTS, SegmentName};
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
        self.asked_at = Some(now);
        Some(Known {
            position: self.acked_position,
            before: self.acked,
            target_next: self.target_next,
            producer_id: self.producer.0,
            producer_epoch: self.producer.1,
            next_sequence: self.acked_sequence,
            beginning: self.beginning,
            is_quiet: self.is_quiet,
            is_compacted: self.start.is_compacted,
            is_cleaned: self.start.is_cleaned,
            keeps_time: self.start.keeps_time,
            must_fence: self.must_fence,
        })
    }

    /// Whether [`Self::poll_recovery`] would give something now.
    pub fn wants_recovery(&self, now: Instant) -> bool {
        match self.phase {
            Phase::Recovering {
                under_way: false,
                not_before,
            } => self.stopped.is_none() && not_before.is_none_or(|at| at <= now),
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
        if recovered.orphans > 0 {
            let (at, records) = (recovered.position, recovered.orphans);
            let is_news = self.beginning == Beginning::Remembered;
            if is_news && self.start.policies.truncation == OnChange::Stop {
                self.stop(Stopped::SourceParted { at, records });
                return Progress::default();
            }
            self.incidents.push(Incident::Parted { at, records });
        }
        let is_cut = self.beginning == Beginning::Restart || recovered.orphans > 0;
        self.epochs.take_all(&recovered.epochs);
        self.epochs.cut(recovered.position);
        let records: i64 = recovered.runs.iter().map(|run| run.count).sum();
        for run in recovered.runs {
            self.push_run(run);
        }
        if is_cut {
            self.close_segment();
            self.cut(recovered.position, recovered.target_next);
        }
        let before = self.lasting(recovered.before);
        (self.fetch_position, self.fetched) = (recovered.position, before);
        (self.acked_position, self.acked) = (recovered.position, before);
        self.target_next = recovered.target_next;
        self.producer = (recovered.producer_id, recovered.producer_epoch);
        (self.next_sequence, self.acked_sequence) = (recovered.next_sequence, recovered.next_sequence);
        self.is_known_to_leader = recovered.is_known_to_leader;
        // Whoever was shut out stays so, whatever was asked meanwhile.
        self.is_alone |= recovered.is_alone;
        self.recovered_at = self.asked_at;
        // What a dead incarnation has copied is not of this run.
        let is_of_this_run = self.last_ack.replace(now).is_some();
        (self.must_fence, self.is_quiet, self.in_doubt) = (None, false, false);
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
            records: if is_of_this_run { records as u64 } else { 0 },
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
        let not_before = Some(now + backoff(self.failures));
        match self.is_recreated {
            true => self.begin_again_at(SourceOffset(0), not_before),
            false => self.recover_from(self.acked_position, not_before),
        }
    }

    /// The same, from a position on.
    pub(super) fn recover_from(&mut self, position: SourceOffset, not_before: Option<Instant>) {
        assert!(self.in_flight == 0, "what is in flight has its outcome first");
        self.unacked.clear();
        self.prepared.clear();
        self.prepared_bytes = 0;
        self.empty_fetches = 0;
        self.parted = None; // If so, the next fetch tells of it again.
        self.epochs.cut(position);
        self.acked_position = position;
        (self.fetch_position, self.fetched) = (position, self.acked);
        self.phase = Phase::Recovering {
            under_way: false,
            not_before,
        };
    }

    /// Whether what was found out about the target's log is as new as `then`, or no earlier owner could change it.
    pub fn is_certain_since(&self, then: Instant) -> bool {
        self.is_alone || self.recovered_at.is_some_and(|at| at >= then)
    }

    /// Where the target's log stands is found out once more, when what is in flight has come to its end.
    pub fn recover_again(&mut self, now: Instant) {
        match (self.phase, self.in_flight) {
            (Phase::Recovering { .. }, _) => {}
            (_, 0) => self.enter_recovery(now),
            _ => self.phase = Phase::Draining(AfterDraining::Recover),
        }
    }

    /// Goes on with a topic that was created anew, once what is in flight has its outcome.
    pub(super) fn restart(&mut self, now: Instant) {
        self.prepared.clear();
        self.prepared_bytes = 0;
        self.is_recreated = true;
        self.recover_again(now);
    }

    /// From here on the map is another.
    fn cut(&mut self, source: SourceOffset, target: TargetOffset) {
        // What the map says from there on is void, and its place in the ledger is taken by what comes.
        self.full_segments
            .retain(|segment| segment.start().is_some_and(|start| start < source));
        let (kept, void) = std::mem::take(&mut self.closed_segments)
            .into_iter()
            .partition(|name| name.start < source);
        self.closed_segments = kept;
        let void: VecDeque<SegmentName> = void;
        let keys = void
            .iter()
            .map(|name| name.key(&self.start.topic, self.start.partition));
        self.gone.extend(keys);
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::offsets::{SourceOffset, TargetOffset};
    use crate::protocol::error_code::ErrorCode;
    use crate::replication::ledger::{OwnerId, SegmentName};
    use crate::replication::partition::tests::{
        acked, as_known, feed, fetched, lost, refused, remembered, run, send_all, sequences, start_of_time, started,
        streaming, wants_fetch,
    };
    use crate::replication::partition::{Incident, OnChange, PartitionReplicator, PartitionStart, Policies, SourceLog};
    use crate::replication::recovery::{Beginning, FenceReason, Recovered};
    use crate::replication::stopped::Stopped;

    #[test]
    fn a_lost_answer_is_asked_about_and_never_guessed() {
        let now = start_of_time();
        let (mut partition, _) = streaming(now, 3);
        partition.handle_outcome(now, 2, lost());
        assert!(partition.poll_recovery(now).is_none() && send_all(&mut partition, now).is_empty());
        partition.handle_outcome(now, 4, acked(4));
        partition.handle_outcome(now, 6, refused(ErrorCode::NotLeaderOrFollower));

        let later = partition.produce_retry_at().expect("backing off");
        assert!(partition.poll_recovery(now).is_none());
        assert!(
            !wants_fetch(&partition, later, usize::MAX),
            "it is not known from where on"
        );
        let known = partition.poll_recovery(later).expect("all have their outcomes");
        assert!(partition.poll_recovery(later).is_none(), "asked once");
        assert_eq!(
            (known.position, known.target_next, known.next_sequence),
            (SourceOffset(2), TargetOffset(2), 2),
            "what is acked in order; the rest may be there or not"
        );

        let found = Recovered {
            position: SourceOffset(6),
            target_next: TargetOffset(6),
            next_sequence: 6,
            runs: vec![run(2, 2, 4)],
            is_known_to_leader: true,
            ..as_known(&known)
        };
        assert_eq!(partition.handle_recovered(later, found).records, 4);
        assert_eq!(partition.fetch_position(), SourceOffset(6));
        let written = partition.poll_checkpoint().expect("the position has moved");
        assert_eq!(written.segments[0].runs(), [run(0, 0, 6)]);
        feed(&mut partition, later, 2);
        assert_eq!(sequences(&send_all(&mut partition, later)), [6, 8]);
    }

    #[test]
    fn an_answer_to_an_old_fetch_is_not_taken_for_a_new_one() {
        let now = start_of_time();
        let (mut partition, _) = streaming(now, 1);
        let asked = partition.fetch_position();
        partition.handle_outcome(now, 2, lost());
        assert!(!partition.is_current(asked));
        let later = partition.produce_retry_at().expect("backing off");
        let known = partition.poll_recovery(later).expect("due");
        partition.handle_recovered(later, as_known(&known));
        assert!(!partition.is_current(asked) && partition.is_current(SourceOffset(2)));
    }

    #[test]
    fn a_new_mapping_is_in_the_ledger_before_the_first_batch() {
        let now = start_of_time();
        let start = PartitionStart {
            beginning: Beginning::New,
            ..remembered(1000)
        };
        let mut partition = PartitionReplicator::new(start, None);
        let known = partition.poll_recovery(now).expect("the target is asked first");
        assert_eq!(partition.poll_checkpoint(), None, "the mapping is not known so far");
        let recovered = Recovered {
            producer_id: 9,
            producer_epoch: 4,
            is_new_mapping: true,
            ..as_known(&known)
        };
        partition.handle_recovered(now, recovered);
        feed(&mut partition, now, 1);
        assert!(send_all(&mut partition, now).is_empty() && partition.awaits_ledger());

        let written = partition.poll_checkpoint().expect("the mapping");
        assert_eq!(
            (
                written.checkpoint.producer_id,
                written.checkpoint.producer_epoch,
                written.checkpoint.next_sequence
            ),
            (9, 4, 0)
        );
        partition.handle_checkpoint_failed(written);
        assert!(send_all(&mut partition, now).is_empty());
        partition.handle_checkpointed();
        assert!(send_all(&mut partition, now).is_empty(), "that was not the mapping's");
        partition.poll_checkpoint().expect("again");
        partition.handle_checkpointed();
        assert_eq!(sequences(&send_all(&mut partition, now)), [0]);
    }

    #[test]
    fn a_partition_without_records_is_done_once_the_ledger_knows_it() {
        let now = start_of_time();
        let start = PartitionStart {
            beginning: Beginning::New,
            ..remembered(0)
        };
        let mut partition = PartitionReplicator::new(start, None);
        assert!(!partition.is_done());
        let known = partition.poll_recovery(now).expect("the target is asked first");
        partition.handle_recovered(
            now,
            Recovered {
                is_new_mapping: true,
                ..as_known(&known)
            },
        );
        partition.poll_checkpoint().expect("the mapping");
        partition.handle_checkpointed();
        assert!(partition.is_done());

        let mut partition = PartitionReplicator::new(remembered(0), None);
        assert!(!partition.is_done(), "the target may have more than the ledger knows");
        let known = partition.poll_recovery(now).expect("the target is asked");
        partition.handle_recovered(now, as_known(&known));
        assert!(
            !partition.is_done() && wants_fetch(&partition, now, 1),
            "the source may be another"
        );
        partition.handle_source_well();
        assert!(partition.is_done() && !wants_fetch(&partition, now, 1));
    }

    #[test]
    fn whoever_is_alone_stays_so() {
        let now = start_of_time();
        let mut partition = started(remembered(1000));
        assert!(
            partition.is_certain_since(now + Duration::from_secs(9)),
            "the last owner has given it up"
        );
        partition.recover_again(now);
        let later = partition.produce_retry_at().expect("backing off");
        let known = partition.poll_recovery(later).expect("due");
        assert!(!known.is_quiet, "we may have sent something");
        partition.handle_recovered(later, as_known(&known));
        assert!(partition.is_certain_since(now + Duration::from_secs(9)));
    }

    #[test]
    fn a_refused_mapping_ends() {
        for code in [
            ErrorCode::InvalidProducerEpoch,
            ErrorCode::ProducerFenced,
            ErrorCode::UnknownProducerId,
        ] {
            let now = start_of_time();
            let (mut partition, _) = streaming(now, 1);
            partition.handle_outcome(now, 2, refused(code));
            let later = partition.produce_retry_at().expect("backing off");
            let known = partition.poll_recovery(later).expect("due");
            assert_eq!(known.must_fence, Some(FenceReason::Refused), "{code:?}");
        }
    }

    #[test]
    fn what_cannot_be_found_again_is_told_or_stops() {
        let now = start_of_time();
        let lost_range = Some((SourceOffset(2), SourceOffset(9)));
        let recover = |start| {
            let mut partition = PartitionReplicator::new(start, None);
            let known = partition.poll_recovery(now).expect("due");
            partition.handle_recovered(
                now,
                Recovered {
                    perhaps_repeated: lost_range,
                    ..as_known(&known)
                },
            );
            partition
        };
        let mut partition = recover(remembered(1000));
        assert_eq!(
            partition.take_incidents(),
            [Incident::PerhapsRepeated(SourceOffset(2), SourceOffset(9))]
        );
        assert!(partition.stopped().is_none());
        let policies = Policies {
            exactly_once: true,
            ..Policies::default()
        };
        let partition = recover(PartitionStart {
            policies,
            ..remembered(1000)
        });
        assert!(matches!(partition.stopped(), Some(Stopped::Unmatched { .. })));
    }

    #[test]
    fn what_may_come_late_is_not_given_up() {
        let now = start_of_time();
        let (mut partition, _) = streaming(now, 1);
        assert!(!partition.is_quiet(), "a batch is on its way");
        partition.handle_outcome(now, 2, lost());
        assert!(!partition.is_quiet(), "it still may be");
        let later = partition.produce_retry_at().expect("backing off");
        let known = partition.poll_recovery(later).expect("due");
        partition.handle_recovered(later, as_known(&known));
        assert!(partition.is_quiet());
    }

    #[test]
    fn out_of_order_without_a_reason_is_asked_about() {
        let now = start_of_time();
        let (mut partition, _) = streaming(now, 1);
        partition.handle_outcome(now, 2, refused(ErrorCode::OutOfOrderSequenceNumber));
        let later = partition.produce_retry_at().expect("backing off");
        let known = partition.poll_recovery(later).expect("due");
        assert_eq!((known.position, known.must_fence), (SourceOffset(2), None));
    }

    #[test]
    fn by_policy_a_gap_is_told_and_passed() {
        let now = start_of_time();
        let policies = Policies {
            gap: OnChange::Continue,
            ..Policies::default()
        };
        let mut partition = started(PartitionStart {
            policies,
            ..remembered(1000)
        });
        partition.handle_source_range(now, SourceOffset(17), SourceOffset(50));
        assert_eq!(
            partition.take_incidents(),
            [Incident::Gap(SourceOffset(0), SourceOffset(17))]
        );
        assert_eq!(
            (partition.fetch_position(), partition.acked_position()),
            (SourceOffset(17), SourceOffset(17))
        );
    }

    #[test]
    fn what_the_source_no_longer_has_needs_no_translation() {
        let now = start_of_time();
        let name = |start, end| SegmentName {
            start: SourceOffset(start),
            owner: OwnerId {
                generation: 1,
                instance: 9,
            },
            end: SourceOffset(end),
        };
        let mut partition = started(PartitionStart {
            position: SourceOffset(100),
            segments: vec![name(0, 40), name(40, 80)],
            ..remembered(1000)
        });
        let log = SourceLog {
            last_stable_offset: SourceOffset(1000),
            high_watermark: SourceOffset(1000),
            log_start_offset: SourceOffset(50),
        };
        partition.handle_fetched(now, fetched(100, 1), log);
        send_all(&mut partition, now);
        partition.handle_outcome(now, 0, acked(0));
        let written = partition.poll_checkpoint().expect("new");
        assert_eq!(written.gone, [name(0, 40).key("t", 0)]);
    }
}
