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

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::list_offsets_request::ListOffsetsTopic;

    use super::*;
    use crate::record::{BatchBuilder, BatchOptions, Codec};
    use crate::sandbox::core::testing::{TestClient, batch_with, code, transactional};
    use crate::sandbox::core::topics::topic_name;

    fn find(client: &mut TestClient, isolation_level: i8, timestamp: i64) -> (i64, i64) {
        let wanted = ListOffsetsPartition::default()
            .with_current_leader_epoch(-1)
            .with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![wanted]);
        let request = ListOffsetsRequest::default()
            .with_isolation_level(isolation_level)
            .with_topics(vec![topic]);
        let found = client.call(8, &request).topics.remove(0).partitions.remove(0);
        assert_eq!(code(found.error_code), ErrorCode::None);
        (found.offset, found.timestamp)
    }

    fn produce_at(client: &mut TestClient, codec: Codec, timestamps: &[i64]) {
        let mut builder = BatchBuilder::new(BatchOptions {
            codec,
            ..BatchOptions::default()
        });
        for &timestamp in timestamps {
            builder.push(timestamp, None, None, &[]);
        }
        client.produce("t", 0, builder.build().unwrap());
    }

    #[test]
    fn the_first_record_as_late_is_found_though_times_go_back_and_forth() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 1, &[]);
        produce_at(&mut client, Codec::None, &[100, 300, 200]);
        produce_at(&mut client, Codec::Zstd, &[150, 400]);

        assert_eq!(find(&mut client, 0, 100), (0, 100));
        assert_eq!(find(&mut client, 0, 150), (1, 300));
        assert_eq!(find(&mut client, 0, 350), (4, 400));
        assert_eq!(find(&mut client, 0, 401), (-1, -1));
        assert_eq!(find(&mut client, 0, MAX_TIMESTAMP), (4, 400));
        client.cluster.delete_records("t", 0, 2).unwrap();
        assert_eq!(find(&mut client, 0, 100), (2, 200));
    }

    #[test]
    fn the_end_is_nearer_for_readers_of_committed_records() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 1, &[]);
        produce_at(&mut client, Codec::None, &[100]);
        let identity = client.begin("x", "t", 0);
        client.produce_in("x", "t", 0, batch_with(transactional(identity, 0), &["open"]));

        assert_eq!(find(&mut client, 0, LATEST), (2, -1));
        assert_eq!(find(&mut client, 1, LATEST), (1, -1));
        assert_eq!(find(&mut client, 1, 101), (-1, -1));
        assert_eq!(find(&mut client, 0, EARLIEST), (0, -1));
        assert_eq!(find(&mut client, 0, LATEST_TIERED), (-1, -1));
    }

    #[test]
    fn an_empty_log_has_no_timestamps() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 1, &[]);

        assert_eq!(find(&mut client, 0, 0), (-1, -1));
        assert_eq!(find(&mut client, 0, MAX_TIMESTAMP), (-1, -1));
    }
}
