//! Puts a map together from segments that several owners have written.
//!
//! Owners follow each other, and one that was superseded may write a little longer: their segments overlap. Mostly they
//! agree, since what they say was so. They differ where records were copied again because it could not be known that they
//! were there (at least once), or where the source was cut back: then what was written later counts.

use std::collections::BTreeMap;

use super::{OffsetPair, Run, Segment, SourceOffset, StoredSegment};

/// Gives `take` the runs of all segments, in the order of their source offsets, none of them said twice. Where segments
/// differ, the one with the higher priority counts; of one priority, the one that begins later. What cuts have made void is
/// left out.
pub(super) fn merge<P: Ord + Copy>(
    segments: impl IntoIterator<Item = (P, StoredSegment)>,
    cuts: &[OffsetPair],
    mut take: impl FnMut(Run),
) {
    let load = |stored: &StoredSegment| cuts.iter().fold(stored.load(), |segment, cut| segment.without(*cut));
    let mut segments: Vec<(P, StoredSegment)> = segments.into_iter().collect();
    segments.sort_by_key(|(priority, segment)| (segment.start(), *priority));
    let mut segments = segments.into_iter().peekable();
    while let Some(first) = segments.next() {
        // Segments that overlap, by a chain of overlaps. Mostly there is one.
        let mut end = first.1.end();
        let mut overlapping = vec![first];
        while let Some(next) = segments.next_if(|(_, segment)| segment.start() < end) {
            end = end.max(next.1.end());
            overlapping.push(next);
        }
        match &overlapping[..] {
            [(_, stored)] => load(stored).runs().iter().copied().for_each(&mut take),
            _ => {
                let loaded = overlapping.iter().map(|(priority, stored)| (*priority, load(stored)));
                lay_over(loaded.collect()).into_values().for_each(&mut take);
            }
        }
    }
}

/// The runs by their beginning, those of the highest priority whole, of the others what these leave open.
fn lay_over<P: Ord + Copy>(mut segments: Vec<(P, Segment)>) -> BTreeMap<SourceOffset, Run> {
    segments.sort_by_key(|(priority, segment)| std::cmp::Reverse((*priority, segment.start())));
    let mut laid: BTreeMap<SourceOffset, Run> = BTreeMap::new();
    for run in segments.iter().flat_map(|(_, segment)| segment.runs()) {
        let mut rest = *run;
        while rest.count > 0 {
            // What lies over the beginning, or comes next.
            let before = laid.range(..=rest.source_start).next_back().map(|(_, run)| *run);
            let covered = before.map_or(0, |before| before.source_end().0 - rest.source_start.0);
            if covered > 0 {
                rest = rest.after(covered.min(rest.count));
                continue;
            }
            let next = laid.range(rest.source_start..).next().map(|(start, _)| start.0);
            let count = next.map_or(rest.count, |next| rest.count.min(next - rest.source_start.0));
            laid.insert(rest.source_start, Run { count, ..rest });
            rest = rest.after(count);
        }
    }
    laid
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offsets::TargetOffset;

    fn segment(runs: &[(i64, i64, i64)]) -> Segment {
        let mut segment = Segment::default();
        for &(source, target, count) in runs {
            segment.push(Run {
                source_start: SourceOffset(source),
                target_start: TargetOffset(target),
                count,
            });
        }
        segment
    }

    fn merged(segments: Vec<(i32, Segment)>) -> Vec<(i64, i64, i64)> {
        let mut runs = Vec::new();
        let stored = segments
            .iter()
            .filter_map(|(owner, segment)| Some((*owner, StoredSegment::new(segment)?)));
        merge(stored, &[], |run| {
            runs.push((run.source_start.0, run.target_start.0, run.count))
        });
        runs
    }

    #[test]
    fn segments_that_follow_each_other_are_one_list() {
        let segments = vec![(1, segment(&[(10, 10, 5)])), (1, segment(&[(0, 0, 5), (6, 5, 2)]))];
        assert_eq!(merged(segments), [(0, 0, 5), (6, 5, 2), (10, 10, 5)]);
    }

    #[test]
    fn what_two_owners_say_alike_is_said_once() {
        let segments = vec![(1, segment(&[(0, 0, 10)])), (2, segment(&[(4, 4, 10)]))];
        assert_eq!(merged(segments), [(0, 0, 4), (4, 4, 10)]);
    }

    #[test]
    fn where_owners_differ_the_later_one_counts() {
        let segments = vec![(2, segment(&[(4, 20, 2)])), (1, segment(&[(0, 0, 10)]))];
        assert_eq!(merged(segments), [(0, 0, 4), (4, 20, 2), (6, 6, 4)]);
    }

    #[test]
    fn an_older_owner_fills_gaps_only() {
        let segments = vec![
            (2, segment(&[(0, 0, 2), (6, 6, 2)])),
            (1, segment(&[(1, 1, 3), (5, 5, 4)])),
        ];
        assert_eq!(
            merged(segments),
            [(0, 0, 2), (2, 2, 2), (5, 5, 1), (6, 6, 2), (8, 8, 1)]
        );
    }
}
