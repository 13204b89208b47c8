//! What is copied, and whether it has arrived.

use std::collections::HashMap;

use crate::kafka::{Cluster, Dump, Isolation, Judge, KafkaCluster, Produce, Timestamps, assert_same, now_ms};
use crate::kferry::{Copy, Outcome};

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
const PARTITIONS: usize = 3;

/// How old the records are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Age {
    New,
    /// Brokers forget who wrote them when they start again.
    Old,
}

/// Topics of one test on the source: of all codecs, with transactions, compacted.
pub(crate) struct Data {
    name: String,
    judge: Judge,
    compacted: Dump,
}

impl Data {
    pub(crate) fn write(name: &str, source: &dyn Cluster, age: Age) -> Self {
        let mut judge = Judge::take();
        let timestamp = match age {
            Age::New => now_ms() - 1_000_000,
            Age::Old => Produce::PLAIN.timestamp,
        };
        for codec in CODECS {
            let topic = format!("{name}-{codec}");
            judge.create_topic(source, &topic, PARTITIONS, &[]);
            judge.produce(
                source,
                &topic,
                &Produce {
                    count: 6000,
                    size: 500,
                    partitions: PARTITIONS,
                    codec,
                    timestamp,
                    ..Produce::PLAIN
                },
            );
        }
        let topic = format!("{name}-transactions");
        judge.create_topic(source, &topic, PARTITIONS, &[]);
        let varied = Produce {
            partitions: PARTITIONS,
            ..Produce::VARIED
        };
        judge.interleave(source, &topic, &varied, 4, 400);
        let compacted = compacted(&mut judge, source, &format!("{name}-compacted"), timestamp);
        Self {
            name: name.to_owned(),
            judge,
            compacted,
        }
    }

    /// A copy of all of it. How much is fetched at once, and so how the stream is cut up, is another each time.
    pub(crate) fn copy(&self, source: &dyn Cluster, target: &dyn Cluster) -> Copy {
        let memory = fastrand::choice(["8MiB", "32MiB", "256MiB"]).expect("some");
        Copy::bare()
            .arg("--log", "debug")
            .arg("--memory", memory)
            .arg("--from", source.bootstrap())
            .arg("--to", target.bootstrap())
            .arg("--topics", format!("{}-.*", self.name))
            .arg("--flow", format!("{}->target", self.name))
    }

    /// Records on the target, of all topics.
    pub(crate) fn arrived(&mut self, target: &dyn Cluster) -> i64 {
        let name = format!("{}-", self.name);
        let topics = self.judge.topics(target).into_iter().map(|(topic, _)| topic);
        let topics: Vec<String> = topics.filter(|topic| topic.starts_with(&name)).collect();
        let ends = |topic: &String| -> i64 { self.judge.offsets(target, topic).iter().map(|(_, end)| end).sum() };
        topics.iter().map(ends).sum()
    }

    /// Whether a copy that has come to its end had everything once, by its own account.
    #[track_caller]
    pub(crate) fn assert_promised(&self, outcome: &Outcome) {
        assert_eq!(
            outcome.summary().text("/guarantee"),
            "exactly-once",
            "{}",
            outcome.stderr
        );
    }

    /// Whether one that was ended had to give up on that, by what it said until then.
    #[track_caller]
    pub(crate) fn heed(&self, said: &str) {
        assert!(!said.contains("may be on the target twice"), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }

    /// The claim. Returns how many records there are.
    #[track_caller]
    pub(crate) fn assert_exactly_once(&mut self, source: &dyn Cluster, target: &dyn Cluster) -> usize {
        let mut records = 0;
        for kind in CODECS.iter().chain(&["transactions"]) {
            let topic = format!("{}-{kind}", self.name);
            let wanted = self.judge.dump(source, &topic, Isolation::ReadCommitted);
            let found = self.judge.dump(target, &topic, Isolation::ReadUncommitted);
            assert_same(&wanted, &found, Timestamps::Equal);
            records += wanted.len();
        }
        let topic = format!("{}-compacted", self.name);
        let now = self.judge.dump(source, &topic, Isolation::ReadCommitted);
        let found = self.judge.dump(target, &topic, Isolation::ReadUncommitted);
        self.assert_compacted(&now, &found);
        records + found.len()
    }

    /// Of a compacted topic the cleaner decides what is there. What is, was committed; the versions of a key are in their
    /// order, each once; and the last of each is the source's last.
    #[track_caller]
    fn assert_compacted(&self, now: &Dump, found: &Dump) {
        let versions: HashMap<(i32, &str, i64, &str), i64> = self
            .compacted
            .0
            .iter()
            .map(|record| {
                let version = (
                    record.partition,
                    record.key.as_str(),
                    record.timestamp,
                    record.value.as_str(),
                );
                (version, record.offset)
            })
            .collect();
        let mut last: HashMap<i32, i64> = HashMap::new();
        for record in &found.0 {
            let version = (
                record.partition,
                record.key.as_str(),
                record.timestamp,
                record.value.as_str(),
            );
            let offset = *versions
                .get(&version)
                .unwrap_or_else(|| panic!("never committed: {record}"));
            let before = last.insert(record.partition, offset);
            assert!(
                before.is_none_or(|before| before < offset),
                "repeated, or out of order: {record}"
            );
        }
        let newest = |dump: &Dump| -> HashMap<(i32, String), String> {
            let newest = dump
                .0
                .iter()
                .map(|record| ((record.partition, record.key.clone()), record.value.clone()));
            newest.collect()
        };
        assert_eq!(newest(now), newest(found), "the last version of each key");
    }
}

/// A topic that the cleaner goes on with while it is copied. Returns all that was ever committed in it and is there to be
/// seen: nothing was cleaned before the first look.
fn compacted(judge: &mut Judge, source: &dyn Cluster, topic: &str, timestamp: i64) -> Dump {
    let patient = [
        ("cleanup.policy", "compact"),
        ("min.compaction.lag.ms", "1000000000000"),
    ];
    judge.create_topic(source, topic, 2, &patient);
    for round in 0..10 {
        let records = Produce {
            count: 300,
            first: round * 300,
            seed: round as u64,
            keys: 100,
            partitions: 2,
            timestamp,
            ..Produce::KEYED
        };
        judge.produce(source, topic, &records);
    }
    let all = judge.dump(source, topic, Isolation::ReadCommitted);
    let eager = [
        ("segment.ms", "50"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("min.compaction.lag.ms", "0"),
    ];
    judge.alter_configs(source, topic, &eager);
    all
}

/// Prints what a scenario came to.
pub(crate) fn report(scenario: &str, target: &KafkaCluster, records: usize, what: &str) {
    println!(
        "{scenario} on {}: {records} records, {what}: 0 lost, 0 repeated, 0 out of order",
        target.version().release()
    );
}
