//! Reading: where a fetch begins and ends, what it waits for, and by which names it asks.

use std::time::Duration;

use kafka_protocol::messages::MetadataRequest;
use kafka_protocol::messages::fetch_response::PartitionData;
use kferry::protocol::error_code::ErrorCode;
use uuid::Uuid;

use crate::batch::{Batch, batches, now_ms, stamp};
use crate::cluster::TestCluster;
use crate::kafka::Version;
use crate::probe::Fetch;

cases! {
    a_batch_comes_whole_although_the_offset_lies_inside_it,
    a_batch_comes_as_it_was_sent_but_for_its_place,
    one_batch_comes_whole_however_small_the_limit_and_others_are_cut,
    an_offset_outside_the_log_is_out_of_range,
    a_fetch_at_the_end_waits_for_its_time,
    a_fetch_at_the_end_is_answered_when_data_comes,
    a_long_poll_holds_up_what_comes_behind_it,
    a_leader_epoch_from_the_future_is_unknown,
    a_reader_of_an_epoch_that_ended_before_is_told_where,
    a_reader_of_an_epoch_that_never_was_is_out_of_range,
    an_unknown_topic_is_not_found,
    a_topic_of_the_same_name_is_served_in_silence,
    a_topic_id_that_is_not_known_is_refused,
    the_id_of_a_topic_that_was_made_anew_is_refused,
    a_topic_made_anew_in_a_session_is_another,
    a_session_answers_about_what_has_changed,
    a_session_that_is_not_known_or_out_of_step_is_refused,
}

async fn a_batch_comes_whole_although_the_offset_lies_inside_it(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    cluster.probe.produce(&topic, &Batch::of(3)).await;
    cluster.probe.produce(&topic, &Batch::of(3)).await;

    for (offset, first) in [(0, 0), (2, 0), (3, 3), (5, 3)] {
        let fetched = cluster.probe.fetch(&Fetch::from(&topic, offset)).await;
        let batches = batches(fetched.records.expect("records"));
        assert_eq!(batches[0].header.base_offset(), first, "from {offset}");
    }
}

async fn a_batch_comes_as_it_was_sent_but_for_its_place(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    cluster.probe.produce(&topic, &Batch::of(3)).await;
    let sent = Batch::by(stamp(1 << 40, 3, 7), 2);
    cluster.probe.produce(&topic, &sent).await;

    let fetched = cluster.probe.fetch(&Fetch::from(&topic, 3)).await;

    let stored = &batches(fetched.records.expect("records"))[0];
    assert_eq!(stored.payload(), sent.payload());
    // Base offset and leader epoch are the leader's; everything else, the CRC too, is the producer's.
    let (theirs, ours) = (stored.header.as_bytes(), sent.bytes());
    assert_eq!(
        (stored.header.base_offset(), stored.header.partition_leader_epoch()),
        (3, 0)
    );
    assert_eq!((&theirs[8..12], &theirs[16..]), (&ours[8..12], &ours[16..61]));
}

async fn one_batch_comes_whole_however_small_the_limit_and_others_are_cut(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let size = Batch::of(3).bytes().len();
    for _ in 0..3 {
        cluster.probe.produce(&topic, &Batch::of(3)).await;
    }

    let len = async |max_bytes| {
        let fetched = cluster
            .probe
            .fetch(&Fetch {
                max_bytes,
                ..Fetch::from(&topic, 0)
            })
            .await;
        fetched.records.expect("records").len()
    };

    assert_eq!(len(1).await, size);
    assert_eq!(len(size as i32 + 20).await, size + 20);
    assert_eq!(len(1 << 20).await, 3 * size);
}

async fn an_offset_outside_the_log_is_out_of_range(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    cluster.probe.produce(&topic, &Batch::of(3)).await;

    for (offset, error) in [(-1, 1), (4, 1), (3, 0)] {
        let fetched = cluster.probe.fetch(&Fetch::from(&topic, offset)).await;
        assert_eq!(fetched.error_code, error, "from {offset}");
    }
}

async fn a_fetch_at_the_end_waits_for_its_time(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let before = now_ms();

    let fetched = cluster
        .probe
        .fetch(&Fetch {
            max_wait_ms: 300,
            ..Fetch::from(&topic, 0)
        })
        .await;

    assert!(now_ms() - before >= 290, "clocks may differ a little");
    assert_eq!((fetched.error_code, fetched.high_watermark), (0, 0));
    assert!(fetched.records.is_none_or(|records| records.is_empty()));
}

async fn a_fetch_at_the_end_is_answered_when_data_comes(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let reader = cluster.another_probe().await;
    let long = Fetch {
        max_wait_ms: 25_000,
        ..Fetch::from(&topic, 0)
    };
    let waiting = async {
        // A broker may answer too early while it takes the leadership of a new topic up, but never for ever.
        while reader.fetch(&long).await.high_watermark < 3 {}
    };
    let batch = Batch::of(3);
    let producing = cluster.probe.produce(&topic, &batch);

    let both = async { tokio::join!(waiting, producing) };

    tokio::time::timeout(Duration::from_secs(20), both)
        .await
        .expect("before its time is up");
}

async fn a_long_poll_holds_up_what_comes_behind_it(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let long = Fetch {
        max_wait_ms: 300,
        ..Fetch::from(&topic, 0)
    };
    let before = now_ms();

    let waiting = cluster.probe.start(long.version, &long.request());
    cluster
        .probe
        .send(4, &MetadataRequest::default().with_topics(Some(Vec::new())))
        .await;

    assert!(now_ms() - before >= 290);
    waiting.await.expect("an answer");
}

async fn a_leader_epoch_from_the_future_is_unknown(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let at = |epoch| Fetch {
        current_leader_epoch: epoch,
        ..Fetch::from(&topic, 0)
    };

    assert_eq!(error(cluster.probe.fetch(&at(0)).await), ErrorCode::None);
    assert_eq!(error(cluster.probe.fetch(&at(1)).await), ErrorCode::UnknownLeaderEpoch);
}

async fn a_reader_of_an_epoch_that_ended_before_is_told_where(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    cluster.probe.produce(&topic, &Batch::of(2)).await;

    // As after a truncation, or from a topic of this name that was longer.
    let fetch = Fetch {
        version: 12,
        last_fetched_epoch: 0,
        ..Fetch::from(&topic, 5)
    };
    let fetched = cluster.probe.fetch(&fetch).await;

    assert_eq!(fetched.error_code, 0);
    assert_eq!(
        (fetched.diverging_epoch.epoch, fetched.diverging_epoch.end_offset),
        (0, 2)
    );
    assert!(fetched.records.is_none_or(|records| records.is_empty()));
}

async fn a_reader_of_an_epoch_that_never_was_is_out_of_range(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    cluster.probe.produce(&topic, &Batch::of(2)).await;

    let fetch = Fetch {
        version: 12,
        last_fetched_epoch: 7,
        ..Fetch::from(&topic, 1)
    };

    assert_eq!(error(cluster.probe.fetch(&fetch).await), ErrorCode::OffsetOutOfRange);
}

async fn an_unknown_topic_is_not_found(cluster: &TestCluster) {
    let fetched = cluster.probe.fetch(&Fetch::from("absent", 0)).await;

    assert_eq!(error(fetched), ErrorCode::UnknownTopicOrPartition);
}

async fn a_topic_of_the_same_name_is_served_in_silence(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    cluster.probe.produce(&topic, &Batch::of(3)).await;
    cluster.delete_topic(&topic).await;
    assert_eq!(
        error(cluster.probe.fetch(&Fetch::from(&topic, 0)).await),
        ErrorCode::UnknownTopicOrPartition
    );
    cluster.create_topic(&topic, &[]).await;
    cluster.probe.produce(&topic, &Batch::of(1)).await;

    let fetched = cluster.probe.fetch(&Fetch::from(&topic, 0)).await;

    assert_eq!((fetched.error_code, fetched.high_watermark), (0, 1));
}

/// Version 13, by which a topic is asked for by its id.
fn by_id(topic_id: Uuid, offset: i64) -> Fetch {
    Fetch {
        version: 13,
        topic_id,
        ..Fetch::from("", offset)
    }
}

async fn a_topic_id_that_is_not_known_is_refused(cluster: &TestCluster) {
    if cluster.release() == Version::V2 {
        return; // It fetches by name only.
    }
    let fetched = cluster
        .probe
        .fetch(&by_id(Uuid::from_u128(0x0123_4567_89ab_4def_8123_4567_89ab_cdef), 0))
        .await;

    assert_eq!(error(fetched), ErrorCode::UnknownTopicId);
}

async fn the_id_of_a_topic_that_was_made_anew_is_refused(cluster: &TestCluster) {
    if cluster.release() == Version::V2 {
        return; // It fetches by name only.
    }
    let topic = cluster.topic(&[]).await;
    let old = cluster.probe.metadata(&topic).await.topic_id;
    assert_eq!(error(cluster.probe.fetch(&by_id(old, 0)).await), ErrorCode::None);
    cluster.delete_topic(&topic).await;
    assert_eq!(
        error(cluster.probe.fetch(&by_id(old, 0)).await),
        ErrorCode::UnknownTopicId,
        "deleted"
    );
    cluster.create_topic(&topic, &[]).await;

    assert_eq!(
        error(cluster.probe.fetch(&by_id(old, 0)).await),
        ErrorCode::UnknownTopicId,
        "made anew"
    );
    let new = cluster.probe.metadata(&topic).await.topic_id;
    assert_ne!(old, new);
    assert_eq!(error(cluster.probe.fetch(&by_id(new, 0)).await), ErrorCode::None);
}

async fn a_topic_made_anew_in_a_session_is_another(cluster: &TestCluster) {
    if cluster.release() == Version::V2 {
        return; // It fetches by name only.
    }
    let topic = cluster.topic(&[]).await;
    let open = Fetch {
        session_epoch: 0,
        ..by_id(cluster.probe.metadata(&topic).await.topic_id, 0)
    };
    let session_id = cluster.probe.send(13, &open.request()).await.session_id;
    assert_ne!(session_id, 0);
    let go_on = |session_epoch| {
        let request = Fetch {
            session_id,
            session_epoch,
            ..open.clone()
        }
        .request();
        request.with_topics(Vec::new())
    };
    cluster.delete_topic(&topic).await;
    let mut deleted = cluster.probe.send(13, &go_on(1)).await;
    assert_eq!(
        error(deleted.responses.remove(0).partitions.remove(0)),
        ErrorCode::UnknownTopicOrPartition
    );
    cluster.create_topic(&topic, &[]).await;

    let mut anew = cluster.probe.send(13, &go_on(2)).await;

    assert_eq!(
        error(anew.responses.remove(0).partitions.remove(0)),
        ErrorCode::InconsistentTopicId
    );
}

async fn a_session_answers_about_what_has_changed(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let open = Fetch {
        session_epoch: 0,
        ..Fetch::from(&topic, 0)
    };
    let opened = cluster.probe.send(11, &open.request()).await;
    assert_eq!(
        (opened.error_code, opened.responses.len()),
        (0, 1),
        "a full fetch answers about everything"
    );
    let go_on = |session_epoch| {
        let request = Fetch {
            session_id: opened.session_id,
            session_epoch,
            ..open.clone()
        }
        .request();
        request.with_topics(Vec::new())
    };

    assert_eq!(cluster.probe.send(11, &go_on(1)).await.responses.len(), 0);
    cluster.probe.produce(&topic, &Batch::of(3)).await;
    let changed = cluster.probe.send(11, &go_on(2)).await;

    assert_eq!(changed.session_id, opened.session_id);
    assert_eq!(changed.responses[0].partitions[0].high_watermark, 3);
}

async fn a_session_that_is_not_known_or_out_of_step_is_refused(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let open = Fetch {
        session_epoch: 0,
        ..Fetch::from(&topic, 0)
    };
    let session_id = cluster.probe.send(11, &open.request()).await.session_id;
    let error = async |session_id, session_epoch| {
        let fetch = Fetch {
            session_id,
            session_epoch,
            ..open.clone()
        };
        ErrorCode::from_wire(cluster.probe.send(11, &fetch.request()).await.error_code)
    };

    assert_eq!(error(session_id, 5).await, ErrorCode::InvalidFetchSessionEpoch);
    assert_eq!(error(123_456_789, 1).await, ErrorCode::FetchSessionIdNotFound);
    assert_eq!(
        error(session_id, 1).await,
        ErrorCode::None,
        "what was refused has not counted"
    );
}

fn error(fetched: PartitionData) -> ErrorCode {
    ErrorCode::from_wire(fetched.error_code)
}
