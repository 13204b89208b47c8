//! Two sandboxes, for tests that need no Java, and for faults that real brokers do not have on demand.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kferry::cluster::{Cluster, ClusterConfig, Metadata, NewTopic, Purpose, Side, TopicSelection, produce};
use kferry::protocol::error_code::ErrorCode;
use kferry::protocol::produce_request::{ProducePartition, ProduceTopic};
use kferry::record::{
    BatchBuilder, BatchHeader, BatchOptions, Codec, DecodeLimits, HEADER_LEN, ProducerStamp, decode, patch,
};
use kferry::sandbox::core::Settings;
use kferry::sandbox::core::faults::Fault;
use kferry::sandbox::{Sandbox, SandboxOptions};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::kferry::Copy;

pub(crate) const TOPIC: &str = "orders";

/// The records of one batch; so a batch number is a tenth of its first offset.
pub(crate) const BATCH: i64 = 10;

const CODECS: [Codec; 5] = [Codec::None, Codec::Lz4, Codec::Zstd, Codec::Gzip, Codec::Snappy];

/// A source and a target of two brokers each, and a topic on the source.
pub(crate) struct Sandboxes {
    runtime: Runtime,
    pub(crate) source: Sandbox,
    pub(crate) target: Sandbox,
    writer: Cluster,
    partitions: i32,
}

/// A record as it was written: everything that a copy has to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    timestamp: i64,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Sandboxes {
    pub(crate) fn new(partitions: i32) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let start = |seed| {
            let options = SandboxOptions {
                settings: Settings::seeded(seed),
                ..SandboxOptions::brokers(2)
            };
            runtime.block_on(Sandbox::start(options)).expect("a sandbox")
        };
        let (source, target) = (start(1), start(2));
        let config = ClusterConfig::new(
            Side::Source,
            "source",
            source.addresses().iter().map(ToString::to_string).collect(),
        );
        let writer = runtime.block_on(Cluster::connect(config)).expect("a connection");
        let topic = NewTopic {
            name: TOPIC.to_owned(),
            partitions,
            replication_factor: 2,
            configs: Vec::new(),
        };
        let created = runtime.block_on(writer.create_topics(vec![topic]));
        assert!(created.iter().all(|(_, result)| result.is_ok()), "{created:?}");
        runtime
            .block_on(writer.await_leaders(vec![TOPIC.to_owned()]))
            .expect("leaders");
        Self {
            runtime,
            source,
            target,
            writer,
            partitions,
        }
    }

    /// Sandboxes with so many batches in each partition.
    pub(crate) fn with_batches(partitions: i32, batches: i64) -> Self {
        let sandboxes = Self::new(partitions);
        sandboxes.write(0, batches, 100);
        sandboxes
    }

    /// Writes batches to each partition, of all codecs in turn. `first` is the number of batches that there are.
    pub(crate) fn write(&self, first: i64, batches: i64, value_bytes: usize) {
        let metadata = self
            .runtime
            .block_on(self.writer.refresh_metadata(TopicSelection::All))
            .expect("an answer");
        for number in first..first + batches {
            let batch = batch(number, value_bytes);
            for broker in metadata.brokers.keys() {
                self.runtime.block_on(self.write_batch(&metadata, *broker, &batch));
            }
        }
    }

    /// The same batch to each partition that the broker leads.
    async fn write_batch(&self, metadata: &Metadata, broker: i32, batch: &Bytes) {
        let header = BatchHeader::parse(batch).expect("a batch of ours");
        let led = |partition: &i32| {
            metadata
                .partition(TOPIC, *partition)
                .is_some_and(|it| it.leader == Some(broker))
        };
        let batch_for = |partition| ProducePartition {
            partition,
            header: patch::for_produce(&header, ProducerStamp::NONE),
            payload: batch.slice(HEADER_LEN..),
        };
        let partitions: Vec<ProducePartition> = (0..self.partitions).filter(led).map(batch_for).collect();
        if partitions.is_empty() {
            return;
        }
        let topic = ProduceTopic {
            name: Arc::from(TOPIC),
            id: Uuid::nil(),
            partitions,
        };
        let connection = self
            .writer
            .connection(broker, Purpose::Produce(0))
            .await
            .expect("a connection");
        let produced = produce(&connection, vec![topic], Duration::from_secs(30), None)
            .await
            .expect("an answer");
        assert!(
            produced
                .partitions
                .iter()
                .all(|(_, partition)| partition.error == ErrorCode::None),
            "{produced:?}"
        );
    }

    pub(crate) fn copy(&self) -> Copy {
        Copy::bare()
            .arg("--from", self.source.bootstrap())
            .arg("--to", self.target.bootstrap())
            .arg("--topics", TOPIC)
    }

    pub(crate) fn arm_source(&self, fault: Fault) {
        self.source.with_core(|cluster| cluster.arm(fault));
    }

    pub(crate) fn arm_target(&self, fault: Fault) {
        self.target.with_core(|cluster| cluster.arm(fault));
    }

    /// How many records there are on the target; none while there is no topic.
    pub(crate) fn records_on_target(&self) -> i64 {
        (0..self.partitions)
            .map(|partition| self.partition_on_target(partition))
            .sum()
    }

    pub(crate) fn partition_on_target(&self, partition: i32) -> i64 {
        i64::try_from(records(&self.target, partition).len()).expect("few")
    }

    pub(crate) fn source_leader(&self, partition: i32) -> i32 {
        let metadata = self.writer.metadata();
        let partition = metadata.partition(TOPIC, partition).expect("a partition of ours");
        partition.leader.expect("a leader")
    }

    /// The claim of every copy. Returns how many records there are.
    #[track_caller]
    pub(crate) fn assert_copied(&self) -> usize {
        let mut total = 0;
        for partition in 0..self.partitions {
            let (source, target) = (records(&self.source, partition), records(&self.target, partition));
            let first_difference = (0..source.len().max(target.len())).find(|&i| source.get(i) != target.get(i));
            assert_eq!(
                first_difference,
                None,
                "partition {partition}: {} records, {}",
                source.len(),
                target.len()
            );
            total += source.len();
        }
        total
    }
}

/// The batch with this number, in the codec whose turn it is.
fn batch(number: i64, value_bytes: usize) -> Bytes {
    let codec = CODECS[usize::try_from(number).expect("a count") % CODECS.len()];
    let mut batch = BatchBuilder::new(BatchOptions {
        codec,
        ..BatchOptions::default()
    });
    let value = vec![b'v'; value_bytes];
    for offset in number * BATCH..(number + 1) * BATCH {
        batch.push(
            1_425_000_000_000 + offset,
            Some(&offset.to_be_bytes()),
            Some(&value),
            &[],
        );
    }
    batch.build().expect("a batch")
}

/// Everything that a partition holds, read from the sandbox's memory.
fn records(sandbox: &Sandbox, partition: i32) -> Vec<Record> {
    let batches = sandbox
        .with_core(|cluster| cluster.batches(TOPIC, partition))
        .unwrap_or_default();
    let mut records = Vec::new();
    for batch in batches {
        let raw = batch.to_raw();
        if raw.header.is_control() {
            continue; // A fence's marker is nobody's record.
        }
        raw.verify_crc().expect("the sandbox checks what it takes");
        let decoded = decode(&raw, &DecodeLimits::default()).expect("the sandbox checks what it takes");
        for record in decoded.records() {
            let record = record.expect("a whole record");
            records.push(Record {
                timestamp: decoded.timestamp(&record).expect("a timestamp"),
                key: record.key.expect("a key").to_vec(),
                value: record.value.expect("a value").to_vec(),
            });
        }
    }
    records
}
