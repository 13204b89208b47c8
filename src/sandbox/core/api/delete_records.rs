//! DeleteRecords: moves the start of a log up.

use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::{Call, Cluster, led_partition};
use crate::protocol::error_code::ErrorCode;

/// Stands for the high watermark.
const ALL: i64 = -1;

pub(super) fn handle(cluster: &mut Cluster, call: &Call, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|wanted| {
            let result = DeleteRecordsPartitionResult::default().with_partition_index(wanted.partition_index);
            match delete(cluster, call, &topic.name, wanted.partition_index, wanted.offset) {
                Ok(low_watermark) => result.with_low_watermark(low_watermark),
                Err(code) => result.with_low_watermark(-1).with_error_code(code.code()),
            }
        });
        DeleteRecordsTopicResult::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    DeleteRecordsResponse::default().with_topics(topics.collect())
}

fn delete(cluster: &mut Cluster, call: &Call, topic: &str, index: i32, offset: i64) -> Result<i64, ErrorCode> {
    let is_deleted = cluster.topics.get(topic).is_none_or(|topic| topic.config.is_deleted);
    let partition = led_partition(&mut cluster.topics, call, topic, index, -1)?;
    if !is_deleted {
        return Err(ErrorCode::PolicyViolation);
    }
    let offset = match offset {
        ALL => partition.log.high_watermark(),
        offset => offset,
    };
    if offset < 0 || offset > partition.log.high_watermark() {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    partition.log.delete_before(offset);
    let low_watermark = partition.log.log_start_offset();
    cluster.touch(topic, index);
    Ok(low_watermark)
}
