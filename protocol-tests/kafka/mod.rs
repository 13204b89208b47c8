//! Real Apache Kafka for the tests: brokers from its published Maven artifacts, and two judges that are not ours.
//!
//! [`KafkaCluster`] is a broker of one's own or, by [`shared`], one for all tests of a binary: a broker takes seconds
//! to start and half a gigabyte, and two cores carry few. Tests on a shared one keep out of each other's way by the
//! names of their topics and flows. [`Judge`] writes and reads with Kafka's own client, `librdkafka` reads once more
//! with the other great one; what they saw is a [`Dump`].
//!
//! Everything here panics where it cannot go on, and says what is missing: this is for tests only. Nothing outlives
//! the test process: each Java process halts when its standard input ends.

#![allow(dead_code, unused_imports, reason = "each test binary uses its part")]

use std::time::{Duration, Instant, SystemTime};

mod cluster;
mod dump;
mod judge;
mod librdkafka;
mod process;
mod tools;

pub(crate) use cluster::{KafkaCluster, shared};
pub(crate) use dump::{Dump, Isolation, Record, Timestamps, assert_same};
pub(crate) use judge::{Judge, Produce};
pub(crate) use librdkafka::{Member, dump as librdkafka, group as librdkafka_group};
pub(crate) use process::{Signal, signal};
pub(crate) use tools::{scratch, target_dir};

/// The releases under test: the newest, the last of the line before, and the oldest that still runs on Java 17.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// KRaft. Fetch v18, Produce by topic id, `transaction.version` 2.
    V4,
    /// KRaft, and the last release that takes message formats before v2.
    V3,
    /// ZooKeeper. No topic ids in Fetch; stores the message formats of 0.8 and 0.10 where a topic asks for them.
    V2,
}

impl Version {
    pub(crate) fn release(self) -> &'static str {
        match self {
            Self::V4 => "4.3.1",
            Self::V3 => "3.9.1",
            Self::V2 => "2.8.2",
        }
    }
}

/// What can be judged: real Kafka, or what should behave as it.
pub(crate) trait Cluster {
    /// As clients want it: `host:port,…`.
    fn bootstrap(&self) -> String;
}

impl Cluster for KafkaCluster {
    fn bootstrap(&self) -> String {
        self.bootstrap()
    }
}

impl Cluster for kferry::sandbox::Sandbox {
    fn bootstrap(&self) -> String {
        self.bootstrap()
    }
}

/// Waits until `done` says so.
#[track_caller]
pub(crate) fn eventually(what: &str, done: impl FnMut() -> bool) {
    assert!(happens(Duration::from_secs(60), done), "not within a minute: {what}");
}

/// Whether `done` says so within some time. The tests wait for what a broker or kferry does, never for a time to pass.
#[expect(
    clippy::disallowed_methods,
    reason = "the state of other processes can only be asked for again and again"
)]
pub(crate) fn happens(within: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + within;
    loop {
        if done() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Milliseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "records of today need today's time")]
pub(crate) fn now_ms() -> i64 {
    let since_1970 = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("a clock that is set");
    i64::try_from(since_1970.as_millis()).expect("some time to come")
}
