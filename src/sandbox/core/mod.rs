//! The sandbox's core: a whole cluster as one value, without I/O, clock or randomness.
//!
//! Requests go in as frames, with the time; answers come out as [`Action`]s, some of them later: of another request, or
//! of [`Cluster::poll`]. As a broker does, it serves one request of a connection at a time, in their order: a long poll
//! holds up everything behind it.
//!
//! | module | what it does |
//! |---|---|
//! | [`wire`] | frames into requests, responses into frames |
//! | [`versions`] | what is served |
//! | `api` | one file for each API |
//! | [`topics`], [`config`] | topics, partitions, topic configurations |
//! | [`log`] | the log of one partition |
//! | [`faults`] | what a test may have go wrong |

mod api;
pub mod config;
pub mod faults;
pub mod log;
mod operations;
mod produce_request;
mod serving;
mod sessions;
#[cfg(test)]
pub(super) mod testing;
pub mod topics;
pub mod transactions;
pub mod versions;
pub mod wire;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use uuid::Uuid;

use api::fetch::ParkedFetch;
pub use faults::{Effect, Fault};
use faults::{Faults, Refusal};
use log::Marker;
use sessions::FetchSessions;
use topics::Topics;
use transactions::{COORDINATOR_EPOCH, State, Transactions};
use wire::{Request, RequestError, RequestHead};

use super::groups::{Groups, GroupsConfig};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::produce_request::Segments;

/// What a cluster is like. The defaults are Kafka's where Kafka has them.
#[derive(Debug, Clone)]
pub struct Settings {
    pub cluster_id: String,
    /// All randomness comes from here: topic ids and session ids.
    pub seed: u64,
    /// For topics created without a number of partitions.
    pub default_partitions: i32,
    /// Brokers do, by default; a client that relies on it is better found out.
    pub auto_create_topics: bool,
    /// How long after EndTxn the markers are written. Until then the id answers CONCURRENT_TRANSACTIONS.
    pub marker_delay_ms: i64,
    pub groups: GroupsConfig,
}

impl Settings {
    /// Clusters of different seeds are different clusters.
    pub fn seeded(seed: u64) -> Self {
        Self {
            cluster_id: format!("sandbox-{seed:014x}"),
            seed,
            default_partitions: 1,
            auto_create_topics: false,
            marker_delay_ms: 2,
            groups: GroupsConfig {
                seed,
                ..GroupsConfig::default()
            },
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::seeded(1)
    }
}

/// One client's connection to one broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

/// What the transport has to do.
#[derive(Debug)]
pub enum Action {
    Send(ConnectionId, Segments),
    /// The request has been served and gets no answer; the next may come.
    Silence(ConnectionId),
    /// The core has forgotten the connection already.
    Close(ConnectionId, CloseReason),
}

/// Why the broker hangs up.
#[derive(Debug, thiserror::Error)]
pub enum CloseReason {
    #[error("the request is not one that can be served")]
    Request(#[from] RequestError),
    #[error("a fault was armed")]
    Fault,
    #[error("the broker restarts")]
    Restart,
}

/// A cluster of brokers. See the module's documentation.
#[derive(Debug)]
pub struct Cluster {
    settings: Settings,
    brokers: BTreeMap<i32, BrokerAddress>,
    topics: Topics,
    groups: Groups,
    transactions: Transactions,
    sessions: FetchSessions,
    faults: Faults,
    connections: BTreeMap<ConnectionId, Connection>,
    next_connection: u64,
    next_producer_id: i64,
    /// Shifts which broker is whose coordinator; without one nobody is anybody's.
    first_coordinator: Option<usize>,
    random: Random,
    now_ms: i64,

    /// Fetches that wait for data, and which partitions they wait for.
    parked: BTreeMap<ConnectionId, ParkedFetch>,
    waiting: BTreeMap<(Uuid, i32), BTreeSet<ConnectionId>>,
    /// Answers that a fault delays or holds.
    delayed: BTreeMap<ConnectionId, Segments>,
    held: BTreeMap<ConnectionId, Segments>,
    /// When a parked fetch or a delayed answer is due.
    deadlines: BTreeSet<(i64, ConnectionId)>,
    /// Partitions that have changed in the eyes of a fetch.
    touched: BTreeSet<(Uuid, i32)>,
    /// Connections that may go on with their next request.
    ready: VecDeque<ConnectionId>,
    actions: Vec<Action>,
}

#[derive(Debug, Clone)]
pub struct BrokerAddress {
    pub host: String,
    pub port: u16,
}

#[derive(Debug)]
struct Connection {
    broker: i32,
    queue: VecDeque<Result<Request, RequestError>>,
    /// The request that is being served.
    current: Option<(RequestHead, Vec<Effect>)>,
}

/// What an API handler knows of a request besides its body.
#[derive(Debug)]
struct Call<'a> {
    broker: i32,
    connection: ConnectionId,
    head: &'a RequestHead,
    refusal: Option<Refusal>,
}

impl Cluster {
    /// A cluster without topics; brokers are numbered from 1.
    pub fn new(settings: Settings, brokers: impl IntoIterator<Item = BrokerAddress>) -> Self {
        Self {
            brokers: (1..).zip(brokers).collect(),
            random: Random(settings.seed),
            groups: Groups::new(settings.groups.clone()),
            transactions: Transactions::new(settings.marker_delay_ms),
            settings,
            topics: Topics::default(),
            sessions: FetchSessions::default(),
            faults: Faults::default(),
            connections: BTreeMap::new(),
            next_connection: 0,
            next_producer_id: 0,
            first_coordinator: Some(0),
            now_ms: 0,
            parked: BTreeMap::new(),
            waiting: BTreeMap::new(),
            delayed: BTreeMap::new(),
            held: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            touched: BTreeSet::new(),
            ready: VecDeque::new(),
            actions: Vec::new(),
        }
    }

    pub fn brokers(&self) -> &BTreeMap<i32, BrokerAddress> {
        &self.brokers
    }

    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    pub fn transactions(&self) -> &Transactions {
        &self.transactions
    }

    /// Writes the markers that are due wherever there is a leader to take them.
    fn write_markers(&mut self) {
        for (commit, transaction) in self.transactions.due_for_markers(self.now_ms) {
            let marker = Marker {
                producer_id: transaction.producer_id,
                producer_epoch: transaction.epoch,
                commit,
                coordinator_epoch: COORDINATOR_EPOCH,
            };
            transaction.partitions.retain(|(name, index)| {
                let Some(topic) = self.topics.get_mut(name) else {
                    return false;
                };
                let id = topic.id;
                let Some(partition) = topic.partition_mut(*index) else {
                    return false;
                };
                let is_marked = partition.leader.is_some()
                    && partition
                        .log
                        .append_marker(marker, self.now_ms, partition.leader_epoch)
                        .is_ok();
                if is_marked {
                    self.touched.insert((id, *index));
                }
                // A marker that is refused leaves the transaction as it is for good, with real brokers as well.
                !is_marked
            });
            transaction.is_stuck = !transaction.partitions.is_empty();
            if !transaction.is_stuck {
                self.groups.complete_transaction(transaction.producer_id, commit);
                transaction.groups.clear();
                transaction.state = State::Complete { commit };
            }
        }
    }

    /// Whether `broker` is the one to ask about a group or a transactional id.
    fn check_coordinator(&self, call: &Call, key: &str) -> Result<(), ErrorCode> {
        if let Some(code) = call.refused() {
            return Err(code);
        }
        match self.coordinator_of(key) {
            Some(coordinator) if coordinator == call.broker => Ok(()),
            _ => Err(ErrorCode::NotCoordinator),
        }
    }

    /// Where clients have to look for the coordinator of a group or a transactional id.
    pub fn coordinator_of(&self, key: &str) -> Option<i32> {
        let first = self.first_coordinator?;
        let hash = key
            .bytes()
            .fold(0_usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
        let place = hash.wrapping_add(first) % self.brokers.len().max(1);
        self.brokers.keys().nth(place).copied()
    }

    /// As in KRaft, any broker takes what is meant for the controller.
    fn controller(&self) -> i32 {
        self.brokers.keys().next().copied().unwrap_or(-1)
    }

    fn allocate_producer_id(&mut self) -> i64 {
        let id = self.next_producer_id;
        self.next_producer_id += 1;
        id
    }
}

/// SplitMix64: small, and the same for the same seed.
#[derive(Debug, Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn topic_id(&mut self) -> Uuid {
        uuid::Builder::from_random_bytes((u128::from(self.next()) << 64 | u128::from(self.next())).to_be_bytes())
            .into_uuid()
    }

    /// Session ids are positive.
    fn session_id(&mut self) -> i32 {
        (self.next() as i32 & i32::MAX).max(1)
    }
}
