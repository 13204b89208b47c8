//! What the cleaner leaves behind: the batches that a reader of a compacted topic has to cope with.

use std::time::Duration;

use kferry::record::{DecodeLimits, ProducerStamp, RawBatch, decode};

use crate::batch::{Batch, batches, stamp};
use crate::cluster::TestCluster;
use crate::kafka::Version;
use crate::probe::Fetch;

cases! {
    a_cleaned_batch_keeps_what_its_header_says,
    the_last_batch_of_a_producer_stays_without_its_records,
    a_batch_with_a_tombstone_is_told_when_it_may_go,
}

/// Cleaned as soon as there is anything to clean. Segments are short since the last one is left alone.
const CLEANED_AT_ONCE: &[(&str, &str)] = &[
    ("cleanup.policy", "compact"),
    ("min.cleanable.dirty.ratio", "0.001"),
    ("segment.ms", "50"),
];

const PRODUCER: i64 = 1 << 40;

async fn a_cleaned_batch_keeps_what_its_header_says(cluster: &TestCluster) {
    let topic = cluster.topic(CLEANED_AT_ONCE).await;
    let first = keyed(stamp(PRODUCER, 3, 0), &["a", "b", "c"]);
    let second = keyed(stamp(PRODUCER, 3, 3), &["b", "d"]);
    cluster.probe.produce(&topic, &first).await;
    cluster.probe.produce(&topic, &second).await;

    let cleaned = clean(cluster, &topic, |batches| batches[0].header.record_count() == 2).await;

    let header = &cleaned[0].header;
    assert_eq!((header.base_offset(), header.last_offset_delta()), (0, 2));
    assert_eq!(
        (header.producer_id(), header.producer_epoch(), header.base_sequence()),
        (PRODUCER, 3, 0)
    );
    assert!(header.has_offset_gaps());
    let decoded = decode(&cleaned[0], &DecodeLimits::default()).expect("records");
    let offsets: Vec<_> = decoded
        .records()
        .map(|record| record.expect("a record").offset_delta)
        .collect();
    assert_eq!(offsets, [0, 2]);
    assert_eq!(
        cleaned[1].payload(),
        second.payload(),
        "what is kept whole stays as it is"
    );
    assert_eq!(cleaned[1].header.crc(), second.header().crc());
}

async fn the_last_batch_of_a_producer_stays_without_its_records(cluster: &TestCluster) {
    let topic = cluster.topic(CLEANED_AT_ONCE).await;
    for sequence in [0, 1] {
        let batch = keyed(stamp(PRODUCER, 3, sequence), &["a"]);
        cluster.probe.produce(&topic, &batch).await;
    }
    cluster
        .probe
        .produce(&topic, &keyed(stamp(PRODUCER + 1, 0, 0), &["a"]))
        .await;

    let cleaned = clean(cluster, &topic, |batches| {
        batches[0].header.base_offset() == 1 && batches[0].header.record_count() == 0
    })
    .await;

    let header = &cleaned[0].header;
    assert_eq!((header.record_count(), header.last_offset_delta()), (0, 0));
    assert_eq!(
        (header.producer_id(), header.producer_epoch(), header.base_sequence()),
        (PRODUCER, 3, 1)
    );
    assert_eq!(cleaned[1].header.record_count(), 1);
}

async fn a_batch_with_a_tombstone_is_told_when_it_may_go(cluster: &TestCluster) {
    let topic = cluster.topic(CLEANED_AT_ONCE).await;
    let sent = Batch::deleting(stamp(PRODUCER, 0, 0), "a");
    cluster.probe.produce(&topic, &sent).await;
    cluster
        .probe
        .produce(&topic, &keyed(stamp(PRODUCER, 0, 3), &["b"]))
        .await;
    cluster
        .probe
        .produce(&topic, &keyed(stamp(PRODUCER, 0, 4), &["b"]))
        .await;

    // The second batch tells that the cleaner has been there.
    let cleaned = clean(cluster, &topic, |batches| {
        batches.len() > 1 && batches[1].header.base_offset() == 4
    })
    .await;

    let header = &cleaned[0].header;
    assert_eq!(header.record_count(), 3, "the tombstone is there for a day");
    assert_eq!(
        times(&cleaned[0]),
        times(&sent.raw()),
        "and the records have their times"
    );
    if cluster.release() == Version::V2 {
        assert!(!header.has_delete_horizon());
        return;
    }
    assert!(header.has_delete_horizon());
    assert!(
        header.base_timestamp() > sent.header().base_timestamp(),
        "it has taken the place of the first timestamp"
    );
    assert_ne!(cleaned[0].payload(), sent.payload(), "and the others count from it");
}

fn keyed(producer: ProducerStamp, keys: &[&str]) -> Batch {
    Batch::keyed(producer, keys)
}

fn times(batch: &RawBatch) -> Vec<i64> {
    let decoded = decode(batch, &DecodeLimits::default()).expect("records");
    let times = decoded
        .records()
        .map(|record| decoded.timestamp(&record.expect("a record")).expect("a time"));
    times.collect()
}

/// Has the topic cleaned until its batches look like that.
async fn clean(cluster: &TestCluster, topic: &str, is_done: impl Fn(&[RawBatch]) -> bool) -> Vec<RawBatch> {
    loop {
        // What is being written to is not cleaned: this closes the segment before.
        cluster
            .probe
            .produce(topic, &Batch::keyed(ProducerStamp::NONE, &["last"]))
            .await;
        cluster.run_cleaner(topic);
        let fetched = cluster.probe.fetch(&Fetch::from(topic, 0)).await;
        let batches = batches(fetched.records.expect("records"));
        if is_done(&batches) {
            return batches;
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}
