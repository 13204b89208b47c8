//! History that changes under a copy is said, never healed by starting elsewhere.

use kferry::protocol::ApiKey;
use kferry::protocol::error_code::ErrorCode;
use kferry::sandbox::core::faults::{Effect, Fault};

use crate::kferry::ask;
use crate::sandboxes::{BATCH, Sandboxes, TOPIC};

const BATCHES: i64 = 20;

/// Sandboxes after a copy of everything.
fn copied() -> Sandboxes {
    let sandboxes = Sandboxes::with_batches(1, BATCHES);
    sandboxes.copy().run().summary();
    sandboxes
}

#[test]
fn records_deleted_before_they_were_copied_are_a_gap_with_its_range() {
    let sandboxes = copied();
    sandboxes.write(BATCHES, 10, 100);
    sandboxes
        .source
        .with_core(|cluster| cluster.delete_records(TOPIC, 0, 250))
        .expect("such a partition");

    sandboxes
        .copy()
        .run()
        .assert_failed(1, &[TOPIC, "partition 0", "200", "250", "source"]);

    assert_eq!(
        sandboxes.records_on_target(),
        BATCHES * BATCH,
        "nothing is skipped in silence"
    );
}

#[test]
fn a_log_that_was_truncated_is_said() {
    let sandboxes = copied();
    sandboxes
        .source
        .with_core(|cluster| cluster.truncate(TOPIC, 0, 150))
        .expect("such a partition");

    sandboxes
        .copy()
        .run()
        .assert_failed(1, &[TOPIC, "partition 0", "150", "truncated"]);

    assert_eq!(sandboxes.records_on_target(), BATCHES * BATCH);
}

#[test]
fn a_log_that_was_truncated_and_grew_again_is_said() {
    let sandboxes = copied();
    sandboxes
        .source
        .with_core(|cluster| cluster.truncate(TOPIC, 0, 150))
        .expect("such a partition");
    sandboxes.write(15, 10, 50);

    sandboxes
        .copy()
        .run()
        .assert_failed(1, &[TOPIC, "partition 0", "150", "truncated"]);

    assert_eq!(sandboxes.records_on_target(), BATCHES * BATCH);
}

#[test]
fn a_source_topic_that_was_created_anew_is_said() {
    let sandboxes = copied();
    assert!(sandboxes.source.with_core(|cluster| cluster.recreate_topic(TOPIC)));

    sandboxes
        .copy()
        .run()
        .assert_failed(1, &[TOPIC, "created anew", "source"]);

    assert_eq!(sandboxes.records_on_target(), BATCHES * BATCH);
}

#[test]
fn a_target_topic_that_was_created_anew_is_said() {
    let sandboxes = copied();
    assert!(sandboxes.target.with_core(|cluster| cluster.recreate_topic(TOPIC)));
    sandboxes.write(BATCHES, 1, 100);

    sandboxes
        .copy()
        .run()
        .assert_failed(1, &[TOPIC, "created anew", "target"]);

    assert_eq!(sandboxes.records_on_target(), 0);
}

#[test]
fn a_target_log_that_lost_records_is_said() {
    let sandboxes = copied();
    sandboxes
        .target
        .with_core(|cluster| cluster.truncate(TOPIC, 0, 150))
        .expect("such a partition");
    sandboxes.write(BATCHES, 1, 100);

    sandboxes
        .copy()
        .run()
        .assert_failed(1, &[TOPIC, "partition 0", "150", "truncated", "target"]);
}

/// Where a source offset is on the target, by the map.
fn translated(sandboxes: &Sandboxes, offset: i64) -> i64 {
    let question = [
        "--to".to_owned(),
        sandboxes.target.bootstrap(),
        format!("{TOPIC}:0:{offset}"),
    ];
    let answer = ask("offsets translate", &question).summary().0;
    answer[0]["target_offset"].as_i64().expect("an offset")
}

#[test]
fn by_policy_a_gap_is_told_and_passed() {
    let sandboxes = copied();
    sandboxes.write(BATCHES, 10, 100);
    sandboxes
        .source
        .with_core(|cluster| cluster.delete_records(TOPIC, 0, 250))
        .expect("such a partition");

    let outcome = sandboxes.copy().arg("--on-gap", "continue").run();

    assert_eq!(outcome.summary().records(), 50);
    assert!(
        outcome.stderr.contains("200 to 250 (exclusive) were gone"),
        "{}",
        outcome.stderr
    );
    assert_eq!(translated(&sandboxes, 230), 200, "nothing of the gap is there");
    assert_eq!(translated(&sandboxes, 251), 201);
}

#[test]
fn by_policy_a_truncated_log_is_told_and_gone_on_with() {
    let sandboxes = copied();
    sandboxes
        .source
        .with_core(|cluster| cluster.truncate(TOPIC, 0, 150))
        .expect("such a partition");
    sandboxes.write(15, 10, 50);

    let outcome = sandboxes
        .copy()
        .arg("--on-truncation", "continue")
        .start()
        .wait_unverified();

    assert_eq!(outcome.summary().records(), 100);
    assert!(
        outcome.stderr.contains("has lost offsets 150 to 200"),
        "{}",
        outcome.stderr
    );
    assert_eq!(sandboxes.records_on_target(), 300, "what the target has it keeps");
    assert_eq!(translated(&sandboxes, 149), 149);
    assert_eq!(translated(&sandboxes, 160), translated(&sandboxes, 150) + 10);
    assert!(translated(&sandboxes, 151) > 200, "the new records, not the lost ones");
    let again = sandboxes.copy().start().wait_unverified();
    assert_eq!(again.summary().records(), 0);
}

#[test]
fn by_policy_a_topic_that_was_created_anew_is_told_and_copied() {
    let sandboxes = copied();
    assert!(sandboxes.source.with_core(|cluster| cluster.recreate_topic(TOPIC)));
    sandboxes.write(0, 5, 100);

    let outcome = sandboxes
        .copy()
        .arg("--on-recreation", "continue")
        .start()
        .wait_unverified();

    assert_eq!(outcome.summary().records(), 50);
    assert!(outcome.stderr.contains("created anew"), "{}", outcome.stderr);
    assert_eq!(sandboxes.records_on_target(), 250);
    assert!(translated(&sandboxes, 1) > 200, "the old topic's map is void");
}

#[test]
fn without_permission_for_transactional_ids_nothing_is_promised_that_cannot_be_kept() {
    let sandboxes = Sandboxes::with_batches(2, BATCHES);
    let refused = Effect::Refuse(ErrorCode::TransactionalIdAuthorizationFailed);
    sandboxes.arm_target(Fault::new(ApiKey::FindCoordinator, refused).times(u32::MAX));

    sandboxes
        .copy()
        .arg("--guarantee", "exactly-once")
        .run()
        .assert_failed(1, &["exactly-once can't be had", "WRITE on the transactional ids"]);
    assert_eq!(sandboxes.records_on_target(), 0);

    let summary = sandboxes.copy().run().summary();

    assert_eq!(summary.text("/guarantee"), "at-least-once");
    assert!(
        summary.text("/guarantee_reason").contains("transactional ids"),
        "{summary:?}"
    );
    sandboxes.assert_copied();
}
