//! A source that has lost its last records: what was copied of them before is to be told, and stays where it is.

use std::collections::{BTreeSet, HashMap};

use super::{Invariant, Seen, Violation, violation};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct CutBack {
    happened: bool,
    /// Ends of the source's log of which it is not certain so far that the replicator has noticed, and how many records
    /// there were below.
    parted: Vec<(i64, usize)>,
    /// What the source had, and how many records it had before.
    orphans: HashMap<u64, (Seen, usize)>,
    /// Source and target offsets of those that were copied.
    copied: BTreeSet<(i64, i64)>,
    /// Of the last cut: those that were copied, and not told of.
    unsaid: BTreeSet<i64>,
    /// What was told since.
    said: Vec<(i64, i64)>,
}

impl CutBack {
    /// The log ends at `end` now, with `kept` records. Lost are those with their places on the target, or -1.
    pub(super) fn cut(&mut self, end: i64, kept: usize, lost: impl Iterator<Item = (Seen, i64)>) {
        self.happened = true;
        self.said.clear();
        for (_, before) in &mut self.parted {
            *before = (*before).min(kept);
        }
        self.parted.push((end, kept));
        for (seen, copy) in lost {
            self.orphans.insert(seen.id, (seen, kept));
            if copy >= 0 {
                self.copied.insert((seen.offset, copy));
                self.unsaid.insert(seen.offset);
            }
        }
        // Those that were lost before are behind nothing that is there now.
        for (_, before) in self.orphans.values_mut() {
            *before = (*before).min(kept);
        }
    }

    /// A record on the target that the source does not have. What was on its way may come until the copy goes on with what
    /// the source has instead.
    pub(super) fn arrive(&mut self, seen: Seen, next: usize) -> Option<Result<(), Violation>> {
        let (original, before) = *self.orphans.get(&seen.id)?;
        let verdict = if original.digest != seen.digest {
            violation(
                Invariant::Faithful,
                format!("{seen:?} is not what the source had: {original:?}"),
            )
        } else if next > before {
            let text = format!("{seen:?}, which the source has lost, comes after what is there instead");
            violation(Invariant::Prefix, text)
        } else {
            Ok(())
        };
        self.copied.insert((original.offset, seen.offset));
        if !self
            .said
            .iter()
            .any(|(from, to)| (*from..*to).contains(&original.offset))
        {
            self.unsaid.insert(original.offset);
        }
        Some(verdict)
    }

    /// The copy has come to the record of this place.
    pub(super) fn went_on(&mut self, place: usize) {
        self.parted.retain(|(_, kept)| place < *kept);
    }

    pub(super) fn announce(&mut self, (from, to): (i64, i64)) {
        self.unsaid.retain(|offset| !(from..to).contains(offset));
        self.said.push((from, to));
    }

    pub(super) fn has_happened(&self) -> bool {
        self.happened
    }

    pub(super) fn parted_at(&self) -> Option<i64> {
        self.parted.iter().map(|(end, _)| *end).min()
    }

    pub(super) fn was_copied(&self, source: i64, target: i64) -> bool {
        self.copied.contains(&(source, target))
    }

    pub(super) fn unsaid(&self) -> Option<(i64, i64)> {
        Some((*self.unsaid.first()?, *self.unsaid.last()?))
    }
}
