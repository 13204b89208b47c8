//! One partition: what its source has committed, and what the target may hold next.

use std::collections::{BTreeSet, HashMap, VecDeque};

use kferry::sandbox::core::log::{PartitionLog, StoredBatch};

use super::cut::CutBack;
use super::{Invariant, Seen, Violation, batches_from, commits, seen_in, violation};
use crate::announcements::tell;

/// What is promised of a partition.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rules {
    /// Records may vanish from the source before they are copied: others supersede them.
    pub(crate) source_is_compacted: bool,
    /// The copy goes on until it is asked to end: what happens at the source is noticed.
    pub(crate) is_followed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Committed,
    Aborted,
    /// Of this producer's open transaction.
    Open(i64),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct PartitionJudge {
    name: String,
    rules: Rules,
    source_scanned: i64,
    /// Whose fate is not known, or that lie behind one of those.
    waiting: VecDeque<(Seen, Fate)>,
    /// The truth, in order.
    committed: Vec<Seen>,
    place: HashMap<u64, usize>,
    aborted: HashMap<u64, Seen>,
    target_scanned: i64,
    /// So many of the committed records are on the target, or were left out for a reason.
    next: usize,
    /// Where on the target each of the committed records lies; -1 where it does not.
    copies: Vec<i64>,
    /// Producer ids that other ones have taken the place of, and the present one with its epoch.
    retired: BTreeSet<i64>,
    mapping: Option<(i64, i16)>,
    /// Committed records, from and to (exclusive) by place, that were announced as perhaps there twice.
    perhaps_repeated: Vec<(usize, usize)>,
    /// Source offsets, from and to (exclusive), that were announced as gone.
    gaps: Vec<(i64, i64)>,
    /// The sequence number that the mapping goes on with.
    next_sequence: i32,
    /// Source offsets, from and to (exclusive), that are not there although later ones are: the leader had forgotten the
    /// producer, and took a batch behind one that it had just refused. From then on nothing is in its place.
    hole: Option<(i64, i64)>,
    /// Of records that are there twice: all copies but the last.
    older_copies: BTreeSet<(usize, i64)>,
    cut: CutBack,
}

impl PartitionJudge {
    pub(crate) fn new(name: String, rules: Rules) -> Self {
        Self {
            name,
            rules,
            source_scanned: 0,
            waiting: VecDeque::new(),
            committed: Vec::new(),
            place: HashMap::new(),
            aborted: HashMap::new(),
            target_scanned: 0,
            next: 0,
            copies: Vec::new(),
            retired: BTreeSet::new(),
            mapping: None,
            perhaps_repeated: Vec::new(),
            gaps: Vec::new(),
            next_sequence: 0,
            hole: None,
            older_copies: BTreeSet::new(),
            cut: CutBack::default(),
        }
    }

    pub(crate) fn rules(&self) -> Rules {
        self.rules
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The truth so far.
    pub(crate) fn committed(&self) -> &[Seen] {
        &self.committed
    }

    /// Where on the target the committed record at a place lies, for the last time.
    pub(crate) fn copy_of(&self, place: usize) -> Option<i64> {
        self.copies.get(place).copied().filter(|offset| *offset >= 0)
    }

    pub(crate) fn has_copy(&self, place: usize, offset: i64) -> bool {
        self.copy_of(place) == Some(offset) || self.older_copies.contains(&(place, offset))
    }

    /// How many committed records lie below a source offset.
    pub(crate) fn place_of_offset(&self, offset: i64) -> usize {
        self.committed.partition_point(|seen| seen.offset < offset)
    }

    /// How many of them have arrived.
    pub(crate) fn arrived(&self) -> usize {
        self.next
    }

    /// How many records are on the target a second time, as was announced.
    pub(crate) fn repeated(&self) -> usize {
        self.older_copies.len()
    }

    /// See the field: it can't be helped, but has to be found.
    pub(crate) fn hole(&self) -> Option<(i64, i64)> {
        self.hole
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.next == self.committed.len() && self.waiting.is_empty()
    }

    /// Somebody has said that source offsets may be on the target twice.
    pub(crate) fn announce_repetition(&mut self, from: i64, to: i64) {
        let places = (self.place_of_offset(from), self.place_of_offset(to));
        self.perhaps_repeated.push(places);
    }

    /// Somebody has said that source offsets were gone before they were copied.
    pub(crate) fn announce_gap(&mut self, from: i64, to: i64) {
        self.gaps.push((from, to));
    }

    pub(crate) fn look_at_source(&mut self, log: &PartitionLog) {
        if log.end_offset() == self.source_scanned {
            return;
        }
        for batch in batches_from(log, self.source_scanned) {
            self.take_source(batch);
        }
        self.source_scanned = log.end_offset();
    }

    fn take_source(&mut self, batch: &StoredBatch) {
        let header = &batch.header;
        if header.is_control() {
            let commit = commits(batch).expect("a marker");
            self.end_transaction(header.producer_id(), commit);
            return;
        }
        let fate = match header.is_transactional() {
            true => Fate::Open(header.producer_id()),
            false => Fate::Committed,
        };
        for seen in seen_in(batch) {
            self.waiting.push_back((seen, fate));
        }
        self.settle();
    }

    fn end_transaction(&mut self, producer_id: i64, commit: bool) {
        for (_, fate) in &mut self.waiting {
            if *fate == Fate::Open(producer_id) {
                *fate = if commit { Fate::Committed } else { Fate::Aborted };
            }
        }
        self.settle();
    }

    /// Takes over what is decided, up to the last stable offset.
    fn settle(&mut self) {
        while let Some((seen, fate)) = self.waiting.front().copied() {
            match fate {
                Fate::Open(_) => break,
                Fate::Aborted => drop(self.aborted.insert(seen.id, seen)),
                Fate::Committed => self.commit(seen),
            }
            self.waiting.pop_front();
        }
    }

    /// The next committed record.
    pub(crate) fn commit(&mut self, seen: Seen) {
        self.place.insert(seen.id, self.committed.len());
        self.committed.push(seen);
        self.copies.push(-1);
    }

    pub(crate) fn look_at_target(&mut self, log: &PartitionLog) -> Result<(), Violation> {
        if log.end_offset() == self.target_scanned {
            return Ok(());
        }
        if log.end_offset() < self.target_scanned {
            return violation(Invariant::Sound, format!("{}: the target's log shrank", self.name));
        }
        for batch in batches_from(log, self.target_scanned) {
            if batch.header.is_control() {
                tell(|| {
                    format!(
                        "{}: target offset {} is a marker of {:?}",
                        self.name,
                        batch.header.base_offset(),
                        (batch.header.producer_id(), batch.header.producer_epoch())
                    )
                });
            } else {
                let is_in_sequence = self.check_mapping(batch)?;
                for seen in seen_in(batch) {
                    if self.hole.is_none() {
                        self.arrive(seen, is_in_sequence)?;
                    }
                }
            }
        }
        self.target_scanned = log.end_offset();
        Ok(())
    }

    /// A batch of an older owner is not appended after one of a newer. Says whether it is the next of its mapping.
    fn check_mapping(&mut self, batch: &StoredBatch) -> Result<bool, Violation> {
        let header = &batch.header;
        let now = (header.producer_id(), header.producer_epoch());
        tell(|| {
            let (offset, count, sequence) = (header.base_offset(), header.record_count(), header.base_sequence());
            format!(
                "{}: target offset {offset}, {count} records of {now:?} from sequence {sequence}",
                self.name
            )
        });
        let went_back = match self.mapping {
            _ if self.retired.contains(&now.0) => true,
            Some((id, epoch)) if id == now.0 => now.1 < epoch,
            Some((id, _)) => {
                self.retired.insert(id);
                false
            }
            None => false,
        };
        if went_back || now.0 < 0 {
            let Self { name, mapping, .. } = self;
            let offset = batch.header.base_offset();
            let text = format!("{name}: at target offset {offset} a batch of {now:?} after {mapping:?}");
            return violation(Invariant::Fenced, text);
        }
        let is_next = self.mapping != Some(now) || self.next_sequence == header.base_sequence();
        self.mapping = Some(now);
        self.next_sequence = header.base_sequence().wrapping_add(header.last_offset_delta() + 1) & i32::MAX;
        Ok(is_next)
    }

    /// The next record on the target.
    pub(crate) fn arrive(&mut self, seen: Seen, is_in_sequence: bool) -> Result<(), Violation> {
        let Some(place) = self.place.get(&seen.id).copied() else {
            return match self.cut.arrive(seen, self.next) {
                Some(orphan) => orphan,
                None => self.explain_unknown(seen),
            };
        };
        let original = self.committed[place];
        if original.digest != seen.digest {
            return violation(
                Invariant::Faithful,
                format!("{}: {seen:?} is not what the source has: {original:?}", self.name),
            );
        }
        let announced = |(from, to): &(usize, usize)| (*from..*to).contains(&place);
        if place < self.next {
            if !self.perhaps_repeated.iter().any(announced) {
                let first = self.copies[place];
                let text = format!(
                    "{}: {original:?} is at target offset {first} and again at {}",
                    self.name, seen.offset
                );
                return violation(Invariant::Unique, text);
            }
            self.older_copies.insert((place, self.copies[place]));
            // It goes on from here, so that the rest of the range comes again too.
            self.next = place;
        }
        let skipped = &self.committed[self.next..place];
        let is_gone = |seen: &Seen| self.gaps.iter().any(|(from, to)| (*from..*to).contains(&seen.offset));
        if !is_in_sequence && let Some(first) = skipped.first() {
            self.hole = Some((first.offset, original.offset));
            return Ok(());
        }
        if !self.rules.source_is_compacted && !skipped.iter().all(is_gone) {
            let text = format!(
                "{}: target offset {} holds {original:?}, after {} records that are not there: {:?}",
                self.name,
                seen.offset,
                skipped.len(),
                skipped.first()
            );
            return violation(Invariant::Prefix, text);
        }
        self.copies[place] = seen.offset;
        self.next = place + 1;
        self.cut.went_on(place);
        Ok(())
    }

    /// The source loses everything from an offset on. What was committed of it may be on the target, or on its way.
    pub(crate) fn cut_source_back(&mut self, end: i64) {
        let kept = self.place_of_offset(end);
        let lost = self.committed.split_off(kept);
        let copies = self.copies.split_off(kept);
        for seen in &lost {
            self.place.remove(&seen.id);
        }
        self.cut.cut(end, kept, lost.into_iter().zip(copies));
        self.next = self.next.min(kept);
        self.waiting.retain(|(seen, _)| seen.offset < end);
        self.source_scanned = end;
        self.older_copies.retain(|(place, _)| *place < kept);
        for (from, to) in &mut self.perhaps_repeated {
            (*from, *to) = ((*from).min(kept), (*to).min(kept));
        }
        for (from, to) in &mut self.gaps {
            (*from, *to) = ((*from).min(end), (*to).min(end));
        }
    }

    pub(crate) fn was_cut_back(&self) -> bool {
        self.cut.has_happened()
    }

    /// Somebody has said that the source has lost what was copied.
    pub(crate) fn announce_loss(&mut self, range: (i64, i64)) {
        self.cut.announce(range);
    }

    pub(crate) fn parted_at(&self) -> Option<i64> {
        self.cut.parted_at()
    }

    pub(crate) fn was_orphaned(&self, source: i64, target: i64) -> bool {
        self.cut.was_copied(source, target)
    }

    fn explain_unknown(&self, seen: Seen) -> Result<(), Violation> {
        let is_open = self.waiting.iter().any(|(waiting, _)| waiting.id == seen.id);
        let what = match (self.aborted.contains_key(&seen.id), is_open) {
            (true, _) => "was aborted",
            (_, true) => "is of a transaction that is open",
            _ => "was never written at the source",
        };
        violation(
            Invariant::NothingInvented,
            format!(
                "{}: what is at target offset {} {what}: {seen:?}",
                self.name, seen.offset
            ),
        )
    }

    pub(crate) fn conclude(&self, source: &PartitionLog) -> Result<(), Violation> {
        if let Some(unsaid) = self.cut.unsaid().filter(|_| self.rules.is_followed) {
            let text = format!(
                "{}: nobody has said that the source has lost {unsaid:?}, which was copied",
                self.name
            );
            return violation(Invariant::Loud, text);
        }
        if !self.rules.source_is_compacted {
            return match self.committed[self.next..].first() {
                None => Ok(()),
                Some(missing) => violation(
                    Invariant::Complete,
                    format!(
                        "{}: {} records are missing, the first is {missing:?}",
                        self.name,
                        self.committed.len() - self.next
                    ),
                ),
            };
        }
        // What the cleaner has left has to have been copied.
        for batch in source.batches().filter(|batch| !batch.header.is_control()) {
            for seen in seen_in(batch) {
                if let Some(place) = self.place.get(&seen.id)
                    && self.copies[*place] < 0
                {
                    return violation(Invariant::Complete, format!("{}: {seen:?} is missing", self.name));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(id: u64, offset: i64) -> Seen {
        Seen { offset, id, digest: id }
    }

    /// Three records were committed, at offsets 0, 1 and 3.
    fn judge() -> PartitionJudge {
        let mut judge = PartitionJudge::new("t partition 0".to_owned(), Rules::default());
        for (id, offset) in [(1, 0), (2, 1), (3, 3)] {
            judge.commit(seen(id, offset));
        }
        judge
    }

    /// What comes of these records on the target, one after the other.
    fn verdict(ids: &[u64]) -> Result<(), Invariant> {
        let mut judge = judge();
        for (offset, id) in (0..).zip(ids) {
            judge
                .arrive(seen(*id, offset), true)
                .map_err(|violation| violation.invariant)?;
        }
        match judge.is_complete() {
            true => Ok(()),
            false => Err(Invariant::Complete),
        }
    }

    #[test]
    fn what_is_right_is_right() {
        assert_eq!(verdict(&[1, 2, 3]), Ok(()));
    }

    #[test]
    fn a_record_too_few_is_noticed() {
        assert_eq!(verdict(&[1, 3]), Err(Invariant::Prefix));
        assert_eq!(verdict(&[1, 2]), Err(Invariant::Complete));
    }

    #[test]
    fn a_record_too_many_is_noticed() {
        assert_eq!(verdict(&[1, 2, 2, 3]), Err(Invariant::Unique));
        assert_eq!(verdict(&[1, 2, 3, 4]), Err(Invariant::NothingInvented));
    }

    #[test]
    fn another_order_is_noticed() {
        assert_eq!(verdict(&[2, 1, 3]), Err(Invariant::Prefix));
    }

    #[test]
    fn another_content_is_noticed() {
        let altered = Seen {
            digest: 7,
            ..seen(1, 0)
        };
        let verdict = judge().arrive(altered, true).map_err(|violation| violation.invariant);
        assert_eq!(verdict, Err(Invariant::Faithful));
    }

    #[test]
    fn a_repetition_that_was_announced_is_let_pass() {
        let mut judge = judge();
        judge.announce_repetition(1, 3);
        for (offset, id) in (0..).zip([1, 2, 2, 3]) {
            judge.arrive(seen(id, offset), true).expect("it was said");
        }
        assert_eq!(judge.repeated(), 1);
        assert!(judge.arrive(seen(1, 4), true).is_err(), "that was not said of this one");
    }
}
