//! The offset map, asked about every offset and compared with what both logs show.

use crate::kafka::{Dump, Produce, Version, eventually};
use crate::kferry::{Summary, ask};
use crate::pair::Pair;

/// How many questions go on one command line.
const QUESTIONS: usize = 1000;

/// By the definition of exactness: every record before the offset lies before the answer, and the answer is not past the
/// first record of the rest. `from` and `to` hold the same records. Returns how many answers were checked.
fn assert_exact(pair: &Pair, inverse: bool, from: &Dump, to: &Dump, ends: &[i64]) -> usize {
    let mut checked = 0;
    for (partition, end) in (0..).zip(ends) {
        let records = || {
            from.0
                .iter()
                .zip(&to.0)
                .filter(|(record, _)| record.partition == partition)
        };
        let pairs: Vec<(i64, i64)> = records().map(|(record, other)| (record.offset, other.offset)).collect();
        let questions: Vec<String> = (0..=*end)
            .map(|offset| format!("{}:{partition}:{offset}", pair.topic))
            .collect();
        for questions in questions.chunks(QUESTIONS) {
            let mut arguments = vec![
                "--to".to_owned(),
                pair.target.bootstrap(),
                "--flow".to_owned(),
                pair.flow(),
            ];
            arguments.extend(inverse.then(|| "--inverse".to_owned()));
            arguments.extend(questions.iter().cloned());
            for answer in ask("offsets translate", &arguments)
                .summary()
                .0
                .as_array()
                .expect("answers")
            {
                let (offset, target) = (number(answer, "offset"), number(answer, "target_offset"));
                assert_eq!(answer["state"], "exact", "{answer}");
                let split = pairs.partition_point(|(offset_of, _)| *offset_of < offset);
                let before = split.checked_sub(1).map_or(-1, |last| pairs[last].1);
                let after = pairs.get(split).map_or(i64::MAX, |(_, other)| *other);
                assert!(
                    before < target && target <= after,
                    "{answer}: between {before} and {after}"
                );
                checked += 1;
            }
        }
    }
    checked
}

fn number(answer: &serde_json::Value, field: &str) -> i64 {
    answer[field]
        .as_i64()
        .unwrap_or_else(|| panic!("no {field} in {answer}"))
}

fn every_offset(pair: &mut Pair) {
    let (source, target) = (pair.committed(), pair.arrived());
    let ends = |offsets: Vec<(i64, i64)>| offsets.into_iter().map(|(_, end)| end).collect::<Vec<_>>();
    let source_ends = ends(pair.judge.offsets(pair.source, &pair.topic));
    let target_ends = ends(pair.judge.offsets(pair.target, &pair.topic));
    let forwards = assert_exact(pair, false, &source, &target, &source_ends);
    let backwards = assert_exact(pair, true, &target, &source, &target_ends);
    println!(
        "{}: {forwards} offsets translated, {backwards} inverted, 0 wrong",
        pair.topic
    );
}

fn transactions(name: &str, source: Version, target: Version) -> Pair {
    let mut pair = Pair::of(name, source, target);
    pair.create(3, &[]);
    let records = Produce {
        partitions: 3,
        ..Produce::VARIED
    };
    pair.judge.interleave(pair.source, &pair.topic, &records, 4, 400);
    pair
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn every_offset_of_interleaved_transactions_is_translated_from_3_to_4() {
    let mut pair = transactions("translated", Version::V3, Version::V4);
    pair.copy().run().summary();
    every_offset(&mut pair);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn every_offset_of_interleaved_transactions_is_translated_from_4_to_3() {
    let mut pair = transactions("translated", Version::V4, Version::V3);
    pair.copy().run().summary();
    every_offset(&mut pair);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn every_offset_is_translated_after_crashes_and_more_records() {
    let mut pair = transactions("translated-crashed", Version::V4, Version::V3);
    for round in 2..6 {
        let running = pair.copy().start();
        eventually("some arrive", || pair.records_on_target() > 0);
        running.kill();
        let records = Produce {
            partitions: 3,
            seed: round,
            ..Produce::VARIED
        };
        pair.judge.interleave(pair.source, &pair.topic, &records, 3, 60);
    }
    pair.copy().run().summary();
    pair.assert_copied();
    every_offset(&mut pair);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn what_is_not_there_so_far_is_pending_and_what_is_not_known_an_error() {
    let mut pair = transactions("pending", Version::V4, Version::V3);
    pair.copy().run().summary();
    let end = pair.judge.offsets(pair.source, &pair.topic)[0].1;
    let flow = [
        "--to".to_owned(),
        pair.target.bootstrap(),
        "--flow".to_owned(),
        pair.flow(),
    ];
    let asked = |question: &str| ask("offsets translate", &[&flow[..], &[question.to_owned()]].concat());

    let Summary(answer) = asked(&format!("{}:0:{}", pair.topic, end + 5)).summary();
    assert_eq!(answer[0]["state"], "pending");
    asked("no-such-topic:0:1").assert_failed(1, &["no-such-topic"]);
    asked("nonsense").assert_failed(2, &["TOPIC:PARTITION:OFFSET"]);
    let other = [
        "--to".to_owned(),
        pair.target.bootstrap(),
        "--flow".to_owned(),
        "other->flow".to_owned(),
    ];
    ask("offsets show", &other).assert_failed(1, &["kferry-ledger.other.flow.internal"]);

    let Summary(shown) = ask("offsets show", &flow).summary();
    let partitions = shown["partitions"].as_array().expect("partitions");
    assert_eq!(partitions.len(), 3);
    assert!(
        partitions
            .iter()
            .all(|it| it["runs"].as_u64() > Some(1) && it["lag"].is_null()),
        "{shown}"
    );
    eventually("the ledger has a size", || shown["ledger_bytes"].as_u64() > Some(0));
}
