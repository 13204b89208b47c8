//! What Apache Kafka does, as cases that run against the sandbox and against Kafka itself.
//!
//! The sandbox is believed by nobody: every behaviour of it that another test leans on has a case here. A case is a
//! function of a cluster, asks with raw requests of chosen versions, and knows no other difference between the clusters
//! than the release. The sandbox stands for the newest. Where a case fails on the sandbox alone, the sandbox is wrong.
//!
//! | file | cases about |
//! |---|---|
//! | [`produce`], [`timestamps`] | what a leader refuses, and what it makes of the rest |
//! | [`idempotence`] | sequences, epochs, retries |
//! | [`fetch`], [`list_offsets`] | reading |
//! | [`compaction`], [`restarts`] | what the cleaner and a restart leave behind |
//! | [`transactions`] | markers, fencing, what readers of committed records see |
//! | [`topics`] | creating and describing topics |
//! | [`groups`] | consumer groups and their offsets |
//! | [`versions`] | which versions are served |
//! | [`clients`] | the sandbox as Kafka's clients see it |

#[path = "../kafka/mod.rs"]
mod kafka;

/// Makes tests of cases: of each one for the sandbox, and one for each release of Kafka.
macro_rules! cases {
    ($($case:ident),* $(,)?) => {
        mod sandbox {
            $(#[tokio::test]
            async fn $case() {
                crate::cluster::within_its_time(super::$case(&crate::cluster::TestCluster::sandbox().await)).await;
            })*
        }
        cases!(@release kafka_4, V4, $($case)*);
        cases!(@release kafka_3, V3, $($case)*);
        cases!(@release kafka_2, V2, $($case)*);
    };
    (@release $name:ident, $version:ident, $($case:ident)*) => {
        mod $name {
            $(#[tokio::test]
            #[ignore = "needs Apache Kafka (Java 17 and Maven)"]
            async fn $case() {
                let cluster = crate::cluster::TestCluster::kafka(crate::kafka::Version::$version).await;
                crate::cluster::within_its_time(super::$case(&cluster)).await;
            })*
        }
    };
}

mod batch;
mod clients;
mod cluster;
mod compaction;
mod fetch;
mod groups;
mod idempotence;
mod list_offsets;
mod member;
mod probe;
mod produce;
mod restarts;
mod timestamps;
mod topics;
mod transaction;
mod transactions;
mod versions;
