//! The clusters that cases run against.

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{CreateTopicsRequest, DeleteTopicsRequest, MetadataRequest, TopicName};
use kferry::protocol::error_code::ErrorCode;
use kferry::sandbox::{Sandbox, SandboxOptions};
use uuid::Uuid;

use crate::kafka::{self, Version};
use crate::probe::{Probe, text};

/// The longest take a second or two, or a session's six. A machine may be busy.
const CASE_TIMEOUT: Duration = Duration::from_secs(60);

/// A cluster of one broker that a case may do anything with, and a connection to it that no other case has.
pub(crate) struct TestCluster {
    release: Version,
    pub(crate) probe: Probe,
    /// Ends with the case.
    _sandbox: Option<Sandbox>,
}

impl TestCluster {
    /// It stands for the newest release.
    pub(crate) async fn sandbox() -> Self {
        let sandbox = Sandbox::start(SandboxOptions::default()).await.expect("a sandbox");
        let probe = Probe::connect(&sandbox.bootstrap()).await;
        Self {
            release: Version::V4,
            probe,
            _sandbox: Some(sandbox),
        }
    }

    pub(crate) async fn kafka(release: Version) -> Self {
        let probe = Probe::connect(&kafka::shared(release).bootstrap()).await;
        Self {
            release,
            probe,
            _sandbox: None,
        }
    }

    /// What the cluster behaves like.
    pub(crate) fn release(&self) -> Version {
        self.release
    }

    /// A connection more.
    pub(crate) async fn another_probe(&self) -> Probe {
        Probe::connect(self.probe.bootstrap()).await
    }

    /// A new topic of one partition.
    pub(crate) async fn topic(&self, configs: &[(&str, &str)]) -> String {
        let name = unique("topic");
        self.create_topic(&name, configs).await;
        name
    }

    pub(crate) async fn create_topic(&self, name: &str, configs: &[(&str, &str)]) {
        // ZooKeeper's controller forgets a topic that was deleted after everybody else has.
        let error = loop {
            match self.try_create_topic(name, configs).await {
                ErrorCode::TopicAlreadyExists => tokio::task::yield_now().await,
                error => break error,
            }
        };
        assert_eq!(error, ErrorCode::None, "creates {name}");
        // A topic is there before its leader knows of it.
        while self.probe.latest(name).await.is_err() {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) async fn try_create_topic(&self, name: &str, configs: &[(&str, &str)]) -> ErrorCode {
        let configs = configs.iter().map(|(name, value)| {
            CreatableTopicConfig::default()
                .with_name(text(name))
                .with_value(Some(text(value)))
        });
        let topic = CreatableTopic::default()
            .with_name(TopicName(text(name)))
            .with_num_partitions(1)
            .with_replication_factor(1)
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(30_000);
        ErrorCode::from_wire(self.probe.send(4, &request).await.topics[0].error_code)
    }

    pub(crate) async fn delete_topic(&self, name: &str) {
        let request = DeleteTopicsRequest::default()
            .with_topic_names(vec![TopicName(text(name))])
            .with_timeout_ms(30_000);
        let response = self.probe.send(3, &request).await;
        assert_eq!(response.responses[0].error_code, 0, "deletes {name}");
        while self.probe.latest(name).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) async fn topic_id(&self, name: &str) -> Uuid {
        let topic = MetadataRequestTopic::default().with_name(Some(TopicName(text(name))));
        let request = MetadataRequest::default()
            .with_topics(Some(vec![topic]))
            .with_allow_auto_topic_creation(false);
        self.probe.send(10, &request).await.topics[0].topic_id
    }
}

/// A name that no other case uses, nor an earlier run.
pub(crate) fn unique(what: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!(
        "{what}-{}-{}",
        std::process::id(),
        NUMBER.fetch_add(1, Ordering::Relaxed)
    )
}

/// Ends a case that waits for what does not come.
pub(crate) async fn within_its_time(case: impl Future<Output = ()>) {
    tokio::time::timeout(CASE_TIMEOUT, case)
        .await
        .expect("the case ends in time");
}
