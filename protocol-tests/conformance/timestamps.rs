//! What becomes of the records' times.

use kferry::protocol::error_code::ErrorCode;
use kferry::record::{BatchOptions, Codec, RawBatch, TimestampType};

use crate::batch::{Batch, batches, now_ms};
use crate::cluster::TestCluster;
use crate::kafka::Version;
use crate::probe::Fetch;

cases! {
    a_wrong_greatest_timestamp_is_put_right,
    a_record_from_the_future_is_refused_since_kafka_four,
    a_record_may_be_of_any_age_and_of_none,
    a_timestamp_out_of_the_topics_bounds_is_refused_by_record,
    a_batch_cannot_say_that_it_has_the_time_of_its_append,
    a_topic_of_append_times_gives_each_batch_its_own,
}

const HOUR_MS: i64 = 3_600_000;
const YEAR_MS: i64 = 365 * 24 * HOUR_MS;

const APPEND_TIME: &[(&str, &str)] = &[("message.timestamp.type", "LogAppendTime")];
/// The attribute bit of a batch whose records have the time of their append.
const APPEND_TIME_BIT: u16 = 0x08;

async fn a_wrong_greatest_timestamp_is_put_right(cluster: &TestCluster) {
    for codec in [Codec::None, Codec::Gzip] {
        for wrong in [-HOUR_MS, HOUR_MS / 2] {
            let topic = cluster.topic(&[]).await;
            let now = now_ms();
            let batch = Batch::at_times(
                BatchOptions {
                    codec,
                    ..BatchOptions::default()
                },
                &[now - 5, now, now - 9],
            );

            let error = cluster
                .probe
                .produce_error(&topic, &batch.clone().max_timestamp(now + wrong))
                .await;

            assert_eq!(error, ErrorCode::None, "{codec:?}, wrong by {wrong} ms");
            let stored = only_stored(cluster, &topic).await;
            assert_eq!(stored.header.max_timestamp(), now, "{codec:?}, wrong by {wrong} ms");
            assert_eq!(stored.payload(), batch.payload());
        }
    }
}

async fn a_record_from_the_future_is_refused_since_kafka_four(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let ahead = async |ms| {
        let batch = Batch::at_times(BatchOptions::default(), &[now_ms() + ms]);
        cluster.probe.produce_error(&topic, &batch).await
    };
    let refused = match cluster.release() {
        Version::V4 => ErrorCode::InvalidTimestamp,
        Version::V3 | Version::V2 => ErrorCode::None,
    };

    assert_eq!(ahead(HOUR_MS - HOUR_MS / 10).await, ErrorCode::None);
    assert_eq!(ahead(HOUR_MS + HOUR_MS / 10).await, refused);
    assert_eq!(ahead(YEAR_MS).await, refused);
}

async fn a_record_may_be_of_any_age_and_of_none(cluster: &TestCluster) {
    for (time, stored_as) in [(now_ms() - 10 * YEAR_MS, None), (0, None), (-1, None), (-2, Some(-1))] {
        let topic = cluster.topic(&[]).await;

        let error = cluster
            .probe
            .produce_error(&topic, &Batch::at_times(BatchOptions::default(), &[time]))
            .await;

        assert_eq!(error, ErrorCode::None, "{time}");
        let stored = only_stored(cluster, &topic).await;
        assert_eq!(stored.header.max_timestamp(), stored_as.unwrap_or(time));
    }
}

async fn a_timestamp_out_of_the_topics_bounds_is_refused_by_record(cluster: &TestCluster) {
    let bound = match cluster.release() {
        Version::V4 | Version::V3 => "message.timestamp.before.max.ms",
        Version::V2 => "message.timestamp.difference.max.ms",
    };
    let topic = cluster.topic(&[(bound, "60000")]).await;
    let now = now_ms();
    let batch = Batch::at_times(BatchOptions::default(), &[now, now - HOUR_MS, now, now - 2 * HOUR_MS]);

    let produced = cluster.probe.produce(&topic, &batch).await;

    assert_eq!(
        (produced.error, produced.record_errors),
        (ErrorCode::InvalidTimestamp, vec![1, 3])
    );
}

async fn a_batch_cannot_say_that_it_has_the_time_of_its_append(cluster: &TestCluster) {
    let create_time = cluster.topic(&[]).await;
    let append_time = cluster.topic(APPEND_TIME).await;
    let batch = Batch::of(3).attributes(APPEND_TIME_BIT);

    assert_eq!(
        cluster.probe.produce_error(&append_time, &batch).await,
        ErrorCode::InvalidTimestamp
    );
    let error = cluster.probe.produce_error(&create_time, &batch).await;
    match cluster.release() {
        Version::V2 => assert_eq!(error, ErrorCode::InvalidTimestamp),
        Version::V3 | Version::V4 => {
            assert_eq!(error, ErrorCode::None);
            let stored = only_stored(cluster, &create_time).await;
            assert_eq!(
                stored.header.timestamp_type(),
                TimestampType::CreateTime,
                "the bit is cleared"
            );
        }
    }
}

async fn a_topic_of_append_times_gives_each_batch_its_own(cluster: &TestCluster) {
    let topic = cluster.topic(APPEND_TIME).await;
    let old = now_ms() - YEAR_MS;
    let before = now_ms();

    let produced = cluster
        .probe
        .produce(&topic, &Batch::at_times(BatchOptions::default(), &[old, old + 1]))
        .await;

    let append_time = produced.log_append_time_ms;
    assert!(
        (before..=now_ms()).contains(&append_time),
        "{append_time} is the time of the append"
    );
    let stored = only_stored(cluster, &topic).await;
    assert_eq!(stored.header.timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!(
        (stored.header.base_timestamp(), stored.header.max_timestamp()),
        (old, append_time)
    );
}

async fn only_stored(cluster: &TestCluster, topic: &str) -> RawBatch {
    let fetched = cluster.probe.fetch(&Fetch::from(topic, 0)).await;
    let mut stored = batches(fetched.records.expect("records"));
    assert_eq!(stored.len(), 1);
    stored.remove(0)
}
