//! What nearly every test needs: two clusters, a judge, and names that no other test uses.

use crate::kafka::{Dump, Isolation, Judge, KafkaCluster, Timestamps, Version, assert_same, shared};
use crate::kferry::Copy;

/// A source, a target, and a judge of both.
///
/// Brokers are shared, so each test has a name of its own: its topics begin with it, and so does its flow.
pub(crate) struct Pair {
    pub(crate) source: &'static KafkaCluster,
    pub(crate) target: &'static KafkaCluster,
    pub(crate) judge: Judge,
    /// The name of the only topic of most tests.
    pub(crate) topic: String,
}

impl Pair {
    /// From the newest release to the line before, for tests to which releases do not matter.
    pub(crate) fn new(name: &str) -> Self {
        Self::of(name, Version::V4, Version::V3)
    }

    pub(crate) fn of(name: &str, source: Version, target: Version) -> Self {
        let topic = format!("{name}-{}-{}", source.release(), target.release());
        Self {
            source: shared(source),
            target: shared(target),
            judge: Judge::take(),
            topic,
        }
    }

    /// Creates the topic on the source.
    pub(crate) fn create(&mut self, partitions: usize, configs: &[(&str, &str)]) {
        self.judge.create_topic(self.source, &self.topic, partitions, configs);
    }

    /// Creates it on the target, before any copy does.
    pub(crate) fn create_on_target(&mut self, partitions: usize, configs: &[(&str, &str)]) {
        self.judge.create_topic(self.target, &self.topic, partitions, configs);
    }

    /// A copy of the test's topic, under the test's own flow.
    pub(crate) fn copy(&self) -> Copy {
        self.copy_of(&self.topic)
    }

    /// A copy of the topics that match; a test of several topics makes their names from [`Self::topic`].
    pub(crate) fn copy_of(&self, topics: &str) -> Copy {
        Copy::between(self.source, self.target)
            .arg("--topics", topics)
            .arg("--flow", self.flow())
    }

    pub(crate) fn flow(&self) -> String {
        format!("{}->target", self.topic)
    }

    /// The records to be copied, as the source shows them.
    pub(crate) fn committed(&mut self) -> Dump {
        self.judge.dump(self.source, &self.topic, Isolation::ReadCommitted)
    }

    /// What is on the target, for those readers too who do not care about transactions.
    pub(crate) fn arrived(&mut self) -> Dump {
        self.judge.dump(self.target, &self.topic, Isolation::ReadUncommitted)
    }

    /// The claim of most tests. Returns how many records there are.
    #[track_caller]
    pub(crate) fn assert_copied(&mut self) -> usize {
        let (source, target) = (self.committed(), self.arrived());
        assert_same(&source, &target, Timestamps::Equal);
        source.len()
    }

    /// How many records each partition of the target's topic holds; none while there is no such topic.
    pub(crate) fn records_on_target(&mut self) -> i64 {
        let name = &self.topic;
        if self.judge.topics(self.target).iter().all(|(topic, _)| topic != name) {
            return 0;
        }
        self.judge
            .offsets(self.target, &self.topic)
            .iter()
            .map(|(first, end)| end - first)
            .sum()
    }
}
