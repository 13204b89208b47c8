//! What a client's session adds to its request, and leaves out of the answer (KIP-227).

use kafka_protocol::messages::FetchRequest;

use super::response::TopicRead;
use super::{Call, Cluster, FIRST_WITH_TOPIC_IDS, Wanted};
use crate::protocol::error_code::ErrorCode;
use crate::sandbox::core::sessions::{FINAL_EPOCH, FetchSession, INITIAL_EPOCH, identity};
use crate::sandbox::core::topics::Topics;
use crate::sandbox::core::wire::RequestHead;

/// The session that the answer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Session {
    None,
    /// One is to be opened.
    New,
    Known(i32),
}

/// What the request wants, with what its session remembers.
pub(super) fn resume(
    cluster: &mut Cluster,
    call: &Call,
    request: &FetchRequest,
) -> Result<(Session, Vec<Wanted>), ErrorCode> {
    let uses_topic_ids = call.head.version >= FIRST_WITH_TOPIC_IDS;
    let wanted = wanted(&cluster.topics, request, uses_topic_ids);
    if matches!(request.session_epoch, INITIAL_EPOCH | FINAL_EPOCH) {
        cluster.sessions.close(request.session_id);
        let is_new = request.session_epoch == INITIAL_EPOCH;
        return Ok((if is_new { Session::New } else { Session::None }, wanted));
    }
    let session = cluster
        .sessions
        .resume(request.session_id, request.session_epoch, call.broker, uses_topic_ids)?;
    let forgotten = request.forgotten_topics_data.iter().flat_map(|topic| {
        let identity = |&partition: &i32| identity(topic.topic_id, &topic.topic, partition);
        topic.partitions.iter().map(identity)
    });
    session.update(wanted, &forgotten.collect());
    let wanted: Vec<_> = session.partitions.iter().map(|known| known.wanted.clone()).collect();
    if wanted.is_empty() {
        cluster.sessions.close(request.session_id);
        return Ok((Session::None, wanted));
    }
    Ok((Session::Known(request.session_id), wanted))
}

fn wanted(topics: &Topics, request: &FetchRequest, uses_topic_ids: bool) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for topic in &request.topics {
        let name = match uses_topic_ids {
            true => topics.name_of(topic.topic_id).cloned().unwrap_or_default(),
            false => topic.topic.clone(),
        };
        wanted.extend(topic.partitions.iter().map(|partition| Wanted {
            topic: name.clone(),
            topic_id: topic.topic_id,
            partition: partition.partition,
            fetch_offset: partition.fetch_offset,
            current_leader_epoch: partition.current_leader_epoch,
            last_fetched_epoch: partition.last_fetched_epoch,
            max_bytes: usize::try_from(partition.partition_max_bytes).unwrap_or(0),
        }));
    }
    wanted
}

/// What a fetch is about: for faults, before it is served.
pub(in crate::sandbox::core::api) fn partitions_of(
    cluster: &Cluster,
    head: &RequestHead,
    request: &FetchRequest,
) -> Vec<(String, i32)> {
    let wanted = wanted(&cluster.topics, request, head.version >= FIRST_WITH_TOPIC_IDS);
    let remembered = cluster.sessions.get(request.session_id).into_iter();
    remembered
        .flat_map(|session| session.partitions.iter().map(|known| &known.wanted))
        .chain(&wanted)
        .map(|wanted| (wanted.topic.to_string(), wanted.partition))
        .collect()
}

/// What the client of a session has not been told yet. Partitions with data go to the end of the session's order.
pub(super) fn news<'a>(
    session: &mut FetchSession,
    partitions: impl Iterator<Item = TopicRead<'a>>,
) -> Vec<TopicRead<'a>> {
    let mut news = Vec::new();
    let mut quiet = Vec::with_capacity(session.partitions.len());
    let mut with_data = Vec::new();
    for (mut known, (wanted, read)) in session.partitions.drain(..).zip(partitions) {
        let told = read.told();
        if told.is_none() || told != known.told || read.slice.bytes > 0 || read.diverging.is_some() {
            news.push((wanted, read));
        }
        known.told = told;
        if read.slice.bytes > 0 {
            &mut with_data
        } else {
            &mut quiet
        }
        .push(known);
    }
    quiet.append(&mut with_data);
    session.partitions = quiet;
    news
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};

    use super::super::testing::{error_of, request_of, sizes};
    use super::*;
    use crate::protocol::ApiKey;
    use crate::sandbox::core::testing::{TestClient, batch, code, fetch_request};
    use crate::sandbox::core::topics::topic_name;
    use crate::sandbox::core::{Effect, Fault};

    #[test]
    fn a_session_tells_only_what_is_new() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 2, &[]);
        let opened = client.call(12, &request_of(&[0, 0]).with_session_epoch(0));
        assert_eq!(sizes(&opened).len(), 2);
        let size = batch(&["a"]).len();
        client.produce("t", 1, batch(&["a"]));

        let id = opened.session_id;
        let next = |epoch| {
            fetch_request("t", 0, 0)
                .with_session_id(id)
                .with_session_epoch(epoch)
                .with_topics(vec![])
        };
        assert_eq!(sizes(&client.call(12, &next(1))), [(1, size)]);
        let mut moved_on = next(2);
        moved_on.topics = vec![FetchTopic::default().with_topic(topic_name("t")).with_partitions(vec![
            FetchPartition::default().with_partition(1).with_fetch_offset(1).with_partition_max_bytes(1000),
        ])];
        assert_eq!(sizes(&client.call(12, &moved_on)), []);

        assert_eq!(
            code(client.call(12, &next(2)).error_code),
            ErrorCode::InvalidFetchSessionEpoch
        );
        let mut other = next(3);
        other.session_id = id ^ 1;
        assert_eq!(
            code(client.call(12, &other).error_code),
            ErrorCode::FetchSessionIdNotFound
        );
    }

    #[test]
    fn a_forgotten_partition_leaves_the_session() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 2, &[]);
        let id = client.call(12, &request_of(&[0, 0]).with_session_epoch(0)).session_id;
        client.produce("t", 0, batch(&["a"]));
        client.produce("t", 1, batch(&["a"]));

        let forgotten = ForgottenTopic::default()
            .with_topic(topic_name("t"))
            .with_partitions(vec![0]);
        let request = request_of(&[])
            .with_session_id(id)
            .with_session_epoch(1)
            .with_forgotten_topics_data(vec![forgotten]);
        assert_eq!(sizes(&client.call(12, &request)), [(1, batch(&["a"]).len())]);
    }

    #[test]
    fn a_recreated_topic_is_noticed_by_its_id() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 1, &[]);
        let by_id = |client: &TestClient| {
            let mut request = request_of(&[0]);
            request.topics[0].topic_id = client.cluster.topics().get("t").unwrap().id;
            request
        };
        let old = by_id(&client);
        let opened = client.call(13, &old.clone().with_session_epoch(0));
        assert_eq!(error_of(&opened), ErrorCode::None);
        let next = |epoch| old.clone().with_session_id(opened.session_id).with_session_epoch(epoch);

        client.cluster.delete_topic("t");
        assert_eq!(error_of(&client.call(13, &old)), ErrorCode::UnknownTopicId);
        assert_eq!(error_of(&client.call(13, &next(1))), ErrorCode::UnknownTopicOrPartition);
        client.create_topic("t", 1, &[]);
        assert_eq!(error_of(&client.call(13, &old)), ErrorCode::UnknownTopicId);
        assert_eq!(error_of(&client.call(13, &next(2))), ErrorCode::InconsistentTopicId);
        let new = by_id(&client);
        assert_eq!(error_of(&client.call(13, &new)), ErrorCode::None);
    }

    #[test]
    fn a_fault_can_refuse_one_partition_of_a_session() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 2, &[]);
        let id = client.call(12, &request_of(&[0, 0]).with_session_epoch(0)).session_id;
        let refusal = Effect::Refuse(ErrorCode::KafkaStorageError);
        client
            .cluster
            .arm(Fault::new(ApiKey::Fetch, refusal).on_partition("t", 1));

        let request = request_of(&[]).with_session_id(id).with_session_epoch(1);
        let response = client.call(12, &request);

        assert_eq!(sizes(&response), [(1, 0)]);
        assert_eq!(error_of(&response), ErrorCode::KafkaStorageError);
    }
}
