//! Taking a partition over: where a dead incarnation came to, ours or another's, and how to go on without a gap and
//! without a repetition (DESIGN: "the target's log is the lock").
//!
//! A *mapping* is a producer id and epoch, and the pair of offsets at which its sequence numbers begin with 0. Within a
//! mapping a sequence number is a position in the stream of copied records, whoever sends them; the partition's leader
//! takes only the next one. So what has to be found out is the last sequence number that the leader has, and whether
//! counting from the checkpoint still leads to the same record. Where it does, the copy goes on under the next sequence
//! number. Where it doesn't, the mapping ends behind a fence, and a new one begins where the target's own records say.
//!
//! | file | what it does |
//! |---|---|
//! | here | decides, from what is known and what the leader says |
//! | [`walk`] | counts records at the source from the checkpoint on |
//! | [`tail`] | finds our own records in the end of the target's log |
//! | [`matching`] | finds them again at the source, by content |

pub mod matching;
pub mod tail;
pub mod walk;

use super::epochs::{Before, EpochStart};
use crate::offsets::{Run, SourceOffset, TargetOffset};

/// Further than this no leader can be ahead of a checkpoint: half the range of sequence numbers.
const MAX_AHEAD: i32 = 1 << 30;

/// What is known of a partition before its leader is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Everything below is on the target, or was skipped for good.
    pub position: SourceOffset,
    pub before: Before,
    /// Just past the last record that the target acknowledged.
    pub target_next: TargetOffset,
    /// The mapping's id and epoch, and the sequence number of the record at `position`.
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub next_sequence: i32,
    pub beginning: Beginning,
    /// Nobody can have batches on their way under this mapping: it is new, or its last owner has given it up.
    pub is_quiet: bool,
    /// The cleaner may have taken records out of the source since they were copied.
    pub is_compacted: bool,
    /// The same, of either side.
    pub is_cleaned: bool,
    /// The target keeps the times that it is given, so that records can be told by them.
    pub keeps_time: bool,
    /// The mapping is not to be gone on with.
    pub must_fence: Option<FenceReason>,
}

/// What the partition's mapping is based on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// A mapping in the ledger.
    Remembered,
    /// Nothing was ever copied.
    New,
    /// The source is not what it was; the copy goes on at the position, whatever was copied before.
    Restart,
}

/// What the partition's leader on the target, and the source, say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Situation {
    /// Epoch and last sequence number of the mapping's producer id; the latter is -1 behind a marker. `None` if the leader
    /// does not know the id (any more).
    pub producer: Option<(i16, i32)>,
    pub high_watermark: TargetOffset,
    pub source_log_start: SourceOffset,
}

/// How a partition goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takeover {
    /// Exactly where the checkpoint says.
    Resume { is_known_to_leader: bool },
    /// Behind so many records more.
    Count(i32),
    /// A new mapping, at the position, under the lane's present producer.
    Begin,
    /// A new mapping behind a fence, where the target's records end.
    Fence(FenceReason),
    /// The target has lost what it had acknowledged.
    TargetTruncated,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FenceReason {
    /// Another mapping was begun, and its checkpoint is not in the ledger.
    OtherEpoch,
    /// The leader forgets producers whose records are old, or when retention empties the partition.
    Forgotten,
    /// Whoever counts on a compacted source may count other records than those that were sent.
    Compacted,
    /// Retention has taken what would have to be counted.
    LogStartMoved,
    /// The leader has fewer records of the mapping than it had acknowledged.
    BehindCheckpoint,
    /// The leader has refused the mapping.
    Refused,
    /// The source is not what it was.
    Restart,
    /// What would have to be counted, or sent in another owner's place, was written under a newer leader epoch than is known,
    /// or is not there: it may have come in the place of what was sent.
    SourceEpoch,
}

/// Decides how a partition goes on.
pub fn decide(known: &Known, situation: &Situation) -> Takeover {
    if situation.high_watermark < known.target_next {
        return Takeover::TargetTruncated;
    }
    if let Some(reason) = known.must_fence {
        return Takeover::Fence(reason);
    }
    match known.beginning {
        Beginning::Restart => return Takeover::Fence(FenceReason::Restart),
        // A ledger that was deleted, and a producer id that was not: what lies there is another flow's business.
        Beginning::New if situation.producer.is_some() => return Takeover::Fence(FenceReason::OtherEpoch),
        Beginning::New => return Takeover::Begin,
        Beginning::Remembered => {}
    }
    let Some((epoch, last_sequence)) = situation.producer else {
        // With nobody else about, nothing can have been written since; the leader takes any first sequence. Nor does it
        // matter who is first where none was written ever: until that is acked everybody has one batch on its way.
        let is_untouched = known.next_sequence == 0 && situation.high_watermark == known.target_next;
        let all_agree = !known.is_compacted && situation.source_log_start <= known.position;
        return match known.is_quiet || (is_untouched && all_agree) {
            true => Takeover::Resume {
                is_known_to_leader: false,
            },
            false => Takeover::Fence(FenceReason::Forgotten),
        };
    };
    if epoch != known.producer_epoch {
        return Takeover::Fence(FenceReason::OtherEpoch);
    }
    match sequence_distance(known.next_sequence, last_sequence.wrapping_add(1) & i32::MAX) {
        // A batch that is still on its way would hold other records than the ones we would send in its place.
        _ if known.is_compacted && !known.is_quiet => Takeover::Fence(FenceReason::Compacted),
        // Whoever still writes may be ahead of us, with records that we can't send in their place: they are gone.
        0 if situation.source_log_start > known.position && !known.is_quiet => {
            Takeover::Fence(FenceReason::LogStartMoved)
        }
        0 => Takeover::Resume {
            is_known_to_leader: true,
        },
        written if written > MAX_AHEAD => Takeover::Fence(FenceReason::BehindCheckpoint),
        _ if known.is_compacted => Takeover::Fence(FenceReason::Compacted),
        _ if situation.source_log_start > known.position => Takeover::Fence(FenceReason::LogStartMoved),
        written => Takeover::Count(written),
    }
}

/// Where a partition goes on, once that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    pub position: SourceOffset,
    pub before: Before,
    pub target_next: TargetOffset,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub next_sequence: i32,
    /// What was found on the target from the checkpoint on.
    pub runs: Vec<Run>,
    /// To be written into the ledger, as the latest owner's, before the first batch goes out.
    pub is_new_mapping: bool,
    pub is_known_to_leader: bool,
    /// Nobody else writes under the mapping any more: it lies behind a fence, or its last owner has given it up.
    pub is_alone: bool,
    /// Source offsets, from and to (exclusive), that may come to the target twice: they could not be found again.
    pub perhaps_repeated: Option<(SourceOffset, SourceOffset)>,
    /// So many records that were sent from `position` on are not at the source any more: it was cut back.
    pub orphans: u64,
    /// Of what was read of the source, from the checkpoint on.
    pub epochs: Vec<EpochStart>,
}

impl Recovered {
    /// Exactly where the checkpoint says.
    pub fn as_known(known: &Known, is_known_to_leader: bool) -> Self {
        Self {
            position: known.position,
            before: known.before,
            target_next: known.target_next,
            producer_id: known.producer_id,
            producer_epoch: known.producer_epoch,
            next_sequence: known.next_sequence,
            runs: Vec::new(),
            is_new_mapping: false,
            is_known_to_leader,
            is_alone: known.is_quiet,
            perhaps_repeated: None,
            orphans: 0,
            epochs: Vec::new(),
        }
    }
}

/// How many sequence numbers lie between two, which wrap from 2³¹-1 to 0.
pub fn sequence_distance(from: i32, to: i32) -> i32 {
    to.wrapping_sub(from) & i32::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Known = Known {
        position: SourceOffset(100),
        before: Before { epoch: 3, mark: None },
        target_next: TargetOffset(90),
        producer_id: 7,
        producer_epoch: 1,
        next_sequence: 50,
        beginning: Beginning::Remembered,
        is_quiet: false,
        is_compacted: false,
        is_cleaned: false,
        keeps_time: true,
        must_fence: None,
    };

    fn at(epoch: i16, last_sequence: i32) -> Situation {
        Situation {
            producer: Some((epoch, last_sequence)),
            high_watermark: TargetOffset(200),
            source_log_start: SourceOffset(0),
        }
    }

    const FORGOTTEN: Situation = Situation {
        producer: None,
        high_watermark: TargetOffset(200),
        source_log_start: SourceOffset(0),
    };

    const RESUME: Takeover = Takeover::Resume {
        is_known_to_leader: true,
    };

    #[test]
    fn a_leader_that_has_nothing_more_is_gone_on_with() {
        assert_eq!(decide(&KNOWN, &at(1, 49)), RESUME);
    }

    #[test]
    fn what_was_written_since_the_checkpoint_is_counted() {
        assert_eq!(decide(&KNOWN, &at(1, 52)), Takeover::Count(3));
    }

    #[test]
    fn counting_goes_on_over_the_end_of_the_sequence_numbers() {
        let known = Known {
            next_sequence: i32::MAX - 1,
            ..KNOWN
        };
        assert_eq!(decide(&known, &at(1, 2)), Takeover::Count(5));
        assert_eq!(
            decide(
                &Known {
                    next_sequence: 0,
                    ..KNOWN
                },
                &at(1, i32::MAX)
            ),
            RESUME,
            "the last one of all was written, the next is 0"
        );
    }

    #[test]
    fn a_marker_alone_has_no_sequence() {
        let known = Known {
            next_sequence: 0,
            ..KNOWN
        };
        assert_eq!(decide(&known, &at(1, -1)), RESUME);
        assert_eq!(decide(&known, &at(1, 4)), Takeover::Count(5));
    }

    #[test]
    fn another_epoch_ends_the_mapping() {
        assert_eq!(decide(&KNOWN, &at(2, -1)), Takeover::Fence(FenceReason::OtherEpoch));
        assert_eq!(decide(&KNOWN, &at(0, 49)), Takeover::Fence(FenceReason::OtherEpoch));
    }

    #[test]
    fn a_leader_that_has_forgotten_the_producer_is_not_believed() {
        assert_eq!(decide(&KNOWN, &FORGOTTEN), Takeover::Fence(FenceReason::Forgotten));
        let quiet = Known {
            is_quiet: true,
            ..KNOWN
        };
        assert_eq!(
            decide(&quiet, &FORGOTTEN),
            Takeover::Resume {
                is_known_to_leader: false
            }
        );
    }

    #[test]
    fn a_mapping_that_nothing_was_written_under_needs_no_fence() {
        let untouched = Situation {
            high_watermark: KNOWN.target_next,
            ..FORGOTTEN
        };
        let known = Known {
            next_sequence: 0,
            ..KNOWN
        };
        assert_eq!(
            decide(&known, &untouched),
            Takeover::Resume {
                is_known_to_leader: false
            }
        );
        assert_eq!(decide(&known, &FORGOTTEN), Takeover::Fence(FenceReason::Forgotten));
        assert_eq!(decide(&KNOWN, &untouched), Takeover::Fence(FenceReason::Forgotten));
    }

    #[test]
    fn on_a_compacted_source_nothing_is_counted() {
        let known = Known {
            is_compacted: true,
            ..KNOWN
        };
        assert_eq!(decide(&known, &at(1, 52)), Takeover::Fence(FenceReason::Compacted));
        assert_eq!(
            decide(&known, &at(1, 49)),
            Takeover::Fence(FenceReason::Compacted),
            "a batch of an older incarnation may still come, with other records"
        );
        let quiet = Known {
            is_quiet: true,
            ..known
        };
        assert_eq!(decide(&quiet, &at(1, 49)), RESUME);
        assert_eq!(decide(&quiet, &at(1, 52)), Takeover::Fence(FenceReason::Compacted));
    }

    #[test]
    fn what_retention_has_taken_is_not_counted() {
        let situation = Situation {
            source_log_start: SourceOffset(101),
            ..at(1, 52)
        };
        assert_eq!(decide(&KNOWN, &situation), Takeover::Fence(FenceReason::LogStartMoved));
        let nothing_written = Situation {
            source_log_start: SourceOffset(101),
            ..at(1, 49)
        };
        assert_eq!(
            decide(&KNOWN, &nothing_written),
            Takeover::Fence(FenceReason::LogStartMoved),
            "what is under way can't be sent again by us"
        );
        let quiet = Known {
            is_quiet: true,
            ..KNOWN
        };
        assert_eq!(decide(&quiet, &nothing_written), RESUME, "the next fetch finds the gap");
    }

    #[test]
    fn a_leader_behind_the_checkpoint_is_not_believed() {
        assert_eq!(
            decide(&KNOWN, &at(1, 40)),
            Takeover::Fence(FenceReason::BehindCheckpoint)
        );
        let situation = Situation {
            high_watermark: TargetOffset(89),
            ..at(1, 49)
        };
        assert_eq!(decide(&KNOWN, &situation), Takeover::TargetTruncated);
    }

    #[test]
    fn a_new_partition_begins_without_a_fence() {
        let known = Known {
            beginning: Beginning::New,
            next_sequence: 0,
            ..KNOWN
        };
        assert_eq!(decide(&known, &FORGOTTEN), Takeover::Begin);
        assert_eq!(decide(&known, &at(1, 3)), Takeover::Fence(FenceReason::OtherEpoch));
    }
}
