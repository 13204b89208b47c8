//! TxnOffsetCommit: a group's offsets, which count once the transaction is committed.

use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};

use super::{Call, Cluster, fenced_for};
use crate::protocol::error_code::ErrorCode;

pub(super) fn handle(cluster: &mut Cluster, call: &Call, request: TxnOffsetCommitRequest) -> TxnOffsetCommitResponse {
    let identity = (request.producer_id.0, request.producer_epoch);
    let checked = cluster
        .check_coordinator(call, &request.group_id)
        .and_then(|()| {
            cluster
                .transactions
                .verify_group(&request.transactional_id, identity, &request.group_id)
        })
        // The group's coordinator has no word of its own for it.
        .map_err(|code| fenced_for(call, i16::MAX, code));
    match checked {
        Ok(()) => {
            let topics = &cluster.topics;
            cluster.groups.commit_transactional_offsets(
                &request,
                |topic, index| topics.has(topic, index),
                cluster.now_ms,
            )
        }
        Err(code) => failed(&request, code),
    }
}

fn failed(request: &TxnOffsetCommitRequest, code: ErrorCode) -> TxnOffsetCommitResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code.code())
        });
        TxnOffsetCommitResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    TxnOffsetCommitResponse::default().with_topics(topics.collect())
}
