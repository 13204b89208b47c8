//! Fetch: reads from the logs, waits for what is not there yet, and keeps sessions.

use kafka_protocol::messages::FetchRequest;
use uuid::Uuid;

use super::fetch_response::{FetchResponse, Read, TopicRead};
use super::{Call, Cluster, Outcome};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::produce_request::Segments;
use crate::sandbox::core::log::{Isolation, PartitionLog};
use crate::sandbox::core::sessions::{FINAL_EPOCH, FetchSession, INITIAL_EPOCH, SessionPartition, Wanted};
use crate::sandbox::core::topics::{Partition, Topics};
use crate::sandbox::core::wire::{RequestError, RequestHead};

/// The brokers' own `fetch.max.bytes`.
const MAX_BYTES: i32 = 55 * 1024 * 1024;

/// The first version that names topics by their ids.
pub(super) const FIRST_WITH_TOPIC_IDS: i16 = 13;

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

/// The session that the answer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Session {
    None,
    /// One is to be opened.
    New,
    Known(i32),
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

/// What the request wants, with what its session remembers.
fn resume(cluster: &mut Cluster, call: &Call, request: &FetchRequest) -> Result<(Session, Vec<Wanted>), ErrorCode> {
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
    session.update(wanted, |known| {
        request.forgotten_topics_data.iter().any(|topic| {
            let is_topic = match uses_topic_ids {
                true => topic.topic_id == known.topic_id,
                false => topic.topic == known.topic,
            };
            is_topic && topic.partitions.contains(&known.partition)
        })
    });
    let wanted = session.partitions.iter().map(|known| known.wanted.clone()).collect();
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
pub(super) fn partitions_of(cluster: &Cluster, head: &RequestHead, request: &FetchRequest) -> Vec<(String, i32)> {
    let wanted = wanted(&cluster.topics, request, head.version >= FIRST_WITH_TOPIC_IDS);
    let remembered = cluster.sessions.get(request.session_id).into_iter();
    remembered
        .flat_map(|session| session.partitions.iter().map(|known| &known.wanted))
        .chain(&wanted)
        .map(|wanted| (wanted.topic.to_string(), wanted.partition))
        .collect()
}

impl Fetch {
    /// Reads what is wanted, in order, until the response is full.
    fn read(&self, topics: &Topics) -> Vec<Read> {
        let mut left = self.max_bytes;
        let mut has_data = false;
        let mut reads = Vec::with_capacity(self.wanted.len());
        for (place, wanted) in self.wanted.iter().enumerate() {
            let refused = self.refused.iter().find(|(refused, _)| *refused == place);
            let read = match (refused, find(topics, wanted)) {
                (Some(&(_, code)), _) | (None, Err(code)) => Read::failed(code),
                (None, Ok(partition)) => match partition.check_leader(self.broker, wanted.current_leader_epoch) {
                    Err(code) => Read {
                        leader: partition.leader.map(|leader| (leader, partition.leader_epoch)),
                        ..Read::failed(code)
                    },
                    // Not even an oversized batch starves the client, but only the first may exceed the limits.
                    Ok(()) => self.read_log(&partition.log, wanted, left, !has_data),
                },
            };
            left = left.saturating_sub(read.slice.bytes);
            has_data |= read.slice.bytes > 0;
            reads.push(read);
        }
        reads
    }

    fn read_log(&self, log: &PartitionLog, wanted: &Wanted, left: usize, at_least_one: bool) -> Read {
        let mut read = Read {
            high_watermark: log.high_watermark(),
            last_stable_offset: log.last_stable_offset(),
            log_start_offset: log.log_start_offset(),
            ..Read::failed(ErrorCode::None)
        };
        if wanted.last_fetched_epoch >= 0 {
            // The client's last record is of an epoch that this log does not know: nothing can be said about it.
            let Some(end) = log.end_of_epoch(wanted.last_fetched_epoch) else {
                return Read::failed(ErrorCode::OffsetOutOfRange);
            };
            if end.epoch < wanted.last_fetched_epoch || end.end_offset < wanted.fetch_offset {
                read.diverging = Some(end);
                return read;
            }
        }
        let max_bytes = wanted.max_bytes.min(left);
        match log.read(wanted.fetch_offset, self.isolation, max_bytes, at_least_one) {
            Err(code) => Read::failed(code),
            Ok(slice) => {
                read.slice = slice;
                if self.isolation == Isolation::ReadCommitted {
                    read.aborted = Some(log.aborted_in(wanted.fetch_offset, slice));
                }
                read
            }
        }
    }
}

fn find<'a>(topics: &'a Topics, wanted: &Wanted) -> Result<&'a Partition, ErrorCode> {
    let by_id = !wanted.topic_id.is_nil();
    if by_id && wanted.topic.is_empty() {
        return Err(ErrorCode::UnknownTopicId);
    }
    let topic = topics.get(&wanted.topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if by_id && topic.id != wanted.topic_id {
        // Only a session can still know the name of an id that is gone.
        return Err(ErrorCode::InconsistentTopicId);
    }
    topic
        .partition(wanted.partition)
        .ok_or(ErrorCode::UnknownTopicOrPartition)
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

/// What the client of a session has not been told yet. Partitions with data go to the end of the session's order.
fn news<'a>(session: &mut FetchSession, partitions: impl Iterator<Item = TopicRead<'a>>) -> Vec<TopicRead<'a>> {
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
