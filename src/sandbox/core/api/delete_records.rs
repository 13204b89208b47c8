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

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};

    use super::*;
    use crate::sandbox::core::testing::{TestClient, batch, code};
    use crate::sandbox::core::topics::topic_name;

    fn delete_before(client: &mut TestClient, offset: i64) -> (ErrorCode, i64) {
        let topic = DeleteRecordsTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![DeleteRecordsPartition::default().with_offset(offset)]);
        let response = client.call(1, &DeleteRecordsRequest::default().with_topics(vec![topic]));
        let result = &response.topics[0].partitions[0];
        (code(result.error_code), result.low_watermark)
    }

    #[test]
    fn the_start_moves_up_and_not_back() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 1, &[]);
        client.produce("t", 0, batch(&["a", "b", "c"]));

        assert_eq!(delete_before(&mut client, 2), (ErrorCode::None, 2));
        assert_eq!(delete_before(&mut client, 1), (ErrorCode::None, 2));
        assert_eq!(delete_before(&mut client, 4), (ErrorCode::OffsetOutOfRange, -1));
        assert_eq!(delete_before(&mut client, -2), (ErrorCode::OffsetOutOfRange, -1));
        assert_eq!(delete_before(&mut client, ALL), (ErrorCode::None, 3));
    }

    #[test]
    fn a_topic_that_is_only_compacted_keeps_its_records() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 1, &[("cleanup.policy", "compact")]);
        client.produce("t", 0, batch(&["a"]));

        assert_eq!(delete_before(&mut client, 1), (ErrorCode::PolicyViolation, -1));
    }
}
