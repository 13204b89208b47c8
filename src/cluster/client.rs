//! [`Cluster`]: what everything above sees of one cluster.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kafka_protocol::messages::MetadataRequest;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use super::backoff::Backoff;
use super::call::{Caller, topic_name};
use super::config::ClusterConfig;
use super::connection::{Connection, check_cluster_id};
use super::connections::{Connections, Purpose};
use super::error::{Attempt, ClusterError, Peer, Side, with_causes};
use super::metadata::{BrokerAddress, Metadata, TopicSelection};
use super::refresher::{self, Demand};
use super::wire::Wire;
use super::{dial, now};
use crate::protocol::ApiKey;
use crate::protocol::error_code::{ErrorCode, Recovery};

/// One cluster. Clones are handles on the same; the last one dropped ends what runs for it.
#[derive(Debug, Clone)]
pub struct Cluster(Arc<Inner>);

impl Cluster {
    /// Connects to the first broker that answers. Until one does, all addresses are tried again and again, for
    /// `reach_timeout`.
    pub async fn connect(config: ClusterConfig) -> Result<Self, ClusterError> {
        let max_age = config.metadata_max_age;
        let (demands, demanded) = mpsc::channel(MOST_DEMANDS);
        let inner = Arc::new(Inner::new(config, demands)?);
        inner.refresh(&TopicSelection::Names(Vec::new())).await?;
        tokio::spawn(refresher::run(Arc::downgrade(&inner), demanded, max_age));
        Ok(Self(inner))
    }

    pub fn side(&self) -> Side {
        self.0.config.side
    }

    pub fn alias(&self) -> &str {
        &self.0.alias
    }

    /// The id that the cluster gave itself. Brokers that give another are refused.
    pub fn cluster_id(&self) -> &str {
        self.0.cluster_id.get().map_or("", AsRef::as_ref)
    }

    /// What is known of the cluster without asking.
    pub fn metadata(&self) -> Arc<Metadata> {
        Arc::clone(&self.0.metadata.borrow())
    }

    /// Tells when the metadata changes.
    pub fn metadata_changes(&self) -> watch::Receiver<Arc<Metadata>> {
        self.0.metadata.subscribe()
    }

    /// Asks for metadata. From then on the timer asks about these topics too.
    pub async fn refresh_metadata(&self, topics: TopicSelection) -> Result<Arc<Metadata>, ClusterError> {
        let (reply, answer) = oneshot::channel();
        let demanded = self.0.demands.send(Demand { topics, reply }).await;
        match (demanded, answer.await) {
            (Ok(()), Ok(answer)) => answer,
            // The task lives as long as we do, unless its runtime stops.
            _ => Err(self.0.unreachable(BTreeMap::new())),
        }
    }

    /// The connection to a broker for a purpose, opened if need be. It fails after one attempt; after a failure, or when
    /// connections end soon after they were opened, the next attempt waits its turn here.
    pub async fn connection(&self, broker_id: i32, purpose: Purpose) -> Result<Connection, ClusterError> {
        self.0.connection(broker_id, purpose).await
    }

    pub(super) fn config(&self) -> &ClusterConfig {
        &self.0.config
    }

    pub(super) fn no_leader(&self, topic: &str, partition: i32) -> ClusterError {
        ClusterError::NoLeader {
            side: self.side(),
            alias: Arc::clone(&self.0.alias),
            topic: topic.to_owned(),
            partition,
        }
    }

    pub(super) fn no_topic(&self, subject: String) -> ClusterError {
        ClusterError::NoTopic {
            side: self.side(),
            alias: Arc::clone(&self.0.alias),
            subject,
        }
    }

    /// Brokers that we talk to anyway first, the others in any order.
    pub(super) fn brokers_by_preference(&self) -> Vec<i32> {
        self.0.brokers_by_preference(&self.metadata())
    }
}

#[derive(Debug)]
pub(super) struct Inner {
    config: ClusterConfig,
    alias: Arc<str>,
    client_id: Arc<str>,
    bootstrap: Vec<BrokerAddress>,
    /// From the first answer.
    cluster_id: OnceLock<Arc<str>>,
    metadata: watch::Sender<Arc<Metadata>>,
    connections: Connections,
    demands: mpsc::Sender<Demand>,
}

impl Inner {
    fn new(config: ClusterConfig, demands: mpsc::Sender<Demand>) -> Result<Self, ClusterError> {
        let alias: Arc<str> = config.alias.as_str().into();
        let bad_address = |address: &String| ClusterError::BadAddress {
            side: config.side,
            alias: Arc::clone(&alias),
            address: address.clone(),
        };
        let parse = |address: &String| address.parse().map_err(|_| bad_address(address));
        let bootstrap = config.bootstrap.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        if bootstrap.is_empty() {
            return Err(bad_address(&String::new()));
        }
        Ok(Self {
            client_id: config.client_id.as_str().into(),
            bootstrap,
            cluster_id: OnceLock::new(),
            metadata: watch::Sender::new(Arc::new(Metadata::empty())),
            connections: Connections::default(),
            demands,
            alias,
            config,
        })
    }

    /// Asks brokers until one answers, and takes the answer in.
    pub(super) async fn refresh(&self, topics: &TopicSelection) -> Result<Arc<Metadata>, ClusterError> {
        let metadata = Arc::new(self.ask_brokers(topics).await?);
        self.cluster_id.get_or_init(|| Arc::clone(&metadata.cluster_id));
        self.connections.follow(&metadata.brokers);
        self.metadata.send_replace(Arc::clone(&metadata));
        Ok(metadata)
    }

    async fn ask_brokers(&self, topics: &TopicSelection) -> Result<Metadata, ClusterError> {
        let deadline = now() + self.config.reach_timeout;
        let mut backoff = Backoff::new(self.config.backoff);
        let mut failures = BTreeMap::new();
        loop {
            let mut hope = false;
            let candidates = self.candidates();
            for (index, candidate) in candidates.iter().enumerate() {
                let share = share_of(deadline, candidates.len() - index);
                let error = match timeout(share, self.ask(candidate, topics)).await {
                    Ok(Ok(metadata)) => return Ok(metadata),
                    Ok(Err(error)) => error,
                    Err(_) => self.silent(candidate, share),
                };
                hope |= error.recovery() != Recovery::Stop;
                // The first failure of an address says more than those under time pressure.
                failures
                    .entry(candidate.address.to_string().into())
                    .or_insert_with_key(|address: &Arc<str>| {
                        tracing::warn!(side = %self.config.side, %address, error = with_causes(&error), "no metadata");
                        error
                    });
            }
            let wait = backoff.next_wait();
            if !hope || now() + wait >= deadline {
                return Err(self.unreachable(failures));
            }
            sleep(wait).await;
        }
    }

    /// Known brokers, then the bootstrap addresses.
    fn candidates(&self) -> Vec<Candidate> {
        let metadata = Arc::clone(&self.metadata.borrow());
        let brokers = self
            .brokers_by_preference(&metadata)
            .into_iter()
            .map(|broker_id| Candidate {
                broker_id: Some(broker_id),
                address: metadata.brokers[&broker_id].clone(),
            });
        let bootstrap = self.bootstrap.iter().map(|address| Candidate {
            broker_id: None,
            address: address.clone(),
        });
        brokers.chain(bootstrap).collect()
    }

    fn brokers_by_preference(&self, metadata: &Metadata) -> Vec<i32> {
        let mut brokers: Vec<_> = metadata.brokers.keys().copied().collect();
        fastrand::shuffle(&mut brokers);
        brokers.sort_by_key(|&broker_id| !self.connections.is_live(broker_id, Purpose::Admin));
        brokers
    }

    async fn ask(&self, candidate: &Candidate, topics: &TopicSelection) -> Result<Metadata, ClusterError> {
        let connection = match candidate.broker_id {
            Some(broker_id) => self.connection(broker_id, Purpose::Admin).await?,
            None => self.dial(None, &candidate.address).await?,
        };
        let answer = connection.call(metadata_request(topics)).await?;
        if let Some(expected) = self.cluster_id.get() {
            check_cluster_id(connection.peer(), &answer, expected)?;
        }
        match ErrorCode::from_wire(answer.error_code) {
            ErrorCode::None => {}
            code => return Err(connection.refused(ApiKey::Metadata, "", code)),
        }
        let known = Arc::clone(&self.metadata.borrow());
        known
            .updated(answer, topics)
            .map_err(|cause| connection.malformed(ApiKey::Metadata, cause))
    }

    async fn connection(&self, broker_id: i32, purpose: Purpose) -> Result<Connection, ClusterError> {
        self.address(broker_id)?;
        let slot = self.connections.slot(broker_id, purpose, self.config.backoff);
        slot.connection(async {
            // Where it is by now: the dial may have had to wait.
            let connection = self.dial(Some(broker_id), &self.address(broker_id)?).await?;
            if let Some(cluster_id) = self.cluster_id.get() {
                connection.check_cluster(cluster_id).await?;
            }
            Ok(connection)
        })
        .await
    }

    fn address(&self, broker_id: i32) -> Result<BrokerAddress, ClusterError> {
        let address = self.metadata.borrow().brokers.get(&broker_id).cloned();
        address.ok_or_else(|| ClusterError::UnknownBroker {
            side: self.config.side,
            alias: Arc::clone(&self.alias),
            broker_id,
        })
    }

    async fn dial(&self, broker_id: Option<i32>, address: &BrokerAddress) -> Result<Connection, ClusterError> {
        let peer = self.peer(broker_id, address);
        let socket = dial::connect(address, self.config.connect_timeout).await;
        let (reader, writer) = match socket {
            Ok(socket) => socket.into_split(),
            Err(cause) => return Err(ClusterError::Connect { peer, cause }),
        };
        let wire = Wire::start(reader, writer, peer, self.config.buffers.clone());
        let caller = Caller::new(wire, Arc::clone(&self.client_id), self.config.request_timeout);
        Connection::open(caller).await
    }

    fn unreachable(&self, failures: BTreeMap<Arc<str>, ClusterError>) -> ClusterError {
        let attempts = failures.into_iter().map(|(address, cause)| Attempt { address, cause });
        ClusterError::Unreachable {
            side: self.config.side,
            alias: Arc::clone(&self.alias),
            attempts: attempts.collect(),
        }
    }

    fn silent(&self, candidate: &Candidate, after: Duration) -> ClusterError {
        ClusterError::TimedOut {
            peer: self.peer(candidate.broker_id, &candidate.address),
            api: ApiKey::Metadata,
            after,
        }
    }

    fn peer(&self, broker_id: Option<i32>, address: &BrokerAddress) -> Peer {
        Peer {
            side: self.config.side,
            alias: Arc::clone(&self.alias),
            broker_id,
            address: address.to_string().into(),
        }
    }
}

/// Who might have metadata.
#[derive(Debug)]
struct Candidate {
    /// Not known of a bootstrap address.
    broker_id: Option<i32>,
    address: BrokerAddress,
}

fn metadata_request(topics: &TopicSelection) -> MetadataRequest {
    let topic = |name: &String| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
    let topics = match topics {
        TopicSelection::All => None,
        TopicSelection::Names(names) => Some(names.iter().map(topic).collect()),
    };
    MetadataRequest::default()
        .with_topics(topics)
        .with_allow_auto_topic_creation(false)
}

/// A fair share of the time that is left.
fn share_of(deadline: Instant, among: usize) -> Duration {
    let left = deadline.saturating_duration_since(now());
    left / u32::try_from(among).unwrap_or(u32::MAX).max(1)
}

/// How many callers can wait for metadata before the next has to wait for its place.
const MOST_DEMANDS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::error::with_causes;
    use crate::cluster::scripted_broker::{Asked, Say, ScriptedBroker, config, listener, metadata};
    use kafka_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use tokio::task::JoinSet;

    async fn port() -> u16 {
        listener().await.local_addr().unwrap().port()
    }

    /// A healthy broker with id 1, as long as `odd` has nothing else to say.
    async fn broker(odd: impl Fn(&Asked) -> Option<Say> + Send + Sync + 'static) -> ScriptedBroker {
        let listener = listener().await;
        let port = listener.local_addr().unwrap().port();
        ScriptedBroker::at(listener, move |asked| {
            odd(asked).unwrap_or_else(|| asked.healthy(&[(1, port)], &[]))
        })
    }

    #[tokio::test]
    async fn a_cluster_out_of_reach_is_an_error_that_names_every_address_and_cause() {
        let silent = ScriptedBroker::start(|_| Say::Nothing).await;
        let foreign = ScriptedBroker::start(|_| Say::Bytes(b"SSH-2.0-OpenSSH_9.2p1\r\n".to_vec())).await;
        let closed = format!("127.0.0.1:{}", port().await);
        let bootstrap = vec![silent.address(), foreign.address(), closed.clone()];
        let error = Cluster::connect(config(bootstrap)).await.unwrap_err();
        let text = error.to_string();
        for (address, cause) in [
            (silent.address(), "within"),
            (foreign.address(), "SSH"),
            (closed, "refused"),
        ] {
            let of_address = text.split("; ").find(|part| part.starts_with(&address));
            assert!(
                of_address.is_some_and(|part| part.contains(cause)),
                "{address}, {cause}: {text}"
            );
        }
    }

    #[tokio::test]
    async fn the_first_broker_that_answers_will_do() {
        let silent = ScriptedBroker::start(|_| Say::Nothing).await;
        let healthy = broker(|_| None).await;
        let closed = format!("127.0.0.1:{}", port().await);
        let cluster = Cluster::connect(config(vec![closed, silent.address(), healthy.address()]))
            .await
            .unwrap();
        assert_eq!(
            (cluster.cluster_id(), cluster.side(), cluster.alias()),
            ("c1", Side::Source, "A")
        );
    }

    #[tokio::test]
    async fn a_broker_that_is_not_up_yet_is_waited_for() {
        let port = port().await;
        let connecting = tokio::spawn(Cluster::connect(config(vec![format!("127.0.0.1:{port}")])));
        tokio::task::yield_now().await;
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let _broker = ScriptedBroker::at(listener, move |asked| asked.healthy(&[(1, port)], &[]));
        connecting.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn addresses_that_are_none_are_refused_before_anything_is_tried() {
        for bootstrap in [vec![], vec!["nowhere".to_owned()]] {
            let error = Cluster::connect(config(bootstrap)).await.unwrap_err();
            assert!(matches!(error, ClusterError::BadAddress { .. }), "{error}");
            assert_eq!(error.recovery(), Recovery::Stop);
        }
    }

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
    async fn refreshes_that_are_asked_for_together_are_one() {
        let broker = broker(|_| None).await;
        let cluster = Cluster::connect(config(vec![broker.address()])).await.unwrap();
        cluster.connection(1, Purpose::Admin).await.unwrap();
        let before = broker.asked(ApiKey::Metadata).len();
        let mut asking = JoinSet::new();
        for index in 0..20 {
            let cluster = cluster.clone();
            let topics = TopicSelection::Names(vec![format!("t{index}")]);
            asking.spawn(async move { cluster.refresh_metadata(topics).await.unwrap().generation });
        }
        asking.join_all().await;
        let requests: Vec<_> = broker.asked(ApiKey::Metadata).split_off(before);
        assert!(requests.len() <= 2, "{}", requests.len());
        let topics: usize = requests
            .iter()
            .filter_map(|asked| asked.request::<MetadataRequest>().topics)
            .map(|t| t.len())
            .sum();
        assert_eq!(topics, 20);
    }

    #[tokio::test]
    async fn metadata_that_grows_old_is_asked_for_again() {
        let broker = broker(|_| None).await;
        let mut config = config(vec![broker.address()]);
        config.metadata_max_age = Duration::from_millis(1);
        let cluster = Cluster::connect(config).await.unwrap();
        let mut changes = cluster.metadata_changes();
        for _ in 0..3 {
            changes.changed().await.unwrap();
        }
        assert!(cluster.metadata().generation > 3);
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

        let begin = now();
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
