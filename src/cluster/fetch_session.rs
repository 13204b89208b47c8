//! Fetch sessions (KIP-227): what the broker remembers of a fetch request, so that the next one need only say what has
//! changed, and its answer only what there is.
//!
//! Pure. A session takes the partitions that are wanted and turns them into a request; then it takes the answer. It
//! keeps, for each partition, what the broker was last told. As soon as the two might differ (an answer that did not
//! come, an error about the session) the next request is a full one, which replaces whatever the broker has.

use std::collections::HashMap;
use std::sync::Arc;

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
    /// What the broker was told.
    told: HashMap<(TopicRef, i32), Told>,
    /// Counts requests.
    round: u64,
    /// Whether the last request has no answer so far.
    is_waiting: bool,
}

#[derive(Debug)]
struct Told {
    partition: FetchPartition,
    /// When the partition was last wanted.
    wanted: u64,
    /// When it was last answered.
    answered: u64,
}

/// What to send.
#[derive(Debug, PartialEq, Eq)]
pub struct SessionRequest {
    pub session_id: i32,
    pub session_epoch: i32,
    /// New or changed, in the order in which they are wanted.
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
    /// The request for these partitions, which name their topics by id or not.
    pub fn request(&mut self, wanted: &[FetchPartition], by_id: bool) -> SessionRequest {
        if self.is_waiting || by_id != self.by_id {
            self.epoch = FULL;
        }
        self.by_id = by_id;
        self.is_waiting = true;
        self.round += 1;
        if self.epoch == FULL {
            self.told.clear();
        }
        let partitions = wanted
            .iter()
            .filter(|partition| self.tell(partition))
            .cloned()
            .collect();
        let has_session = self.epoch != FULL || wanted.len() >= WORTHWHILE_FROM;
        SessionRequest {
            session_id: self.id,
            session_epoch: if has_session { self.epoch } else { NO_SESSION },
            partitions,
            forgotten: self.forget(),
        }
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

    /// Notes that a partition is wanted. Returns whether that is news to the broker.
    fn tell(&mut self, partition: &FetchPartition) -> bool {
        let round = self.round;
        let told = self.told.entry((self.topic(partition), partition.partition));
        let mut is_news = false;
        let told = told.or_insert_with(|| {
            is_news = true;
            Told {
                partition: partition.clone(),
                wanted: round,
                answered: 0,
            }
        });
        told.wanted = round;
        if told.partition != *partition {
            is_news = true;
            told.partition.clone_from(partition);
        }
        is_news
    }

    /// Drops what is no longer wanted.
    fn forget(&mut self) -> Vec<FetchPartition> {
        let round = self.round;
        let unwanted = self.told.extract_if(|_, told| told.wanted != round);
        unwanted.map(|(_, told)| told.partition).collect()
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
        let round = self.round;
        let told = self.told.get_mut(&(answer.topic.clone(), answer.partition));
        match told.filter(|told| told.answered != round) {
            Some(told) => {
                told.answered = round;
                Ok((Arc::clone(&told.partition.topic), answer))
            }
            None => Err(Malformed::NotAsked {
                subject: format!("partition {} of topic {}", answer.partition, answer.topic),
            }),
        }
    }

    fn topic(&self, partition: &FetchPartition) -> TopicRef {
        if self.by_id {
            TopicRef::Id(partition.topic_id)
        } else {
            TopicRef::Name(Arc::clone(&partition.topic))
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
