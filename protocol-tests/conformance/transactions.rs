//! Transactions: markers, fencing, and what readers of committed records see.

use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use kafka_protocol::messages::{InitProducerIdRequest, ProducerId, TopicName, TransactionalId, WriteTxnMarkersRequest};
use kferry::protocol::error_code::ErrorCode;

use crate::batch::{Batch, batches, stamp};
use crate::cluster::{TestCluster, unique};
use crate::kafka::Version;
use crate::probe::{Fetch, Produce, text};
use crate::transaction::Transactional;

cases! {
    an_open_transaction_hides_its_records_and_all_behind_them,
    a_commit_leaves_a_marker_and_shows_the_records,
    an_abort_leaves_the_records_and_names_them,
    transactions_end_each_in_its_own_time,
    a_transactional_batch_needs_its_transactional_id,
    a_partition_that_was_not_added_is_refused_since_kafka_three,
    a_plain_batch_is_refused_while_its_producer_has_records_in_a_transaction,
    a_transactional_producer_may_send_plain_batches,
    a_new_epoch_alone_fences_nobody_from_the_data,
    the_marker_of_a_new_epoch_fences_the_old_one,
    a_marker_of_the_same_epoch_disturbs_nothing,
    a_new_epoch_aborts_what_the_old_one_left_open,
    an_unknown_topic_voids_the_whole_addition,
    a_transaction_without_partitions_cannot_be_ended,
    the_coordinator_refuses_an_old_epoch,
    producers_can_be_described,
    markers_can_be_written_by_hand,
    the_outcome_of_a_transaction_cannot_be_changed,
    newer_versions_of_produce_abort_or_add_what_was_not_added,
    producers_that_make_no_sense_are_refused,
}

async fn an_open_transaction_hides_its_records_and_all_behind_them(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let producer = Transactional::new(cluster).await;
    cluster.probe.produce(&topic, &Batch::of(2)).await;
    producer.add(&topic).await;
    producer.produce(&topic, 0, 3).await;
    cluster.probe.produce(&topic, &Batch::of(1)).await;

    let all = cluster.probe.fetch(&Fetch::from(&topic, 0)).await;
    assert_eq!((all.high_watermark, all.last_stable_offset), (6, 2));
    assert_eq!(all.aborted_transactions, None);
    assert_eq!(batches(all.records.expect("records")).len(), 3);
    let committed = cluster.probe.fetch(&Fetch::committed(&topic, 0)).await;
    assert_eq!((committed.high_watermark, committed.last_stable_offset), (6, 2));
    assert_eq!(aborted(&committed), Some(vec![]));
    assert_eq!(batches(committed.records.expect("records")).len(), 1);
    assert_eq!(cluster.probe.list_offset(&topic, -1, false).await, Ok((6, -1)));
    assert_eq!(cluster.probe.list_offset(&topic, -1, true).await, Ok((2, -1)));
    producer.end(true).await;
}

async fn a_commit_leaves_a_marker_and_shows_the_records(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let producer = Transactional::new(cluster).await;
    producer.add(&topic).await;
    producer.produce(&topic, 0, 3).await;

    producer.end(true).await;

    let committed = cluster.probe.fetch(&Fetch::committed(&topic, 0)).await;
    assert_eq!((committed.high_watermark, committed.last_stable_offset), (4, 4));
    assert_eq!(aborted(&committed), Some(vec![]));
    let marker = batches(committed.records.expect("records")).remove(1);
    assert_eq!((marker.bytes.len(), marker.header.attributes()), (78, 0x30));
    assert_eq!(
        (marker.header.producer_id(), marker.header.producer_epoch()),
        (producer.id, producer.epoch)
    );
    assert_eq!((marker.header.base_sequence(), marker.header.base_offset()), (-1, 3));
}

async fn an_abort_leaves_the_records_and_names_them(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let producer = Transactional::new(cluster).await;
    cluster.probe.produce(&topic, &Batch::of(2)).await;
    producer.add(&topic).await;
    producer.produce(&topic, 0, 3).await;
    producer.end(false).await;
    cluster.probe.produce(&topic, &Batch::of(1)).await;

    // Offsets 2 to 4 are the records, 5 is the marker, 6 comes after.
    for (offset, named) in [(0, true), (2, true), (4, true), (5, true), (6, false)] {
        let committed = cluster.probe.fetch(&Fetch::committed(&topic, offset)).await;
        let expected = if named { vec![(producer.id, 2)] } else { vec![] };
        assert_eq!(aborted(&committed), Some(expected), "from {offset}");
    }
    let all = cluster.probe.fetch(&Fetch::from(&topic, 0)).await;
    assert_eq!(all.aborted_transactions, None);
    let committed = cluster.probe.fetch(&Fetch::committed(&topic, 0)).await;
    assert_eq!(
        all.records, committed.records,
        "what was aborted is delivered to everyone"
    );
}

async fn transactions_end_each_in_its_own_time(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let (first, second) = (Transactional::new(cluster).await, Transactional::new(cluster).await);
    first.add(&topic).await;
    second.add(&topic).await;
    first.produce(&topic, 0, 1).await; // 0
    second.produce(&topic, 0, 1).await; // 1
    first.produce(&topic, 1, 1).await; // 2

    second.end(false).await; // 3
    assert_eq!(cluster.probe.list_offset(&topic, -1, true).await, Ok((0, -1)));
    assert_eq!(
        aborted(&cluster.probe.fetch(&Fetch::committed(&topic, 0)).await),
        Some(vec![]),
        "nothing is stable yet"
    );
    first.end(true).await; // 4

    assert_eq!(cluster.probe.list_offset(&topic, -1, true).await, Ok((5, -1)));
    let committed = cluster.probe.fetch(&Fetch::committed(&topic, 0)).await;
    assert_eq!(aborted(&committed), Some(vec![(second.id, 1)]));
}

async fn a_transactional_batch_needs_its_transactional_id(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let producer = Transactional::new(cluster).await;
    producer.add(&topic).await;

    let batch = Batch::transactional(stamp(producer.id, producer.epoch, 0), 1);
    let error = cluster.probe.produce_error(&topic, &batch).await;

    assert_eq!(error, ErrorCode::TransactionalIdAuthorizationFailed);
    producer.end(true).await;
}

async fn a_partition_that_was_not_added_is_refused_since_kafka_three(cluster: &TestCluster) {
    let (added, other) = (cluster.topic(&[]).await, cluster.topic(&[]).await);
    let producer = Transactional::new(cluster).await;
    producer.add(&added).await;

    let error = producer.try_produce(&other, 0, 1).await;

    let expected = match cluster.release() {
        Version::V4 | Version::V3 => ErrorCode::InvalidTxnState,
        Version::V2 => ErrorCode::None, // And the transaction hangs there.
    };
    assert_eq!(error, expected);
    producer.end(true).await;
}

async fn a_plain_batch_is_refused_while_its_producer_has_records_in_a_transaction(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let producer = Transactional::new(cluster).await;
    producer.add(&topic).await;
    producer.produce(&topic, 0, 1).await;
    let plain = Batch::by(stamp(producer.id, producer.epoch, 1), 1);

    assert_eq!(
        cluster.probe.produce_error(&topic, &plain).await,
        ErrorCode::InvalidTxnState
    );

    producer.end(true).await;
    assert_eq!(cluster.probe.produce_error(&topic, &plain).await, ErrorCode::None);
}

async fn a_transactional_producer_may_send_plain_batches(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let producer = Transactional::new(cluster).await;
    let at = |sequence| Batch::by(stamp(producer.id, producer.epoch, sequence), 1);
    let transactional_id = Some(producer.transactional_id.clone());

    assert_eq!(cluster.probe.produce_error(&topic, &at(0)).await, ErrorCode::None);
    let named = Produce {
        transactional_id,
        ..Produce::to(&topic, &at(1))
    };
    assert_eq!(cluster.probe.produce_with(&named).await.error, ErrorCode::None);
    producer.add(&topic).await;
    assert_eq!(
        cluster.probe.produce_error(&topic, &at(2)).await,
        ErrorCode::None,
        "no record of it is in the transaction"
    );
    assert_eq!(
        cluster.probe.list_offset(&topic, -1, true).await,
        Ok((3, -1)),
        "nothing is held back"
    );
    producer.end(true).await;
}

async fn a_new_epoch_alone_fences_nobody_from_the_data(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let old = Transactional::new(cluster).await;
    let at = |sequence| Batch::by(stamp(old.id, old.epoch, sequence), 1);
    assert_eq!(cluster.probe.produce_error(&topic, &at(0)).await, ErrorCode::None);

    let new = old.again().await;
    assert_eq!((new.id, new.epoch), (old.id, old.epoch + 1));
    assert_eq!(cluster.probe.produce_error(&topic, &at(1)).await, ErrorCode::None);
    new.add(&topic).await;
    assert_eq!(
        cluster.probe.produce_error(&topic, &at(2)).await,
        ErrorCode::None,
        "nor does the open transaction"
    );
    new.end(true).await;
}

async fn the_marker_of_a_new_epoch_fences_the_old_one(cluster: &TestCluster) {
    let (topic, untouched) = (cluster.topic(&[]).await, cluster.topic(&[]).await);
    let old = Transactional::new(cluster).await;
    let first = Batch::by(stamp(old.id, old.epoch, 0), 5);
    assert_eq!(cluster.probe.produce_error(&topic, &first).await, ErrorCode::None);
    let new = old.again().await;
    new.add(&topic).await;
    new.end(true).await;

    let error = async |epoch, sequence| {
        let batch = Batch::by(stamp(old.id, epoch, sequence), 1);
        cluster.probe.produce_error(&topic, &batch).await
    };
    assert_eq!(error(old.epoch, 5).await, ErrorCode::InvalidProducerEpoch);
    assert_eq!(error(old.epoch, 0).await, ErrorCode::InvalidProducerEpoch);
    assert_eq!(
        cluster.probe.produce_error(&topic, &first).await,
        ErrorCode::InvalidProducerEpoch,
        "a retry as well"
    );
    assert_eq!(error(new.epoch, 5).await, ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(error(new.epoch, 0).await, ErrorCode::None);
    let elsewhere = Batch::by(stamp(old.id, old.epoch, 0), 1);
    assert_eq!(
        cluster.probe.produce_error(&untouched, &elsewhere).await,
        ErrorCode::None,
        "there is no marker there"
    );
}

async fn a_marker_of_the_same_epoch_disturbs_nothing(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let producer = Transactional::new(cluster).await;
    let at = |sequence| Batch::by(stamp(producer.id, producer.epoch, sequence), 2);
    assert_eq!(cluster.probe.produce_error(&topic, &at(0)).await, ErrorCode::None);

    producer.add(&topic).await;
    producer.end(true).await;

    let retried = cluster.probe.produce(&topic, &at(0)).await;
    assert_eq!((retried.error, retried.base_offset), (ErrorCode::None, 0));
    let next = cluster.probe.produce(&topic, &at(2)).await;
    assert_eq!(
        (next.error, next.base_offset),
        (ErrorCode::None, 3),
        "the marker has taken an offset"
    );
}

async fn a_new_epoch_aborts_what_the_old_one_left_open(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let old = Transactional::new(cluster).await;
    old.add(&topic).await;
    old.produce(&topic, 0, 3).await;

    let new = old.again().await;

    assert!(new.id == old.id && new.epoch > old.epoch);
    let committed = cluster.probe.fetch(&Fetch::committed(&topic, 0)).await;
    assert_eq!((committed.high_watermark, committed.last_stable_offset), (4, 4));
    assert_eq!(aborted(&committed), Some(vec![(old.id, 0)]));
    assert_eq!(old.try_produce(&topic, 3, 1).await, ErrorCode::InvalidProducerEpoch);
}

async fn an_unknown_topic_voids_the_whole_addition(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let producer = Transactional::new(cluster).await;

    let added = producer.try_add(&[&topic, "absent"]).await;

    let expected = [ErrorCode::OperationNotAttempted, ErrorCode::UnknownTopicOrPartition];
    assert_eq!(added, expected);
    assert_eq!(
        producer.try_end(true).await,
        ErrorCode::InvalidTxnState,
        "nothing was added"
    );
}

async fn a_transaction_without_partitions_cannot_be_ended(cluster: &TestCluster) {
    let producer = Transactional::new(cluster).await;

    assert_eq!(producer.try_end(true).await, ErrorCode::InvalidTxnState);
    assert_eq!(producer.try_end(false).await, ErrorCode::InvalidTxnState);
}

async fn the_coordinator_refuses_an_old_epoch(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let old = Transactional::new(cluster).await;
    old.again().await;

    assert_eq!(old.try_add(&[&topic]).await, [ErrorCode::ProducerFenced]);
    assert_eq!(old.try_end(true).await, ErrorCode::InvalidProducerEpoch);
    let stranger = Transactional {
        id: old.id + 1_000_000,
        ..old
    };
    assert_eq!(stranger.try_add(&[&topic]).await, [ErrorCode::InvalidProducerIdMapping]);
    let nobody = Transactional {
        transactional_id: unique("nobody"),
        ..stranger
    };
    assert_eq!(nobody.try_add(&[&topic]).await, [ErrorCode::InvalidProducerIdMapping]);
}

async fn producers_can_be_described(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let old = Transactional::new(cluster).await;
    let describe = async || {
        let producers = cluster.probe.producers(&topic).await;
        let seen = producers.iter().map(|producer| {
            assert_eq!(producer.producer_id.0, old.id);
            (
                producer.producer_epoch,
                producer.last_sequence,
                producer.current_txn_start_offset,
            )
        });
        seen.collect::<Vec<_>>()
    };
    let epoch = i32::from(old.epoch);
    assert_eq!(describe().await, []);

    cluster
        .probe
        .produce(&topic, &Batch::by(stamp(old.id, old.epoch, 0), 8))
        .await;
    assert_eq!(describe().await, [(epoch, 7, -1)]);
    let new = old.again().await;
    new.add(&topic).await;
    new.end(true).await;
    assert_eq!(describe().await, [(epoch + 1, -1, -1)], "by its marker alone");
    new.add(&topic).await;
    new.produce(&topic, 0, 2).await;
    assert_eq!(describe().await, [(epoch + 1, 1, 9)], "in a transaction");
    new.end(true).await;
    assert_eq!(describe().await, [(epoch + 1, 1, -1)]);
}

async fn markers_can_be_written_by_hand(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let producer = 1 << 40;
    let at = |epoch, sequence| Batch::by(stamp(producer, epoch, sequence), 1);
    let markers = async |epoch: i16, coordinator_epoch: i32, count: usize| {
        let topic = WritableTxnMarkerTopic::default()
            .with_name(TopicName(text(&topic)))
            .with_partition_indexes(vec![0]);
        let marker = WritableTxnMarker::default()
            .with_producer_id(ProducerId(producer))
            .with_producer_epoch(epoch)
            .with_coordinator_epoch(coordinator_epoch)
            .with_transaction_result(true)
            .with_topics(vec![topic]);
        let request = WriteTxnMarkersRequest::default().with_markers(vec![marker; count]);
        let response = cluster.probe.send(1, &request).await;
        ErrorCode::from_wire(response.markers[0].topics[0].partitions[0].error_code)
    };
    assert_eq!(cluster.probe.produce_error(&topic, &at(1, 0)).await, ErrorCode::None);

    assert_eq!(markers(1, 3, 10).await, ErrorCode::None);
    assert_eq!(cluster.probe.latest(&topic).await, Ok(11), "each takes an offset");
    assert_eq!(
        cluster.probe.produce_error(&topic, &at(1, 1)).await,
        ErrorCode::None,
        "the stream goes on"
    );
    assert_eq!(markers(0, 3, 1).await, ErrorCode::InvalidProducerEpoch);
    assert_eq!(markers(1, 2, 1).await, ErrorCode::TransactionCoordinatorFenced);
    assert_eq!(markers(2, 3, 1).await, ErrorCode::None);
    assert_eq!(
        cluster.probe.produce_error(&topic, &at(1, 2)).await,
        ErrorCode::InvalidProducerEpoch
    );
}

async fn the_outcome_of_a_transaction_cannot_be_changed(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let producer = Transactional::new(cluster).await;
    for committed in [true, false] {
        producer.add(&topic).await;
        producer.end(committed).await;

        assert_eq!(producer.try_end(!committed).await, ErrorCode::InvalidTxnState);
        assert_eq!(producer.try_end(committed).await, ErrorCode::None, "it has ended so");
    }
}

async fn newer_versions_of_produce_abort_or_add_what_was_not_added(cluster: &TestCluster) {
    if cluster.release() == Version::V2 {
        return; // It has neither.
    }
    let (added, other) = (cluster.topic(&[]).await, cluster.topic(&[]).await);
    let producer = Transactional::new(cluster).await;
    producer.add(&added).await;
    let at = async |version| {
        let batch = Batch::transactional(stamp(producer.id, producer.epoch, 0), 1);
        let produce = Produce {
            version,
            transactional_id: Some(producer.transactional_id.clone()),
            ..Produce::to(&other, &batch)
        };
        cluster.probe.produce_with(&produce).await.error
    };

    assert_eq!(at(11).await, ErrorCode::TransactionAbortable);
    if cluster.release() == Version::V4 {
        assert_eq!(at(12).await, ErrorCode::None);
        producer.end(true).await;
        assert_eq!(
            cluster.probe.list_offset(&other, -1, true).await,
            Ok((2, -1)),
            "a record and a marker"
        );
    }
}

async fn producers_that_make_no_sense_are_refused(cluster: &TestCluster) {
    let init = async |transactional_id: &str, timeout_ms| {
        cluster.probe.find_coordinator(1, transactional_id).await;
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(TransactionalId(text(transactional_id))))
            .with_transaction_timeout_ms(timeout_ms);
        ErrorCode::from_wire(cluster.probe.send(1, &request).await.error_code)
    };
    let quarter_of_an_hour = 15 * 60 * 1000;

    assert_eq!(init("", 60_000).await, ErrorCode::InvalidRequest);
    assert_eq!(init("some", 0).await, ErrorCode::InvalidTransactionTimeout);
    assert_eq!(
        init("some", quarter_of_an_hour + 1).await,
        ErrorCode::InvalidTransactionTimeout
    );
}

/// Producer id and first offset of each.
fn aborted(fetched: &PartitionData) -> Option<Vec<(i64, i64)>> {
    let aborted = fetched.aborted_transactions.as_ref()?;
    Some(
        aborted
            .iter()
            .map(|aborted| (aborted.producer_id.0, aborted.first_offset))
            .collect(),
    )
}
