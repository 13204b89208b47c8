//! The floor: a copier without any guarantee, to know what carrying batches costs at the least.
//!
//! Blocking threads, each with a connection to either side and its share of the partitions: fetch, verify checksums, patch
//! headers, produce. No producer id, no positions kept, no errors survived; where anything goes wrong it panics.
//!
//! `pump SOURCE TARGET TOPIC AS PARTITIONS [WORKERS]`. The target topic has to exist. Prints records and bytes as JSON.

use std::collections::BTreeMap;
use std::io::{IoSlice, Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use kferry::protocol::error_code::ErrorCode;
use kferry::protocol::fetch_response::{self, FetchedPartition};
use kferry::protocol::produce_request::{self, ProducePartition, ProduceRequest, ProduceTopic};
use kferry::protocol::{ApiKey, frame, produce_response};
use kferry::record::{ProducerStamp, RawBatch, Scanned, patch, scan};
use uuid::Uuid;

const FETCH_VERSION: i16 = 11;
const PRODUCE_VERSION: i16 = 9;
const FETCH_BYTES: i32 = 16 << 20;
const PARTITION_FETCH_BYTES: i32 = 4 << 20;
const MAX_IN_FLIGHT: usize = 5;
const CLIENT_ID: &str = "pump";

#[derive(Debug, Clone)]
struct Job {
    source: String,
    target: String,
    topic: String,
    target_topic: Arc<str>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Totals {
    records: usize,
    bytes: usize,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [source, target, topic, target_topic, partitions, workers @ ..] = &args[..] else {
        eprintln!("usage: pump SOURCE TARGET TOPIC AS PARTITIONS [WORKERS]");
        return ExitCode::from(2);
    };
    let job = Job {
        source: source.clone(),
        target: target.clone(),
        topic: topic.clone(),
        target_topic: target_topic.as_str().into(),
    };
    let partitions: i32 = partitions.parse().expect("a number of partitions");
    let workers = workers
        .first()
        .map_or(2, |workers| workers.parse().expect("a number of workers"));
    let share = |worker: usize| (0..partitions).filter(move |partition| *partition as usize % workers == worker);
    let threads: Vec<_> = (0..workers)
        .map(|worker| (job.clone(), share(worker).map(|partition| (partition, 0)).collect()))
        .map(|(job, positions)| std::thread::spawn(move || pump(&job, positions)))
        .collect();
    let mut totals = Totals::default();
    for thread in threads {
        let done = thread.join().expect("a worker has failed");
        totals.records += done.records;
        totals.bytes += done.bytes;
    }
    println!("{{\"records\": {}, \"bytes\": {}}}", totals.records, totals.bytes);
    ExitCode::SUCCESS
}

/// Copies these partitions to their ends.
fn pump(job: &Job, mut positions: BTreeMap<i32, i64>) -> Totals {
    let (mut source, mut target) = (connect(&job.source), connect(&job.target));
    let mut totals = Totals::default();
    let mut buffer = Vec::new();
    ask(&mut source, &job.topic, &positions);
    loop {
        let frame = read_frame(&mut source, buffer);
        let body = body(&frame, ApiKey::Fetch, FETCH_VERSION);
        let fetched = fetch_response::scan(body, FETCH_VERSION).expect("an answer");
        let mut batches: Vec<(i32, std::vec::IntoIter<RawBatch>)> = Vec::new();
        let mut is_done = true;
        for part in fetched.partitions {
            let (end, found) = (part.high_watermark, whole_batches(&part));
            if let Some(last) = found.last() {
                positions.insert(part.partition, last.header.next_offset());
            }
            is_done &= positions[&part.partition] >= end;
            totals.records += found.iter().map(|batch| batch.header.record_count()).sum::<usize>();
            totals.bytes += found.iter().map(|batch| batch.bytes.len()).sum::<usize>();
            let data: Vec<RawBatch> = found.into_iter().filter(|batch| !batch.header.is_control()).collect();
            batches.push((part.partition, data.into_iter()));
        }
        if !is_done {
            ask(&mut source, &job.topic, &positions); // On its way while this is produced.
        }
        produce_all(&mut target, &job.target_topic, batches);
        if is_done {
            return totals;
        }
        buffer = frame.into(); // Fresh memory for each would cost page faults.
    }
}

fn whole_batches(part: &FetchedPartition) -> Vec<RawBatch> {
    assert_eq!(part.error, ErrorCode::None, "partition {}", part.partition);
    let of_scanned = |scanned| match scanned {
        Ok(Scanned::Batch(batch)) => {
            batch.verify_crc().expect("an intact batch");
            batch
        }
        other => panic!("no batch: {other:?}"),
    };
    scan(part.records.clone()).map(of_scanned).collect()
}

/// One batch of each partition in a request, since brokers take no more.
fn produce_all(target: &mut TcpStream, topic: &Arc<str>, mut batches: Vec<(i32, std::vec::IntoIter<RawBatch>)>) {
    let mut in_flight = 0;
    loop {
        let next = batches
            .iter_mut()
            .filter_map(|(partition, rest)| Some((*partition, rest.next()?)));
        let partitions: Vec<ProducePartition> = next
            .map(|(partition, batch)| ProducePartition {
                partition,
                header: patch::for_produce(&batch.header, ProducerStamp::NONE),
                payload: batch.payload(),
            })
            .collect();
        if partitions.is_empty() {
            break;
        }
        let request = ProduceRequest {
            timeout_ms: 30_000,
            topics: vec![ProduceTopic {
                name: Arc::clone(topic),
                id: Uuid::nil(),
                partitions,
            }],
        };
        let segments = produce_request::encode(PRODUCE_VERSION, 0, CLIENT_ID, &request);
        write_all(target, &segments.0);
        in_flight += 1;
        if in_flight == MAX_IN_FLIGHT {
            await_ack(target);
            in_flight -= 1;
        }
    }
    for _ in 0..in_flight {
        await_ack(target);
    }
}

fn await_ack(target: &mut TcpStream) {
    let body = body(&read_frame(target, Vec::new()), ApiKey::Produce, PRODUCE_VERSION);
    for part in produce_response::decode(&body, PRODUCE_VERSION)
        .expect("an answer")
        .partitions
    {
        assert_eq!(part.error, ErrorCode::None, "partition {}", part.partition);
    }
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a broker");
    stream.set_nodelay(true).expect("a socket");
    stream
}

/// Sends a Fetch (version 11: KIP-392) of everything from these positions on.
fn ask(source: &mut TcpStream, topic: &str, positions: &BTreeMap<i32, i64>) {
    let mut out = vec![0; frame::LENGTH_PREFIX];
    frame::put_request_header(&mut out, ApiKey::Fetch, FETCH_VERSION, 0, CLIENT_ID);
    out.extend((-1_i32).to_be_bytes()); // replica_id: a consumer
    out.extend(500_i32.to_be_bytes()); // max_wait_ms
    out.extend(1_i32.to_be_bytes()); // min_bytes
    out.extend(FETCH_BYTES.to_be_bytes());
    out.push(0); // isolation_level: read_uncommitted
    out.extend(0_i32.to_be_bytes()); // session_id
    out.extend((-1_i32).to_be_bytes()); // session_epoch: none
    out.extend(1_i32.to_be_bytes()); // topics
    put_string(&mut out, topic);
    out.extend((positions.len() as i32).to_be_bytes());
    for (partition, position) in positions {
        out.extend(partition.to_be_bytes());
        out.extend((-1_i32).to_be_bytes()); // current_leader_epoch
        out.extend(position.to_be_bytes());
        out.extend((-1_i64).to_be_bytes()); // log_start_offset
        out.extend(PARTITION_FETCH_BYTES.to_be_bytes());
    }
    out.extend(0_i32.to_be_bytes()); // forgotten_topics_data
    put_string(&mut out, ""); // rack_id
    let len = (out.len() - frame::LENGTH_PREFIX) as i32;
    out[..frame::LENGTH_PREFIX].copy_from_slice(&len.to_be_bytes());
    source.write_all(&out).expect("the source takes a request");
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as i16).to_be_bytes());
    out.extend(text.as_bytes());
}

fn read_frame(stream: &mut TcpStream, mut buffer: Vec<u8>) -> Bytes {
    let mut prefix = [0; frame::LENGTH_PREFIX];
    stream.read_exact(&mut prefix).expect("an answer");
    let len = frame::frame_len(prefix).expect("a length");
    buffer.clear();
    buffer.reserve(len);
    let read = stream.take(len as u64).read_to_end(&mut buffer);
    assert_eq!(read.expect("an answer"), len);
    buffer.into()
}

fn body(frame: &Bytes, api: ApiKey, version: i16) -> Bytes {
    let (_, body) = frame::split_response(frame.clone(), api, version).expect("an answer");
    body
}

fn write_all(stream: &mut TcpStream, segments: &[Bytes]) {
    let mut slices: Vec<IoSlice<'_>> = segments.iter().map(|segment| IoSlice::new(segment)).collect();
    let mut rest = &mut slices[..];
    while !rest.is_empty() {
        let written = stream.write_vectored(rest).expect("the target takes a request");
        IoSlice::advance_slices(&mut rest, written);
    }
}
