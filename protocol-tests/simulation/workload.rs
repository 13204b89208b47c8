//! Who writes to the source: producers of three kinds, with and without transactions, whose records are of every shape.

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, EndTxnRequest, InitProducerIdRequest, ProducerId, TopicName, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use kferry::protocol::error_code::ErrorCode;
use kferry::record::{BatchBuilder, BatchOptions, Codec, ProducerStamp};
use kferry::sandbox::core::transactions::State;

use crate::clusters::SimulatedCluster;
use crate::judge::id_bytes;
use crate::network::Network;
use crate::seed::Random;
use crate::world::EPOCH_MS;

const CODECS: [Codec; 5] = [Codec::None, Codec::Lz4, Codec::Zstd, Codec::Gzip, Codec::Snappy];

const DAY_MS: i64 = 86_400_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Idempotent,
    Transactional,
}

/// Which times records carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Times {
    Now,
    /// Older than a broker remembers a producer by.
    Old,
    Both,
}

/// A topic that is written to.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) partitions: i32,
    pub(crate) is_compacted: bool,
}

/// What a writer's batches are like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Habits {
    pub(crate) most_records: i64,
    pub(crate) largest_value: i64,
    pub(crate) times: Times,
    /// Of how many keys it writes to a compacted topic.
    pub(crate) keys: i64,
    pub(crate) codecs: usize,
}

/// One producer.
#[derive(Debug)]
pub(crate) struct Writer {
    number: u64,
    kind: Kind,
    habits: Habits,
    producer: Option<(i64, i16)>,
    /// By topic and partition.
    sequences: std::collections::BTreeMap<(String, i32), i32>,
    /// The transaction's partitions, while one is open.
    open: Vec<(String, i32)>,
    written: u64,
    random: Random,
}

impl Writer {
    pub(crate) fn new(number: u64, kind: Kind, habits: Habits, random: Random) -> Self {
        Self {
            number,
            kind,
            habits,
            producer: None,
            sequences: std::collections::BTreeMap::new(),
            open: Vec::new(),
            written: 0,
            random,
        }
    }

    /// Does the next thing: writes a batch somewhere, or ends its transaction.
    pub(crate) fn step(&mut self, source: &mut SimulatedCluster, subjects: &[Subject], network: &mut Network) {
        if !self.open.is_empty() && self.random.chance(0.3) {
            self.end_transaction(source, network);
            return;
        }
        let subject = &subjects[self.random.index(subjects.len())];
        let partition = self.random.index(subject.partitions as usize) as i32;
        if self.begin(source, &subject.name, partition, network).is_some() {
            let records = self.records(&subject.name, partition, subject.is_compacted, network.now());
            self.produce(source, &subject.name, partition, records, network);
        }
    }

    /// Leaves nothing open. Says whether that has worked.
    pub(crate) fn finish(&mut self, source: &mut SimulatedCluster, network: &mut Network) -> bool {
        if self.kind != Kind::Transactional {
            return true;
        }
        if !self.open.is_empty() {
            self.end_transaction(source, network);
        } else if self.producer.is_none() {
            // What a former producer has left open is aborted by that.
            self.initialize(source, network);
        }
        let known = source.core.transactions().get(&self.transactional_id().0);
        known.is_none_or(|known| matches!(known.state, State::Empty | State::Complete { .. }))
    }

    fn initialize(&mut self, source: &mut SimulatedCluster, network: &mut Network) -> Option<()> {
        let transactional_id = (self.kind == Kind::Transactional).then(|| self.transactional_id());
        let coordinator = match self.kind {
            Kind::Transactional => self.coordinator(source)?,
            _ => 1,
        };
        let request = InitProducerIdRequest::default()
            .with_transactional_id(transactional_id)
            .with_transaction_timeout_ms(600_000);
        let answer = source.call(coordinator, 1, &request, network)?;
        if answer.error_code == 0 {
            self.producer = Some((answer.producer_id.0, answer.producer_epoch));
        }
        self.producer.map(|_| ())
    }

    fn end_transaction(&mut self, source: &mut SimulatedCluster, network: &mut Network) -> Option<()> {
        let (producer_id, epoch) = self.producer?;
        let commit = self.random.chance(0.67);
        let request = EndTxnRequest::default()
            .with_transactional_id(self.transactional_id())
            .with_producer_id(ProducerId(producer_id))
            .with_producer_epoch(epoch)
            .with_committed(commit);
        let coordinator = self.coordinator(source)?;
        let answer = source.call(coordinator, 1, &request, network)?;
        match ErrorCode::from_wire(answer.error_code) {
            ErrorCode::None => self.open.clear(),
            ErrorCode::ConcurrentTransactions | ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable => {}
            _ => self.forget(),
        }
        Some(())
    }

    /// Starts over as another producer.
    fn forget(&mut self) {
        self.producer = None;
        self.sequences.clear();
        self.open.clear();
    }

    /// Whatever has to be there before a batch can be written.
    fn begin(
        &mut self,
        source: &mut SimulatedCluster,
        topic: &str,
        partition: i32,
        network: &mut Network,
    ) -> Option<()> {
        if self.kind == Kind::Plain {
            return Some(());
        }
        if self.producer.is_none() {
            self.initialize(source, network)?;
        }
        let key = (topic.to_owned(), partition);
        if self.kind == Kind::Transactional && !self.open.contains(&key) {
            let (producer_id, epoch) = self.producer?;
            let coordinator = self.coordinator(source)?;
            let topic = AddPartitionsToTxnTopic::default()
                .with_name(topic_name(topic))
                .with_partitions(vec![partition]);
            let request = AddPartitionsToTxnRequest::default()
                .with_v3_and_below_transactional_id(self.transactional_id())
                .with_v3_and_below_producer_id(ProducerId(producer_id))
                .with_v3_and_below_producer_epoch(epoch)
                .with_v3_and_below_topics(vec![topic]);
            let answer = source.call(coordinator, 2, &request, network)?;
            let code = answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code;
            match ErrorCode::from_wire(code) {
                ErrorCode::None => self.open.push(key),
                ErrorCode::ConcurrentTransactions | ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable => {
                    return None;
                }
                _ => {
                    self.forget();
                    return None;
                }
            }
        }
        Some(())
    }

    fn produce(
        &mut self,
        source: &mut SimulatedCluster,
        topic: &str,
        partition: i32,
        mut builder: BatchRecords,
        network: &mut Network,
    ) -> Option<()> {
        let leader = source.core.partition(topic, partition).ok()?.leader?;
        let key = (topic.to_owned(), partition);
        let sequence = self.sequences.get(&key).copied().unwrap_or(0);
        builder.options.transactional = self.kind == Kind::Transactional;
        builder.options.producer = self.producer.map(|(producer_id, producer_epoch)| ProducerStamp {
            producer_id,
            producer_epoch,
            base_sequence: sequence,
        });
        let count = builder.records.len() as i32;
        let data = PartitionProduceData::default()
            .with_index(partition)
            .with_records(Some(builder.build()));
        let request = ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(1000)
            .with_transactional_id((self.kind == Kind::Transactional).then(|| self.transactional_id()))
            .with_topic_data(vec![
                TopicProduceData::default()
                    .with_name(topic_name(topic))
                    .with_partition_data(vec![data]),
            ]);
        let answer = source.call(leader, 9, &request, network)?;
        match answer.responses[0].partition_responses[0].error_code {
            0 => drop(self.sequences.insert(key, sequence + count)),
            _ if self.kind == Kind::Plain => {}
            _ => self.forget(),
        }
        Some(())
    }

    fn records(&mut self, topic: &str, partition: i32, is_compacted: bool, now: i64) -> BatchRecords {
        let count = self.random.scale(1..self.habits.most_records + 1);
        let codec = CODECS[self.random.index(self.habits.codecs)];
        let is_old = match self.habits.times {
            Times::Now => false,
            Times::Old => true,
            Times::Both => self.random.chance(0.5),
        };
        let time = EPOCH_MS + now
            - if is_old {
                3 * DAY_MS + self.random.within(0..DAY_MS)
            } else {
                0
            };
        let records = (0..count).map(|_| self.record(topic, partition, is_compacted, time));
        BatchRecords {
            options: BatchOptions {
                codec,
                ..BatchOptions::default()
            },
            records: records.collect(),
        }
    }

    fn record(&mut self, topic: &str, partition: i32, is_compacted: bool, time: i64) -> Shape {
        self.written += 1;
        let id = id_bytes(self.number << 32 | self.written);
        let random = &mut self.random;
        let filling = |random: &mut Random, largest: i64| vec![b'v'; random.scale(1..largest + 1) as usize];
        let mut shape = Shape {
            time: time + random.within(-20..20),
            key: None,
            value: None,
            headers: Vec::new(),
        };
        if is_compacted {
            let key = random.within(0..self.habits.keys);
            shape.key = Some(format!("{topic}-{partition}-{key}").into_bytes());
            if random.chance(0.85) {
                shape.value = Some([&id[..], &filling(random, self.habits.largest_value)].concat());
            } else {
                shape.headers.push((b"id".to_vec(), Some(id.to_vec())));
            }
            return shape;
        }
        match random.index(8) {
            0 => shape.key = Some(id.to_vec()),
            1 => {
                shape.headers.push((b"id".to_vec(), Some(id.to_vec())));
                shape.value = random.chance(0.5).then(Vec::new);
            }
            _ => {
                shape.key = [None, Some(Vec::new()), Some(b"key".to_vec())][random.index(3)].clone();
                shape.value = Some([&id[..], &filling(random, self.habits.largest_value)].concat());
            }
        }
        while random.chance(0.2) {
            let value = [None, Some(Vec::new()), Some(b"w".to_vec())][random.index(3)].clone();
            shape.headers.push((b"h".to_vec(), value));
        }
        shape
    }

    fn transactional_id(&self) -> TransactionalId {
        TransactionalId(StrBytes::from_string(format!("writer-{}", self.number)))
    }

    fn coordinator(&self, source: &SimulatedCluster) -> Option<i32> {
        source.core.coordinator_of(&self.transactional_id().0)
    }
}

struct Shape {
    time: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// A batch to be.
struct BatchRecords {
    options: BatchOptions,
    records: Vec<Shape>,
}

impl BatchRecords {
    fn build(self) -> bytes::Bytes {
        let mut batch = BatchBuilder::new(self.options);
        for shape in &self.records {
            let headers: Vec<_> = shape
                .headers
                .iter()
                .map(|(name, value)| (&name[..], value.as_deref()))
                .collect();
            batch.push(shape.time, shape.key.as_deref(), shape.value.as_deref(), &headers);
        }
        batch.build().expect("a batch")
    }
}

pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}
