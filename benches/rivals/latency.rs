//! How much later a record can be read from the target than from the source.
//!
//! Writes records at a steady rate to partition 0 of TOPIC on the source, each with its number, and reads both topics as a
//! consumer does that waits for records. A record's added latency is the time between its two arrivals here.
//!
//! `latency SOURCE TARGET TOPIC AS RATE SECONDS`. Both topics have to exist, a copier has to run. Records of the first
//! quarter warm up and do not count. Prints percentiles in milliseconds as JSON.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kferry::cluster::{
    Cluster, ClusterConfig, FetchOptions, FetchPartition, FetchSession, Isolation, Purpose, Side, fetch, produce,
};
use kferry::protocol::produce_request::{ProducePartition, ProduceTopic};
use kferry::record::{BatchBuilder, BatchHeader, BatchOptions, DecodeLimits, HEADER_LEN, Scanned, decode, scan};
use tokio::task::JoinHandle;
use uuid::Uuid;

/// Records are written so often; at high rates several lie in a batch, as a producer with a linger of 5 ms writes them.
const TICK: Duration = Duration::from_millis(5);

/// As large as an event is.
const VALUE_LEN: usize = 200;

/// How long a record may take at all.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
struct Topic {
    cluster: Cluster,
    name: Arc<str>,
    id: Uuid,
    leader: i32,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [source, target, topic, target_topic, rate, seconds] = &args[..] else {
        eprintln!("usage: latency SOURCE TARGET TOPIC AS RATE SECONDS");
        return ExitCode::from(2);
    };
    let rate: usize = rate.parse().expect("records a second");
    let seconds: usize = seconds.parse().expect("seconds");
    let source = Topic::open(Side::Source, source, topic).await;
    let target = Topic::open(Side::Target, target, target_topic).await;
    let count = rate * seconds;
    let readers = [&source, &target].map(|topic| read(topic.clone(), count));
    write(&source, rate, count).await;
    let mut arrivals = Vec::new();
    for reader in readers {
        let read = tokio::time::timeout(PATIENCE, reader).await;
        arrivals.push(read.expect("all records arrive in time").expect("the reader goes on"));
    }
    let of_record = |number: usize| {
        let at = |side: usize| arrivals[side][number].expect("all records have arrived");
        at(1).saturating_duration_since(at(0)).as_secs_f64() * 1000.0
    };
    let mut added: Vec<f64> = (count / 4..count).map(of_record).collect();
    added.sort_by(f64::total_cmp);
    let percentile = |share: f64| added[((added.len() - 1) as f64 * share) as usize];
    println!(
        "{{\"records\": {}, \"p50\": {:.2}, \"p99\": {:.2}, \"p99.9\": {:.2}}}",
        added.len(),
        percentile(0.5),
        percentile(0.99),
        percentile(0.999)
    );
    ExitCode::SUCCESS
}

impl Topic {
    async fn open(side: Side, bootstrap: &str, name: &str) -> Self {
        let config = ClusterConfig::new(side, "bench", vec![bootstrap.to_owned()]);
        let cluster = Cluster::connect(config).await.expect("a cluster");
        let metadata = cluster.await_leaders(vec![name.to_owned()]).await.expect("leaders");
        let topic = &metadata.topics[name];
        let partition = topic.partition(0).expect("a partition");
        Self {
            name: name.into(),
            id: topic.id,
            leader: partition.leader.expect("a leader"),
            cluster,
        }
    }
}

async fn write(topic: &Topic, rate: usize, count: usize) {
    let purpose = Purpose::Produce(0);
    let connection = topic.cluster.connection(topic.leader, purpose).await.expect("a broker");
    let began = now();
    let mut written = 0;
    let mut ticks = tokio::time::interval(TICK);
    while written < count {
        ticks.tick().await;
        let due = (began.elapsed().as_secs_f64() * rate as f64) as usize;
        if due <= written {
            continue;
        }
        let mut builder = BatchBuilder::new(BatchOptions::default());
        for number in written..due.min(count) {
            let mut value = vec![b'x'; VALUE_LEN];
            value[..8].copy_from_slice(&(number as u64).to_be_bytes());
            builder.push(topic.cluster.time_ms(), None, Some(&value), &[]);
        }
        written = due.min(count);
        let batch = builder.build().expect("small");
        let header = BatchHeader::parse(&batch).expect("our own");
        let partition = ProducePartition {
            partition: 0,
            header: *header.as_bytes(),
            payload: batch.slice(HEADER_LEN..),
        };
        let topics = vec![ProduceTopic {
            name: Arc::clone(&topic.name),
            id: topic.id,
            partitions: vec![partition],
        }];
        produce(&connection, topics, PATIENCE, None).await.expect("written");
    }
}

/// When each record arrived.
fn read(topic: Topic, count: usize) -> JoinHandle<Vec<Option<Instant>>> {
    tokio::spawn(async move {
        let connection = topic.cluster.connection(topic.leader, Purpose::Fetch(0)).await;
        let connection = connection.expect("a broker");
        let mut session = FetchSession::default();
        let mut arrivals = vec![None; count];
        let (mut position, mut missing) = (0, count);
        let options = FetchOptions {
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: 16 << 20,
            isolation: Isolation::ReadCommitted,
        };
        while missing > 0 {
            session.want(FetchPartition {
                topic: Arc::clone(&topic.name),
                topic_id: topic.id,
                partition: 0,
                fetch_offset: position,
                current_leader_epoch: -1,
                last_fetched_epoch: -1,
                max_bytes: 16 << 20,
            });
            let fetched = fetch(&connection, &mut session, &options).await.expect("an answer");
            let now = now();
            for (_, part) in fetched.partitions {
                for scanned in scan(part.records) {
                    let Ok(Scanned::Batch(batch)) = scanned else {
                        panic!("{scanned:?}")
                    };
                    position = batch.header.next_offset();
                    let decoded = decode(&batch, &DecodeLimits::default()).expect("records");
                    for record in decoded.records() {
                        let value = record.expect("a record").value.expect("a value");
                        let number = u64::from_be_bytes(*value.first_chunk().expect("a number"));
                        let first = arrivals[number as usize].replace(now).is_none();
                        missing -= usize::from(first);
                    }
                }
            }
        }
        arrivals
    })
}

#[expect(clippy::disallowed_methods, reason = "time is what is measured")]
fn now() -> Instant {
    Instant::now()
}
