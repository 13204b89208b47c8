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
        let mut unwanted: Vec<_> = unwanted.map(|(_, told)| told.partition).collect();
        unwanted.sort_unstable_by(|one, other| (&one.topic, one.partition).cmp(&(&other.topic, other.partition)));
        unwanted
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

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use uuid::Uuid;

    fn partition(topic: u128, partition: i32, fetch_offset: i64) -> FetchPartition {
        FetchPartition {
            topic: format!("t{topic}").into(),
            topic_id: Uuid::from_u128(topic),
            partition,
            fetch_offset,
            current_leader_epoch: -1,
            last_fetched_epoch: -1,
            max_bytes: 1000,
        }
    }

    /// Enough for a session.
    fn many() -> Vec<FetchPartition> {
        (0..20).map(|index| partition(1, index, 0)).collect()
    }

    fn answered(topic: TopicRef, partition: i32) -> FetchedPartition {
        FetchedPartition {
            topic,
            partition,
            error: ErrorCode::None,
            high_watermark: 0,
            last_stable_offset: 0,
            log_start_offset: 0,
            aborted: Vec::new(),
            preferred_read_replica: -1,
            diverging_epoch: None,
            current_leader: None,
            records: Bytes::new(),
        }
    }

    fn answer(session_id: i32, partitions: Vec<FetchedPartition>) -> FetchResponse {
        FetchResponse {
            throttle_time_ms: 0,
            error: ErrorCode::None,
            session_id,
            partitions,
        }
    }

    fn error(error: ErrorCode) -> FetchResponse {
        FetchResponse {
            error,
            ..answer(0, Vec::new())
        }
    }

    /// A session with id 9 that has had its first answer.
    fn begun(wanted: &[FetchPartition]) -> FetchSession {
        let mut session = FetchSession::default();
        session.request(wanted, true);
        session.answer(answer(9, Vec::new())).unwrap();
        session
    }

    fn ids(request: &SessionRequest) -> (i32, i32) {
        (request.session_id, request.session_epoch)
    }

    #[test]
    fn the_first_request_is_full_and_the_next_has_only_changes() {
        let mut wanted = many();
        let mut session = FetchSession::default();
        let first = session.request(&wanted, true);
        assert_eq!((ids(&first), &first.partitions), ((0, 0), &wanted));
        session.answer(answer(9, Vec::new())).unwrap();

        wanted[3].fetch_offset = 7;
        let second = session.request(&wanted, true);
        assert_eq!((ids(&second), second.partitions), ((9, 1), vec![wanted[3].clone()]));
        session.answer(answer(9, Vec::new())).unwrap();

        let third = session.request(&wanted, true);
        assert_eq!(
            (ids(&third), third.partitions, third.forgotten),
            ((9, 2), vec![], vec![])
        );
    }

    #[test]
    fn what_is_not_wanted_any_more_is_forgotten_and_what_is_new_added() {
        let mut wanted = many();
        let mut session = begun(&wanted);
        let gone = wanted.remove(5);
        wanted.push(partition(2, 0, 0));
        let request = session.request(&wanted, true);
        assert_eq!(request.partitions, [partition(2, 0, 0)]);
        assert_eq!(request.forgotten, [gone]);
    }

    #[test]
    fn a_topic_created_anew_is_another_one() {
        let mut wanted = many();
        let mut session = begun(&wanted);
        let old = wanted[0].clone();
        wanted[0].topic_id = Uuid::from_u128(99);
        let request = session.request(&wanted, true);
        assert_eq!(request.partitions, [wanted[0].clone()]);
        assert_eq!(request.forgotten, [old]);
    }

    #[test]
    fn few_partitions_need_no_session() {
        let wanted = [partition(1, 0, 0)];
        let mut session = FetchSession::default();
        for _ in 0..2 {
            let request = session.request(&wanted, true);
            assert_eq!(
                (ids(&request), request.partitions.as_slice()),
                ((0, -1), wanted.as_slice())
            );
            session.answer(answer(0, Vec::new())).unwrap();
        }
    }

    #[test]
    fn a_broker_that_gives_no_session_gets_full_requests() {
        let wanted = many();
        let mut session = FetchSession::default();
        for _ in 0..2 {
            let request = session.request(&wanted, true);
            assert_eq!((ids(&request), request.partitions.len()), ((0, 0), wanted.len()));
            session.answer(answer(0, Vec::new())).unwrap();
        }
    }

    #[test]
    fn each_session_error_is_followed_by_a_full_request() {
        let wanted = many();
        for (code, id) in [
            (ErrorCode::FetchSessionIdNotFound, 0),
            (ErrorCode::InvalidFetchSessionEpoch, 9),
            (ErrorCode::FetchSessionTopicIdError, 9),
        ] {
            let mut session = begun(&wanted);
            session.request(&wanted, true);
            assert_eq!(session.answer(error(code)), Err(SessionFailure::Lost(code)));
            let request = session.request(&wanted, true);
            assert_eq!(
                (ids(&request), request.partitions.len()),
                ((id, 0), wanted.len()),
                "{code:?}"
            );
        }
    }

    #[test]
    fn any_other_error_of_the_request_is_the_callers() {
        let mut session = begun(&many());
        session.request(&many(), true);
        let code = ErrorCode::ClusterAuthorizationFailed;
        assert_eq!(session.answer(error(code)), Err(SessionFailure::Refused(code)));
    }

    #[test]
    fn an_answer_that_does_not_come_is_followed_by_a_full_request_that_ends_the_old_session() {
        let wanted = many();
        let mut session = begun(&wanted);
        session.request(&wanted, true);
        let request = session.request(&wanted, true);
        assert_eq!((ids(&request), request.partitions.len()), ((9, 0), wanted.len()));
    }

    #[test]
    fn a_change_between_names_and_ids_begins_another_session() {
        let wanted = many();
        let mut session = begun(&wanted);
        let request = session.request(&wanted, false);
        assert_eq!((ids(&request), request.partitions.len()), ((9, 0), wanted.len()));
    }

    #[test]
    fn the_epoch_wraps_past_the_one_that_means_full() {
        let wanted = many();
        let mut session = begun(&wanted);
        session.epoch = i32::MAX;
        session.request(&wanted, true);
        session.answer(answer(9, Vec::new())).unwrap();
        assert_eq!(ids(&session.request(&wanted, true)), (9, 1));
    }

    #[test]
    fn partitions_come_back_under_their_names() {
        for by_id in [true, false] {
            let mut session = FetchSession::default();
            session.request(&many(), by_id);
            let topic = if by_id {
                TopicRef::Id(Uuid::from_u128(1))
            } else {
                TopicRef::Name("t1".into())
            };
            let partitions = session.answer(answer(9, vec![answered(topic, 4)])).unwrap();
            assert_eq!((partitions[0].0.as_ref(), partitions[0].1.partition), ("t1", 4));
        }
    }

    #[test]
    fn partitions_that_were_not_asked_for_or_come_twice_are_refused() {
        let id = || TopicRef::Id(Uuid::from_u128(1));
        for partitions in [
            vec![answered(id(), 20)],
            vec![answered(TopicRef::Id(Uuid::nil()), 0)],
            vec![answered(TopicRef::Name("t1".into()), 0)],
            vec![answered(id(), 0), answered(id(), 0)],
        ] {
            let mut session = FetchSession::default();
            session.request(&many(), true);
            let refused = session.answer(answer(9, partitions));
            assert!(
                matches!(refused, Err(SessionFailure::Malformed(Malformed::NotAsked { .. }))),
                "{refused:?}"
            );
            assert_eq!(session.request(&many(), true).session_epoch, 0);
        }
    }
}
