//! Requests and answers that get lost, late, refused or damaged: the copy goes on, and everything arrives once.

use kferry::protocol::ApiKey;
use kferry::protocol::error_code::ErrorCode;
use kferry::sandbox::core::faults::{Effect, Fault};

use crate::kafka::{Signal, eventually};
use crate::sandboxes::{BATCH, Sandboxes, TOPIC};

const PARTITIONS: i32 = 3;
const BATCHES: i64 = 40;
const RECORDS: usize = (PARTITIONS as i64 * BATCHES * BATCH) as usize;

#[track_caller]
fn assert_survived(sandboxes: &Sandboxes) {
    let summary = sandboxes.copy().run().summary();
    assert_eq!(sandboxes.assert_copied(), RECORDS);
    assert_eq!(summary.records(), RECORDS);
}

#[test]
fn without_faults_everything_arrives() {
    assert_survived(&Sandboxes::with_batches(PARTITIONS, BATCHES));
}

#[test]
fn lost_produce_requests_lose_nothing() {
    let sandboxes = Sandboxes::with_batches(PARTITIONS, BATCHES);
    sandboxes.arm_target(Fault::new(ApiKey::Produce, Effect::DropBefore).after(2).times(3));
    assert_survived(&sandboxes);
}

#[test]
fn lost_produce_answers_duplicate_nothing() {
    let sandboxes = Sandboxes::with_batches(PARTITIONS, BATCHES);
    sandboxes.arm_target(Fault::new(ApiKey::Produce, Effect::DropAfter).after(2).times(3));
    assert_survived(&sandboxes);
}

#[test]
fn late_produce_answers_change_nothing() {
    let sandboxes = Sandboxes::with_batches(PARTITIONS, BATCHES);
    sandboxes.arm_target(Fault::new(ApiKey::Produce, Effect::Delay { ms: 300 }).after(1).times(5));
    assert_survived(&sandboxes);
}

#[test]
fn refusals_that_pass_are_tried_again() {
    for code in [
        ErrorCode::NotLeaderOrFollower,
        ErrorCode::NotEnoughReplicas,
        ErrorCode::RequestTimedOut,
        ErrorCode::KafkaStorageError,
        ErrorCode::ThrottlingQuotaExceeded,
    ] {
        let sandboxes = Sandboxes::with_batches(PARTITIONS, BATCHES);
        sandboxes.arm_target(
            Fault::new(ApiKey::Produce, Effect::Refuse(code))
                .after(3)
                .times(2)
                .on_partition(TOPIC, 1),
        );
        assert_survived(&sandboxes);
    }
}

#[test]
fn a_refusal_for_good_names_partition_offset_and_error() {
    let sandboxes = Sandboxes::with_batches(PARTITIONS, BATCHES);
    let refusal = Effect::Refuse(ErrorCode::TopicAuthorizationFailed);
    sandboxes.arm_target(Fault::new(ApiKey::Produce, refusal).times(100).on_partition(TOPIC, 1));

    let outcome = sandboxes.copy().run();

    outcome.assert_failed(1, &[TOPIC, "partition 1", "TOPIC_AUTHORIZATION_FAILED", "target"]);
    sandboxes.target.with_core(|cluster| cluster.disarm());
    sandboxes.copy().run().summary();
    assert_eq!(
        sandboxes.assert_copied(),
        RECORDS,
        "the others went on, and the next run makes up for it"
    );
}

#[test]
fn lost_fetches_are_made_again() {
    for effect in [Effect::DropBefore, Effect::DropAfter] {
        let sandboxes = Sandboxes::with_batches(PARTITIONS, BATCHES);
        sandboxes.arm_source(Fault::new(ApiKey::Fetch, effect).after(1).times(3));
        assert_survived(&sandboxes);
    }
}

#[test]
fn fetches_that_are_refused_are_made_again() {
    for code in [
        ErrorCode::NotLeaderOrFollower,
        ErrorCode::FencedLeaderEpoch,
        ErrorCode::UnknownLeaderEpoch,
        ErrorCode::KafkaStorageError,
        ErrorCode::FetchSessionIdNotFound,
        ErrorCode::UnknownServerError,
    ] {
        let sandboxes = Sandboxes::with_batches(PARTITIONS, BATCHES);
        sandboxes.arm_source(Fault::new(ApiKey::Fetch, Effect::Refuse(code)).times(3));
        assert_survived(&sandboxes);
    }
}

/// Bytes of an answer's frame and fields, and some within records, where the CRC has to tell.
#[test]
fn a_damaged_fetch_answer_is_never_believed() {
    for position in (0..60).step_by(4).chain([150, 500, 1000, 3000]) {
        let sandboxes = Sandboxes::with_batches(1, 8);
        sandboxes.arm_source(Fault::new(ApiKey::Fetch, Effect::Corrupt { position }));
        assert_loud_or_survived(&sandboxes, "source", position);
    }
}

/// Where the damage reads as a refusal that was none, the batch that was taken is sent again by the next run. Where it
/// hits the offset, there is nothing to check it against until the next run finds a log that ends before it.
#[test]
fn a_damaged_produce_answer_loses_nothing_in_silence() {
    for position in (0..40).step_by(2) {
        let sandboxes = Sandboxes::with_batches(1, 8);
        sandboxes.arm_target(Fault::new(ApiKey::Produce, Effect::Corrupt { position }).on_partition(TOPIC, 0));
        assert_loud_or_survived(&sandboxes, "target", position);
    }
}

/// A byte that was inverted can read as a history that changed, or as a refusal. Then the copy fails and names the side.
#[track_caller]
fn assert_loud_or_survived(sandboxes: &Sandboxes, side: &str, position: usize) {
    for _ in 0..2 {
        let outcome = sandboxes.copy().run();
        if outcome.code() == 0 {
            sandboxes.assert_copied();
            return;
        }
        assert_eq!(outcome.code(), 1, "byte {position}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(side), "byte {position}: {}", outcome.stderr);
    }
}

#[test]
fn leaders_that_move_are_followed() {
    let sandboxes = Sandboxes::with_batches(PARTITIONS, BATCHES);
    let running = sandboxes.copy().flag("--follow").start();
    for round in 0..4 {
        let written = BATCHES + i64::from(round);
        eventually("everything arrives", || {
            sandboxes.records_on_target() == i64::from(PARTITIONS) * written * BATCH
        });
        for sandbox in [&sandboxes.source, &sandboxes.target] {
            sandbox.with_core(|cluster| {
                for partition in 0..PARTITIONS {
                    let leader = Some(1 + (partition + round) % 2);
                    cluster.move_leader(TOPIC, partition, leader).expect("such a partition");
                }
            });
        }
        sandboxes.write(written, 1, 100);
    }
    running.signal(Signal::Terminate);
    assert_eq!(running.wait().code(), 143);
    sandboxes.copy().run().summary();
    assert_eq!(sandboxes.assert_copied(), RECORDS + 4 * 3 * 10);
}

#[test]
fn a_ledger_that_cannot_be_written_for_a_while_is_written_later() {
    let sandboxes = Sandboxes::with_batches(PARTITIONS, BATCHES);
    let ledger = "kferry-ledger.source.target.internal";
    let refusal = Effect::Refuse(ErrorCode::NotEnoughReplicas);
    for lane in 0..8 {
        sandboxes.arm_target(Fault::new(ApiKey::Produce, refusal).times(2).on_partition(ledger, lane));
    }
    assert_survived(&sandboxes);
    assert_eq!(sandboxes.copy().run().summary().records(), 0);
}
