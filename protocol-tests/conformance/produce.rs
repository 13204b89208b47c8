//! What a leader refuses of a batch, and what it makes of the rest.

use bytes::Bytes;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, TopicName};
use kferry::protocol::error_code::ErrorCode;
use kferry::record::{BatchOptions, Codec, DecodeLimits, RawBatch, decode};

use crate::batch::{Batch, batches, stamp};
use crate::cluster::TestCluster;
use crate::probe::{Fetch, Produce, Produced, text};

cases! {
    a_batch_is_appended_at_the_end,
    every_codec_is_stored_as_it_came,
    a_batch_without_records_is_refused,
    a_base_offset_other_than_zero_is_refused,
    offsets_that_do_not_number_the_records_are_refused,
    gaps_inside_an_uncompressed_batch_are_stored_unseen,
    gaps_inside_a_compressed_batch_are_an_unknown_error,
    gaps_inside_a_batch_are_closed_where_the_topic_compresses_anew,
    a_count_that_is_not_that_of_the_records_is_refused,
    control_batches_are_refused,
    attributes_that_nobody_knows_are_stored,
    a_leader_epoch_in_a_batch_is_overwritten,
    what_is_not_one_whole_batch_is_refused,
    what_follows_a_whole_batch_is_dropped_in_silence,
    a_partition_named_twice_loses_one_of_its_batches_in_silence,
    older_and_unknown_formats_are_refused,
    a_wrong_crc_is_corrupt,
    zstd_needs_version_seven,
    damaged_compressed_records_are_refused,
    an_undefined_codec_is_an_unknown_error,
    a_batch_may_have_the_topics_limit_and_not_a_byte_more,
    a_compacted_topic_wants_keys,
    a_producer_needs_a_sequence_and_not_an_epoch,
    an_unknown_topic_is_refused_and_so_are_acks_of_two,
    one_bad_partition_fails_alone,
    producers_may_share_a_request,
}

async fn a_batch_is_appended_at_the_end(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    for base_offset in [0, 3] {
        let produced = cluster.probe.produce(&topic, &Batch::of(3)).await;
        assert_eq!((produced.error, produced.base_offset), (ErrorCode::None, base_offset));
        assert_eq!((produced.log_append_time_ms, produced.log_start_offset), (-1, 0));
    }
    assert_eq!(cluster.probe.latest(&topic).await, Ok(6));
}

async fn every_codec_is_stored_as_it_came(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let codecs = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
    for (place, codec) in codecs.into_iter().enumerate() {
        let sent = Batch::compressed(codec, 10);
        assert_eq!(
            cluster.probe.produce_error(&topic, &sent).await,
            ErrorCode::None,
            "{codec:?}"
        );

        let stored = stored(cluster, &topic).await.remove(place);
        assert_eq!(stored.header.codec().expect("a codec"), codec);
        assert_eq!(
            (stored.header.crc(), stored.payload()),
            (sent.header().crc(), sent.bytes().slice(61..))
        );
    }
}

async fn a_batch_without_records_is_refused(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    // As a cleaner leaves it: no record, and the offsets that it had.
    let emptied = Batch::of(0).last_offset_delta(2);

    assert_eq!(
        cluster.probe.produce_error(&topic, &emptied).await,
        ErrorCode::InvalidRecord
    );
}

async fn a_base_offset_other_than_zero_is_refused(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    for offset in [5, -1] {
        let error = cluster
            .probe
            .produce_error(&topic, &Batch::of(3).base_offset(offset))
            .await;
        assert_eq!(error, ErrorCode::InvalidRecord, "base offset {offset}");
    }
}

async fn offsets_that_do_not_number_the_records_are_refused(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    for codec in [Codec::None, Codec::Gzip, Codec::Zstd] {
        let compacted = Batch::with_offsets(
            BatchOptions {
                codec,
                ..BatchOptions::default()
            },
            &[0, 3, 5],
        );
        assert_eq!(compacted.header().record_count(), 3);
        let error = cluster.probe.produce_error(&topic, &compacted).await;
        assert_eq!(error, ErrorCode::InvalidRecord, "{codec:?}");
    }
}

/// What a naive copier would send of a compacted batch: the header made to fit, the records as they are.
fn gaps_inside(codec: Codec) -> Batch {
    let options = BatchOptions {
        codec,
        producer: Some(stamp(1 << 40, 3, 7)),
        ..BatchOptions::default()
    };
    Batch::with_offsets(options, &[0, 3, 7]).last_offset_delta(2)
}

async fn gaps_inside_an_uncompressed_batch_are_stored_unseen(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let batch = gaps_inside(Codec::None);

    assert_eq!(cluster.probe.produce_error(&topic, &batch).await, ErrorCode::None);

    assert_eq!(cluster.probe.latest(&topic).await, Ok(3));
    assert_eq!(stored(cluster, &topic).await[0].payload(), batch.payload());
}

async fn gaps_inside_a_compressed_batch_are_an_unknown_error(cluster: &TestCluster) {
    for (codec, compression) in [
        (Codec::Gzip, "producer"),
        (Codec::Zstd, "producer"),
        (Codec::Gzip, "gzip"),
    ] {
        let topic = cluster.topic(&[("compression.type", compression)]).await;
        let error = cluster.probe.produce_error(&topic, &gaps_inside(codec)).await;
        assert_eq!(error, ErrorCode::UnknownServerError, "{codec:?} on {compression}");
    }
}

async fn gaps_inside_a_batch_are_closed_where_the_topic_compresses_anew(cluster: &TestCluster) {
    let topic = cluster.topic(&[("compression.type", "gzip")]).await;
    for (place, codec) in [Codec::None, Codec::Zstd].into_iter().enumerate() {
        let batch = match place {
            0 => gaps_inside(codec),
            _ => {
                let options = BatchOptions {
                    codec,
                    producer: Some(stamp(1 << 40, 3, 10)),
                    ..BatchOptions::default()
                };
                Batch::with_offsets(options, &[0, 3, 7]).last_offset_delta(2)
            }
        };
        assert_eq!(
            cluster.probe.produce_error(&topic, &batch).await,
            ErrorCode::None,
            "{codec:?}"
        );

        let stored = stored(cluster, &topic).await.remove(place);
        let header = &stored.header;
        assert_eq!(header.codec().expect("a codec"), Codec::Gzip);
        assert_eq!((header.producer_id(), header.producer_epoch()), (1 << 40, 3));
        assert_eq!(header.base_sequence(), batch.header().base_sequence());
        let decoded = decode(&stored, &DecodeLimits::default()).expect("records");
        let offsets: Vec<_> = decoded
            .records()
            .map(|record| record.expect("a record").offset_delta)
            .collect();
        assert_eq!(offsets, [0, 1, 2]);
    }
}

async fn a_count_that_is_not_that_of_the_records_is_refused(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let cases = [
        Batch::of(3).record_count(4).last_offset_delta(3),
        Batch::of(3).record_count(2).last_offset_delta(1),
        Batch::of(3).record_count(0).last_offset_delta(-1),
        Batch::of(3).record_count(0).last_offset_delta(2),
    ];
    for (number, batch) in cases.iter().enumerate() {
        let error = cluster.probe.produce_error(&topic, batch).await;
        assert_eq!(error, ErrorCode::InvalidRecord, "case {number}");
    }
}

async fn control_batches_are_refused(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;

    let plain = cluster
        .probe
        .produce_error(&topic, &Batch::of(1).attributes(0x20))
        .await;
    let transactional = cluster
        .probe
        .produce_error(&topic, &Batch::of(1).attributes(0x30))
        .await;

    assert_eq!(plain, ErrorCode::InvalidRecord);
    assert_eq!(
        transactional,
        ErrorCode::TransactionalIdAuthorizationFailed,
        "for lack of a transactional id"
    );
}

async fn attributes_that_nobody_knows_are_stored(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    for (place, bits) in [0x40, 0x80, 0xff00].into_iter().enumerate() {
        let error = cluster
            .probe
            .produce_error(&topic, &Batch::of(1).attributes(bits))
            .await;
        assert_eq!(error, ErrorCode::None, "{bits:#x}");

        let stored = stored(cluster, &topic).await;
        assert_eq!(stored[place].header.attributes() as u16, bits);
    }
}

async fn a_leader_epoch_in_a_batch_is_overwritten(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    for epoch in [0, 12345, -7] {
        let error = cluster
            .probe
            .produce_error(&topic, &Batch::of(1).leader_epoch(epoch))
            .await;
        assert_eq!(error, ErrorCode::None, "{epoch}");
    }

    let epochs: Vec<_> = stored(cluster, &topic)
        .await
        .iter()
        .map(|batch| batch.header.partition_leader_epoch())
        .collect();
    assert_eq!(epochs, [0, 0, 0]);
}

async fn what_is_not_one_whole_batch_is_refused(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let whole = Batch::of(3).bytes();
    let cases = [
        ("two batches", Bytes::from([&whole[..], &whole[..]].concat())),
        ("a batch without its end", whole.slice(..whole.len() - 1)),
        ("a part of a header", whole.slice(..20)),
        ("nothing", Bytes::new()),
    ];
    for (what, records) in cases {
        let produced = cluster
            .probe
            .produce_with(&Produce {
                records,
                ..Produce::to(&topic, &Batch::of(0))
            })
            .await;
        assert_eq!(
            (produced.error, produced.base_offset),
            (ErrorCode::InvalidRecord, -1),
            "{what}"
        );
        assert_eq!(produced.log_start_offset, -1, "{what}");
    }
}

async fn what_follows_a_whole_batch_is_dropped_in_silence(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let whole = Batch::of(3).bytes();
    for tail in [&whole[..whole.len() - 1], b"garbage"] {
        let records = Bytes::from([&whole[..], tail].concat());
        let produced = cluster
            .probe
            .produce_with(&Produce {
                records,
                ..Produce::to(&topic, &Batch::of(0))
            })
            .await;
        assert_eq!(produced.error, ErrorCode::None, "{} bytes behind the batch", tail.len());
    }
    assert_eq!(cluster.probe.latest(&topic).await, Ok(6));
}

async fn a_partition_named_twice_loses_one_of_its_batches_in_silence(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let partition = |batch: &Batch| PartitionProduceData::default().with_records(Some(batch.bytes()));
    let named_twice = TopicProduceData::default()
        .with_name(TopicName(text(&topic)))
        .with_partition_data(vec![partition(&Batch::of(1)), partition(&Batch::of(1))]);
    let request = ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![named_twice]);

    let response = cluster.probe.send(8, &request).await;

    let answers = &response.responses[0].partition_responses;
    assert_eq!((answers.len(), answers[0].error_code), (1, 0));
    assert_eq!(cluster.probe.latest(&topic).await, Ok(1));
}

async fn older_and_unknown_formats_are_refused(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    // Offset, size, CRC, magic 1, attributes, timestamp, null key, null value. The format is looked at before the CRC.
    let magic_1 = [&[0; 8][..], &[0, 0, 0, 22], &[0; 4], &[1, 0], &[0; 8], &[0xff; 8]].concat();
    let older = Produce {
        records: Bytes::from(magic_1),
        ..Produce::to(&topic, &Batch::of(0))
    };

    assert_eq!(cluster.probe.produce_with(&older).await.error, ErrorCode::InvalidRecord);
    assert_eq!(
        cluster.probe.produce_error(&topic, &Batch::of(1).magic(3)).await,
        ErrorCode::CorruptMessage
    );
}

async fn a_wrong_crc_is_corrupt(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let batch = Batch::by(stamp(1 << 40, 0, 0), 3);
    assert_eq!(cluster.probe.produce_error(&topic, &batch).await, ErrorCode::None);

    assert_eq!(
        cluster.probe.produce_error(&topic, &Batch::of(3).damaged()).await,
        ErrorCode::CorruptMessage
    );
    assert_eq!(
        cluster.probe.produce_error(&topic, &batch.damaged()).await,
        ErrorCode::CorruptMessage,
        "although it repeats an earlier batch"
    );
}

async fn zstd_needs_version_seven(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let batch = Batch::compressed(Codec::Zstd, 3);
    let at = |version| Produce {
        version,
        ..Produce::to(&topic, &batch)
    };

    assert_eq!(
        cluster.probe.produce_with(&at(6)).await.error,
        ErrorCode::UnsupportedCompressionType
    );
    assert_eq!(cluster.probe.produce_with(&at(7)).await.error, ErrorCode::None);
}

async fn damaged_compressed_records_are_refused(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let damaged = Batch::compressed(Codec::Zstd, 100).damaged_inside();

    let error = cluster.probe.produce_error(&topic, &damaged).await;

    // Which of them depends on what the decoder stumbles over.
    let expected = [ErrorCode::InvalidRecord, ErrorCode::UnknownServerError];
    assert!(expected.contains(&error), "{error:?}");
}

async fn an_undefined_codec_is_an_unknown_error(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;

    let error = cluster.probe.produce_error(&topic, &Batch::of(1).attributes(5)).await;

    assert_eq!(error, ErrorCode::UnknownServerError);
}

async fn a_batch_may_have_the_topics_limit_and_not_a_byte_more(cluster: &TestCluster) {
    let topic = cluster.topic(&[("max.message.bytes", "1000")]).await;

    assert_eq!(
        cluster.probe.produce_error(&topic, &Batch::of_size(1000)).await,
        ErrorCode::None
    );
    assert_eq!(
        cluster.probe.produce_error(&topic, &Batch::of_size(1001)).await,
        ErrorCode::MessageTooLarge
    );
}

async fn a_compacted_topic_wants_keys(cluster: &TestCluster) {
    for policy in ["compact", "compact,delete"] {
        let topic = cluster.topic(&[("cleanup.policy", policy)]).await;
        let produced = cluster.probe.produce(&topic, &Batch::without_key()).await;
        assert_eq!(
            (produced.error, produced.record_errors),
            (ErrorCode::InvalidRecord, vec![1]),
            "{policy}"
        );
    }
}

async fn a_producer_needs_a_sequence_and_not_an_epoch(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;

    let without_sequence = cluster
        .probe
        .produce_error(&topic, &Batch::by(stamp(1 << 40, 0, -1), 1))
        .await;
    let without_epoch = cluster
        .probe
        .produce_error(&topic, &Batch::by(stamp(1 << 41, -1, 0), 1))
        .await;

    assert_eq!(
        (without_sequence, without_epoch),
        (ErrorCode::InvalidRecord, ErrorCode::None)
    );
}

async fn an_unknown_topic_is_refused_and_so_are_acks_of_two(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let batch = Batch::of(1);

    let unknown = cluster.probe.produce_error("absent", &batch).await;
    let acks = cluster
        .probe
        .produce_with(&Produce {
            acks: 2,
            ..Produce::to(&topic, &batch)
        })
        .await;

    assert_eq!(unknown, ErrorCode::UnknownTopicOrPartition);
    assert_eq!(acks.error, ErrorCode::InvalidRequiredAcks);
}

async fn one_bad_partition_fails_alone(cluster: &TestCluster) {
    let topics = [
        cluster.topic(&[]).await,
        cluster.topic(&[]).await,
        cluster.topic(&[]).await,
    ];
    let sent = [Batch::of(1), Batch::of(1).damaged(), Batch::of(1)];

    let errors = produce_together(cluster, &topics, &sent)
        .await
        .map(|produced| produced.error);

    assert_eq!(errors, [ErrorCode::None, ErrorCode::CorruptMessage, ErrorCode::None]);
}

async fn producers_may_share_a_request(cluster: &TestCluster) {
    let topics = [cluster.topic(&[]).await, cluster.topic(&[]).await];
    let sent = [Batch::by(stamp(1 << 40, 0, 0), 1), Batch::by(stamp(1 << 41, 0, 0), 1)];

    let errors = produce_together(cluster, &topics, &sent)
        .await
        .map(|produced| produced.error);

    assert_eq!(errors, [ErrorCode::None, ErrorCode::None]);
}

/// A batch for each topic, in one request. Brokers answer in an order of their own.
async fn produce_together<const N: usize>(
    cluster: &TestCluster,
    topics: &[String; N],
    batches: &[Batch; N],
) -> [Produced; N] {
    let data = topics
        .iter()
        .zip(batches)
        .flat_map(|(topic, batch)| Produce::to(topic, batch).request().topic_data);
    let request = ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(30_000)
        .with_topic_data(data.collect());
    let response = cluster.probe.send(8, &request).await;
    topics.each_ref().map(|topic| {
        let answer = response
            .responses
            .iter()
            .find(|answer| answer.name.as_str() == topic)
            .expect("an answer for each");
        crate::probe::produced(&answer.partition_responses[0])
    })
}

async fn stored(cluster: &TestCluster, topic: &str) -> Vec<RawBatch> {
    let fetched = cluster.probe.fetch(&Fetch::from(topic, 0)).await;
    batches(fetched.records.expect("records"))
}
