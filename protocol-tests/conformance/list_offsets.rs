//! Where a log begins and ends, and where a time lies in it.

use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use kafka_protocol::messages::{BrokerId, DeleteRecordsRequest, ListOffsetsRequest, TopicName};
use kferry::protocol::error_code::ErrorCode;
use kferry::record::BatchOptions;

use crate::batch::{Batch, now_ms};
use crate::cluster::TestCluster;
use crate::kafka::Version;
use crate::probe::{Fetch, text};

cases! {
    an_empty_log_begins_and_ends_at_zero,
    a_time_is_that_of_the_first_record_at_or_after_it,
    a_time_after_all_records_has_no_offset,
    a_log_begins_where_its_records_were_deleted_up_to,
    records_cannot_be_deleted_past_the_end,
    the_records_of_a_compacted_topic_cannot_be_deleted,
    an_unknown_topic_is_not_found,
    the_greatest_timestamp_is_found_where_it_is_known,
    a_leader_epoch_is_checked,
}

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

async fn an_empty_log_begins_and_ends_at_zero(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;

    assert_eq!(cluster.probe.list_offset(&topic, EARLIEST, false).await, Ok((0, -1)));
    assert_eq!(cluster.probe.list_offset(&topic, LATEST, false).await, Ok((0, -1)));
    assert_eq!(cluster.probe.list_offset(&topic, now_ms(), false).await, Ok((-1, -1)));
}

async fn a_time_is_that_of_the_first_record_at_or_after_it(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let base = now_ms() - 100_000;
    // Times need not rise.
    for times in [[0, 50, 10], [20, 100, 90]] {
        let times = times.map(|time| base + time);
        cluster
            .probe
            .produce(&topic, &Batch::at_times(BatchOptions::default(), &times))
            .await;
    }

    for (time, offset, found) in [
        (-10, 0, 0),
        (0, 0, 0),
        (1, 1, 50),
        (50, 1, 50),
        (51, 4, 100),
        (100, 4, 100),
    ] {
        let listed = cluster.probe.list_offset(&topic, base + time, false).await;
        assert_eq!(listed, Ok((offset, base + found)), "for {time} ms");
    }
}

async fn a_time_after_all_records_has_no_offset(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    cluster.probe.produce(&topic, &Batch::of(3)).await;

    assert_eq!(
        cluster.probe.list_offset(&topic, now_ms() + 60_000, false).await,
        Ok((-1, -1))
    );
}

async fn a_log_begins_where_its_records_were_deleted_up_to(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    for _ in 0..3 {
        cluster.probe.produce(&topic, &Batch::of(3)).await;
    }

    assert_eq!(delete_records(cluster, &topic, 4).await, (ErrorCode::None, 4));

    assert_eq!(cluster.probe.list_offset(&topic, EARLIEST, false).await, Ok((4, -1)));
    let below = cluster.probe.fetch(&Fetch::from(&topic, 3)).await;
    assert_eq!(ErrorCode::from_wire(below.error_code), ErrorCode::OffsetOutOfRange);
    let fetched = cluster.probe.fetch(&Fetch::from(&topic, 4)).await;
    assert_eq!((fetched.error_code, fetched.log_start_offset), (0, 4));
    let batches = crate::batch::batches(fetched.records.expect("records"));
    assert_eq!(batches[0].header.base_offset(), 3, "a batch is not cut");

    // -1 is all there is; to delete up to where the log begins anyway changes nothing.
    assert_eq!(delete_records(cluster, &topic, -1).await, (ErrorCode::None, 9));
    assert_eq!(delete_records(cluster, &topic, 2).await, (ErrorCode::None, 9));
    assert_eq!(cluster.probe.produce(&topic, &Batch::of(1)).await.base_offset, 9);
}

async fn records_cannot_be_deleted_past_the_end(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    cluster.probe.produce(&topic, &Batch::of(3)).await;

    assert_eq!(delete_records(cluster, &topic, 4).await.0, ErrorCode::OffsetOutOfRange);
}

async fn the_records_of_a_compacted_topic_cannot_be_deleted(cluster: &TestCluster) {
    let topic = cluster.topic(&[("cleanup.policy", "compact")]).await;
    cluster.probe.produce(&topic, &Batch::of(3)).await;

    assert_eq!(delete_records(cluster, &topic, 1).await.0, ErrorCode::PolicyViolation);
}

async fn an_unknown_topic_is_not_found(cluster: &TestCluster) {
    let listed = cluster.probe.list_offset("absent", LATEST, false).await;

    assert_eq!(listed, Err(ErrorCode::UnknownTopicOrPartition));
}

async fn the_greatest_timestamp_is_found_where_it_is_known(cluster: &TestCluster) {
    if cluster.release() == Version::V2 {
        return; // It came with Kafka 3.0.
    }
    const MAX_TIMESTAMP: i64 = -3;
    let topic = cluster.topic(&[]).await;
    let empty = list(cluster, 7, &topic, MAX_TIMESTAMP, -1).await;
    assert_eq!((empty.error_code, empty.offset, empty.timestamp), (0, -1, -1));
    let base = now_ms() - 100_000;
    for times in [[0, 50, 10], [20, 40, 30]] {
        let times = times.map(|time| base + time);
        cluster
            .probe
            .produce(&topic, &Batch::at_times(BatchOptions::default(), &times))
            .await;
    }

    let found = list(cluster, 7, &topic, MAX_TIMESTAMP, -1).await;

    assert_eq!((found.error_code, found.offset, found.timestamp), (0, 1, base + 50));
}

async fn a_leader_epoch_is_checked(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    cluster.probe.produce(&topic, &Batch::of(1)).await;

    let known = list(cluster, 5, &topic, LATEST, 0).await;
    let newer = list(cluster, 5, &topic, LATEST, 1).await;

    assert_eq!((known.error_code, known.offset, known.leader_epoch), (0, 1, 0));
    assert_eq!(ErrorCode::from_wire(newer.error_code), ErrorCode::UnknownLeaderEpoch);
}

async fn list(
    cluster: &TestCluster,
    version: i16,
    topic: &str,
    timestamp: i64,
    current_leader_epoch: i32,
) -> ListOffsetsPartitionResponse {
    let partition = ListOffsetsPartition::default()
        .with_timestamp(timestamp)
        .with_current_leader_epoch(current_leader_epoch);
    let topic = ListOffsetsTopic::default()
        .with_name(TopicName(text(topic)))
        .with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_topics(vec![topic]);
    let mut response = cluster.probe.send(version, &request).await;
    response.topics.remove(0).partitions.remove(0)
}

/// The error, and where the log begins now.
pub(crate) async fn delete_records(cluster: &TestCluster, topic: &str, before: i64) -> (ErrorCode, i64) {
    let partition = DeleteRecordsPartition::default().with_offset(before);
    let topic = DeleteRecordsTopic::default()
        .with_name(TopicName(text(topic)))
        .with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(30_000);
    let response = cluster.probe.send(1, &request).await;
    let partition = &response.topics[0].partitions[0];
    (ErrorCode::from_wire(partition.error_code), partition.low_watermark)
}
