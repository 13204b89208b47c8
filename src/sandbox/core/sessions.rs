//! Fetch sessions (KIP-227): the broker remembers what a client fetches, so that requests and responses carry only
//! what has changed.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::messages::TopicName;
use uuid::Uuid;

use crate::protocol::error_code::ErrorCode;

/// Kafka's `max.incremental.fetch.session.cache.slots`, here for the whole cluster.
const MAX_SESSIONS: usize = 1000;

/// Also the epoch of a full fetch that asks for a session.
pub(super) const INITIAL_EPOCH: i32 = 0;
/// The epoch of a fetch that wants no session, or ends its own.
pub(super) const FINAL_EPOCH: i32 = -1;

#[derive(Debug, Default)]
pub(super) struct FetchSessions(BTreeMap<i32, FetchSession>);

#[derive(Debug)]
pub(super) struct FetchSession {
    /// Of the next request.
    pub epoch: i32,
    pub broker: i32,
    pub uses_topic_ids: bool,
    /// In the order in which they are read. Those that had data go to the end, so that none starves.
    pub partitions: Vec<SessionPartition>,
}

/// What makes a partition of a session the same: topic id, or name where there is none, and index.
pub(super) type Identity = (Uuid, TopicName, i32);

/// What a client wants of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Empty where a topic id was given that nobody has.
    pub topic: TopicName,
    /// Nil where the client goes by names.
    pub topic_id: Uuid,
    pub partition: i32,
    pub fetch_offset: i64,
    pub current_leader_epoch: i32,
    pub last_fetched_epoch: i32,
    pub max_bytes: usize,
}

#[derive(Debug, Clone)]
pub(super) struct SessionPartition {
    pub wanted: Wanted,
    /// What the client was told last; `None` before the first answer and after an error.
    pub told: Option<Told>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    pub high_watermark: i64,
    pub log_start_offset: i64,
}

impl FetchSession {
    /// Takes over what an incremental request changes.
    pub(super) fn update(&mut self, wanted: Vec<Wanted>, forgotten: &BTreeSet<Identity>) {
        let places: BTreeMap<_, _> = self
            .partitions
            .iter()
            .enumerate()
            .map(|(place, known)| (known.wanted.identity(), place))
            .collect();
        for mut wanted in wanted {
            match places.get(&wanted.identity()) {
                Some(&place) => {
                    // The name that the id had at first stays, so that a re-created topic is noticed.
                    let known = &mut self.partitions[place].wanted;
                    if !known.topic.is_empty() {
                        wanted.topic = known.topic.clone();
                    }
                    *known = wanted;
                }
                None => self.partitions.push(SessionPartition { wanted, told: None }),
            }
        }
        self.partitions
            .retain(|known| !forgotten.contains(&known.wanted.identity()));
    }
}

impl Wanted {
    fn identity(&self) -> Identity {
        identity(self.topic_id, &self.topic, self.partition)
    }
}

/// Topics that are known by id are that id, whatever their name has become.
pub(super) fn identity(topic_id: Uuid, topic: &TopicName, partition: i32) -> Identity {
    let name = if topic_id.is_nil() {
        topic.clone()
    } else {
        TopicName::default()
    };
    (topic_id, name, partition)
}

impl FetchSessions {
    /// `None`: there is no room, and the client goes on with full fetches.
    pub(super) fn open(&mut self, id: i32, session: FetchSession) -> Option<i32> {
        if self.0.len() >= MAX_SESSIONS || self.0.contains_key(&id) {
            return None;
        }
        self.0.insert(id, session);
        Some(id)
    }

    pub(super) fn close(&mut self, id: i32) {
        self.0.remove(&id);
    }

    /// Those of a broker that restarts.
    pub(super) fn close_of(&mut self, broker: i32) {
        self.0.retain(|_, session| session.broker != broker);
    }

    pub(super) fn get(&self, id: i32) -> Option<&FetchSession> {
        self.0.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: i32) -> Option<&mut FetchSession> {
        self.0.get_mut(&id)
    }

    /// The session for a request with this id and epoch, which is now the epoch after.
    pub(super) fn resume(
        &mut self,
        id: i32,
        epoch: i32,
        broker: i32,
        uses_topic_ids: bool,
    ) -> Result<&mut FetchSession, ErrorCode> {
        let session = self
            .0
            .get_mut(&id)
            .filter(|session| session.broker == broker)
            .ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if session.epoch != epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.uses_topic_ids != uses_topic_ids {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        session.epoch = epoch.checked_add(1).unwrap_or(1);
        Ok(session)
    }
}
