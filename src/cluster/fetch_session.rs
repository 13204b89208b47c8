//! Fetch sessions (KIP-227): what the broker remembers of a fetch request, so that the next one need only say what has
//! changed, and its answer only what there is.
//!
//! Pure. A session is told which partitions are wanted and which no longer are, and turns that into a request; then it takes
//! the answer. As soon as it and the broker might differ (an answer that did not come, an error about the session) the next
//! request is a full one, which replaces whatever the broker has. Otherwise a request costs what has changed, however many
//! partitions there are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use uuid::Uuid;

use super::error::Malformed;
use super::fetch::FetchPartition;
use crate::protocol::encoding::TopicRef;
use crate::protocol::error_code::{ErrorCode, Recovery};
use crate::protocol::fetch_response::{FetchResponse, FetchedPartition};

/// The fetches on one connection, one at a time.
#[derive(Debug, Default)]
pub struct FetchSession {
    /// 0 without a session.
    id: i32,
    /// The epoch of the next request; 0 for a full one.
    epoch: i32,
    by_id: bool,
    wanted: BTreeMap<Key, Wanted>,
    /// Of those that are wanted, how many have a topic whose id is not known.
    nameless: usize,
    /// What the broker does not know of those that are wanted.
    news: BTreeSet<Key>,
    /// What it knows, and is not wanted any more.
    forgotten: BTreeMap<(Key, Uuid), FetchPartition>,
    /// Topics that were wanted since the last full request.
    names: HashMap<Uuid, Arc<str>>,
    /// Counts requests.
    round: u64,
    /// Whether the last request has no answer so far.
    is_waiting: bool,
}

type Key = (Arc<str>, i32);

#[derive(Debug)]
struct Wanted {
    partition: FetchPartition,
    /// The broker has it, if perhaps with other offsets.
    is_told: bool,
    /// When it was last answered.
    answered: u64,
}

/// What to send.
#[derive(Debug, PartialEq, Eq)]
pub struct SessionRequest {
    pub session_id: i32,
    pub session_epoch: i32,
    /// New or changed; without a session all of them, another one first each time, since brokers fill their answers in this
    /// order.
    pub partitions: Vec<FetchPartition>,
    pub forgotten: Vec<FetchPartition>,
}

/// Why an answer is none.
#[derive(Debug, PartialEq, Eq)]
pub enum SessionFailure {
    /// The broker does not know the session as we do. The next request begins another.
    Lost(ErrorCode),
    /// The whole request was refused.
    Refused(ErrorCode),
    Malformed(Malformed),
}

impl FetchSession {
    /// From the next request on the partition is fetched as this says.
    pub fn want(&mut self, partition: FetchPartition) {
        let key = (Arc::clone(&partition.topic), partition.partition);
        if self.wanted.get(&key).is_some_and(|known| known.partition == partition) {
            return;
        }
        // As if it were another one; what the broker knows of the same topic is then not forgotten after all.
        self.forget(&partition.topic, partition.partition);
        let is_told = self.forgotten.remove(&(key.clone(), partition.topic_id)).is_some();
        self.names.insert(partition.topic_id, Arc::clone(&partition.topic));
        self.nameless += usize::from(partition.topic_id.is_nil());
        self.news.insert(key.clone());
        let wanted = Wanted {
            partition,
            is_told,
            answered: 0,
        };
        self.wanted.insert(key, wanted);
    }

    /// From the next request on the partition is not fetched any more.
    pub fn forget(&mut self, topic: &Arc<str>, partition: i32) {
        let key = (Arc::clone(topic), partition);
        if let Some(known) = self.wanted.remove(&key) {
            self.nameless -= usize::from(known.partition.topic_id.is_nil());
            self.news.remove(&key);
            if known.is_told {
                let topic_id = known.partition.topic_id;
                self.forgotten.insert((key, topic_id), known.partition);
            }
        }
    }

    /// Whether the topics of all partitions are known by id.
    pub fn knows_ids(&self) -> bool {
        self.nameless == 0
    }

    /// The request for what is wanted, which names topics by id or not.
    pub fn request(&mut self, by_id: bool) -> SessionRequest {
        if self.is_waiting || by_id != self.by_id {
            self.epoch = FULL;
        }
        self.by_id = by_id;
        self.is_waiting = true;
        self.round += 1;
        let (partitions, forgotten) = if self.epoch == FULL {
            (self.tell_all(), Vec::new())
        } else {
            self.tell_changes()
        };
        let has_session = self.epoch != FULL || partitions.len() >= WORTHWHILE_FROM;
        SessionRequest {
            session_id: self.id,
            session_epoch: if has_session { self.epoch } else { NO_SESSION },
            partitions,
            forgotten,
        }
    }

    fn tell_all(&mut self) -> Vec<FetchPartition> {
        self.news.clear();
        self.forgotten.clear();
        self.names.clear();
        let mut partitions = Vec::with_capacity(self.wanted.len());
        for wanted in self.wanted.values_mut() {
            wanted.is_told = true;
            let partition = &wanted.partition;
            self.names.insert(partition.topic_id, Arc::clone(&partition.topic));
            partitions.push(partition.clone());
        }
        let first = self.round.checked_rem(partitions.len() as u64).unwrap_or(0);
        partitions.rotate_left(first as usize);
        partitions
    }

    fn tell_changes(&mut self) -> (Vec<FetchPartition>, Vec<FetchPartition>) {
        let news = std::mem::take(&mut self.news);
        let partitions = news.iter().filter_map(|key| {
            let wanted = self.wanted.get_mut(key)?;
            wanted.is_told = true;
            Some(wanted.partition.clone())
        });
        let partitions = partitions.collect();
        let mut forgotten = std::mem::take(&mut self.forgotten);
        if !self.by_id {
            // By its name a topic that was created anew is the same one.
            forgotten.retain(|(key, _), _| !self.wanted.contains_key(key));
        }
        (partitions, forgotten.into_values().collect())
    }

    /// Takes the answer to the last request: the partitions in it, under their topics' names.
    pub fn answer(&mut self, answer: FetchResponse) -> Result<Vec<(Arc<str>, FetchedPartition)>, SessionFailure> {
        if answer.error != ErrorCode::None {
            return Err(self.fail(answer.error));
        }
        let partitions = answer.partitions.into_iter().map(|partition| self.name(partition));
        let partitions = partitions
            .collect::<Result<Vec<_>, _>>()
            .map_err(SessionFailure::Malformed)?;
        self.is_waiting = false;
        // A full request that got no session is followed by another full one.
        self.epoch = if answer.session_id == 0 {
            FULL
        } else {
            next_epoch(self.epoch)
        };
        self.id = answer.session_id;
        Ok(partitions)
    }

    fn fail(&mut self, code: ErrorCode) -> SessionFailure {
        self.epoch = FULL;
        if code.recovery() != Recovery::ResetSession {
            return SessionFailure::Refused(code);
        }
        if code == ErrorCode::FetchSessionIdNotFound {
            self.id = 0;
        }
        SessionFailure::Lost(code)
    }

    fn name(&mut self, answer: FetchedPartition) -> Result<(Arc<str>, FetchedPartition), Malformed> {
        let (round, by_id) = (self.round, self.by_id);
        let topic = match &answer.topic {
            TopicRef::Id(id) if by_id => self.names.get(id),
            TopicRef::Name(name) if !by_id => Some(name),
            _ => None,
        };
        let wanted = topic.and_then(|topic| self.wanted.get_mut(&(Arc::clone(topic), answer.partition)));
        let is_asked = |wanted: &&mut Wanted| {
            let id = wanted.partition.topic_id;
            wanted.answered != round && (!by_id || answer.topic == TopicRef::Id(id))
        };
        match wanted.filter(is_asked) {
            Some(wanted) => {
                wanted.answered = round;
                Ok((Arc::clone(&wanted.partition.topic), answer))
            }
            None => Err(Malformed::NotAsked {
                subject: format!("partition {} of topic {}", answer.partition, answer.topic),
            }),
        }
    }
}

fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

/// The epoch of a request that names all its partitions, and closes the session whose id it carries.
const FULL: i32 = 0;

/// The same, and begins no other.
const NO_SESSION: i32 = -1;

/// With fewer partitions a session saves less than it costs: brokers keep 1000 sessions, for all their clients.
const WORTHWHILE_FROM: usize = 16;

#[cfg(test)]
mod tests;
