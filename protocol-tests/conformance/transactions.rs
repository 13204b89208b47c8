//! Transactions as a reader sees them: stable offsets, aborted lists, markers.

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::{AddPartitionsToTxnRequest, EndTxnRequest, ProducerId, TransactionalId};
use kferry::protocol::error_code::ErrorCode;

use crate::batches::{batch, stamped, transactional};
use crate::broker::Case;
use crate::client::{Fetch, headers, text};

/// A transaction of the case's transactional id, which is named as its topic.
struct Transaction {
    producer: (i64, i16),
}

impl Transaction {
    /// Begins one that reaches the case's partition.
    fn begin(case: &mut Case) -> Self {
        let id = case.topic.clone();
        let transaction = Self {
            producer: case.init_producer_id(Some(&id)),
        };
        transaction.add_partition(case);
        transaction
    }

    fn add_partition(&self, case: &mut Case) {
        let topic = AddPartitionsToTxnTopic::default()
            .with_name(case.name())
            .with_partitions(vec![0]);
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(TransactionalId(text(&case.topic)))
            .with_v3_and_below_producer_id(ProducerId(self.producer.0))
            .with_v3_and_below_producer_epoch(self.producer.1)
            .with_v3_and_below_topics(vec![topic]);
        crate::kafka::eventually("the partition is added", || {
            let answer = case.call(2, &request);
            answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code == 0
        });
    }

    fn produce(&self, case: &mut Case, base_sequence: i32, records: usize) -> i16 {
        let id = case.topic.clone();
        case.produce_as(8, Some(&id), &transactional(self.producer, base_sequence, records))
            .error_code
    }

    /// Ends it, and waits until the marker is written.
    fn end(&self, case: &mut Case, committed: bool) {
        let request = EndTxnRequest::default()
            .with_transactional_id(TransactionalId(text(&case.topic)))
            .with_producer_id(ProducerId(self.producer.0))
            .with_producer_epoch(self.producer.1)
            .with_committed(committed);
        let end = case.offset_at(-1, false);
        crate::kafka::eventually("the transaction ends", || case.call(1, &request).error_code == 0);
        crate::kafka::eventually("its marker is written", || case.offset_at(-1, true) > end);
    }
}

pub(crate) fn an_open_transaction_holds_the_last_stable_offset(case: &mut Case) {
    case.create_topic(&[]);
    case.produce(&batch(2));
    let transaction = Transaction::begin(case);
    assert_eq!(transaction.produce(case, 0, 3), 0);
    case.produce(&batch(1));

    assert_eq!(case.offset_at(-1, false), 6);
    assert_eq!(case.offset_at(-1, true), 2);

    let everything = case.fetch(Fetch::from(0));
    assert_eq!(headers(&everything).len(), 3);
    assert_eq!((everything.high_watermark, everything.last_stable_offset), (6, 2));
    assert_eq!(everything.aborted_transactions, None);

    let committed = case.fetch(Fetch {
        read_committed: true,
        ..Fetch::from(0)
    });
    assert_eq!(headers(&committed).len(), 1);
    assert_eq!((committed.high_watermark, committed.last_stable_offset), (6, 2));
    assert_eq!(committed.aborted_transactions, Some(vec![]));

    transaction.end(case, true);
    assert_eq!(case.offset_at(-1, true), 7);
}

pub(crate) fn an_aborted_transaction_is_delivered_and_listed(case: &mut Case) {
    // A fetch ends with a segment, and the marker is of today, after records of long ago.
    case.create_topic(&[("segment.ms", "9223372036854775807")]);
    case.produce(&batch(2));
    let transaction = Transaction::begin(case);
    transaction.produce(case, 0, 3);
    transaction.end(case, false);

    for offset in [0, 2, 4, 5] {
        let fetched = case.fetch(Fetch {
            read_committed: true,
            ..Fetch::from(offset)
        });
        let listed = fetched.aborted_transactions.unwrap_or_default();
        let listed: Vec<_> = listed
            .iter()
            .map(|aborted| (aborted.producer_id.0, aborted.first_offset))
            .collect();
        assert_eq!(listed, [(transaction.producer.0, 2)], "from {offset}");
    }
    let fetched = case.fetch(Fetch {
        read_committed: true,
        ..Fetch::from(0)
    });
    let batches: Vec<_> = headers(&fetched)
        .iter()
        .map(|header| (header.base_offset(), header.is_control()))
        .collect();
    assert_eq!(batches, [(0, false), (2, false), (5, true)]);
}

pub(crate) fn a_marker_is_a_small_control_batch(case: &mut Case) {
    case.create_topic(&[]);
    let transaction = Transaction::begin(case);
    transaction.produce(case, 0, 1);
    transaction.end(case, true);

    let marker = headers(&case.fetch(Fetch::from(1))).remove(0);

    assert_eq!((marker.size(), marker.attributes()), (78, 0x30));
    assert_eq!((marker.producer_id(), marker.producer_epoch()), transaction.producer);
    assert_eq!(
        (marker.base_sequence(), marker.record_count(), marker.base_offset()),
        (-1, 1, 1)
    );
}

pub(crate) fn plain_batches_do_not_mix_with_the_producers_open_transaction(case: &mut Case) {
    case.create_topic(&[]);
    let transaction = Transaction::begin(case);
    transaction.produce(case, 0, 1);

    let answer = case.produce(&stamped(transaction.producer, 1, 1));

    assert_eq!(ErrorCode::from_wire(answer.error_code), ErrorCode::InvalidTxnState);
    transaction.end(case, true);
    assert_eq!(
        case.produce(&stamped(transaction.producer, 1, 1)).error_code,
        0,
        "afterwards they may"
    );
}

pub(crate) fn a_transaction_without_records_writes_its_marker(case: &mut Case) {
    case.create_topic(&[]);
    let transaction = Transaction::begin(case);
    assert_eq!(
        case.produce(&stamped(transaction.producer, 0, 1)).error_code,
        0,
        "nothing of it is open"
    );
    assert_eq!(case.offset_at(-1, true), 1);

    transaction.end(case, true);

    assert_eq!(case.offset_at(-1, true), 2);
    assert!(headers(&case.fetch(Fetch::from(1)))[0].is_control());
}

pub(crate) fn the_marker_of_a_newer_epoch_fences_older_ones(case: &mut Case) {
    case.create_topic(&[]);
    let id = case.topic.clone();
    let older = case.init_producer_id(Some(&id));
    assert_eq!(case.produce(&stamped(older, 0, 1)).error_code, 0);
    let newer = Transaction::begin(case);
    assert_eq!(newer.producer, (older.0, newer.producer.1));
    assert!(newer.producer.1 > older.1);

    assert_eq!(case.produce(&stamped(older, 1, 1)).error_code, 0, "no marker, no fence");
    newer.end(case, true);

    let answer = case.produce(&stamped(older, 2, 1));
    assert_eq!(ErrorCode::from_wire(answer.error_code), ErrorCode::InvalidProducerEpoch);
    assert_eq!(case.produce(&stamped(newer.producer, 0, 1)).error_code, 0);
}
