//! What the demo writes to its source: topics, and in rounds what goes into them. Pure, and the same each time but for
//! the timestamps.
//!
//! Between them the topics have what a copy can get wrong: null keys and values, headers twice and null, timestamps out
//! of order, a large record, every codec, transactions that overlap and abort, and a log that is compacted meanwhile.

use fastrand::Rng;

use super::content::Content;
use crate::record::Codec;

/// A topic of the source.
#[derive(Debug)]
pub(super) struct DemoTopic {
    pub(super) name: &'static str,
    pub(super) partitions: i32,
    pub(super) configs: &'static [(&'static str, &'static str)],
    /// What is particular about it, for people.
    pub(super) about: &'static str,
}

/// By their place in [`TOPICS`].
const ORDERS: usize = 0;
const CLICKS: usize = 1;
pub(super) const PAYMENTS: usize = 2;
pub(super) const PROFILES: usize = 3;

pub(super) const TOPICS: [DemoTopic; 4] = [
    DemoTopic {
        name: "orders",
        partitions: 3,
        configs: &[],
        about: "plain",
    },
    DemoTopic {
        name: "clicks",
        partitions: 4,
        configs: &[],
        about: "all codecs",
    },
    DemoTopic {
        name: "payments",
        partitions: 2,
        configs: &[],
        about: "transactions",
    },
    DemoTopic {
        name: "profiles",
        partitions: 2,
        configs: &[("cleanup.policy", "compact")],
        about: "compacted",
    },
];

/// Transactional producers, which go on side by side.
pub(super) const TRANSACTIONAL: usize = 2;

pub(super) const ROUNDS: u32 = 120;

const CLEAN_EVERY: u32 = 8;
const LARGE_EVERY: u32 = 32;
const LARGE: usize = 200_000;

/// Rounds of profiles that are written, and compacted, before anybody copies them.
const HISTORY: u32 = 20;

/// Keys of a partition of profiles: few enough that each is soon written again.
const PROFILE_KEYS: u32 = 50;

const SEED: u64 = 0x6b66_6572_7279;

const COMPRESSED: [Codec; 4] = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

/// Who writes a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    Plain,
    Transactional(usize),
}

/// One thing to do to the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Produce {
        writer: Writer,
        topic: usize,
        partition: i32,
        codec: Codec,
        records: Vec<Content>,
    },
    /// A transactional producer begins a transaction over all partitions of payments.
    Begin(usize),
    End {
        producer: usize,
        commit: bool,
    },
    /// The log cleaner runs over profiles.
    Clean,
}

/// The next rounds, from one seed.
#[derive(Debug)]
pub(super) struct Traffic {
    random: Rng,
    round: u32,
    /// Goes into each record, so that no two are the same.
    number: u64,
    transactions: [Transaction; TRANSACTIONAL],
}

/// What a transactional producer is doing, and for how many rounds to come.
#[derive(Debug, Clone, Copy)]
enum Transaction {
    None(u32),
    Open(u32),
}

impl Traffic {
    pub(super) fn new() -> Self {
        Self {
            random: Rng::with_seed(SEED),
            round: 0,
            number: 0,
            transactions: [Transaction::None(0), Transaction::None(2)],
        }
    }

    /// What is there before the flow begins: a log that has been compacted already.
    pub(super) fn history(&mut self, now_ms: i64) -> Vec<Step> {
        let mut steps = Vec::new();
        for _ in 0..HISTORY {
            self.profiles(now_ms, &mut steps);
        }
        steps.push(Step::Clean);
        steps
    }

    pub(super) fn next_round(&mut self, now_ms: i64) -> Vec<Step> {
        let mut steps = Vec::new();
        self.orders(now_ms, &mut steps);
        self.clicks(now_ms, &mut steps);
        self.payments(now_ms, &mut steps);
        self.profiles(now_ms, &mut steps);
        self.round += 1;
        if self.round.is_multiple_of(CLEAN_EVERY) {
            steps.push(Step::Clean);
        }
        steps
    }

    /// Ends what is open: the first producer's transaction well, the others' not.
    pub(super) fn finish(&mut self) -> Vec<Step> {
        let open = |(producer, transaction): (usize, &Transaction)| match transaction {
            Transaction::Open(_) => Some(Step::End {
                producer,
                commit: producer == 0,
            }),
            Transaction::None(_) => None,
        };
        self.transactions.iter().enumerate().filter_map(open).collect()
    }

    fn orders(&mut self, now_ms: i64, steps: &mut Vec<Step>) {
        for partition in 0..TOPICS[ORDERS].partitions {
            let count = self.random.usize(20..80);
            let mut records: Vec<_> = (0..count).map(|_| self.order(now_ms)).collect();
            if partition == 0 && self.round.is_multiple_of(LARGE_EVERY) {
                let bytes = (0..LARGE).map(|_| self.random.u8(..)).collect();
                records[0].value = Some(bytes);
            }
            steps.push(Step::Produce {
                writer: Writer::Plain,
                topic: ORDERS,
                partition,
                codec: Codec::None,
                records,
            });
        }
    }

    fn clicks(&mut self, now_ms: i64, steps: &mut Vec<Step>) {
        for partition in 0..TOPICS[CLICKS].partitions {
            let count = self.random.usize(60..180);
            let records = (0..count).map(|_| self.record(now_ms, "click")).collect();
            steps.push(Step::Produce {
                writer: Writer::Plain,
                topic: CLICKS,
                partition,
                codec: COMPRESSED[(self.round as usize + partition as usize) % COMPRESSED.len()],
                records,
            });
        }
    }

    /// A step of each transaction, and between them records that belong to none.
    fn payments(&mut self, now_ms: i64, steps: &mut Vec<Step>) {
        for producer in 0..TRANSACTIONAL {
            self.transactions[producer] = match self.transactions[producer] {
                Transaction::None(0) => {
                    steps.push(Step::Begin(producer));
                    steps.push(self.payment(Writer::Transactional(producer), now_ms));
                    Transaction::Open(self.random.u32(1..6))
                }
                Transaction::None(rounds) => Transaction::None(rounds - 1),
                Transaction::Open(0) => {
                    let commit = self.random.u8(..4) > 0;
                    steps.push(Step::End { producer, commit });
                    Transaction::None(self.random.u32(..2))
                }
                Transaction::Open(rounds) => {
                    steps.push(self.payment(Writer::Transactional(producer), now_ms));
                    Transaction::Open(rounds - 1)
                }
            };
            if self.random.bool() {
                steps.push(self.payment(Writer::Plain, now_ms));
            }
        }
    }

    fn payment(&mut self, writer: Writer, now_ms: i64) -> Step {
        let count = self.random.usize(3..12);
        let codec = if self.random.bool() { Codec::None } else { Codec::Zstd };
        Step::Produce {
            writer,
            topic: PAYMENTS,
            partition: self.random.i32(0..TOPICS[PAYMENTS].partitions),
            codec,
            records: (0..count).map(|_| self.record(now_ms, "payment")).collect(),
        }
    }

    fn profiles(&mut self, now_ms: i64, steps: &mut Vec<Step>) {
        for partition in 0..TOPICS[PROFILES].partitions {
            let count = self.random.usize(5..15);
            let codec = if self.random.bool() { Codec::None } else { Codec::Lz4 };
            steps.push(Step::Produce {
                writer: Writer::Plain,
                topic: PROFILES,
                partition,
                codec,
                records: (0..count).map(|_| self.profile(now_ms)).collect(),
            });
        }
    }

    fn profile(&mut self, now_ms: i64) -> Content {
        let key = format!("user-{}", self.random.u32(..PROFILE_KEYS));
        let is_tombstone = self.random.u8(..20) == 0;
        let record = self.record(now_ms, "profile");
        Content {
            key: Some(key.into()),
            value: record.value.filter(|_| !is_tombstone),
            ..record
        }
    }

    /// One in ten has something odd about it.
    fn order(&mut self, now_ms: i64) -> Content {
        let mut record = self.record(now_ms, "order");
        match self.random.u8(..40) {
            0 => record.key = None,
            1 => record.value = None,
            2 => (record.key, record.value) = (Some(vec![0xff, 0x00, 0xfe]), Some(Vec::new())),
            3 => {
                record.headers = vec![
                    (b"trace".to_vec(), Some(b"2".to_vec())),
                    (b"trace".to_vec(), Some(b"1".to_vec())),
                    (b"empty".to_vec(), Some(Vec::new())),
                    (b"null".to_vec(), None),
                ]
            }
            _ => {}
        }
        record
    }

    fn record(&mut self, now_ms: i64, kind: &str) -> Content {
        const FILLER: &str = "the quick brown fox jumps over the lazy dog, again and again and again and again";
        self.number += 1;
        let (number, random) = (self.number, self.random.u64(..1_000_000));
        let filler = &FILLER[..self.random.usize(..FILLER.len())];
        let value = format!(r#"{{"{kind}":{number},"amount":{random},"note":"{filler}"}}"#);
        Content {
            // Producers' clocks differ.
            timestamp: now_ms - self.random.i64(0..1000),
            key: Some(format!("{kind}-{}", random % 1000).into()),
            value: Some(value.into()),
            headers: vec![(b"number".to_vec(), Some(number.to_string().into()))],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_steps() -> Vec<Step> {
        let mut traffic = Traffic::new();
        let mut steps = traffic.history(1_000_000);
        for _ in 0..ROUNDS {
            steps.extend(traffic.next_round(1_000_000));
        }
        steps.extend(traffic.finish());
        steps
    }

    #[test]
    fn it_is_the_same_each_time() {
        assert_eq!(all_steps(), all_steps());
    }

    #[test]
    fn it_has_what_the_demo_says_that_it_shows() {
        let steps = all_steps();
        let has = |wanted: fn(&Step) -> bool| steps.iter().any(wanted);
        for codec in [Codec::None].iter().chain(&COMPRESSED) {
            assert!(
                steps
                    .iter()
                    .any(|step| matches!(step, Step::Produce { codec: used, .. } if used == codec))
            );
        }
        assert!(has(|step| matches!(step, Step::End { commit: true, .. })));
        assert!(has(|step| matches!(step, Step::End { commit: false, .. })));
        assert!(has(|step| matches!(step, Step::Clean)));
        assert!(has(
            |step| matches!(step, Step::Produce { records, topic: PROFILES, .. }
            if records.iter().any(|record| record.value.is_none()))
        ));
    }

    #[test]
    fn transactions_overlap_and_all_end() {
        let mut open = [false; TRANSACTIONAL];
        let mut overlapped = false;
        for step in all_steps() {
            match step {
                Step::Begin(producer) => assert!(!std::mem::replace(&mut open[producer], true)),
                Step::End { producer, .. } => assert!(std::mem::replace(&mut open[producer], false)),
                Step::Produce {
                    writer: Writer::Transactional(producer),
                    topic,
                    ..
                } => assert!(open[producer] && topic == PAYMENTS),
                _ => {}
            }
            overlapped |= open == [true; TRANSACTIONAL];
        }
        assert!(overlapped && open == [false; TRANSACTIONAL]);
    }
}
