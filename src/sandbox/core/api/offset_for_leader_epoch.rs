//! OffsetForLeaderEpoch: where an epoch ended (KIP-320).

use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::{Call, Cluster, led_partition};

pub(super) fn handle(
    cluster: &mut Cluster,
    call: &Call,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|wanted| {
            let answer = EpochEndOffset::default()
                .with_partition(wanted.partition)
                .with_leader_epoch(-1)
                .with_end_offset(-1);
            let epoch = wanted.current_leader_epoch;
            match led_partition(&mut cluster.topics, call, &topic.topic, wanted.partition, epoch) {
                Err(code) => answer.with_error_code(code.code()),
                Ok(partition) => match partition.log.end_of_epoch(wanted.leader_epoch) {
                    None => answer,
                    Some(end) => answer.with_leader_epoch(end.epoch).with_end_offset(end.end_offset),
                },
            }
        });
        OffsetForLeaderTopicResult::default()
            .with_topic(topic.topic.clone())
            .with_partitions(partitions.collect())
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}
