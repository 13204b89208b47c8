//! The brokers of one cluster: where they are, and connections to them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;

use super::backoff::{Backoff, BackoffRange};
use super::call::Caller;
use super::config::ClusterConfig;
use super::connection::Connection;
use super::connections::{Connections, Purpose};
use super::error::{Attempt, ClusterError, Peer};
use super::metadata::{BrokerAddress, Metadata};
use super::now;
use super::wire::Wire;

/// What the handles on a cluster and its refresher share.
#[derive(Debug)]
pub(super) struct Brokers {
    pub(super) config: ClusterConfig,
    pub(super) alias: Arc<str>,
    client_id: Arc<str>,
    /// Where to ask as long as no broker is known, or if none that is known answers.
    pub(super) bootstrap: Vec<BrokerAddress>,
    /// From the first answer.
    pub(super) cluster_id: OnceLock<Arc<str>>,
    /// Written by the refresher only.
    pub(super) metadata: watch::Sender<Arc<Metadata>>,
    pub(super) connections: Connections,
    shortest_answer_ns: AtomicU64,
}

impl Brokers {
    pub(super) fn new(config: ClusterConfig) -> Result<Self, ClusterError> {
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
            shortest_answer_ns: AtomicU64::new(u64::MAX),
            alias,
            config,
        })
    }

    pub(super) async fn connection(&self, broker_id: i32, purpose: Purpose) -> Result<Connection, ClusterError> {
        self.address(broker_id)?;
        let slot = self.connections.slot(broker_id, purpose, || self.backoff());
        slot.connection(async {
            // Where it is by now: the dial may have had to wait.
            let connection = self.dial(Some(broker_id), &self.address(broker_id)?).await?;
            if let Some(cluster_id) = self.cluster_id.get() {
                self.timed(connection.check_cluster(cluster_id)).await?;
            }
            Ok(connection)
        })
        .await
    }

    /// The way to a broker and back: the shortest that an answer to a handshake has taken.
    pub(super) fn round_trip(&self) -> Duration {
        match self.shortest_answer_ns.load(Ordering::Relaxed) {
            u64::MAX => Duration::ZERO, // No answer so far.
            shortest => Duration::from_nanos(shortest),
        }
    }

    async fn timed<T>(&self, exchange: impl Future<Output = Result<T, ClusterError>>) -> Result<T, ClusterError> {
        let began = now();
        let answer = exchange.await?;
        let took = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.shortest_answer_ns.fetch_min(took, Ordering::Relaxed);
        Ok(answer)
    }

    fn address(&self, broker_id: i32) -> Result<BrokerAddress, ClusterError> {
        let address = self.metadata.borrow().brokers.get(&broker_id).cloned();
        address.ok_or_else(|| ClusterError::UnknownBroker {
            side: self.config.side,
            alias: Arc::clone(&self.alias),
            broker_id,
        })
    }

    pub(super) async fn dial(
        &self,
        broker_id: Option<i32>,
        address: &BrokerAddress,
    ) -> Result<Connection, ClusterError> {
        let peer = self.peer(broker_id, address);
        let dialling = self.config.world.dial(address, self.config.connect_timeout);
        let socket = match dialling.await {
            Ok(socket) => socket,
            Err(cause) => return Err(ClusterError::Connect { peer, cause }),
        };
        let wire = Wire::start(socket.reader, socket.writer, peer, self.config.buffers.clone());
        let caller = Caller::new(wire, Arc::clone(&self.client_id), self.config.request_timeout);
        self.timed(Connection::open(caller)).await
    }

    /// For the waits between attempts of one kind.
    pub(super) fn backoff(&self) -> Backoff {
        self.backoff_from(self.config.backoff.first)
    }

    pub(super) fn backoff_from(&self, first: Duration) -> Backoff {
        let range = BackoffRange {
            first,
            ..self.config.backoff
        };
        Backoff::new(range, self.config.world.random())
    }

    pub(super) fn unreachable(&self, failures: BTreeMap<Arc<str>, ClusterError>) -> ClusterError {
        let attempts = failures.into_iter().map(|(address, cause)| Attempt { address, cause });
        ClusterError::Unreachable {
            side: self.config.side,
            alias: Arc::clone(&self.alias),
            attempts: attempts.collect(),
        }
    }

    /// Those that we talk to anyway first, the others in any order.
    pub(super) fn by_preference(&self, metadata: &Metadata) -> Vec<i32> {
        let mut brokers: Vec<_> = metadata.brokers.keys().copied().collect();
        fastrand::Rng::with_seed(self.config.world.random()).shuffle(&mut brokers);
        brokers.sort_by_key(|&broker_id| !self.connections.is_live(broker_id, Purpose::Admin));
        brokers
    }

    pub(super) fn peer(&self, broker_id: Option<i32>, address: &BrokerAddress) -> Peer {
        Peer {
            side: self.config.side,
            alias: Arc::clone(&self.alias),
            broker_id,
            address: address.to_string().into(),
        }
    }
}
