//! One file for each API: what is asked, in the words of the protocol, and what a broker answers.

mod add_offsets_to_txn;
mod add_partitions_to_txn;
mod alter_configs;
mod api_versions;
mod create_partitions;
mod create_topics;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_producers;
mod describe_topic_partitions;
mod end_txn;
pub(super) mod fetch;
mod find_coordinator;
mod groups;
mod init_producer_id;
mod list_offsets;
mod metadata;
mod offset_for_leader_epoch;
mod produce;
mod txn_offset_commit;
mod write_txn_markers;

use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use super::topics::{Partition, Topics};
use super::wire::{Body, RequestError, RequestHead};
use super::{Call, Cluster};
use crate::protocol::ApiKey;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::produce_request::Segments;

/// What becomes of a request at once.
#[derive(Debug)]
pub(super) enum Outcome {
    Answer(Segments),
    Wait(fetch::ParkedFetch),
    /// The group's coordinator holds the request back.
    WaitForGroup,
    /// A produce request with `acks=0`.
    Silence,
}

pub(super) fn dispatch(cluster: &mut Cluster, call: &Call, body: Body) -> Result<Outcome, RequestError> {
    let body = match body {
        Body::Produce(request) => return produce::handle(cluster, call, request),
        Body::Encoded(body) => body,
    };
    let served = Served { cluster, call, body };
    match call.head.api {
        ApiKey::AddOffsetsToTxn => served.by(add_offsets_to_txn::handle),
        ApiKey::AddPartitionsToTxn => served.by(add_partitions_to_txn::handle),
        ApiKey::AlterConfigs => served.by(alter_configs::handle),
        ApiKey::ApiVersions => api_versions::handle(call, served.body).map(Outcome::Answer),
        ApiKey::CreatePartitions => served.by(create_partitions::handle),
        ApiKey::CreateTopics => served.by(create_topics::handle),
        ApiKey::DeleteGroups => served.by(groups::delete),
        ApiKey::DeleteRecords => served.by(delete_records::handle),
        ApiKey::DeleteTopics => served.by(delete_topics::handle),
        ApiKey::DescribeCluster => served.by(describe_cluster::handle),
        ApiKey::DescribeConfigs => served.by(describe_configs::handle),
        ApiKey::DescribeGroups => served.by(groups::describe),
        ApiKey::DescribeProducers => served.by(describe_producers::handle),
        ApiKey::DescribeTopicPartitions => served.by(describe_topic_partitions::handle),
        ApiKey::EndTxn => served.by(end_txn::handle),
        ApiKey::Fetch => fetch::handle(served.cluster, call, call.head.decode(served.body)?),
        ApiKey::FindCoordinator => served.by(find_coordinator::handle),
        ApiKey::Heartbeat => served.by(groups::heartbeat),
        ApiKey::IncrementalAlterConfigs => served.by(alter_configs::handle_incremental),
        ApiKey::InitProducerId => served.by(init_producer_id::handle),
        ApiKey::JoinGroup => groups::join(served.cluster, call, call.head.decode(served.body)?),
        ApiKey::LeaveGroup => served.by(groups::leave),
        ApiKey::ListGroups => served.by(groups::list),
        ApiKey::ListOffsets => served.by(list_offsets::handle),
        ApiKey::Metadata => served.by(metadata::handle),
        ApiKey::OffsetCommit => served.by(groups::commit_offsets),
        ApiKey::OffsetDelete => served.by(groups::delete_offsets),
        ApiKey::OffsetFetch => served.by(groups::fetch_offsets),
        ApiKey::OffsetForLeaderEpoch => served.by(offset_for_leader_epoch::handle),
        ApiKey::SyncGroup => groups::sync(served.cluster, call, call.head.decode(served.body)?),
        ApiKey::TxnOffsetCommit => served.by(txn_offset_commit::handle),
        ApiKey::WriteTxnMarkers => served.by(write_txn_markers::handle),
        api => Err(RequestError::UnsupportedVersion {
            api,
            version: call.head.version,
        }),
    }
}

/// Whether a request may let other members of its group go on.
pub(super) fn is_about_groups(api: ApiKey) -> bool {
    matches!(
        api,
        ApiKey::JoinGroup | ApiKey::SyncGroup | ApiKey::LeaveGroup | ApiKey::Heartbeat | ApiKey::DeleteGroups
    )
}

struct Served<'a> {
    cluster: &'a mut Cluster,
    call: &'a Call<'a>,
    body: bytes::Bytes,
}

impl Served<'_> {
    /// By a handler that always answers at once.
    fn by<Q: Decodable, R: Encodable>(self, handle: fn(&mut Cluster, &Call, Q) -> R) -> Result<Outcome, RequestError> {
        let request = self.call.head.decode(self.body)?;
        let response = handle(self.cluster, self.call, request);
        self.call.head.encode(&response).map(Outcome::Answer)
    }
}

/// The partitions that a request names, for faults that are meant for one of them.
pub(super) fn partitions_of(cluster: &Cluster, head: &RequestHead, body: &Body) -> Vec<(String, i32)> {
    match body {
        Body::Produce(request) => produce::partitions_of(cluster, request),
        Body::Encoded(body) => match head.api {
            ApiKey::Fetch => head
                .decode(body.clone())
                .map(|request| fetch::partitions_of(cluster, head, &request))
                .unwrap_or_default(),
            ApiKey::ListOffsets => head
                .decode(body.clone())
                .map(|request| list_offsets::partitions_of(&request))
                .unwrap_or_default(),
            _ => Vec::new(),
        },
    }
}

impl Call<'_> {
    /// The error that a fault has put in the place of the whole answer.
    pub(super) fn refused(&self) -> Option<ErrorCode> {
        self.refusal.as_ref().map(|refusal| refusal.code)
    }

    /// Checks a partition before anything is done with it.
    fn check_refusal(&self, topic: &str, partition: i32) -> Result<(), ErrorCode> {
        match &self.refusal {
            Some(refusal) if refusal.is_meant_for(topic, partition) => Err(refusal.code),
            _ => Ok(()),
        }
    }
}

/// What a response has room for where an operation has failed or not.
fn code_of(result: Result<(), ErrorCode>) -> i16 {
    result.err().unwrap_or(ErrorCode::None).code()
}

/// Before this version of the transactional APIs, a fenced producer is told INVALID_PRODUCER_EPOCH.
fn fenced_for(call: &Call, first_with_fenced: i16, code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::ProducerFenced if call.head.version < first_with_fenced => ErrorCode::InvalidProducerEpoch,
        code => code,
    }
}

/// The partition that a request for its leader is about.
fn led_partition<'a>(
    topics: &'a mut Topics,
    call: &Call,
    topic: &str,
    index: i32,
    current_leader_epoch: i32,
) -> Result<&'a mut Partition, ErrorCode> {
    call.check_refusal(topic, index)?;
    let partition = topics
        .get_mut(topic)
        .and_then(|topic| topic.partition_mut(index))
        .ok_or(ErrorCode::UnknownTopicOrPartition)?;
    partition.check_leader(call.broker, current_leader_epoch)?;
    Ok(partition)
}

fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}
