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
mod sessions;
#[cfg(test)]
mod testing;
pub mod topics;
pub mod transactions;
pub mod versions;
pub mod wire;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use uuid::Uuid;

use api::Outcome;
use api::fetch::ParkedFetch;
use faults::{Effect, Fate, Fault, Faults, Refusal};
use log::Marker;
use sessions::FetchSessions;
use topics::Topics;
use transactions::{COORDINATOR_EPOCH, State, Transactions};
use wire::{Request, RequestError, RequestHead};

use super::groups::{GroupResponse, Groups, GroupsConfig, Waiter};
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

    /// A client has connected to `broker`.
    pub fn connect(&mut self, broker: i32) -> ConnectionId {
        let id = ConnectionId(self.next_connection);
        self.next_connection += 1;
        self.connections.insert(
            id,
            Connection {
                broker,
                queue: VecDeque::new(),
                current: None,
            },
        );
        id
    }

    /// The client has gone. Whatever it waited for is forgotten.
    pub fn disconnect(&mut self, connection: ConnectionId) {
        self.connections.remove(&connection);
        self.delayed.remove(&connection);
        self.held.remove(&connection);
        self.deadlines.retain(|&(_, waiting)| waiting != connection);
        self.unpark(connection);
    }

    /// Takes a frame, given without its length.
    pub fn handle(&mut self, connection: ConnectionId, frame: Bytes, now_ms: i64) -> Vec<Action> {
        self.handle_request(connection, Request::parse(frame), now_ms)
    }

    /// As [`handle`](Self::handle), where the frame was parsed beforehand.
    pub fn handle_request(
        &mut self,
        connection: ConnectionId,
        request: Result<Request, RequestError>,
        now_ms: i64,
    ) -> Vec<Action> {
        self.now_ms = now_ms;
        if let Some(known) = self.connections.get_mut(&connection) {
            known.queue.push_back(request);
            self.ready.push_back(connection);
        }
        self.settle();
        std::mem::take(&mut self.actions)
    }

    /// What is due by now, and what follows from changes that were made directly.
    pub fn poll(&mut self, now_ms: i64) -> Vec<Action> {
        self.now_ms = now_ms;
        while let Some(&(deadline, connection)) = self.deadlines.first()
            && deadline <= now_ms
        {
            self.deadlines.pop_first();
            if let Some(frame) = self.delayed.remove(&connection) {
                self.send(connection, frame);
            } else if let Some(parked) = self.unpark(connection) {
                let outcome = api::fetch::finish(self, parked).map(Outcome::Answer);
                self.conclude(connection, outcome);
            }
        }
        self.transactions.abort_overdue(now_ms);
        self.write_markers();
        self.answer_groups();
        self.settle();
        std::mem::take(&mut self.actions)
    }

    /// When [`poll`](Self::poll) has to be called next.
    pub fn next_deadline(&self) -> Option<i64> {
        let deadlines = [
            self.deadlines.first().map(|&(deadline, _)| deadline),
            self.groups.next_deadline_ms(),
            self.transactions.next_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Arms a fault. Several may befall one request.
    pub fn arm(&mut self, fault: Fault) {
        self.faults.arm(fault);
    }

    /// Disarms all faults; what is held stays so.
    pub fn disarm(&mut self) {
        self.faults.clear();
    }

    /// Lets go of the answers that [`Effect::Hold`] holds; they come out of the next [`poll`](Self::poll).
    pub fn release(&mut self) {
        for (connection, frame) in std::mem::take(&mut self.held) {
            self.send(connection, frame);
        }
    }

    /// Serves requests until nothing can go on.
    fn settle(&mut self) {
        loop {
            if let Some(connection) = self.ready.pop_front() {
                self.serve_next(connection);
            } else if let Some(partition) = self.touched.pop_first() {
                self.wake(partition);
            } else {
                break;
            }
        }
    }

    fn serve_next(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id).filter(|idle| idle.current.is_none()) else {
            return;
        };
        let broker = connection.broker;
        match connection.queue.pop_front() {
            None => {}
            Some(Ok(request)) => self.serve(id, broker, request),
            Some(Err(error)) => self.close(id, error.into()),
        }
    }

    fn serve(&mut self, id: ConnectionId, broker: i32, Request { head, body }: Request) {
        let partitions = match self.faults.look_at_partitions(head.api) {
            true => api::partitions_of(self, &head, &body),
            false => Vec::new(),
        };
        let Fate { refusal, effects } = self.faults.befall(head.api, broker, &partitions);
        if effects.contains(&Effect::DropBefore) {
            return self.close(id, CloseReason::Fault);
        }
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.current = Some((head.clone(), effects));
        }
        let call = Call {
            broker,
            connection: id,
            head: &head,
            refusal,
        };
        let outcome = api::dispatch(self, &call, body);
        self.conclude(id, outcome);
        if api::is_about_groups(head.api) {
            self.answer_groups();
        }
    }

    fn conclude(&mut self, id: ConnectionId, outcome: Result<Outcome, RequestError>) {
        match outcome {
            Ok(Outcome::Answer(frame)) => self.answer(id, frame),
            Ok(Outcome::Wait(parked)) => self.park(id, parked),
            Ok(Outcome::WaitForGroup) => {}
            Ok(Outcome::Silence) => {
                self.actions.push(Action::Silence(id));
                self.go_on(id);
            }
            Err(error) => self.close(id, error.into()),
        }
    }

    /// The answer to the connection's current request, which may still meet a fault.
    fn answer(&mut self, id: ConnectionId, mut frame: Segments) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let effects = connection
            .current
            .take()
            .map(|(_, effects)| effects)
            .unwrap_or_default();
        let mut delay = None;
        for effect in effects {
            match effect {
                Effect::DropAfter => return self.close(id, CloseReason::Fault),
                Effect::Corrupt { position } => frame = wire::corrupt(&frame, position),
                Effect::Delay { ms } => delay = Some(ms),
                Effect::Hold => delay = Some(i64::MAX),
                Effect::Refuse(_) | Effect::DropBefore => {}
            }
        }
        match delay {
            None => self.send(id, frame),
            Some(i64::MAX) => {
                self.held.insert(id, frame);
            }
            Some(ms) => {
                self.deadlines.insert((self.now_ms.saturating_add(ms), id));
                self.delayed.insert(id, frame);
            }
        }
    }

    fn send(&mut self, id: ConnectionId, frame: Segments) {
        self.actions.push(Action::Send(id, frame));
        self.go_on(id);
    }

    fn go_on(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.current = None;
            self.ready.push_back(id);
        }
    }

    fn close(&mut self, id: ConnectionId, reason: CloseReason) {
        self.disconnect(id);
        self.actions.push(Action::Close(id, reason));
    }

    fn park(&mut self, id: ConnectionId, parked: ParkedFetch) {
        self.deadlines.insert((parked.deadline_ms, id));
        for &partition in &parked.partitions {
            self.waiting.entry(partition).or_default().insert(id);
        }
        self.parked.insert(id, parked);
    }

    fn unpark(&mut self, id: ConnectionId) -> Option<ParkedFetch> {
        let parked = self.parked.remove(&id)?;
        self.deadlines.remove(&(parked.deadline_ms, id));
        for partition in &parked.partitions {
            if let Some(waiting) = self.waiting.get_mut(partition) {
                waiting.remove(&id);
            }
        }
        Some(parked)
    }

    /// Answers the fetches that a change of this partition completes.
    fn wake(&mut self, partition: (Uuid, i32)) {
        let waiting = self.waiting.get(&partition).cloned().unwrap_or_default();
        for id in waiting {
            let Some(parked) = self.unpark(id) else { continue };
            let outcome = api::fetch::retry(self, parked);
            self.conclude(id, outcome);
        }
    }

    /// Answers the members of groups that wait no longer.
    fn answer_groups(&mut self) {
        while let Some((Waiter(id), response)) = self.groups.poll(self.now_ms) {
            let id = ConnectionId(id);
            let Some((head, _)) = self.connections.get(&id).and_then(|known| known.current.as_ref()) else {
                continue;
            };
            let frame = match &response {
                GroupResponse::Join(response) => head.encode(response),
                GroupResponse::Sync(response) => head.encode(response),
            };
            self.conclude(id, frame.map(Outcome::Answer));
        }
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
    fn coordinator_of(&self, key: &str) -> Option<i32> {
        let hash = key
            .bytes()
            .fold(0_usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
        self.brokers.keys().nth(hash % self.brokers.len().max(1)).copied()
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
