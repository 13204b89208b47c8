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
