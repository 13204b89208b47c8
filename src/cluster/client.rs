//! [`Cluster`]: what everything above sees of one cluster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::backoff::Backoff;
use super::brokers::Brokers;
use super::buffer_pool::BufferPool;
use super::config::ClusterConfig;
use super::connection::Connection;
use super::connections::Purpose;
use super::error::{ClusterError, Side};
use super::metadata::{Metadata, TopicSelection};
use super::refresher::{self, Demand};

/// One cluster. Clones are handles on the same; the last one dropped ends what runs for it.
#[derive(Debug, Clone)]
pub struct Cluster {
    brokers: Arc<Brokers>,
    demands: mpsc::Sender<Demand>,
}

impl Cluster {
    /// Connects to the first broker that answers. Until one does, all addresses are tried again and again, for
    /// `reach_timeout`.
    pub async fn connect(config: ClusterConfig) -> Result<Self, ClusterError> {
        let max_age = config.metadata_max_age;
        let (demands, demanded) = mpsc::channel(MOST_DEMANDS);
        let brokers = Arc::new(Brokers::new(config)?);
        brokers.refresh(&TopicSelection::Names(Vec::new())).await?;
        tokio::spawn(refresher::run(Arc::downgrade(&brokers), demanded, max_age));
        Ok(Self { brokers, demands })
    }

    pub fn side(&self) -> Side {
        self.brokers.config.side
    }

    pub fn alias(&self) -> &str {
        &self.brokers.alias
    }

    /// The id that the cluster gave itself. Brokers that give another are refused.
    pub fn cluster_id(&self) -> &str {
        self.brokers.cluster_id.get().map_or("", AsRef::as_ref)
    }

    /// Where large frames are read into.
    pub fn buffers(&self) -> &BufferPool {
        &self.brokers.config.buffers
    }

    /// What is known of the cluster without asking.
    pub fn metadata(&self) -> Arc<Metadata> {
        Arc::clone(&self.brokers.metadata.borrow())
    }

    /// Tells when the metadata changes.
    pub fn metadata_changes(&self) -> watch::Receiver<Arc<Metadata>> {
        self.brokers.metadata.subscribe()
    }

    /// Asks for metadata. From then on the timer asks about these topics too.
    pub async fn refresh_metadata(&self, topics: TopicSelection) -> Result<Arc<Metadata>, ClusterError> {
        let (reply, answer) = oneshot::channel();
        let demanded = self.demands.send(Demand { topics, reply }).await;
        match (demanded, answer.await) {
            (Ok(()), Ok(answer)) => answer,
            // The task lives as long as we do, unless its runtime stops.
            _ => Err(self.brokers.unreachable(BTreeMap::new())),
        }
    }

    /// The connection to a broker for a purpose, opened if need be. It fails after one attempt; after a failure, or when
    /// connections end soon after they were opened, the next attempt waits its turn here.
    pub async fn connection(&self, broker_id: i32, purpose: Purpose) -> Result<Connection, ClusterError> {
        self.brokers.connection(broker_id, purpose).await
    }

    /// The way to a broker and back: the shortest that an answer to a handshake has taken so far.
    pub fn round_trip(&self) -> Duration {
        self.brokers.round_trip()
    }

    /// The time of day in milliseconds since 1970, for what records are stamped with.
    pub fn time_ms(&self) -> i64 {
        self.brokers.config.world.time_ms()
    }

    /// For the waits between attempts of one request. What is refused because a topic or its leader is new will be taken some
    /// milliseconds later, and a connection has waits of its own.
    pub(super) fn backoff(&self) -> Backoff {
        self.brokers.backoff_from(self.config().backoff.first / 5)
    }

    pub(super) fn config(&self) -> &ClusterConfig {
        &self.brokers.config
    }

    pub(super) fn no_leader(&self, topic: &str, partition: i32) -> ClusterError {
        ClusterError::NoLeader {
            side: self.side(),
            alias: Arc::clone(&self.brokers.alias),
            topic: topic.to_owned(),
            partition,
        }
    }

    pub(super) fn no_topic(&self, subject: String) -> ClusterError {
        ClusterError::NoTopic {
            side: self.side(),
            alias: Arc::clone(&self.brokers.alias),
            subject,
        }
    }

    /// Brokers that we talk to anyway first, the others in any order.
    pub(super) fn brokers_by_preference(&self) -> Vec<i32> {
        self.brokers.by_preference(&self.metadata())
    }
}

/// How many callers can wait for metadata before the next has to wait for its place.
const MOST_DEMANDS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::error::with_causes;
    use crate::cluster::scripted_broker::{Say, ScriptedBroker, broker, config, listener, metadata};
    use crate::protocol::ApiKey;
    use crate::protocol::error_code::Recovery;
    use kafka_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use tokio::task::JoinSet;

    #[tokio::test]
    async fn a_broker_of_another_cluster_is_refused() {
        let moved = Arc::new(AtomicBool::new(false));
        let has_moved = Arc::clone(&moved);
        let listener = listener().await;
        let port = listener.local_addr().unwrap().port();
        let broker = ScriptedBroker::at(listener, move |asked| {
            match (asked.api, has_moved.load(Ordering::SeqCst)) {
                (ApiKey::Metadata, true) => asked.answer(&metadata("c2", &[(1, port)], &[])),
                _ => asked.healthy(&[(1, port)], &[]),
            }
        });
        let cluster = Cluster::connect(config(vec![broker.address()])).await.unwrap();
        moved.store(true, Ordering::SeqCst);

        let dialled = cluster.connection(1, Purpose::Fetch(0)).await.unwrap_err();
        let refreshed = cluster.refresh_metadata(TopicSelection::All).await.unwrap_err();

        assert!(matches!(dialled, ClusterError::WrongCluster { .. }), "{dialled}");
        assert!(
            with_causes(&refreshed).contains("belongs to cluster c2, not to c1"),
            "{refreshed}"
        );
        assert_eq!(refreshed.recovery(), Recovery::Stop);
    }

    #[tokio::test]
    async fn a_broker_that_is_not_in_the_metadata_is_an_error() {
        let broker = broker(|_| None).await;
        let cluster = Cluster::connect(config(vec![broker.address()])).await.unwrap();
        let error = cluster.connection(7, Purpose::Admin).await.unwrap_err();
        assert!(
            matches!(error, ClusterError::UnknownBroker { broker_id: 7, .. }),
            "{error}"
        );
    }

    #[tokio::test]
    async fn many_who_ask_at_once_share_one_connection() {
        let broker = broker(|_| None).await;
        let cluster = Cluster::connect(config(vec![broker.address()])).await.unwrap();
        let mut asking = JoinSet::new();
        for _ in 0..20 {
            let cluster = cluster.clone();
            asking.spawn(async move { cluster.connection(1, Purpose::Fetch(0)).await.unwrap() });
        }
        let connections = asking.join_all().await;
        assert!(connections.iter().all(|connection| connection.is(&connections[0])));
        assert_eq!(
            broker.asked(ApiKey::ApiVersions).len(),
            2,
            "one for the bootstrap, one for all others"
        );
    }

    #[tokio::test]
    async fn many_who_wait_for_one_dial_share_its_failure() {
        let connections = AtomicUsize::new(0);
        let broker = broker(move |asked| {
            let is_first = asked.connection == 0;
            (!is_first && asked.api == ApiKey::ApiVersions).then(|| {
                connections.fetch_add(1, Ordering::SeqCst);
                Say::Nothing
            })
        });
        let broker = broker.await;
        let cluster = Cluster::connect(config(vec![broker.address()])).await.unwrap();
        let mut asking = JoinSet::new();
        for _ in 0..20 {
            let cluster = cluster.clone();
            asking.spawn(async move { cluster.connection(1, Purpose::Fetch(0)).await.unwrap_err() });
        }
        assert!(
            asking
                .join_all()
                .await
                .iter()
                .all(|error| matches!(error, ClusterError::TimedOut { .. }))
        );
        assert_eq!(
            broker.asked(ApiKey::ApiVersions).len(),
            2,
            "one for the bootstrap, one for all others"
        );
    }

    #[tokio::test]
    async fn each_purpose_has_its_own_connection() {
        let broker = broker(|_| None).await;
        let cluster = Cluster::connect(config(vec![broker.address()])).await.unwrap();
        let fetch = cluster.connection(1, Purpose::Fetch(0)).await.unwrap();
        for purpose in [Purpose::Fetch(1), Purpose::Produce(0), Purpose::Admin] {
            assert!(!cluster.connection(1, purpose).await.unwrap().is(&fetch), "{purpose:?}");
        }
        assert!(cluster.connection(1, Purpose::Fetch(0)).await.unwrap().is(&fetch));
    }

    #[tokio::test]
    async fn a_connection_that_the_broker_closes_while_idle_is_replaced() {
        let broker = broker(|asked| match asked.api {
            ApiKey::DescribeCluster => Some(asked.answer_and_close(&DescribeClusterResponse::default())),
            _ => None,
        });
        let broker = broker.await;
        let cluster = Cluster::connect(config(vec![broker.address()])).await.unwrap();
        let first = cluster.connection(1, Purpose::Admin).await.unwrap();
        first.call(DescribeClusterRequest::default()).await.unwrap();
        while first.is_alive() {
            tokio::task::yield_now().await;
        }
        let second = cluster.connection(1, Purpose::Admin).await.unwrap();
        second.call(DescribeClusterRequest::default()).await.unwrap();
    }

    #[tokio::test]
    async fn when_a_broker_moves_its_connection_is_closed_and_the_next_goes_to_its_new_address() {
        let new = listener().await;
        let new_port = new.local_addr().unwrap().port();
        let answers = AtomicUsize::new(0);
        // The first two answers are those to the bootstrap and to the handshake of the connection.
        let old = broker(move |asked| {
            let moved = asked.api == ApiKey::Metadata && answers.fetch_add(1, Ordering::SeqCst) >= 2;
            moved.then(|| asked.answer(&metadata("c1", &[(1, new_port)], &[])))
        });
        let old = old.await;
        let new = ScriptedBroker::at(new, move |asked| asked.healthy(&[(1, new_port)], &[]));
        let cluster = Cluster::connect(config(vec![old.address()])).await.unwrap();
        let before = cluster.connection(1, Purpose::Admin).await.unwrap();

        cluster.refresh_metadata(TopicSelection::All).await.unwrap();

        assert!(!before.is_alive());
        let after = cluster.connection(1, Purpose::Admin).await.unwrap();
        assert_eq!(*after.peer().address, *new.address());
    }

    #[tokio::test]
    async fn a_throttled_connection_waits_and_the_others_do_not() {
        let broker = broker(|asked| {
            let answer = DescribeClusterResponse::default().with_throttle_time_ms(200);
            (asked.api == ApiKey::DescribeCluster).then(|| asked.answer(&answer))
        });
        let broker = broker.await;
        let cluster = Cluster::connect(config(vec![broker.address()])).await.unwrap();
        let throttled = cluster.connection(1, Purpose::Admin).await.unwrap();
        let other = cluster.connection(1, Purpose::Fetch(0)).await.unwrap();
        throttled.call(DescribeClusterRequest::default()).await.unwrap();

        let begin = crate::cluster::now();
        other.call(DescribeClusterRequest::default()).await.unwrap();
        assert!(begin.elapsed() < Duration::from_millis(150), "{:?}", begin.elapsed());
        throttled.call(DescribeClusterRequest::default()).await.unwrap();
        assert!(begin.elapsed() >= Duration::from_millis(150), "{:?}", begin.elapsed());
    }

    #[tokio::test]
    async fn what_a_throttled_connection_holds_back_when_it_ends_was_not_sent() {
        let broker = broker(|asked| {
            let answer = DescribeClusterResponse::default().with_throttle_time_ms(60_000);
            (asked.api == ApiKey::DescribeCluster).then(|| asked.answer(&answer))
        });
        let broker = broker.await;
        let cluster = Cluster::connect(config(vec![broker.address()])).await.unwrap();
        let connection = cluster.connection(1, Purpose::Admin).await.unwrap();
        connection.call(DescribeClusterRequest::default()).await.unwrap();
        let held = tokio::spawn({
            let connection = connection.clone();
            async move { connection.call(DescribeClusterRequest::default()).await.unwrap_err() }
        });
        tokio::task::yield_now().await;
        drop(broker);
        let error = held.await.unwrap();
        assert!(
            matches!(error, ClusterError::Disconnected { sent: false, .. }),
            "{error}"
        );
        assert!(!error.is_outcome_unknown());
    }
}
