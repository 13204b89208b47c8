//! What goes to a broker, request by request.

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

/// A session of these, which has had no answer so far.
fn of(wanted: Vec<FetchPartition>) -> FetchSession {
    let mut session = FetchSession::default();
    wanted.into_iter().for_each(|partition| session.want(partition));
    session
}

/// With id 9, and its first answer.
fn begun(wanted: Vec<FetchPartition>) -> FetchSession {
    let mut session = of(wanted);
    session.request(true);
    session.answer(answer(9, Vec::new())).unwrap();
    session
}

fn ids(request: &SessionRequest) -> (i32, i32) {
    (request.session_id, request.session_epoch)
}

/// In an order that does not depend on where the request began.
fn sorted(mut partitions: Vec<FetchPartition>) -> Vec<FetchPartition> {
    partitions.sort_unstable_by(|one, other| (&one.topic, one.partition).cmp(&(&other.topic, other.partition)));
    partitions
}

#[test]
fn the_first_request_is_full_and_the_next_has_only_changes() {
    let mut session = of(many());
    let first = session.request(true);
    assert_eq!((ids(&first), sorted(first.partitions)), ((0, 0), many()));
    session.answer(answer(9, Vec::new())).unwrap();

    many().into_iter().for_each(|partition| session.want(partition));
    session.want(partition(1, 3, 7));
    let second = session.request(true);
    assert_eq!((ids(&second), second.partitions), ((9, 1), vec![partition(1, 3, 7)]));
    session.answer(answer(9, Vec::new())).unwrap();

    let third = session.request(true);
    assert_eq!(
        (ids(&third), third.partitions, third.forgotten),
        ((9, 2), vec![], vec![])
    );
}

#[test]
fn what_is_not_wanted_any_more_is_forgotten_and_what_is_new_added() {
    let mut session = begun(many());
    session.forget(&"t1".into(), 5);
    session.forget(&"t1".into(), 99);
    session.want(partition(2, 0, 0));
    session.want(partition(2, 1, 0));
    session.forget(&"t2".into(), 1);
    let request = session.request(true);
    assert_eq!(request.partitions, [partition(2, 0, 0)]);
    assert_eq!(request.forgotten, [partition(1, 5, 0)]);
}

/// A broker takes what is added first, and what is forgotten then.
#[test]
fn what_is_wanted_once_more_is_not_forgotten() {
    let mut session = begun(many());
    session.forget(&"t1".into(), 5);
    session.want(partition(1, 5, 8));
    let request = session.request(true);
    assert_eq!(request.partitions, [partition(1, 5, 8)]);
    assert_eq!(request.forgotten, []);
    session.answer(answer(9, Vec::new())).unwrap();
    session.forget(&"t1".into(), 5);
    assert_eq!(session.request(true).forgotten, [partition(1, 5, 8)]);
}

#[test]
fn a_topic_created_anew_is_another_one_unless_it_goes_by_its_name() {
    let created_anew = FetchPartition {
        topic_id: Uuid::from_u128(99),
        ..partition(1, 0, 0)
    };
    let mut session = begun(many());
    session.want(created_anew.clone());
    let request = session.request(true);
    assert_eq!(request.partitions, std::slice::from_ref(&created_anew));
    assert_eq!(request.forgotten, [partition(1, 0, 0)]);

    let mut session = of(many());
    session.request(false);
    session.answer(answer(9, Vec::new())).unwrap();
    session.want(created_anew.clone());
    let request = session.request(false);
    assert_eq!((request.partitions, request.forgotten), (vec![created_anew], vec![]));
}

#[test]
fn a_topic_whose_id_is_not_known_is_counted_until_it_goes() {
    let nameless = |fetch_offset| FetchPartition {
        topic_id: Uuid::nil(),
        ..partition(2, 0, fetch_offset)
    };
    let mut session = of(many());
    assert!(session.knows_ids());
    session.want(nameless(1));
    session.want(nameless(2));
    assert!(!session.knows_ids());
    session.want(partition(2, 0, 2));
    assert!(session.knows_ids());
    session.want(nameless(3));
    session.forget(&"t2".into(), 0);
    assert!(session.knows_ids());
}

#[test]
fn few_partitions_need_no_session_and_take_turns_in_being_the_first() {
    let mut session = of(vec![partition(1, 0, 0), partition(1, 1, 0)]);
    let mut first = Vec::new();
    for _ in 0..4 {
        let request = session.request(true);
        assert_eq!((ids(&request), request.partitions.len()), ((0, -1), 2));
        first.push(request.partitions[0].partition);
        session.answer(answer(0, Vec::new())).unwrap();
    }
    assert_eq!(first, [1, 0, 1, 0]);
}

#[test]
fn a_broker_that_gives_no_session_gets_full_requests() {
    let mut session = of(many());
    for _ in 0..2 {
        let request = session.request(true);
        assert_eq!((ids(&request), request.partitions.len()), ((0, 0), many().len()));
        session.answer(answer(0, Vec::new())).unwrap();
    }
}

#[test]
fn each_session_error_is_followed_by_a_full_request() {
    for (code, id) in [
        (ErrorCode::FetchSessionIdNotFound, 0),
        (ErrorCode::InvalidFetchSessionEpoch, 9),
        (ErrorCode::FetchSessionTopicIdError, 9),
    ] {
        let mut session = begun(many());
        session.forget(&"t1".into(), 5);
        session.request(true);
        assert_eq!(session.answer(error(code)), Err(SessionFailure::Lost(code)));
        let request = session.request(true);
        assert_eq!(
            (ids(&request), request.partitions.len(), request.forgotten),
            ((id, 0), many().len() - 1, vec![]),
            "{code:?}"
        );
    }
}

#[test]
fn any_other_error_of_the_request_is_the_callers() {
    let mut session = begun(many());
    session.request(true);
    let code = ErrorCode::ClusterAuthorizationFailed;
    assert_eq!(session.answer(error(code)), Err(SessionFailure::Refused(code)));
}

#[test]
fn an_answer_that_does_not_come_is_followed_by_a_full_request_that_ends_the_old_session() {
    let mut session = begun(many());
    session.request(true);
    let request = session.request(true);
    assert_eq!((ids(&request), request.partitions.len()), ((9, 0), many().len()));
}

#[test]
fn a_change_between_names_and_ids_begins_another_session() {
    let mut session = begun(many());
    let request = session.request(false);
    assert_eq!((ids(&request), request.partitions.len()), ((9, 0), many().len()));
}

#[test]
fn the_epoch_wraps_past_the_one_that_means_full() {
    let mut session = begun(many());
    session.epoch = i32::MAX;
    session.request(true);
    session.answer(answer(9, Vec::new())).unwrap();
    assert_eq!(ids(&session.request(true)), (9, 1));
}

#[test]
fn partitions_come_back_under_their_names() {
    for by_id in [true, false] {
        let mut session = of(many());
        session.request(by_id);
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
    let created_anew = || FetchPartition {
        topic_id: Uuid::from_u128(99),
        ..partition(1, 7, 0)
    };
    for partitions in [
        vec![answered(id(), 20)],
        vec![answered(TopicRef::Id(Uuid::nil()), 0)],
        vec![answered(TopicRef::Name("t1".into()), 0)],
        vec![answered(id(), 0), answered(id(), 0)],
        vec![answered(id(), 7)],
    ] {
        let mut session = of(many());
        session.want(created_anew());
        session.request(true);
        let refused = session.answer(answer(9, partitions));
        assert!(
            matches!(refused, Err(SessionFailure::Malformed(Malformed::NotAsked { .. }))),
            "{refused:?}"
        );
        assert_eq!(session.request(true).session_epoch, 0);
    }
}
