//! Fetch: reads from the logs, waits for what is not there yet, and keeps sessions.

mod read;
mod response;
mod session;
#[cfg(test)]
mod testing;

use kafka_protocol::messages::FetchRequest;
use uuid::Uuid;

use super::{Call, Cluster, Outcome};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::produce_request::Segments;
use crate::sandbox::core::log::Isolation;
use crate::sandbox::core::sessions::{FetchSession, INITIAL_EPOCH, SessionPartition, Wanted};
use crate::sandbox::core::wire::{RequestError, RequestHead};
use read::find;
use response::{FetchResponse, Read, TopicRead};
pub(super) use session::partitions_of;
use session::{Session, news, resume};

/// The brokers' own `fetch.max.bytes`.
const MAX_BYTES: i32 = 55 * 1024 * 1024;

/// The first version that names topics by their ids.
const FIRST_WITH_TOPIC_IDS: i16 = 13;

/// A fetch that waits for data.
#[derive(Debug)]
pub(in crate::sandbox::core) struct ParkedFetch {
    pub deadline_ms: i64,
    /// The partitions whose change may complete it.
    pub partitions: Vec<(Uuid, i32)>,
    fetch: Fetch,
}

#[derive(Debug)]
struct Fetch {
    head: RequestHead,
    broker: i32,
    isolation: Isolation,
    min_bytes: usize,
    max_bytes: usize,
    session: Session,
    wanted: Vec<Wanted>,
    /// By a fault: place in `wanted`, and with which error.
    refused: Vec<(usize, ErrorCode)>,
}

pub(super) fn handle(cluster: &mut Cluster, call: &Call, request: FetchRequest) -> Result<Outcome, RequestError> {
    let (session, wanted) = match resume(cluster, call, &request) {
        Ok(resumed) => resumed,
        Err(code) => return FetchResponse::refused(call.head, code).map(Outcome::Answer),
    };
    let refused = call.refusal.iter().flat_map(|refusal| {
        let is_meant = |wanted: &Wanted| refusal.is_meant_for(&wanted.topic, wanted.partition);
        (0..)
            .zip(&wanted)
            .filter(move |(_, wanted)| is_meant(wanted))
            .map(|(place, _)| (place, refusal.code))
    });
    let fetch = Fetch {
        head: call.head.clone(),
        broker: call.broker,
        isolation: Isolation::from_wire(request.isolation_level),
        min_bytes: usize::try_from(request.min_bytes).unwrap_or(0),
        max_bytes: usize::try_from(request.max_bytes.min(MAX_BYTES)).unwrap_or(0),
        session,
        refused: refused.collect(),
        wanted,
    };
    let deadline_ms = cluster.now_ms.saturating_add(request.max_wait_ms.into());
    attempt(cluster, fetch, deadline_ms)
}

/// Looks again whether a fetch that waits can be answered.
pub(in crate::sandbox::core) fn retry(cluster: &mut Cluster, parked: ParkedFetch) -> Result<Outcome, RequestError> {
    attempt(cluster, parked.fetch, parked.deadline_ms)
}

/// Answers a fetch whose time is up with what there is.
pub(in crate::sandbox::core) fn finish(cluster: &mut Cluster, parked: ParkedFetch) -> Result<Segments, RequestError> {
    let reads = parked.fetch.read(&cluster.topics);
    respond(cluster, &parked.fetch, reads)
}

fn attempt(cluster: &mut Cluster, fetch: Fetch, deadline_ms: i64) -> Result<Outcome, RequestError> {
    let reads = fetch.read(&cluster.topics);
    let bytes: usize = reads.iter().map(|read| read.slice.bytes).sum();
    let is_complete = cluster.now_ms >= deadline_ms
        || reads.is_empty()
        || bytes >= fetch.min_bytes
        || reads
            .iter()
            .any(|read| read.error != ErrorCode::None || read.diverging.is_some());
    if is_complete {
        return respond(cluster, &fetch, reads).map(Outcome::Answer);
    }
    let id_of = |wanted: &Wanted| Some((cluster.topics.get(&wanted.topic)?.id, wanted.partition));
    Ok(Outcome::Wait(ParkedFetch {
        deadline_ms,
        partitions: fetch.wanted.iter().filter_map(id_of).collect(),
        fetch,
    }))
}

fn respond(cluster: &mut Cluster, fetch: &Fetch, reads: Vec<Read>) -> Result<Segments, RequestError> {
    let partitions = fetch.wanted.iter().zip(&reads);
    let (session_id, partitions) = match fetch.session {
        Session::None => (0, partitions.collect()),
        Session::New => {
            let session = FetchSession {
                epoch: INITIAL_EPOCH + 1,
                broker: fetch.broker,
                uses_topic_ids: fetch.head.version >= FIRST_WITH_TOPIC_IDS,
                partitions: partitions
                    .clone()
                    .map(|(wanted, read)| SessionPartition {
                        wanted: wanted.clone(),
                        told: read.told(),
                    })
                    .collect(),
            };
            let id = cluster.random.session_id();
            (cluster.sessions.open(id, session).unwrap_or(0), partitions.collect())
        }
        Session::Known(id) => match cluster.sessions.get_mut(id) {
            None => return FetchResponse::refused(&fetch.head, ErrorCode::FetchSessionIdNotFound),
            Some(session) => (id, news(session, partitions)),
        },
    };
    let partitions: Vec<TopicRead> = partitions;
    let response = FetchResponse {
        head: &fetch.head,
        session_id,
        brokers: &cluster.brokers,
        partitions: &partitions,
    };
    Ok(response.encode(|wanted, read, writer| {
        let log = find(&cluster.topics, wanted).map(|partition| &partition.log);
        if let Ok(log) = log {
            log.write(read.slice, writer);
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::testing::{request_of, sizes};
    use super::*;
    use crate::sandbox::core::Action;
    use crate::sandbox::core::testing::{TestClient, batch, produce_request, response_of};
    use crate::sandbox::core::wire::body_of;

    #[test]
    fn a_fetch_at_the_end_waits_until_something_is_produced() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 1, &[]);
        let waiting = client.cluster.connect(1);
        let request = request_of(&[0]).with_max_wait_ms(500);
        assert!(client.send(waiting, 12, &request).is_empty());
        assert_eq!(client.cluster.next_deadline(), Some(client.now_ms + 500));

        let produce = produce_request("t", 0, batch(&["a"]));
        let actions = client.send(client.connection, 9, &produce);

        let fetched = actions.iter().find_map(|action| match action {
            Action::Send(id, segments) if *id == waiting => Some(body_of(segments)),
            _ => None,
        });
        let response = response_of::<FetchRequest>(12, fetched.unwrap());
        assert_eq!(sizes(&response), [(0, batch(&["a"]).len())]);
        assert_eq!(client.cluster.next_deadline(), None);
    }

    #[test]
    fn a_fetch_is_answered_empty_when_its_time_is_up() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 1, &[]);
        client.produce("t", 0, batch(&["a"]));
        let request = request_of(&[0]).with_max_wait_ms(500).with_min_bytes(1000);
        assert!(client.send(client.connection, 12, &request).is_empty(), "too little");

        assert!(client.cluster.poll(client.now_ms + 499).is_empty());
        let actions = client.cluster.poll(client.now_ms + 500);

        assert!(matches!(&actions[..], [Action::Send(id, _)] if *id == client.connection));
    }

    #[test]
    fn a_long_poll_holds_up_what_is_behind_it_on_the_connection() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 1, &[]);
        let request = request_of(&[0]).with_max_wait_ms(500);
        assert!(client.send(client.connection, 12, &request).is_empty());

        assert!(client.send(client.connection, 12, &request_of(&[0])).is_empty());

        assert_eq!(client.cluster.poll(client.now_ms + 500).len(), 2);
    }
}
