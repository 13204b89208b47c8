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

    pub(super) fn no_topic(&self, topic: &str) -> ClusterError {
        ClusterError::NoTopic {
            side: self.side(),
            alias: Arc::clone(&self.0.alias),
            topic: topic.to_owned(),
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
