//! Which offset a consumer group gets on the target, if any.
//!
//! Groups without members only: whoever reads there decides where it stands. Never lower than what is there, since a
//! consumer would read again, unless the group was set back at the source and the target still has what kferry wrote.

use crate::offsets::{SourceOffset, TargetOffset, Translation, TranslationState};

/// A group on the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetGroup {
    /// There is none, or one without members.
    Free,
    Active,
    /// Of a kind that commits no offsets, such as a share group.
    OtherKind,
}

impl TargetGroup {
    /// From what a coordinator says; an empty state is one that it does not say.
    pub fn new(protocol_type: &str, state: &str, kind: &str) -> Self {
        let is_other = !matches!(protocol_type, "" | "consumer")
            || !matches!(kind, "" | "Classic" | "classic" | "Consumer" | "consumer");
        match state {
            _ if is_other => Self::OtherKind,
            "Empty" | "Dead" | "" => Self::Free,
            _ => Self::Active,
        }
    }
}

/// What kferry wrote before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrittenBefore {
    pub source: SourceOffset,
    pub target: TargetOffset,
}

/// What becomes of one partition of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupDecision {
    Write(TargetOffset),
    /// Likewise, at the target's end: the rest of what the group has read is not there so far.
    WritePending(TargetOffset),
    /// The target's is as far or further.
    Keep,
    Active,
    OtherKind,
}

/// Decides what becomes of a group that stands at `committed`, which is `translated` on the target, where it stands at
/// `there`.
pub fn decide(
    group: TargetGroup,
    committed: SourceOffset,
    translated: Translation<TargetOffset>,
    there: Option<TargetOffset>,
    before: Option<WrittenBefore>,
) -> GroupDecision {
    match group {
        TargetGroup::Active => return GroupDecision::Active,
        TargetGroup::OtherKind => return GroupDecision::OtherKind,
        TargetGroup::Free => {}
    }
    let was_set_back = before.is_some_and(|before| {
        committed < before.source && there == Some(before.target) && translated.offset < before.target
    });
    if there.is_some_and(|there| there >= translated.offset) && !was_set_back {
        return GroupDecision::Keep;
    }
    match translated.state {
        TranslationState::Pending => GroupDecision::WritePending(translated.offset),
        TranslationState::Exact | TranslationState::BeforeStart => GroupDecision::Write(translated.offset),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(offset: i64) -> Translation<TargetOffset> {
        Translation {
            offset: TargetOffset(offset),
            state: TranslationState::Exact,
        }
    }

    fn free(there: Option<i64>, before: Option<(i64, i64)>) -> GroupDecision {
        let before = before.map(|(source, target)| WrittenBefore {
            source: SourceOffset(source),
            target: TargetOffset(target),
        });
        decide(
            TargetGroup::Free,
            SourceOffset(100),
            exact(90),
            there.map(TargetOffset),
            before,
        )
    }

    const WRITE: GroupDecision = GroupDecision::Write(TargetOffset(90));

    #[test]
    fn a_group_that_is_not_there_or_behind_is_written() {
        assert_eq!(free(None, None), WRITE);
        assert_eq!(free(Some(89), None), WRITE);
        assert_eq!(free(Some(80), Some((90, 80))), WRITE);
    }

    #[test]
    fn a_group_that_is_as_far_or_further_is_kept() {
        assert_eq!(free(Some(90), None), GroupDecision::Keep);
        assert_eq!(free(Some(91), None), GroupDecision::Keep);
        assert_eq!(
            free(Some(90), Some((100, 90))),
            GroupDecision::Keep,
            "what we wrote is there"
        );
    }

    #[test]
    fn a_group_that_was_set_back_follows_if_nobody_else_has_moved_it() {
        assert_eq!(free(Some(120), Some((130, 120))), WRITE);
        assert_eq!(
            free(Some(121), Some((130, 120))),
            GroupDecision::Keep,
            "somebody has read on"
        );
        assert_eq!(
            free(Some(120), Some((100, 120))),
            GroupDecision::Keep,
            "it was not set back"
        );
    }

    #[test]
    fn what_is_not_there_so_far_is_pending() {
        let translated = Translation {
            offset: TargetOffset(50),
            state: TranslationState::Pending,
        };
        let decision = decide(TargetGroup::Free, SourceOffset(100), translated, None, None);
        assert_eq!(decision, GroupDecision::WritePending(TargetOffset(50)));
    }

    #[test]
    fn an_offset_before_the_start_is_the_first() {
        let translated = Translation {
            offset: TargetOffset(7),
            state: TranslationState::BeforeStart,
        };
        let decision = decide(TargetGroup::Free, SourceOffset(0), translated, None, None);
        assert_eq!(decision, GroupDecision::Write(TargetOffset(7)));
    }

    #[test]
    fn groups_with_members_and_groups_of_another_kind_are_left_alone() {
        let decided = |group| decide(group, SourceOffset(100), exact(90), None, None);
        assert_eq!(
            decided(TargetGroup::new("consumer", "Stable", "Classic")),
            GroupDecision::Active
        );
        assert_eq!(
            decided(TargetGroup::new("consumer", "PreparingRebalance", "")),
            GroupDecision::Active
        );
        assert_eq!(decided(TargetGroup::new("consumer", "Empty", "Consumer")), WRITE);
        assert_eq!(decided(TargetGroup::new("", "Empty", "")), WRITE);
        assert_eq!(
            decided(TargetGroup::new("share", "Empty", "Share")),
            GroupDecision::OtherKind
        );
        assert_eq!(
            decided(TargetGroup::new("connect", "Empty", "Classic")),
            GroupDecision::OtherKind
        );
    }
}
