//! What a comparison finds, where the target was changed in one way or another.

use super::*;

fn run(source: i64, target: i64, count: i64) -> Run {
    Run {
        source_start: SourceOffset(source),
        target_start: TargetOffset(target),
        count,
    }
}

/// A record whose contents follow from its number.
fn record(number: i64, offset: i64) -> Seen {
    Seen {
        offset,
        timestamp: 1000 + number,
        key: (number % 3 != 0).then(|| format!("k{number}").into_bytes()),
        value: (number % 4 != 0).then(|| format!("v{number}").into_bytes()),
        headers: vec![
            (b"h".to_vec(), Some(vec![number as u8])),
            (b"h".to_vec(), None),
            (b"i".to_vec(), Some(Vec::new())),
        ],
    }
}

const SIDES: Sides = Sides {
    source_log_start: SourceOffset(0),
    target_log_start: TargetOffset(0),
    source_is_compacted: false,
    target_is_compacted: false,
    compares_time: true,
};

/// Twelve records, a marker behind the fourth, a fence before the ninth.
fn runs() -> Vec<Run> {
    vec![run(0, 0, 4), run(5, 4, 4), run(9, 9, 4)]
}

fn source() -> Vec<Seen> {
    let offsets = (0..4).chain(5..13);
    (0..)
        .zip(offsets)
        .map(|(number, offset)| record(number, offset))
        .collect()
}

fn target() -> Vec<Seen> {
    let offsets = (0..8).chain(9..13);
    (0..)
        .zip(offsets)
        .map(|(number, offset)| record(number, offset))
        .collect()
}

fn compare(sides: Sides, runs: Vec<Run>, source: Vec<Seen>, target: Vec<Seen>) -> Findings {
    let mut comparison = Comparison::new(sides, runs.clone().into_iter(), runs.into_iter());
    let (mut source, mut target) = (source.into_iter(), target.into_iter());
    loop {
        match comparison.wants() {
            Wants::Source => comparison.source(source.next()),
            Wants::Target => comparison.target(target.next()),
            Wants::Nothing => return comparison.finish(),
        }
    }
}

fn first(findings: &Findings) -> (Kind, Option<i64>, Option<i64>) {
    let first = findings.first.expect("a difference");
    (
        first.kind,
        first.source.map(|offset| offset.0),
        first.target.map(|offset| offset.0),
    )
}

/// The first difference where the target is changed so.
fn tampered(change: impl FnOnce(&mut Vec<Seen>)) -> (Kind, Option<i64>, Option<i64>) {
    let mut changed = target();
    change(&mut changed);
    first(&compare(SIDES, runs(), source(), changed))
}

#[test]
fn a_true_copy_is_equal() {
    let findings = compare(SIDES, runs(), source(), target());
    assert!(findings.is_equal());
    assert_eq!((findings.compared, findings.missing, findings.extra), (12, 0, 0));
    assert_eq!(findings.source_digest, findings.target_digest);
}

#[test]
fn a_record_that_is_not_there_is_missing() {
    assert_eq!(
        tampered(|records| drop(records.remove(0))),
        (Kind::Missing, Some(0), Some(0))
    );
    assert_eq!(
        tampered(|records| drop(records.remove(5))),
        (Kind::Missing, Some(6), Some(5))
    );
    assert_eq!(
        tampered(|records| drop(records.pop())),
        (Kind::Missing, Some(12), Some(12))
    );
    assert_eq!(tampered(Vec::clear), (Kind::Missing, Some(0), Some(0)));
}

#[test]
fn a_record_that_is_not_ours_is_extra() {
    let at = |offset, index: usize| tampered(|records| records.insert(index, record(99, offset)));
    assert_eq!(at(8, 8), (Kind::Foreign, None, Some(8)));
    let behind = |records: &mut Vec<Seen>| records.push(record(11, 13));
    assert_eq!(
        tampered(behind),
        (Kind::Foreign, None, Some(13)),
        "a duplicate at the end"
    );
}

#[test]
fn a_record_of_an_aborted_transaction_is_not_committed() {
    let mut committed = source();
    committed.retain(|record| record.offset != 6);
    let findings = compare(SIDES, runs(), committed, target());
    assert_eq!(first(&findings), (Kind::NotCommitted, Some(6), Some(5)));
    assert_eq!(findings.extra, 1);
}

#[test]
fn a_committed_record_that_no_run_speaks_of_is_missing() {
    let mut committed = source();
    committed.insert(4, record(50, 4));
    let findings = compare(SIDES, runs(), committed, target());
    assert_eq!(first(&findings), (Kind::Missing, Some(4), None));
}

#[test]
fn every_field_is_compared() {
    let change = |change: fn(&mut Seen)| tampered(|records| change(&mut records[1]));
    let different = |field| (Kind::Different(field), Some(1), Some(1));
    assert_eq!(change(|seen| seen.key = None), different(Field::Key));
    assert_eq!(change(|seen| seen.key = Some(Vec::new())), different(Field::Key));
    assert_eq!(change(|seen| seen.value = None), different(Field::Value));
    assert_eq!(
        change(|seen| seen.value = Some(b"v2".to_vec())),
        different(Field::Value)
    );
    assert_eq!(change(|seen| drop(seen.headers.pop())), different(Field::Headers));
    assert_eq!(change(|seen| drop(seen.headers.remove(1))), different(Field::Headers));
    assert_eq!(change(|seen| seen.headers.swap(0, 1)), different(Field::Headers));
    assert_eq!(
        change(|seen| seen.headers[1].1 = Some(Vec::new())),
        different(Field::Headers)
    );
    assert_eq!(change(|seen| seen.timestamp += 1), different(Field::Timestamp));
    assert_eq!(change(|seen| seen.timestamp -= 1), different(Field::Timestamp));
}

#[test]
fn null_is_not_empty_on_either_side() {
    assert_eq!(
        tampered(|records| records[0].key = Some(Vec::new())),
        (Kind::Different(Field::Key), Some(0), Some(0))
    );
    assert_eq!(
        tampered(|records| records[4].value = Some(Vec::new())),
        (Kind::Different(Field::Value), Some(5), Some(4))
    );
}

#[test]
fn neighbours_that_changed_places_differ() {
    let swapped = tampered(|records| {
        let (one, other) = (records[1].offset, records[2].offset);
        records.swap(1, 2);
        (records[1].offset, records[2].offset) = (one, other);
    });
    assert_eq!(swapped, (Kind::Different(Field::Key), Some(1), Some(1)));
}

#[test]
fn a_map_that_is_wrong_by_one_does_not_pass() {
    let shifted = vec![run(0, 1, 4), run(5, 5, 4), run(9, 9, 4)];
    assert!(!compare(SIDES, shifted, source(), target()).is_equal());
    let short = vec![run(0, 0, 4), run(5, 4, 3), run(9, 9, 4)];
    let findings = compare(SIDES, short, source(), target());
    assert_eq!(first(&findings), (Kind::Missing, Some(8), None));
    assert_eq!((findings.missing, findings.extra), (1, 1));
}

#[test]
fn what_a_cleaner_has_taken_is_not_missing() {
    let sides = Sides {
        source_is_compacted: true,
        target_is_compacted: true,
        ..SIDES
    };
    let (mut source, mut target) = (source(), target());
    source.retain(|record| record.offset != 2);
    target.retain(|record| record.offset != 5);
    let findings = compare(sides, runs(), source, target);
    assert!(findings.is_equal());
    assert_eq!((findings.compared, findings.compacted), (10, 2));
    assert_eq!(findings.source_digest, findings.target_digest);
}

#[test]
fn a_cleaner_explains_no_foreign_record() {
    let sides = Sides {
        source_is_compacted: true,
        target_is_compacted: true,
        ..SIDES
    };
    let mut target = target();
    target.insert(8, record(99, 8));
    assert_eq!(
        first(&compare(sides, runs(), source(), target)),
        (Kind::Foreign, None, Some(8))
    );
}

#[test]
fn what_retention_has_taken_is_not_missing() {
    let sides = Sides {
        source_log_start: SourceOffset(2),
        target_log_start: TargetOffset(6),
        ..SIDES
    };
    let (mut source, mut target) = (source(), target());
    source.retain(|record| record.offset >= 2);
    target.retain(|record| record.offset >= 6);
    let findings = compare(sides, runs(), source, target);
    assert!(findings.is_equal());
    assert_eq!((findings.compared, findings.expired), (6, 4));
}

#[test]
fn times_that_the_target_has_made_are_not_compared() {
    let sides = Sides {
        compares_time: false,
        ..SIDES
    };
    let mut target = target();
    target.iter_mut().for_each(|record| record.timestamp = 5);
    let findings = compare(sides, runs(), source(), target);
    assert!(findings.is_equal());
    assert_eq!(findings.source_digest, findings.target_digest);
}

#[test]
fn a_part_of_the_map_is_cut_on_both_sides() {
    let pair = |source, target| OffsetPair {
        source: SourceOffset(source),
        target: TargetOffset(target),
    };
    let part: Vec<Run> = within(runs().into_iter(), pair(2, 2), pair(10, 10)).collect();
    assert_eq!(part, [run(2, 2, 2), run(5, 4, 4), run(9, 9, 1)]);
}
