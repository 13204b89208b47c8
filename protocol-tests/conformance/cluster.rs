//! The clusters that cases run against.

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::{CreateTopicsRequest, DeleteTopicsRequest, TopicName};
use kferry::protocol::error_code::ErrorCode;
use kferry::sandbox::{Sandbox, SandboxOptions};

use crate::kafka::{self, KafkaCluster, Version};
use crate::probe::{Probe, text};

/// The longest take a second or two, or a session's six. A machine may be busy.
const CASE_TIMEOUT: Duration = Duration::from_secs(60);

/// A day, which is Kafka's default.
const PRODUCER_EXPIRATION_MS: i64 = 24 * 3_600_000;

/// A cluster of one broker that a case may do anything with, and a connection to it that no other case has.
pub(crate) struct TestCluster {
    backing: Backing,
    pub(crate) probe: Probe,
}

enum Backing {
    Sandbox(Sandbox),
    /// Other cases use it as well.
    Shared(&'static KafkaCluster),
    Own(KafkaCluster),
}

impl TestCluster {
    /// It stands for the newest release.
    pub(crate) async fn sandbox() -> Self {
        let sandbox = Sandbox::start(SandboxOptions::default()).await.expect("a sandbox");
        Self::of(Backing::Sandbox(sandbox)).await
    }

    pub(crate) async fn kafka(release: Version) -> Self {
        Self::of(Backing::Shared(kafka::shared(release))).await
    }

    /// A Kafka for this case alone, which may be restarted.
    pub(crate) async fn own_kafka(release: Version) -> Self {
        Self::of(Backing::Own(KafkaCluster::start(release, &[]))).await
    }

    async fn of(backing: Backing) -> Self {
        let probe = Probe::connect(&backing.bootstrap()).await;
        Self { backing, probe }
    }

    /// The same after its broker has been stopped and started again.
    pub(crate) async fn restarted(self) -> Self {
        match &self.backing {
            Backing::Sandbox(sandbox) => sandbox.with_core(|core| core.restart_broker(1, PRODUCER_EXPIRATION_MS)),
            Backing::Own(kafka) => {
                kafka.stop();
                kafka.start_again();
            }
            Backing::Shared(_) => panic!("a broker that others use is not restarted"),
        }
        Self::of(self.backing).await
    }

    /// The sandbox's cleaner runs when it is told to, Kafka's all the time.
    pub(crate) fn run_cleaner(&self, topic: &str) {
        if let Backing::Sandbox(sandbox) = &self.backing {
            sandbox.with_core(|core| core.compact(topic, 0)).expect("a partition");
        }
    }

    /// What the cluster behaves like.
    pub(crate) fn release(&self) -> Version {
        match &self.backing {
            Backing::Sandbox(_) => Version::V4,
            Backing::Shared(kafka) => kafka.version(),
            Backing::Own(kafka) => kafka.version(),
        }
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
        self.probe.until_served(name).await;
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
}

impl Backing {
    fn bootstrap(&self) -> String {
        match self {
            Self::Sandbox(sandbox) => sandbox.bootstrap(),
            Self::Shared(kafka) => kafka.bootstrap(),
            Self::Own(kafka) => kafka.bootstrap(),
        }
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
