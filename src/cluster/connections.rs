//! One live connection for each broker and purpose.
//!
//! A connection is dialled when it is asked for and not there. Whoever else asks meanwhile gets the same one, or the
//! same failure. Dials of one slot keep a growing distance, whether the one before failed or led to a connection that
//! soon ended.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::backoff::Backoff;
use super::connection::Connection;
use super::error::ClusterError;
use super::metadata::BrokerAddress;
use super::{locked, now};

/// What a connection is used for. A fetch that waits for data blocks everything behind it, and a large produce request
/// delays it: so each has connections of its own, as many as the caller numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    Fetch(usize),
    Produce(usize),
    Admin,
}

#[derive(Debug, Default)]
pub(super) struct Connections(Mutex<BTreeMap<(i32, Purpose), Arc<Slot>>>);

impl Connections {
    pub(super) fn slot(&self, broker_id: i32, purpose: Purpose, backoff: impl FnOnce() -> Backoff) -> Arc<Slot> {
        let mut slots = locked(&self.0);
        let slot = slots
            .entry((broker_id, purpose))
            .or_insert_with(|| Arc::new(Slot::new(backoff())));
        Arc::clone(slot)
    }

    pub(super) fn is_live(&self, broker_id: i32, purpose: Purpose) -> bool {
        let slots = locked(&self.0);
        slots
            .get(&(broker_id, purpose))
            .is_some_and(|slot| slot.live().is_some())
    }

    /// Closes connections to where a broker no longer is, and forgets brokers that are gone. (Connections to those end
    /// by themselves: a broker that the others miss may still have answers for us.)
    pub(super) fn follow(&self, brokers: &BTreeMap<i32, BrokerAddress>) {
        let mut slots = locked(&self.0);
        slots.retain(|(broker_id, _), slot| {
            let address = brokers.get(broker_id);
            if let (Some(address), Some(connection)) = (address, slot.live())
                && *connection.peer().address != address.to_string()
            {
                connection.close("the broker has moved");
            }
            address.is_some()
        });
    }
}

/// The place of one connection.
#[derive(Debug)]
pub(super) struct Slot {
    current: Mutex<Option<Connection>>,
    /// Locked for as long as somebody dials: that is what makes the others wait.
    dialling: tokio::sync::Mutex<Dialling>,
}

#[derive(Debug)]
struct Dialling {
    backoff: Backoff,
    last: Option<Instant>,
    /// When the last dial failed, and how.
    failure: Option<(Instant, ClusterError)>,
}

impl Slot {
    fn new(backoff: Backoff) -> Self {
        Self {
            current: Mutex::new(None),
            dialling: tokio::sync::Mutex::new(Dialling {
                backoff,
                last: None,
                failure: None,
            }),
        }
    }

    /// The live connection, or the one that `dial` opens.
    pub(super) async fn connection(
        &self,
        dial: impl Future<Output = Result<Connection, ClusterError>>,
    ) -> Result<Connection, ClusterError> {
        if let Some(connection) = self.live() {
            return Ok(connection);
        }
        let asked = now();
        let mut dialling = self.dialling.lock().await;
        if let Some(connection) = self.live() {
            return Ok(connection);
        }
        match &dialling.failure {
            Some((failed, failure)) if *failed >= asked => return Err(failure.clone()),
            _ => dialling.keep_distance().await,
        }
        let dialled = dial.await;
        match &dialled {
            Ok(connection) => *locked(&self.current) = Some(connection.clone()),
            Err(failure) => dialling.failure = Some((now(), failure.clone())),
        }
        dialled
    }

    fn live(&self) -> Option<Connection> {
        let mut current = locked(&self.current);
        // A dead one is dropped at once, with what it holds.
        *current = current.take().filter(Connection::is_alive);
        current.clone()
    }
}

impl Dialling {
    async fn keep_distance(&mut self) {
        if let Some(last) = self.last {
            if now() - last > FORGIVEN_AFTER {
                self.backoff.reset();
            } else {
                sleep_until(last + self.backoff.next_wait()).await;
            }
        }
        self.last = Some(now());
    }
}

/// After a dial that is longer ago than this, the next one is a first one.
const FORGIVEN_AFTER: Duration = Duration::from_secs(10);
