//! WriteTxnMarkers: what coordinators send, and administrators who end a hanging transaction by hand.

use kafka_protocol::messages::write_txn_markers_request::WritableTxnMarker;
use kafka_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use kafka_protocol::messages::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};

use super::{Call, Cluster, code_of, led_partition};
use crate::protocol::error_code::ErrorCode;
use crate::sandbox::core::log::Marker;

pub(super) fn handle(cluster: &mut Cluster, call: &Call, request: WriteTxnMarkersRequest) -> WriteTxnMarkersResponse {
    let markers = request.markers.iter().map(|wanted| {
        let topics = wanted.topics.iter().map(|topic| {
            let partitions = topic.partition_indexes.iter().map(|&index| {
                WritableTxnMarkerPartitionResult::default()
                    .with_partition_index(index)
                    .with_error_code(code_of(write(cluster, call, wanted, &topic.name, index)))
            });
            WritableTxnMarkerTopicResult::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions.collect())
        });
        WritableTxnMarkerResult::default()
            .with_producer_id(wanted.producer_id)
            .with_topics(topics.collect())
    });
    WriteTxnMarkersResponse::default().with_markers(markers.collect())
}

fn write(
    cluster: &mut Cluster,
    call: &Call,
    wanted: &WritableTxnMarker,
    topic: &str,
    index: i32,
) -> Result<(), ErrorCode> {
    let marker = Marker {
        producer_id: wanted.producer_id.0,
        producer_epoch: wanted.producer_epoch,
        commit: wanted.transaction_result,
        coordinator_epoch: wanted.coordinator_epoch,
    };
    let partition = led_partition(&mut cluster.topics, call, topic, index, -1)?;
    partition
        .log
        .append_marker(marker, cluster.now_ms, partition.leader_epoch)?;
    cluster.touch(topic, index);
    Ok(())
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ProducerId;
    use kafka_protocol::messages::write_txn_markers_request::WritableTxnMarkerTopic;

    use super::*;
    use crate::sandbox::core::testing::{TestClient, batch_with, code, stamped};
    use crate::sandbox::core::topics::topic_name;

    fn mark(client: &mut TestClient, epoch: i16, coordinator_epoch: i32, times: usize) -> Vec<ErrorCode> {
        let topic = WritableTxnMarkerTopic::default()
            .with_name(topic_name("t"))
            .with_partition_indexes(vec![0]);
        let marker = WritableTxnMarker::default()
            .with_producer_id(ProducerId(7))
            .with_producer_epoch(epoch)
            .with_transaction_result(true)
            .with_coordinator_epoch(coordinator_epoch)
            .with_topics(vec![topic]);
        let response = client.call(1, &WriteTxnMarkersRequest::default().with_markers(vec![marker; times]));
        let code_of = |result: &WritableTxnMarkerResult| code(result.topics[0].partitions[0].error_code);
        response.markers.iter().map(code_of).collect()
    }

    #[test]
    fn every_marker_takes_an_offset() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 1, &[]);
        client.produce("t", 0, batch_with(stamped(7, 0, 0), &["a"]));

        assert_eq!(mark(&mut client, 0, 0, 3), [ErrorCode::None; 3]);

        assert_eq!(client.cluster.partition("t", 0).unwrap().log.end_offset(), 4);
        assert_eq!(
            client.produce("t", 0, batch_with(stamped(7, 0, 1), &["b"])).base_offset,
            4
        );
    }

    #[test]
    fn an_older_epoch_of_producer_or_coordinator_is_fenced() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 1, &[]);
        assert_eq!(mark(&mut client, 2, 5, 1), [ErrorCode::None]);

        assert_eq!(mark(&mut client, 1, 5, 1), [ErrorCode::InvalidProducerEpoch]);
        assert_eq!(mark(&mut client, 2, 4, 1), [ErrorCode::TransactionCoordinatorFenced]);
    }

    #[test]
    fn a_coordinator_epoch_above_the_real_one_wedges_the_transactional_id() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 1, &[]);
        let identity = client.begin("x", "t", 0);
        let topic = WritableTxnMarkerTopic::default()
            .with_name(topic_name("t"))
            .with_partition_indexes(vec![0]);
        let marker = WritableTxnMarker::default()
            .with_producer_id(ProducerId(identity.0))
            .with_producer_epoch(identity.1)
            .with_coordinator_epoch(9)
            .with_topics(vec![topic]);
        client.call(1, &WriteTxnMarkersRequest::default().with_markers(vec![marker]));

        assert_eq!(client.end_txn("x", identity, true), ErrorCode::None);
        client.now_ms += 1_000_000;
        client.cluster.poll(client.now_ms);
        assert_eq!(client.end_txn("x", identity, true), ErrorCode::ConcurrentTransactions);
        assert_eq!(client.cluster.next_deadline(), None, "time does not help");
    }
}
