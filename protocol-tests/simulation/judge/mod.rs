//! Decides whether what is on the target is right, after every change of a log.
//!
//! The truth is the source's log as it grew, with a view of its own on which transactions were committed. The target is read
//! as a reader of uncommitted records sees it, record by record; what it may hold next is known at every moment.

mod cut;
mod ledger;
mod partition;

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use kferry::record::{ControlType, DecodeLimits, decode};
use kferry::sandbox::core::Cluster;
use kferry::sandbox::core::log::{PartitionLog, StoredBatch};

use self::ledger::LedgerJudge;
pub(crate) use self::partition::{PartitionJudge, Rules};

/// A promise, by its number in the catalogue of what is promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Invariant {
    /// I1: every committed record is on the target in the end.
    Complete,
    /// I2: none is there twice.
    Unique,
    /// I3, I6: at every moment the target holds the first so many, in their order.
    Prefix,
    /// I4: each with the same key, value, headers and time.
    Faithful,
    /// I5: nothing else is there, nothing aborted, nothing that is not committed.
    NothingInvented,
    /// I7: a checkpoint never lies ahead of what the target holds.
    Checkpoint,
    /// I8: what the ledger says of offsets is so.
    Translation,
    /// I10: no loss without a word, no word without a loss.
    Loud,
    /// I11: it comes to an end once the faults end.
    Live,
    /// I13: mappings only move forward.
    Fenced,
    /// Nothing panics, nothing fails that should not.
    Sound,
}

/// A promise that was broken.
#[derive(Debug, Clone)]
pub(crate) struct Violation {
    pub(crate) invariant: Invariant,
    pub(crate) text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.invariant, self.text)
    }
}

pub(crate) fn violation<T>(invariant: Invariant, text: impl Into<String>) -> Result<T, Violation> {
    let text = text.into();
    Err(Violation { invariant, text })
}

/// A record as the judge remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) offset: i64,
    /// Unique among all records that were ever written.
    pub(crate) id: u64,
    /// Over everything that a copy has to keep.
    pub(crate) digest: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Judge {
    partitions: BTreeMap<(String, i32), PartitionJudge>,
    ledger_topic: String,
    ledger: LedgerJudge,
}

impl Judge {
    pub(crate) fn new(ledger_topic: String) -> Self {
        Self {
            partitions: BTreeMap::new(),
            ledger_topic,
            ledger: LedgerJudge::default(),
        }
    }

    pub(crate) fn add(&mut self, topic: &str, partition: i32, rules: Rules) {
        let name = format!("{topic} partition {partition}");
        let judge = PartitionJudge::new(name, rules);
        self.partitions.insert((topic.to_owned(), partition), judge);
    }

    pub(crate) fn partition(&mut self, topic: &str, partition: i32) -> Option<&mut PartitionJudge> {
        self.partitions.get_mut(&(topic.to_owned(), partition))
    }

    pub(crate) fn partitions(&self) -> impl Iterator<Item = (&(String, i32), &PartitionJudge)> {
        self.partitions.iter()
    }

    /// Up to which source offset whoever has the flow now has said that it was copied.
    pub(crate) fn checkpointed(&self, topic: &str, partition: i32) -> i64 {
        self.ledger.position_of_last_owner(&(topic.to_owned(), partition))
    }

    /// Looks at what is new at the source.
    pub(crate) fn look_at_source(&mut self, source: &Cluster) {
        for ((topic, index), judge) in &mut self.partitions {
            let Ok(partition) = source.partition(topic, *index) else {
                continue;
            };
            judge.look_at_source(&partition.log);
        }
    }

    /// Looks at what is new on the target.
    pub(crate) fn look_at_target(&mut self, target: &Cluster) -> Result<(), Violation> {
        for ((topic, index), judge) in &mut self.partitions {
            let Ok(partition) = target.partition(topic, *index) else {
                continue;
            };
            judge.look_at_target(&partition.log)?;
        }
        self.ledger.look(target, &self.ledger_topic, &self.partitions)
    }

    /// Whether everything has arrived.
    pub(crate) fn is_complete(&self) -> bool {
        self.partitions.values().all(PartitionJudge::is_complete)
    }

    /// In the end, when nothing is on its way any more.
    pub(crate) fn conclude(&self, source: &Cluster) -> Result<(), Violation> {
        for ((topic, index), judge) in &self.partitions {
            let partition = source.partition(topic, *index).expect("a topic of ours");
            judge.conclude(&partition.log)?;
        }
        self.ledger.conclude(source, &self.partitions)
    }
}

/// The batches from an offset on, in order.
pub(crate) fn batches_from(log: &PartitionLog, offset: i64) -> Vec<&StoredBatch> {
    let news = log.batches().rev();
    let mut news: Vec<_> = news.take_while(|batch| batch.header.base_offset() >= offset).collect();
    news.reverse();
    news
}

/// The records of a batch.
pub(crate) fn seen_in(batch: &StoredBatch) -> Vec<Seen> {
    let decoded = decode(&batch.to_raw(), &DecodeLimits::default()).expect("a batch that the sandbox took");
    let mut seen = Vec::new();
    for record in decoded.records() {
        let record = record.expect("a whole record");
        let timestamp = decoded.timestamp(&record).expect("a time");
        let mut digest = DefaultHasher::new();
        (
            record.key,
            record.value,
            timestamp,
            decoded.header().timestamp_type() as u8,
        )
            .hash(&mut digest);
        let mut id = id_in(record.value).or_else(|| id_in(record.key));
        for (name, value) in record.headers.clone() {
            (name, value).hash(&mut digest);
            id = id.or_else(|| id_in(value));
        }
        seen.push(Seen {
            offset: decoded.offset(&record),
            id: id.unwrap_or(0),
            digest: digest.finish(),
        });
    }
    seen
}

/// What a record's identity is written with.
pub(crate) fn id_bytes(id: u64) -> [u8; ID_LEN] {
    let mut bytes = [0; ID_LEN];
    bytes[..MAGIC.len()].copy_from_slice(&MAGIC);
    bytes[MAGIC.len()..].copy_from_slice(&id.to_be_bytes());
    bytes
}

fn id_in(bytes: Option<&[u8]>) -> Option<u64> {
    let rest = bytes?.strip_prefix(&MAGIC)?;
    Some(u64::from_be_bytes(*rest.first_chunk()?))
}

/// What every record has in it.
pub(crate) const MAGIC: [u8; 4] = *b"sim:";
const ID_LEN: usize = MAGIC.len() + 8;

/// Whether a control batch commits.
pub(crate) fn commits(batch: &StoredBatch) -> Option<bool> {
    let decoded = decode(&batch.to_raw(), &DecodeLimits::default()).ok()?;
    let record = decoded.records().next()?.ok()?;
    Some(ControlType::from_key(record.key?)? == ControlType::Commit)
}
