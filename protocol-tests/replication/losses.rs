//! History that changes under a copy is said, never healed by starting elsewhere.

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
