//! Consumer groups that move to the other cluster: they lose nothing and repeat nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::kafka::{Dump, Member, Produce};
use crate::kferry::{Summary, ask};
use crate::pair::Pair;

/// Interleaved transactions, a third of them aborted, in three partitions.
fn written(name: &str) -> Pair {
    let mut pair = Pair::new(name);
    pair.create(3, &[]);
    let records = Produce {
        partitions: 3,
        ..Produce::VARIED
    };
    pair.judge.interleave(pair.source, &pair.topic, &records, 3, 120);
    pair
}

/// The place of each record among all, by partition and offset.
fn places(dump: &Dump) -> BTreeMap<(i32, i64), usize> {
    let places = (0..).zip(&dump.0);
    places
        .map(|(place, record)| ((record.partition, record.offset), place))
        .collect()
}

fn states(summary: &Summary) -> BTreeSet<String> {
    let rows = summary.0["groups"].as_array().expect("rows");
    rows.iter()
        .map(|row| row["state"].as_str().expect("a state").to_owned())
        .collect()
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_group_that_moves_reads_each_record_once() {
    let mut pair = written("moved");
    let all = pair.committed().len();
    let group = format!("readers-of-{}", pair.topic);
    let before = Member::join(pair.source, &pair.topic, &group, all / 2).dismiss();

    let summary = pair.copy().arg("--groups", "readers-of-.*").run().summary();

    assert_eq!(states(&summary), BTreeSet::from(["written".to_owned()]), "{summary:?}");
    let after = Member::join(pair.target, &pair.topic, &group, 0).dismiss();
    let (source, target) = (places(&pair.committed()), places(&pair.arrived()));
    let here: BTreeSet<usize> = before.iter().map(|place| source[place]).collect();
    let there: BTreeSet<usize> = after.iter().map(|place| target[place]).collect();
    assert!(here.is_disjoint(&there), "read twice: {:?}", here.intersection(&there));
    assert_eq!(here.union(&there).count(), all, "never read");
    assert_eq!(here.len() + there.len(), before.len() + after.len());
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_group_with_members_on_the_target_is_left_alone() {
    let pair = written("active");
    let group = format!("readers-of-{}", pair.topic);
    Member::join(pair.source, &pair.topic, &group, 20).dismiss();
    pair.copy().run().summary();
    let member = Member::join(pair.target, &pair.topic, &group, 5);

    let summary = pair.copy().arg("--groups", group.as_str()).run().summary();

    assert_eq!(states(&summary), BTreeSet::from(["active".to_owned()]), "{summary:?}");
    member.dismiss();
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_group_is_never_moved_back() {
    let mut pair = written("ahead");
    let group = format!("readers-of-{}", pair.topic);
    Member::join(pair.source, &pair.topic, &group, 20).dismiss();
    let copy = || pair.copy().arg("--groups", group.as_str()).run().summary();
    assert_eq!(states(&copy()), BTreeSet::from(["written".to_owned()]));
    assert_eq!(
        states(&copy()),
        BTreeSet::from(["kept".to_owned()]),
        "it is there already"
    );
    let read = Member::join(pair.target, &pair.topic, &group, 0).dismiss();
    assert!(!read.is_empty());

    assert_eq!(
        states(&copy()),
        BTreeSet::from(["kept".to_owned()]),
        "it has gone on there"
    );

    let again = Member::join(pair.target, &pair.topic, &group, 0).dismiss();
    assert_eq!(again, [], "nothing is read again");
    let shown = ask(
        "offsets groups",
        &[
            "--to".to_owned(),
            pair.target.bootstrap(),
            "--flow".to_owned(),
            pair.flow(),
        ],
    );
    let rows = shown.summary();
    assert!(
        rows.0
            .as_array()
            .expect("rows")
            .iter()
            .all(|row| row["state"] == "kept"),
        "{rows:?}"
    );
    pair.assert_copied();
}
