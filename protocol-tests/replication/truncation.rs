//! A broker that comes back with a shorter log, and has other records by the time that somebody looks.

use crate::kafka::{Dump, Isolation, Judge, KafkaCluster, Produce, Version, shared};
use crate::kferry::{Copy, Outcome};

/// A source whose log was cut back to `end` after everything was copied, and grew beyond that again.
struct CutBack {
    source: KafkaCluster,
    topic: String,
    judge: Judge,
    end: i64,
    /// The values that were copied, and those that the source has instead.
    before: Vec<String>,
    after: Vec<String>,
}

impl CutBack {
    fn of(version: Version) -> Self {
        let source = KafkaCluster::start(version, &[]);
        let topic = format!("cut-back-{}", version.release());
        let mut judge = Judge::take();
        judge.create_topic(&source, &topic, 1, &[]);
        let records = |first| Produce {
            first,
            count: 1000,
            batch_bytes: 2000,
            ..Produce::PLAIN
        };
        judge.produce(&source, &topic, &records(0));
        let mut cut_back = Self {
            source,
            topic,
            judge,
            end: 0,
            before: Vec::new(),
            after: Vec::new(),
        };
        assert_eq!(cut_back.copy().run().summary().records(), 1000);
        cut_back.before = cut_back.values_on_source();

        cut_back.source.kill();
        cut_back.end = cut_back.source.cut_log_back(&cut_back.topic, 0, 600);
        assert!(cut_back.end < 1000, "the log was cut back to {}", cut_back.end);
        cut_back.source.start_again();
        cut_back
            .judge
            .produce(&cut_back.source, &cut_back.topic, &records(5000));
        let kept = usize::try_from(cut_back.end).expect("an offset");
        cut_back.after = cut_back.values_on_source().split_off(kept);
        assert_eq!(cut_back.after.len(), 1000, "it has grown beyond what was copied");
        cut_back
    }

    fn copy(&self) -> Copy {
        Copy::between(&self.source, shared(Version::V4))
            .arg("--topics", &self.topic)
            .arg("--flow", format!("{}->target", self.topic))
    }

    /// Both sides differ from now on.
    fn copy_again(&self, on_truncation: &str) -> Outcome {
        self.copy()
            .arg("--on-truncation", on_truncation)
            .start()
            .wait_unverified()
    }

    fn values_on_source(&mut self) -> Vec<String> {
        values(&self.judge.dump(&self.source, &self.topic, Isolation::ReadCommitted))
    }

    fn values_on_target(&mut self) -> Vec<String> {
        values(
            &self
                .judge
                .dump(shared(Version::V4), &self.topic, Isolation::ReadUncommitted),
        )
    }
}

fn values(dump: &Dump) -> Vec<String> {
    dump.0.iter().map(|record| record.value.clone()).collect()
}

/// A broker of Kafka 4 leads under a newer epoch when it comes back.
#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_log_that_was_cut_back_and_grew_again_is_told_with_its_range() {
    let mut cut_back = CutBack::of(Version::V4);
    let range = format!("offsets {} to 1000 (exclusive)", cut_back.end);

    let topic = cut_back.topic.clone();
    cut_back
        .copy_again("stop")
        .assert_failed(1, &["truncated", &topic, &range]);
    assert_eq!(cut_back.values_on_target(), cut_back.before);

    let outcome = cut_back.copy_again("continue");
    assert_eq!(outcome.summary().records(), 1000);
    assert!(
        outcome.stderr.contains(&format!("has lost {range}")),
        "{}",
        outcome.stderr
    );
    let expected = [cut_back.before.clone(), cut_back.after.clone()].concat();
    assert_eq!(
        cut_back.values_on_target(),
        expected,
        "what was there stays, and what came instead follows it"
    );
    assert_eq!(cut_back.copy_again("stop").summary().records(), 0);
}

/// One of Kafka 3.9 is back before it was missed, and leads under the same epoch.
#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_log_that_was_cut_back_and_grew_again_under_its_epoch_is_not_gone_on_with() {
    let mut cut_back = CutBack::of(Version::V3);
    let topic = cut_back.topic.clone();
    for on_truncation in ["stop", "continue"] {
        cut_back.copy_again(on_truncation).assert_failed(
            1,
            &["truncated", &topic, "1000 was the next offset to copy", "kferry verify"],
        );
        assert_eq!(cut_back.values_on_target(), cut_back.before);
    }
}
