//! ListOffsets: the ends of a log, and where a timestamp lies in it.

use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};

use super::{Call, Cluster, led_partition};
use crate::protocol::error_code::ErrorCode;
use crate::sandbox::core::log::{Isolation, PartitionLog};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
/// The earliest that is not in tiered storage; there is none here.
const EARLIEST_LOCAL: i64 = -4;
/// The latest that is in tiered storage.
const LATEST_TIERED: i64 = -5;

/// What one partition answers. An offset of -1 means that there is none.
#[derive(Debug, Clone, Copy)]
struct Found {
    timestamp: i64,
    offset: i64,
    leader_epoch: i32,
}

const NOTHING: Found = Found {
    timestamp: -1,
    offset: -1,
    leader_epoch: -1,
};

pub(super) fn handle(cluster: &mut Cluster, call: &Call, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let isolation = Isolation::from_wire(request.isolation_level);
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|wanted| {
            let found = led_partition(
                &mut cluster.topics,
                call,
                &topic.name,
                wanted.partition_index,
                wanted.current_leader_epoch,
            )
            .map(|partition| find(&partition.log, isolation, wanted.timestamp));
            answer(wanted, found)
        });
        ListOffsetsTopicResponse::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

pub(super) fn partitions_of(request: &ListOffsetsRequest) -> Vec<(String, i32)> {
    request
        .topics
        .iter()
        .flat_map(|topic| {
            let name = topic.name.to_string();
            topic
                .partitions
                .iter()
                .map(move |partition| (name.clone(), partition.partition_index))
        })
        .collect()
}

fn find(log: &PartitionLog, isolation: Isolation, timestamp: i64) -> Found {
    let at = |offset, timestamp| Found {
        timestamp,
        offset,
        leader_epoch: log.epoch_at(offset).unwrap_or(-1),
    };
    match timestamp {
        LATEST => Found {
            leader_epoch: log.latest_epoch().unwrap_or(-1),
            ..at(log.readable_end(isolation), -1)
        },
        EARLIEST | EARLIEST_LOCAL => at(log.log_start_offset(), -1),
        LATEST_TIERED => NOTHING,
        MAX_TIMESTAMP => log
            .offset_of_max_timestamp()
            .map_or(NOTHING, |(offset, timestamp)| at(offset, timestamp)),
        timestamp => log
            .offset_for_timestamp(timestamp)
            .filter(|&(offset, _)| offset < log.readable_end(isolation))
            .map_or(NOTHING, |(offset, timestamp)| at(offset, timestamp)),
    }
}

fn answer(wanted: &ListOffsetsPartition, found: Result<Found, ErrorCode>) -> ListOffsetsPartitionResponse {
    let (code, found) = match found {
        Ok(found) => (ErrorCode::None, found),
        Err(code) => (code, NOTHING),
    };
    ListOffsetsPartitionResponse::default()
        .with_partition_index(wanted.partition_index)
        .with_error_code(code.code())
        .with_timestamp(found.timestamp)
        .with_offset(found.offset)
        .with_leader_epoch(found.leader_epoch)
}
