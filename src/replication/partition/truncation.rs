//! A source that has become another: its log was cut back, or no longer begins where the copy goes on.

use std::time::Instant;

use super::fetching::BELIEVED;
use super::{Incident, OnChange, Parted, PartitionReplicator};
use crate::offsets::SourceOffset;
use crate::protocol::fetch_response::EpochEnd;
use crate::replication::epochs::{Before, Truncation};
use crate::replication::recovery::{Beginning, FenceReason};
use crate::replication::stopped::Stopped;

impl PartitionReplicator {
    /// The source's log is not the one that was copied: it was cut back, and other records may have come in the place of what
    /// is gone. Says whether its range has to be asked.
    pub fn handle_truncated(&mut self, truncation: Truncation) -> bool {
        let position = self.fetch_position;
        let end = match truncation {
            Truncation::EpochEnds(end) => end,
            // A leader that can tell where epochs end had nothing to tell: within ours other records may have come.
            Truncation::LogEnds(at) if self.start.policies.truncation == OnChange::Continue => {
                self.parted = Some(Parted::AskingForNothing(at));
                return true;
            }
            Truncation::LogEnds(at) => {
                self.stop_fetching(Stopped::SourceAltered { at, position });
                return false;
            }
            Truncation::EpochUnknown => EpochEnd {
                epoch: self.fetched.epoch - 1,
                end_offset: position.0,
            },
        };
        let parted = self.epochs.parted(end, self.start.flow_start.source);
        if self.start.policies.truncation == OnChange::Stop || parted.is_none() {
            let end = parted.unwrap_or(self.start.flow_start.source).min(position);
            self.stop_fetching(Stopped::SourceTruncated { position, end });
            return false;
        }
        self.parted = parted.map(|parted| Parted::Asking(parted.min(position)));
        true
    }

    /// Where the source's log begins and ends, asked after an OFFSET_OUT_OF_RANGE or a truncation. Nothing is skipped without
    /// a policy that says so. Says whether it has to be asked again.
    pub fn handle_source_range(&mut self, now: Instant, log_start: SourceOffset, log_end: SourceOffset) -> bool {
        // A recovery tells of a truncation itself; what else was asked for is of before.
        if (self.is_recovering() && self.parted.is_none()) || self.stopped.is_some() {
            return false;
        }
        let position = self.fetch_position;
        for before in [&mut self.fetched, &mut self.acked] {
            before.mark = before.mark.filter(|mark| mark.base_offset >= log_start); // Retention takes it, too.
        }
        if let Some(parted) = self.parted {
            match parted {
                Parted::Draining(_) => {}
                Parted::AskingForNothing(at) if at > log_start => {
                    self.stop_fetching(Stopped::SourceAltered { at, position });
                }
                Parted::Asking(at) | Parted::AskingForNothing(at) => {
                    self.start.end = self.start.end.map(|end| end.min(log_end));
                    self.drain_to(at);
                }
            }
        } else if position < log_start && !self.is_alone {
            // What is gone may be on the target: an earlier owner's batches may have been under way when it was asked.
            if self.is_idle() {
                self.enter_recovery(now);
            }
        } else if position < log_start {
            match self.start.policies.gap {
                OnChange::Stop => self.stop_fetching(Stopped::SourceGap {
                    from: position,
                    to: log_start,
                }),
                OnChange::Continue => {
                    self.incidents.push(Incident::Gap(position, log_start));
                    self.fetch_position = log_start;
                    self.advance_when_idle();
                }
            }
        } else if position > log_end {
            return self.handle_truncated(Truncation::LogEnds(log_end));
        } else if let Some(end) = self.start.end.filter(|end| *end > log_end) {
            self.incidents.push(Incident::Shortened(log_end, end));
            self.start.end = Some(log_end);
            self.advance_when_idle();
        } else if self.out_of_range >= BELIEVED && self.fetched.epoch >= 0 {
            self.out_of_range = 0;
            return self.handle_truncated(Truncation::EpochUnknown);
        }
        // Within range after all (a follower answered, or an election was under way): the next fetch tells.
        false
    }

    /// What was fetched of what the source still has goes to the target first.
    fn drain_to(&mut self, parted: SourceOffset) {
        self.parted = Some(Parted::Draining(parted));
        if self.is_recovering() {
            // Whatever the target has beyond what it acknowledged, the source has lost too.
            return self.part(parted);
        }
        self.abandon_prepared_from(parted);
        self.part_when_idle();
    }

    /// Goes on at what the source has instead of what it has lost, once nothing is on its way.
    pub(super) fn part_when_idle(&mut self) {
        let Some(Parted::Draining(parted)) = self.parted.filter(|_| self.is_idle() && !self.sending_stopped) else {
            return;
        };
        if self.acked_position > parted {
            return self.part(parted);
        }
        self.parted = None;
        if !self.is_alone {
            self.must_fence = Some(FenceReason::SourceEpoch);
            return self.recover_from(self.acked_position, None);
        }
        (self.fetch_position, self.fetched) = (self.acked_position, self.acked);
        self.epochs.cut(self.fetch_position);
    }

    /// Ends the mapping once nothing of ours is on its way, and goes on with another.
    pub(super) fn fence_first(&mut self, now: Instant) {
        self.must_fence = Some(FenceReason::SourceEpoch);
        self.recover_again(now);
    }

    fn part(&mut self, parted: SourceOffset) {
        self.incidents.push(Incident::Truncated(parted, self.acked_position));
        self.begin_again_at(parted, None);
    }

    /// Goes on at `position` of a source that has become another.
    pub(super) fn begin_again_at(&mut self, position: SourceOffset, not_before: Option<Instant>) {
        self.beginning = Beginning::Restart;
        self.is_recreated = false;
        self.epochs.cut(position);
        self.acked = Before {
            epoch: self.epochs.last_epoch(),
            mark: None,
        };
        self.recover_from(position, not_before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offsets::{OffsetPair, TargetOffset};
    use crate::protocol::error_code::ErrorCode;
    use crate::replication::epochs::BatchMark;
    use crate::replication::partition::tests::{
        acked, as_known, feed, fetched, log, lost, remembered, run, send_all, sequences, start_of_time, started,
        wants_fetch,
    };
    use crate::replication::partition::{PartitionStart, Policies};
    use crate::replication::prepare::{PrepareError, Prepared};
    use crate::replication::recovery::Recovered;

    /// A partition that is to go on with what the source has, up to offset 1000.
    fn continuing() -> PartitionReplicator {
        started(PartitionStart {
            policies: Policies {
                truncation: OnChange::Continue,
                ..Policies::default()
            },
            ..remembered(1000)
        })
    }

    /// As the leader says it.
    fn ends(epoch: i32, end_offset: i64) -> Truncation {
        Truncation::EpochEnds(EpochEnd { epoch, end_offset })
    }

    fn records_of(base_offset: i64, epoch: i32) -> Prepared {
        let mut prepared = fetched(base_offset, 1);
        prepared.epochs[0].epoch = epoch;
        prepared
    }

    /// Batches by their base offsets and leader epochs.
    fn feed_of(partition: &mut PartitionReplicator, now: Instant, batches: &[(i64, i32)]) {
        for (base_offset, epoch) in batches {
            partition.handle_fetched(now, records_of(*base_offset, *epoch), log(1000));
        }
    }

    #[test]
    fn what_the_source_still_has_goes_to_the_target_first() {
        let now = start_of_time();
        let mut partition = continuing();
        feed(&mut partition, now, 3);
        assert_eq!(sequences(&send_all(&mut partition, now)), [0]);
        assert!(partition.handle_truncated(ends(3, 4)));
        partition.handle_source_range(now, SourceOffset(0), SourceOffset(5));
        partition.handle_outcome(now, 0, acked(0));
        assert_eq!(sequences(&send_all(&mut partition, now)), [2], "of offsets 2 and 3");
        assert!(!wants_fetch(&partition, now, usize::MAX));
        partition.handle_outcome(now, 2, acked(2));
        assert_eq!(partition.take_incidents(), [], "nothing of what is gone was copied");
        assert_eq!(partition.fetch_position(), SourceOffset(4));
        assert!(wants_fetch(&partition, now, usize::MAX) && partition.poll_recovery(now).is_none());
    }

    #[test]
    fn a_log_that_has_other_records_under_older_epochs_parts_where_ours_began() {
        let now = start_of_time();
        let mut partition = continuing();
        feed_of(&mut partition, now, &[(0, 3), (2, 5), (4, 5)]);
        for sequence in [0, 2, 4] {
            send_all(&mut partition, now);
            partition.handle_outcome(now, sequence, acked(i64::from(sequence)));
        }
        assert!(partition.handle_truncated(ends(4, 6)));
        partition.handle_source_range(now, SourceOffset(0), SourceOffset(8));
        let known = partition.poll_recovery(now).expect("due");
        assert_eq!((known.position, known.before.epoch), (SourceOffset(2), 3));
        let lost = Incident::Truncated(SourceOffset(2), SourceOffset(6));
        assert_eq!(partition.take_incidents(), [lost]);
    }

    #[test]
    fn a_truncated_source_stops_with_its_exact_range() {
        let now = start_of_time();
        let mut partition = started(remembered(1000));
        feed_of(&mut partition, now, &[(0, 3), (2, 5)]);
        assert!(!partition.handle_truncated(ends(3, 9)));
        let (position, end) = (SourceOffset(4), SourceOffset(2));
        let stopped = partition.stopped().expect("stopped").to_string();
        assert_eq!(stopped, Stopped::SourceTruncated { position, end }.to_string());
    }

    #[test]
    fn an_epoch_that_the_leader_does_not_know_is_believed_the_third_time() {
        let now = start_of_time();
        let mut partition = started(remembered(1000));
        feed_of(&mut partition, now, &[(0, 3), (2, 5)]);
        for _ in 0..BELIEVED {
            assert!(partition.stopped().is_none());
            partition.handle_fetch_refused(now, ErrorCode::OffsetOutOfRange);
            partition.handle_source_range(now, SourceOffset(0), SourceOffset(1000));
        }
        let end = SourceOffset(2);
        assert!(matches!(partition.stopped(), Some(Stopped::SourceTruncated { end: at, .. }) if *at == end));
    }

    #[test]
    fn a_log_that_ends_before_the_copy_does_is_copied_as_far_as_it_goes() {
        let now = start_of_time();
        let mut partition = started(remembered(10));
        partition.handle_fetched(now, fetched(0, 2), log(4));
        send_all(&mut partition, now);
        partition.handle_outcome(now, 0, acked(0));
        send_all(&mut partition, now);
        partition.handle_outcome(now, 2, acked(2));
        let asked = (0..BELIEVED).map(|_| partition.handle_nothing_fetched());
        assert_eq!(asked.last(), Some(true));
        partition.handle_source_well();
        partition.handle_source_range(now, SourceOffset(0), SourceOffset(4));
        assert!(partition.is_done());
        let lost = Incident::Shortened(SourceOffset(4), SourceOffset(10));
        assert_eq!(partition.take_incidents(), [lost]);
    }

    #[test]
    fn a_log_that_ends_within_its_epoch_parts_there_only_if_it_has_nothing_else() {
        let now = start_of_time();
        for (log_start, goes_on) in [(0, false), (1, true)] {
            let mut partition = continuing();
            feed(&mut partition, now, 1);
            send_all(&mut partition, now);
            partition.handle_outcome(now, 0, acked(0));
            assert!(partition.handle_truncated(Truncation::LogEnds(SourceOffset(1))));
            assert!(!wants_fetch(&partition, now, usize::MAX));
            partition.handle_source_range(now, SourceOffset(log_start), SourceOffset(1));
            assert_eq!(partition.stopped().is_none(), goes_on);
            let lost = goes_on.then_some(Incident::Truncated(SourceOffset(1), SourceOffset(2)));
            assert_eq!(partition.take_incidents().pop(), lost);
        }
    }

    #[test]
    fn records_that_a_dead_owner_copied_and_the_source_has_lost_stop_the_partition() {
        let now = start_of_time();
        let orphaned = |partition: &mut PartitionReplicator| {
            partition.handle_outcome(now, 0, lost());
            let later = partition.produce_retry_at().expect("backing off");
            let known = partition.poll_recovery(later).expect("due");
            let recovered = Recovered {
                orphans: 2,
                target_next: TargetOffset(3),
                is_new_mapping: true,
                ..as_known(&known)
            };
            partition.handle_recovered(later, recovered);
        };
        let mut partition = started(remembered(1000));
        feed(&mut partition, now, 1);
        send_all(&mut partition, now);
        orphaned(&mut partition);
        assert!(matches!(
            partition.stopped(),
            Some(Stopped::SourceParted { records: 2, .. })
        ));

        let mut partition = continuing();
        feed(&mut partition, now, 1);
        send_all(&mut partition, now);
        orphaned(&mut partition);
        let (at, records) = (SourceOffset(0), 2);
        assert_eq!(partition.take_incidents(), [Incident::Parted { at, records }]);
        let written = partition.poll_checkpoint().expect("the mapping").checkpoint;
        assert_eq!(written.cuts.len(), 1);
    }

    /// Another owner may still be at work.
    fn not_alone() -> PartitionReplicator {
        let mut start = remembered(1000);
        (start.is_quiet, start.leader_epoch) = (false, 3);
        start.policies.truncation = OnChange::Continue;
        started(start)
    }

    #[test]
    fn what_may_be_in_the_place_of_what_another_owner_sends_goes_out_behind_a_fence() {
        let now = start_of_time();
        let mut partition = not_alone();
        partition.handle_fetched(now, records_of(0, 3), log(1000));
        assert_eq!(sequences(&send_all(&mut partition, now)), [0]);
        partition.handle_outcome(now, 0, acked(0));
        partition.handle_fetched(now, records_of(2, 5), log(1000));
        assert!(send_all(&mut partition, now).is_empty());
        let later = partition.produce_retry_at().expect("backing off");
        let known = partition.poll_recovery(later).expect("due");
        assert_eq!(
            (known.position, known.must_fence),
            (SourceOffset(2), Some(FenceReason::SourceEpoch))
        );
        let recovered = Recovered {
            is_alone: true,
            ..as_known(&known)
        };
        partition.handle_recovered(later, recovered);
        partition.handle_fetched(later, records_of(2, 5), log(1000));
        assert_eq!(send_all(&mut partition, later).len(), 1);
    }

    #[test]
    fn what_was_fetched_and_is_gone_may_have_been_sent_by_another_owner() {
        let now = start_of_time();
        let mut partition = not_alone();
        partition.handle_fetched(now, records_of(0, 3), log(1000));
        assert!(partition.handle_truncated(ends(3, 0)));
        partition.handle_source_range(now, SourceOffset(0), SourceOffset(5));
        let known = partition.poll_recovery(now).expect("due");
        assert_eq!(known.must_fence, Some(FenceReason::SourceEpoch));
    }

    #[test]
    fn another_batch_in_the_place_of_the_last_one_stops_the_partition() {
        let now = start_of_time();
        let mut start = remembered(1000);
        start.is_compacted = false;
        let mut partition = started(start);
        partition.handle_source_well();
        partition.handle_fetched(now, fetched(0, 1), log(1000));
        assert_eq!(partition.unverified(), None, "the source was never away");
        partition.handle_fetch_failed(now, "gone");
        partition.handle_source_well();
        let mark = partition.unverified().expect("it was away");
        assert_eq!(mark.base_offset, SourceOffset(0));
        let mut same = fetched(2, 1);
        same.is_verified = true;
        partition.handle_fetched(now, same, log(1000));
        assert_eq!(partition.unverified(), None);

        partition.handle_fetch_failed(now, "gone");
        let mut other = fetched(4, 0);
        other.damage = Some(PrepareError::Altered { base_offset: 2 });
        partition.handle_fetched(now, other, log(1000));
        let (at, position) = (SourceOffset(2), SourceOffset(4));
        let stopped = partition.stopped().expect("stopped").to_string();
        assert_eq!(stopped, Stopped::SourceAltered { at, position }.to_string());
    }

    #[test]
    fn of_a_topic_that_is_compacted_now_no_batch_is_asked_for_again() {
        let mut start = remembered(0);
        start.mark = Some(BatchMark {
            base_offset: SourceOffset(0),
            crc: 7,
        });
        assert!(start.is_compacted);
        let mut partition = started(start);
        assert_eq!(partition.unverified(), None);
        partition.handle_source_well();
        assert!(partition.is_done());
    }

    #[test]
    fn the_place_of_a_void_segment_is_given_up_before_another_takes_it() {
        let now = start_of_time();
        let mut partition = continuing();
        feed(&mut partition, now, 1);
        send_all(&mut partition, now);
        partition.handle_outcome(now, 0, acked(0));
        assert!(partition.handle_truncated(ends(3, 0)));
        partition.handle_source_range(now, SourceOffset(0), SourceOffset(5));
        let known = partition.poll_recovery(now).expect("due");
        let recovered = Recovered {
            target_next: TargetOffset(3),
            producer_epoch: 1,
            next_sequence: 0,
            is_new_mapping: true,
            ..as_known(&known)
        };
        partition.handle_recovered(now, recovered);
        let written = partition.poll_checkpoint().expect("the mapping");
        assert_eq!((written.segments.len(), written.gone.len()), (0, 1));
        partition.handle_checkpointed();
        feed(&mut partition, now, 1);
        send_all(&mut partition, now);
        partition.handle_outcome(now, 0, acked(3));
        let written = partition.poll_checkpoint().expect("new");
        assert_eq!((written.segments.len(), written.gone.len()), (1, 0));
    }

    #[test]
    fn by_policy_a_truncated_source_is_gone_on_with_under_a_new_mapping() {
        let now = start_of_time();
        let mut partition = continuing();
        feed(&mut partition, now, 3);
        assert_eq!(sequences(&send_all(&mut partition, now)), [0]);
        assert!(partition.handle_truncated(ends(3, 1)));
        partition.handle_source_range(now, SourceOffset(0), SourceOffset(5));
        assert!(
            send_all(&mut partition, now).is_empty() && !wants_fetch(&partition, now, usize::MAX),
            "what is on its way comes to its end first"
        );
        partition.handle_outcome(now, 0, acked(0));
        let known = partition.poll_recovery(now).expect("due");
        assert_eq!((known.beginning, known.position), (Beginning::Restart, SourceOffset(1)));
        partition.handle_recovered(
            now,
            Recovered {
                target_next: TargetOffset(3),
                producer_epoch: 1,
                next_sequence: 0,
                is_new_mapping: true,
                ..as_known(&known)
            },
        );
        assert_eq!(
            partition.take_incidents(),
            [Incident::Truncated(SourceOffset(1), SourceOffset(2))]
        );
        let written = partition.poll_checkpoint().expect("the mapping");
        let cut = OffsetPair {
            source: SourceOffset(1),
            target: TargetOffset(3),
        };
        assert_eq!(written.checkpoint.cuts, [cut]);
        assert_eq!(written.checkpoint.source_position, SourceOffset(1));
        assert_eq!(
            written.segments.len(),
            1,
            "the map of before, to which nothing is added"
        );
        partition.handle_checkpointed();
        feed(&mut partition, now, 1);
        assert_eq!(sequences(&send_all(&mut partition, now)), [0]);
        partition.handle_outcome(now, 0, acked(3));
        let written = partition.poll_checkpoint().expect("new");
        assert_eq!(written.segments[0].runs(), [run(1, 3, 2)]);
    }
}
