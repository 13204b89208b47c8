//! A topic of a great many transactions, made in minutes: one record each, every third aborted.
//!
//! Does the coordinator's work by itself: batches go to the partitions' leader in the name of a transaction that no coordinator
//! knows, and the markers that end it behind them. For that the broker has to have
//! `transaction.partition.verification.enable=false`.
//!
//! `transactions BROKER TOPIC PARTITIONS TRANSACTIONS`. The topic has to exist, and the broker to lead all of it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::sync::mpsc::sync_channel;
use std::thread;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use kafka_protocol::messages::{
    ApiKey, ProduceRequest, ProduceResponse, ProducerId, RequestHeader, ResponseHeader, TopicName, TransactionalId,
    WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use kferry::record::{BatchBuilder, BatchOptions, ProducerStamp};

const PRODUCE_VERSION: i16 = 11;
const MARKERS_VERSION: i16 = 1;
const PRODUCER_ID: i64 = 1 << 40;

/// Requests whose answers are awaited.
const MAX_IN_FLIGHT: usize = 20;

/// When the records are of, and one millisecond later each time.
const FIRST_TIMESTAMP_MS: i64 = 1_760_000_000_000;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [broker, topic, partitions, transactions] = &args[..] else {
        eprintln!("usage: transactions BROKER TOPIC PARTITIONS TRANSACTIONS");
        return ExitCode::from(2);
    };
    let partitions: i32 = partitions.parse().expect("a number of partitions");
    let transactions: i32 = transactions.parse().expect("a number of transactions");
    let mut connection = TcpStream::connect(broker).expect("a broker");
    connection.set_nodelay(true).expect("a socket");
    let mut answers = connection.try_clone().expect("a socket");
    let (sent, awaited) = sync_channel(MAX_IN_FLIGHT);
    let reader = thread::spawn(move || awaited.into_iter().for_each(|api| take_answer(&mut answers, api)));
    let topic = TopicName(StrBytes::from_string(topic.clone()));
    for round in 0..transactions / partitions {
        for (api, frame) in [batches(&topic, partitions, round), markers(&topic, partitions, round)] {
            connection.write_all(&frame).expect("the broker takes it");
            sent.send(api).expect("answers are awaited");
        }
    }
    drop(sent);
    reader.join().expect("every answer is good");
    ExitCode::SUCCESS
}

/// One record for each partition.
fn batches(topic: &TopicName, partitions: i32, round: i32) -> (ApiKey, Vec<u8>) {
    let mut batch = BatchBuilder::new(BatchOptions {
        transactional: true,
        producer: Some(ProducerStamp {
            producer_id: PRODUCER_ID,
            producer_epoch: 0,
            base_sequence: round,
        }),
        ..BatchOptions::default()
    });
    batch.push(FIRST_TIMESTAMP_MS + i64::from(round), None, Some(b"a payment"), &[]);
    let batch = batch.build().expect("a batch");
    let data = |index| {
        PartitionProduceData::default()
            .with_index(index)
            .with_records(Some(batch.clone()))
    };
    let topic = TopicProduceData::default()
        .with_name(topic.clone())
        .with_partition_data((0..partitions).map(data).collect());
    let request = ProduceRequest::default()
        .with_transactional_id(Some(TransactionalId(StrBytes::from_static_str("nobody's"))))
        .with_acks(-1)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![topic]);
    (ApiKey::Produce, frame(ApiKey::Produce, PRODUCE_VERSION, &request))
}

fn markers(topic: &TopicName, partitions: i32, round: i32) -> (ApiKey, Vec<u8>) {
    let topic = WritableTxnMarkerTopic::default()
        .with_name(topic.clone())
        .with_partition_indexes((0..partitions).collect());
    let marker = WritableTxnMarker::default()
        .with_producer_id(ProducerId(PRODUCER_ID))
        .with_transaction_result(round % 3 != 0)
        .with_topics(vec![topic]);
    let request = WriteTxnMarkersRequest::default().with_markers(vec![marker]);
    let api = ApiKey::WriteTxnMarkers;
    (api, frame(api, MARKERS_VERSION, &request))
}

fn frame(api: ApiKey, version: i16, request: &impl Encodable) -> Vec<u8> {
    let header = RequestHeader::default()
        .with_request_api_key(api as i16)
        .with_request_api_version(version);
    let mut body = BytesMut::new();
    header
        .encode(&mut body, api.request_header_version(version))
        .and_then(|()| request.encode(&mut body, version))
        .expect("a request");
    let length = u32::try_from(body.len()).expect("a small request");
    [&length.to_be_bytes()[..], &body].concat()
}

fn take_answer(connection: &mut TcpStream, api: ApiKey) {
    let mut length = [0; 4];
    connection.read_exact(&mut length).expect("an answer");
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    connection.read_exact(&mut answer).expect("a whole answer");
    let mut answer = Bytes::from(answer);
    ResponseHeader::decode(&mut answer, api.response_header_version(version(api))).expect("a header");
    let errors: Vec<i16> = match api {
        ApiKey::Produce => ProduceResponse::decode(&mut answer, PRODUCE_VERSION)
            .expect("an answer to Produce")
            .responses
            .iter()
            .flat_map(|topic| topic.partition_responses.iter().map(|partition| partition.error_code))
            .collect(),
        _ => WriteTxnMarkersResponse::decode(&mut answer, MARKERS_VERSION)
            .expect("an answer to WriteTxnMarkers")
            .markers
            .iter()
            .flat_map(|marker| &marker.topics)
            .flat_map(|topic| topic.partitions.iter().map(|partition| partition.error_code))
            .collect(),
    };
    assert!(errors.iter().all(|error| *error == 0), "{api:?}: {errors:?}");
}

fn version(api: ApiKey) -> i16 {
    match api {
        ApiKey::Produce => PRODUCE_VERSION,
        _ => MARKERS_VERSION,
    }
}
