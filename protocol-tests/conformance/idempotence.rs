//! Sequences, epochs and retries: what a leader takes from a producer that numbers its batches.

use kafka_protocol::messages::InitProducerIdRequest;
use kferry::protocol::error_code::ErrorCode;
use kferry::record::{BatchOptions, DecodeLimits, decode};

use crate::batch::{Batch, batches, now_ms, stamp};
use crate::cluster::TestCluster;
use crate::probe::{Fetch, Probe, Produce, only_partition};

cases! {
    a_retry_of_the_last_five_batches_is_answered_as_before,
    a_retry_on_a_topic_of_append_times_has_the_first_time,
    a_retry_that_is_cut_otherwise_is_out_of_order,
    a_retry_is_known_by_its_numbers_and_not_by_its_content,
    more_than_five_batches_may_be_on_their_way,
    a_batch_that_comes_too_early_is_refused_and_taken_in_its_turn,
    a_new_producer_may_begin_anywhere,
    a_gap_and_a_repetition_are_out_of_order,
    a_higher_epoch_begins_with_zero_and_fences_the_lower,
    sequences_wrap_to_zero,
    producers_without_a_transactional_id_get_new_ids_of_epoch_zero,
    producers_do_not_disturb_each_other,
    racing_writers_leave_each_record_once_and_in_order,
}

/// One that no coordinator has given out: leaders do not ask.
const PRODUCER: i64 = 1 << 40;

/// Batches of this producer and epoch, each of so many records, one after the other from sequence 0.
fn stream(epoch: i16, sizes: &[usize]) -> Vec<Batch> {
    let mut sequence = 0;
    let batches = sizes.iter().map(|&size| {
        let batch = Batch::by(stamp(PRODUCER, epoch, sequence), size);
        sequence += size as i32;
        batch
    });
    batches.collect()
}

fn at(epoch: i16, sequence: i32, records: usize) -> Batch {
    Batch::by(stamp(PRODUCER, epoch, sequence), records)
}

async fn a_retry_of_the_last_five_batches_is_answered_as_before(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let sent = stream(0, &[3, 1, 2, 2, 4, 1]);
    let mut offsets = Vec::new();
    for batch in &sent {
        let produced = cluster.probe.produce(&topic, batch).await;
        assert_eq!((produced.error, produced.log_append_time_ms), (ErrorCode::None, -1));
        offsets.push(produced.base_offset);
    }

    assert_eq!(
        cluster.probe.produce_error(&topic, &sent[0]).await,
        ErrorCode::OutOfOrderSequenceNumber,
        "the sixth last"
    );
    for (batch, offset) in sent.iter().zip(&offsets).skip(1) {
        let retried = cluster.probe.produce(&topic, batch).await;
        assert_eq!((retried.error, retried.base_offset), (ErrorCode::None, *offset));
        // By this a duplicate is told from a first append.
        assert_eq!(retried.log_append_time_ms, batch.header().max_timestamp());
    }
    assert_eq!(cluster.probe.latest(&topic).await, Ok(13));
}

async fn a_retry_on_a_topic_of_append_times_has_the_first_time(cluster: &TestCluster) {
    let topic = cluster.topic(&[("message.timestamp.type", "LogAppendTime")]).await;
    let batch = at(0, 0, 3);
    let first = cluster.probe.produce(&topic, &batch).await;
    // Time passes: the append times of batches differ.
    while cluster.probe.produce(&topic, &Batch::of(1)).await.log_append_time_ms == first.log_append_time_ms {}

    let retried = cluster.probe.produce(&topic, &batch).await;

    assert_eq!(retried.error, ErrorCode::None);
    assert_eq!(retried.log_append_time_ms, first.log_append_time_ms);
}

async fn a_retry_that_is_cut_otherwise_is_out_of_order(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    cluster.probe.produce(&topic, &at(0, 0, 4)).await;
    cluster.probe.produce(&topic, &at(0, 4, 4)).await;

    for cut in [at(0, 4, 2), at(0, 6, 2), at(0, 2, 4), at(0, 0, 8), at(0, 4, 5)] {
        let error = cluster.probe.produce_error(&topic, &cut).await;
        assert_eq!(
            error,
            ErrorCode::OutOfOrderSequenceNumber,
            "{:?}",
            cut.header().base_sequence()
        );
    }
}

async fn a_retry_is_known_by_its_numbers_and_not_by_its_content(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    cluster.probe.produce(&topic, &at(0, 0, 2)).await;
    let other = BatchOptions {
        producer: Some(stamp(PRODUCER, 0, 0)),
        ..BatchOptions::default()
    };

    let produced = cluster
        .probe
        .produce(&topic, &Batch::at_times(other, &[now_ms(), now_ms()]))
        .await;

    assert_eq!((produced.error, produced.base_offset), (ErrorCode::None, 0));
    assert_eq!(cluster.probe.latest(&topic).await, Ok(2), "what it held is lost");
}

async fn more_than_five_batches_may_be_on_their_way(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let sent = stream(0, &[1; 8]);

    let answers: Vec<_> = sent
        .iter()
        .map(|batch| cluster.probe.start(8, &Produce::to(&topic, batch).request()))
        .collect();

    for (offset, answer) in (0..).zip(answers) {
        let produced = only_partition(&answer.await.expect("an answer"));
        assert_eq!((produced.error, produced.base_offset), (ErrorCode::None, offset));
    }
}

async fn a_batch_that_comes_too_early_is_refused_and_taken_in_its_turn(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    cluster.probe.produce(&topic, &at(0, 0, 27)).await;

    let mut errors = Vec::new();
    for sequence in [28, 29, 27, 28, 29] {
        errors.push(cluster.probe.produce_error(&topic, &at(0, sequence, 1)).await);
    }

    let (early, none) = (ErrorCode::OutOfOrderSequenceNumber, ErrorCode::None);
    assert_eq!(errors, [early, early, none, none, none]);
}

async fn a_new_producer_may_begin_anywhere(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;

    assert_eq!(
        cluster.probe.produce_error(&topic, &at(3, 100, 1)).await,
        ErrorCode::None
    );
    assert_eq!(
        cluster.probe.produce_error(&topic, &at(3, 0, 1)).await,
        ErrorCode::OutOfOrderSequenceNumber
    );
    assert_eq!(
        cluster.probe.produce_error(&topic, &at(3, 101, 1)).await,
        ErrorCode::None
    );
}

async fn a_gap_and_a_repetition_are_out_of_order(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    cluster.probe.produce(&topic, &at(0, 0, 10)).await;

    for sequence in [9, 11, 0] {
        let error = cluster.probe.produce_error(&topic, &at(0, sequence, 5)).await;
        assert_eq!(error, ErrorCode::OutOfOrderSequenceNumber, "{sequence} after 0 to 9");
    }
}

async fn a_higher_epoch_begins_with_zero_and_fences_the_lower(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let first = at(0, 0, 3);
    cluster.probe.produce(&topic, &first).await;

    assert_eq!(
        cluster.probe.produce_error(&topic, &at(1, 3, 1)).await,
        ErrorCode::OutOfOrderSequenceNumber
    );
    assert_eq!(cluster.probe.produce_error(&topic, &at(1, 0, 1)).await, ErrorCode::None);
    assert_eq!(
        cluster.probe.produce_error(&topic, &at(0, 3, 1)).await,
        ErrorCode::InvalidProducerEpoch
    );
    assert_eq!(
        cluster.probe.produce_error(&topic, &first).await,
        ErrorCode::InvalidProducerEpoch,
        "a retry as well"
    );
}

async fn sequences_wrap_to_zero(cluster: &TestCluster) {
    for (first, records, next) in [(i32::MAX, 1, 0), (i32::MAX - 1, 5, 3)] {
        let topic = cluster.topic(&[]).await;
        assert_eq!(
            cluster.probe.produce_error(&topic, &at(0, first, records)).await,
            ErrorCode::None
        );

        assert_eq!(
            cluster.probe.produce_error(&topic, &at(0, next + 1, 1)).await,
            ErrorCode::OutOfOrderSequenceNumber
        );
        assert_eq!(
            cluster.probe.produce_error(&topic, &at(0, next, 1)).await,
            ErrorCode::None,
            "{next} after {first}"
        );
        let retried = cluster.probe.produce(&topic, &at(0, first, records)).await;
        assert_eq!((retried.error, retried.base_offset), (ErrorCode::None, 0));
    }
}

async fn producers_without_a_transactional_id_get_new_ids_of_epoch_zero(cluster: &TestCluster) {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(60_000);

    let first = cluster.probe.send(1, &request).await;
    let second = cluster.probe.send(1, &request).await;

    assert_eq!((first.error_code, first.producer_epoch), (0, 0));
    assert_eq!((second.error_code, second.producer_epoch), (0, 0));
    assert!(first.producer_id.0 >= 0);
    assert_ne!(first.producer_id, second.producer_id);
}

async fn producers_do_not_disturb_each_other(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    for sequence in 0..3 {
        for producer in [PRODUCER, PRODUCER + 1] {
            let batch = Batch::by(stamp(producer, 0, sequence), 1);
            assert_eq!(cluster.probe.produce_error(&topic, &batch).await, ErrorCode::None);
        }
        assert_eq!(
            cluster.probe.produce_error(&topic, &Batch::of(1)).await,
            ErrorCode::None
        );
    }
    let fetched = cluster.probe.fetch(&Fetch::from(&topic, 0)).await;
    assert_eq!(fetched.high_watermark, 9);
}

/// How many records the racing writers have to write.
const STREAM: usize = 400;

/// Three writers of one stream that know nothing of each other: sequence and place in the stream are the same, and the
/// leader takes only what comes next.
async fn racing_writers_leave_each_record_once_and_in_order(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let probes = [
        cluster.another_probe().await,
        cluster.another_probe().await,
        cluster.another_probe().await,
    ];

    let [first, second, third] = probes.each_ref().map(|probe| write_stream(probe, &topic));
    tokio::join!(first, second, third);

    let whole = Fetch::from(&topic, 0);
    let fetched = cluster.probe.fetch(&whole).await;
    let keys = batches(fetched.records.expect("records"))
        .into_iter()
        .flat_map(|batch| {
            let decoded = decode(&batch, &DecodeLimits::default()).expect("records");
            let keys = decoded
                .records()
                .map(|record| record.expect("a record").key.expect("a key").to_vec());
            keys.collect::<Vec<_>>()
        });
    let expected: Vec<_> = (0..STREAM).map(|place| place.to_string().into_bytes()).collect();
    assert_eq!(keys.collect::<Vec<_>>(), expected);
}

/// Writes what is missing of the stream in slices of random length, several at a time, until nothing is.
async fn write_stream(probe: &Probe, topic: &str) {
    loop {
        let mut next = probe
            .last_sequence(topic, PRODUCER)
            .await
            .map_or(0, |last| last as usize + 1);
        if next == STREAM {
            return;
        }
        let mut answers = Vec::new();
        while answers.len() < 5 && next < STREAM {
            let end = STREAM.min(next + fastrand::usize(1..8));
            let keys: Vec<_> = (next..end).map(|place| place.to_string()).collect();
            let keys: Vec<_> = keys.iter().map(String::as_str).collect();
            let batch = Batch::keyed(stamp(PRODUCER, 0, next as i32), &keys);
            answers.push(probe.start(8, &Produce::to(topic, &batch).request()));
            next = end;
        }
        for answer in answers {
            let error = only_partition(&answer.await.expect("an answer")).error;
            let expected = [ErrorCode::None, ErrorCode::OutOfOrderSequenceNumber];
            assert!(expected.contains(&error), "{error:?}");
        }
    }
}
