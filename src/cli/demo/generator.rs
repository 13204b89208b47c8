//! Carries the traffic out: writes it to the source at a steady pace, through the Kafka protocol.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::cleaner::Cleaner;
use super::content::Content;
use super::now_ms;
use super::producer::Producer;
use super::traffic::{DemoTopic, PAYMENTS, ROUNDS, Step, TOPICS, TRANSACTIONAL, Traffic, Writer};
use crate::cluster::{Cluster, NewTopic};
use crate::record::Codec;
use crate::sandbox::Sandbox;

const ROUND_INTERVAL: Duration = Duration::from_millis(50);

/// The rounds that do not fit are left out: on a machine that is busy otherwise the demo still ends soon.
const MAX_DURATION: Duration = Duration::from_secs(9);

/// What has been written so far.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Written {
    pub(super) rounds: u32,
    /// Records of each topic, those of open and aborted transactions too.
    pub(super) records: [u64; TOPICS.len()],
    pub(super) transactions_committed: u64,
    pub(super) transactions_aborted: u64,
    pub(super) aborted_records: u64,
    pub(super) cleaner_runs: u64,
    /// Records that the cleaner has removed.
    pub(super) removed_records: u64,
}

/// Written by the generator, read by the view.
#[derive(Debug, Default)]
pub(super) struct Counts(Mutex<Written>);

impl Counts {
    pub(super) fn read(&self) -> Written {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Written)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[derive(Debug)]
pub(super) struct Generator<'a> {
    source: &'a Sandbox,
    counts: &'a Counts,
    traffic: Traffic,
    plain: Producer,
    transactional: Vec<Transactional>,
    cleaner: Cleaner,
}

#[derive(Debug)]
struct Transactional {
    producer: Producer,
    /// In the open transaction.
    records: u64,
}

impl<'a> Generator<'a> {
    /// Creates the topics, and writes the history that is there before the flow begins.
    pub(super) async fn prepare(source: &'a Sandbox, cluster: &Cluster, counts: &'a Counts) -> anyhow::Result<Self> {
        create_topics(cluster).await?;
        let mut transactional = Vec::new();
        for number in 0..TRANSACTIONAL {
            let producer = Producer::transactional(cluster.clone(), &format!("payments-{number}")).await?;
            transactional.push(Transactional { producer, records: 0 });
        }
        let mut generator = Self {
            source,
            counts,
            traffic: Traffic::new(),
            plain: Producer::idempotent(cluster.clone()).await?,
            transactional,
            cleaner: Cleaner::default(),
        };
        let history = generator.traffic.history(now_ms());
        generator.carry_out(history).await?;
        Ok(generator)
    }

    /// Writes all rounds. Returns what the check has to know of the cleaner.
    pub(super) async fn run(mut self) -> anyhow::Result<Cleaner> {
        // Running out of time is as good an end as any, but not in the middle of a step.
        let mut ticks = interval(ROUND_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let deadline = tokio::time::sleep(MAX_DURATION);
        tokio::pin!(deadline);
        for _ in 0..ROUNDS {
            tokio::select! {
                biased;
                () = &mut deadline => break,
                _ = ticks.tick() => {}
            }
            let round = self.traffic.next_round(now_ms());
            self.carry_out(round).await?;
            self.counts.change(|written| written.rounds += 1);
        }
        let last = self.traffic.finish();
        self.carry_out(last).await?;
        Ok(self.cleaner)
    }

    async fn carry_out(&mut self, steps: Vec<Step>) -> anyhow::Result<()> {
        for step in steps {
            match step {
                Step::Produce {
                    writer,
                    topic,
                    partition,
                    codec,
                    records,
                } => {
                    self.produce(writer, topic, partition, codec, &records).await?;
                }
                Step::Begin(producer) => self.transactional[producer].producer.begin(&TOPICS[PAYMENTS]).await?,
                Step::End { producer, commit } => self.end(producer, commit).await?,
                Step::Clean => {
                    let removed = self.cleaner.clean(self.source)?;
                    self.counts.change(|written| {
                        written.cleaner_runs += 1;
                        written.removed_records += removed;
                    });
                }
            }
        }
        Ok(())
    }

    async fn produce(
        &mut self,
        writer: Writer,
        topic: usize,
        partition: i32,
        codec: Codec,
        records: &[Content],
    ) -> anyhow::Result<()> {
        let count = records.len() as u64;
        let producer = match writer {
            Writer::Plain => &mut self.plain,
            Writer::Transactional(number) => {
                let transactional = &mut self.transactional[number];
                transactional.records += count;
                &mut transactional.producer
            }
        };
        producer.produce(&TOPICS[topic], partition, codec, records).await?;
        self.counts.change(|written| written.records[topic] += count);
        Ok(())
    }

    async fn end(&mut self, number: usize, commit: bool) -> anyhow::Result<()> {
        let transactional = &mut self.transactional[number];
        transactional.producer.end(commit).await?;
        let records = std::mem::take(&mut transactional.records);
        self.counts.change(|written| {
            if commit {
                written.transactions_committed += 1;
            } else {
                written.transactions_aborted += 1;
                written.aborted_records += records;
            }
        });
        Ok(())
    }
}

async fn create_topics(source: &Cluster) -> anyhow::Result<()> {
    let new_topic = |topic: &DemoTopic| NewTopic {
        name: topic.name.to_owned(),
        partitions: topic.partitions,
        replication_factor: -1,
        configs: topic
            .configs
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect(),
    };
    for (_, created) in source.create_topics(TOPICS.iter().map(new_topic).collect()).await {
        created?;
    }
    source
        .await_leaders(TOPICS.iter().map(|topic| topic.name.to_owned()).collect())
        .await?;
    Ok(())
}
