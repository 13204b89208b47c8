//! Drives a flow's state machine: carries its actions out, brings events back, until it is finished.
//!
//! One task owns the state; each slot has a task that moves bytes. Jobs go to slots over bounded channels that the
//! state machine never overfills: one fetch, and [`MAX_REQUESTS_IN_FLIGHT`] produce requests.

use std::collections::{BTreeMap, HashMap};
use std::panic;
use std::sync::Arc;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::incidents::announce;
use super::ledger::{LedgerStore, LedgerStoreError};
use super::progress::{Progress, ProgressNumbers};
use super::recovering::{LaneProducers, Recovering};
use super::routes::{Route, Routes};
use super::topics::all;
use super::{fetching, now, producing};
use crate::cluster::{Cluster, ClusterError, Isolation, OffsetSpec, TopicSelection};
use crate::offsets::SourceOffset;
use crate::replication::flow::{
    Action, CheckpointJob, End, Event, FetchJob, FlowPartition, FlowReplicator, MAX_REQUESTS_IN_FLIGHT, ProduceJob,
    RecoverJob, Slot, Totals,
};
use crate::replication::ledger::{LedgerRecord, OwnerId};
use crate::replication::partition::{Incident, PartitionCheckpoint};
use crate::replication::stopped::{Stopped, chain};

/// Events that wait for the state machine. Senders wait when it is full.
const MAX_EVENTS: usize = 1024;

/// How long a clean stop may take. What is unacked then stays out of the ledger.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the ledger may refuse checkpoints before the flow stops: nothing more would be remembered.
const LEDGER_PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Error)]
pub enum RunError {
    #[error("target: the ledger could not be written for {} s ({cause}); everything copied since is copied again by the next run", waited.as_secs())]
    Ledger { waited: Duration, cause: String },
    #[error("not everything that was sent was acknowledged within {} s; the next run copies it again", DRAIN_TIMEOUT.as_secs())]
    Drain,
}

/// What a flow came to.
#[derive(Debug)]
pub struct FlowOutcome {
    pub totals: Totals,
    pub stopped: Vec<StoppedPartition>,
    /// Ended before its end, by a shutdown.
    pub interrupted: bool,
    /// Why what was copied in this run may be on the target twice; `None` where it is not.
    pub weakness: Option<String>,
}

impl FlowOutcome {
    /// Another instance has taken the flow over.
    pub fn is_superseded(&self) -> bool {
        self.stopped
            .iter()
            .any(|stopped| matches!(stopped.reason, Stopped::Superseded { .. }))
    }
}

#[derive(Debug, Clone)]
pub struct StoppedPartition {
    pub topic: Arc<str>,
    pub partition: i32,
    pub reason: Stopped,
}

/// A flow ready to run.
pub struct FlowRunner {
    source: Cluster,
    target: Cluster,
    ledger: LedgerStore,
    routes: Arc<Routes>,
    producers: LaneProducers,
    replicator: FlowReplicator,
    fetch_slots: HashMap<Slot, mpsc::Sender<FetchJob>>,
    produce_slots: HashMap<Slot, mpsc::Sender<ProduceJob>>,
    /// Of the slots. They end with the flow, and do not go on waiting for records that nobody wants.
    slot_tasks: JoinSet<()>,
    events: mpsc::Sender<Event>,
    inbox: mpsc::Receiver<Event>,
    /// Since when the ledger has refused checkpoints, and why it did last.
    ledger_trouble: Option<(Instant, String)>,
    perhaps_repeated: Option<String>,
    /// Another instance has the flow.
    superseded: bool,
}

impl FlowRunner {
    pub(super) fn new(
        source: Cluster,
        target: Cluster,
        ledger: LedgerStore,
        producers: LaneProducers,
        partitions: Vec<FlowPartition>,
        start: impl FnOnce(Vec<FlowPartition>) -> FlowReplicator,
    ) -> Self {
        let (events, inbox) = mpsc::channel(MAX_EVENTS);
        Self {
            source,
            target,
            ledger,
            routes: Arc::new(Routes::new(&partitions)),
            producers,
            replicator: start(partitions),
            fetch_slots: HashMap::new(),
            produce_slots: HashMap::new(),
            slot_tasks: JoinSet::new(),
            events,
            inbox,
            ledger_trouble: None,
            perhaps_repeated: None,
            superseded: false,
        }
    }

    /// Runs to the end, or until `shutdown` turns true and all that is on its way has arrived. In a task of its own: what is
    /// awaited in a program's main thread wakes, and is woken by, other threads for each event.
    pub async fn spawn(
        self,
        progress: Arc<Progress>,
        shutdown: watch::Receiver<bool>,
    ) -> Result<FlowOutcome, RunError> {
        let mut task = JoinSet::new(); // Which ends it, should nobody wait for it any more.
        task.spawn(self.run(progress, shutdown));
        match task.join_next().await.expect("a task was spawned") {
            Ok(outcome) => outcome,
            Err(ended) => panic::resume_unwind(ended.into_panic()),
        }
    }

    async fn run(
        mut self,
        progress: Arc<Progress>,
        mut shutdown: watch::Receiver<bool>,
    ) -> Result<FlowOutcome, RunError> {
        let mut drain_deadline: Option<Instant> = None;
        loop {
            let now = now();
            if *shutdown.borrow_and_update() && drain_deadline.is_none() {
                self.replicator.drain();
                drain_deadline = Some(now + DRAIN_TIMEOUT);
            }
            while let Some(action) = self.replicator.poll_action(now) {
                self.start(action);
            }
            self.report(&progress);
            if self.replicator.is_finished() {
                self.release().await;
                return Ok(self.outcome(drain_deadline.is_some()));
            }
            self.check_ledger(now)?;
            if drain_deadline.is_some_and(|deadline| now >= deadline) {
                return Err(RunError::Drain);
            }
            let wake = self
                .replicator
                .poll_timeout(now)
                .into_iter()
                .chain(drain_deadline)
                .min();
            tokio::select! {
                biased;
                event = self.inbox.recv() => self.take(event),
                () = sleep_until(wake) => {}
                () = asked_to_stop(&mut shutdown), if drain_deadline.is_none() => {}
            }
        }
    }

    /// Takes an event, and those that have queued up behind it.
    fn take(&mut self, first: Option<Event>) {
        let now = now();
        let mut next = first;
        while let Some(event) = next {
            match &event {
                Event::Checkpointed { cause: None, .. } => self.ledger_trouble = None,
                Event::Checkpointed { cause: Some(cause), .. } => {
                    let since = self.ledger_trouble.take().map_or(now, |(since, _)| since);
                    self.ledger_trouble = Some((since, cause.clone()));
                }
                _ => {}
            }
            self.replicator.handle(now, event);
            next = self.inbox.try_recv().ok();
        }
    }

    fn start(&mut self, action: Action) {
        match action {
            Action::Fetch(job) => self.start_fetch(job),
            Action::Produce(job) => self.start_produce(job),
            Action::RefreshMetadata(end) => self.start_refresh(end),
            Action::AskSourceRange(index) => self.start_ask_range(index),
            Action::Checkpoint(job) => self.start_checkpoint(job),
            Action::Recover(job) => self.start_recovery(job),
            Action::ConfirmOwnership => self.start_confirmation(),
        }
    }

    fn start_recovery(&mut self, job: RecoverJob) {
        let recovering = Recovering {
            source: self.source.clone(),
            target: self.target.clone(),
            ledger: self.ledger.clone(),
            routes: Arc::clone(&self.routes),
            producers: self.producers.clone(),
            events: self.events.clone(),
            logged: Arc::default(),
        };
        self.slot_tasks.spawn(recovering.run(job));
    }

    fn start_confirmation(&self) {
        let (ledger, events) = (self.ledger.clone(), self.events.clone());
        tokio::spawn(async move {
            let event = match ledger.confirm().await {
                Ok(()) => Event::Ownership { confirmed: true },
                Err(LedgerStoreError::Superseded { by, .. }) => Event::Superseded {
                    generation: by.generation,
                },
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "the ledger could not be asked who owns the flow");
                    Event::Ownership { confirmed: false }
                }
            };
            let _ = events.send(event).await; // No receiver: the flow has ended.
        });
    }

    /// Tells the next owner that nothing of ours, or of an earlier owner's, can come late. It is no harm if that can't be
    /// written: the next owner then finds out by itself.
    async fn release(&self) {
        if !self.replicator.is_quiet() || self.superseded {
            return;
        }
        if let Err(error) = self.ledger.release().await {
            tracing::info!(error = %chain(&error), "the flow could not be given up in the ledger");
        }
    }

    fn start_fetch(&mut self, job: FetchJob) {
        let slot = job.slot;
        let sender = self.fetch_slots.entry(slot).or_insert_with(|| {
            let (sender, jobs) = mpsc::channel(1);
            let (source, routes, events) = (self.source.clone(), Arc::clone(&self.routes), self.events.clone());
            self.slot_tasks
                .spawn(fetching::run_slot(slot, source, routes, jobs, events));
            sender
        });
        sender.try_send(job).expect("a slot has one fetch at a time");
    }

    fn start_produce(&mut self, job: ProduceJob) {
        let slot = job.slot;
        let sender = self.produce_slots.entry(slot).or_insert_with(|| {
            let (sender, jobs) = mpsc::channel(MAX_REQUESTS_IN_FLIGHT);
            let (target, routes, events) = (self.target.clone(), Arc::clone(&self.routes), self.events.clone());
            self.slot_tasks
                .spawn(producing::run_slot(slot, target, routes, jobs, events));
            sender
        });
        sender.try_send(job).expect("a slot has a bounded number of requests");
    }

    fn start_refresh(&self, end: End) {
        let cluster = match end {
            End::Source => self.source.clone(),
            End::Target => self.target.clone(),
        };
        let (routes, events) = (Arc::clone(&self.routes), self.events.clone());
        tokio::spawn(async move {
            let event = match cluster
                .refresh_metadata(TopicSelection::Names(routes.topics(end)))
                .await
            {
                Ok(metadata) => Event::Leaders {
                    end,
                    leaders: routes.leaders(end, &metadata),
                },
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "metadata could not be refreshed, trying again");
                    Event::RefreshFailed(end)
                }
            };
            let _ = events.send(event).await; // No receiver: the flow has ended.
        });
    }

    fn start_ask_range(&self, index: usize) {
        let route = self.routes.route(index);
        let partition = (Arc::clone(&route.topic), route.partition);
        let (source, events) = (self.source.clone(), self.events.clone());
        tokio::spawn(async move {
            match source_range(&source, partition).await {
                Ok((log_start, log_end)) => {
                    let event = Event::SourceRange {
                        partition: index,
                        log_start,
                        log_end,
                    };
                    let _ = events.send(event).await; // No receiver: the flow has ended.
                }
                // The partition's next fetch is refused again, and asks again.
                Err(error) => tracing::warn!(error = %chain(&error), "log range could not be asked"),
            }
        });
    }

    fn start_checkpoint(&self, mut job: CheckpointJob) {
        let lanes = ledger_records(&self.routes, self.ledger.owner(), &job);
        let (ledger, events) = (self.ledger.clone(), self.events.clone());
        tokio::spawn(async move {
            let (mut cause, mut superseded, mut failed_lanes) = (None, None, Vec::new());
            for (lane, result) in ledger.write(lanes).await {
                match result {
                    Ok(()) => drop(job.lanes.remove(&lane)),
                    Err(LedgerStoreError::Superseded { by, .. }) => superseded = Some(by.generation),
                    Err(error) => {
                        failed_lanes.push(lane);
                        cause = Some(chain(&error));
                    }
                }
            }
            if let Some(cause) = &cause {
                tracing::warn!(lanes = ?failed_lanes, error = %cause, "checkpoint was not written, trying again");
            }
            if let Some(generation) = superseded {
                let _ = events.send(Event::Superseded { generation }).await;
            }
            // No receiver: the flow has ended.
            let _ = events.send(Event::Checkpointed { failed: job, cause }).await;
        });
    }

    fn check_ledger(&self, now: Instant) -> Result<(), RunError> {
        match &self.ledger_trouble {
            Some((since, cause)) if now >= *since + LEDGER_PATIENCE => Err(RunError::Ledger {
                waited: now - *since,
                cause: cause.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Tells whoever watches how far it is, and logs each partition that has stopped, once.
    fn report(&mut self, progress: &Progress) {
        let totals = self.replicator.totals();
        progress.publish(ProgressNumbers {
            records: totals.records,
            bytes: totals.bytes,
            offsets: totals.offsets,
        });
        for (index, incident) in self.replicator.take_incidents() {
            self.tell(index, &incident);
        }
        for index in self.replicator.take_newly_stopped() {
            if let Some(StoppedPartition {
                topic,
                partition,
                reason,
            }) = self.stopped_partition(index)
            {
                match reason {
                    // One reason for all partitions, said once.
                    Stopped::Superseded { .. } if self.superseded => {}
                    Stopped::Superseded { .. } => {
                        self.superseded = true;
                        tracing::error!("{reason}");
                    }
                    _ => tracing::error!(%topic, partition, "partition stopped: {reason}"),
                }
            }
        }
    }

    fn tell(&mut self, index: usize, incident: &Incident) {
        let Route { topic, partition, .. } = self.routes.route(index);
        if let Incident::PerhapsRepeated(from, to) = incident {
            let range = format!("{topic} partition {partition}: source offsets {from} to {to} (exclusive)");
            self.perhaps_repeated.get_or_insert(range);
        }
        announce(topic, *partition, incident);
    }

    /// What keeps this run from exactly-once, if anything does.
    fn weakness(&self) -> Option<String> {
        let repeated = self.perhaps_repeated.as_ref();
        repeated
            .map(|range| format!("may be on the target twice: {range}"))
            .or_else(|| {
                self.producers.any_unfenced().then(|| {
                    "the transactional ids of the flow may not be used on the target, so older writers can't be fenced"
                        .to_owned()
                })
            })
    }

    fn stopped_partition(&self, index: usize) -> Option<StoppedPartition> {
        let reason = self.replicator.partition(index).stopped()?.clone();
        let route = self.routes.route(index);
        Some(StoppedPartition {
            topic: Arc::clone(&route.topic),
            partition: route.partition,
            reason,
        })
    }

    fn outcome(&self, interrupted: bool) -> FlowOutcome {
        FlowOutcome {
            totals: self.replicator.totals(),
            stopped: (0..self.routes.len())
                .filter_map(|index| self.stopped_partition(index))
                .collect(),
            interrupted,
            weakness: self.weakness(),
        }
    }
}

/// Waits until somebody asks for a stop; for ever, where nobody is left who could.
pub(super) async fn asked_to_stop(shutdown: &mut watch::Receiver<bool>) {
    if shutdown.wait_for(|asked| *asked).await.is_err() {
        std::future::pending().await
    }
}

pub(super) async fn source_range(
    source: &Cluster,
    partition: (Arc<str>, i32),
) -> Result<(SourceOffset, SourceOffset), ClusterError> {
    let ours = vec![partition.clone()];
    let start = all(source.list_offsets(ours.clone(), OffsetSpec::Earliest).await)?;
    let end = all(source
        .list_offsets(ours, OffsetSpec::Latest(Isolation::ReadUncommitted))
        .await)?;
    Ok((
        SourceOffset(start[&partition].offset),
        SourceOffset(end[&partition].offset),
    ))
}

fn ledger_records(routes: &Routes, owner: OwnerId, job: &CheckpointJob) -> BTreeMap<i32, Vec<LedgerRecord>> {
    let records_of = |(index, written): &(usize, PartitionCheckpoint)| {
        let route = routes.route(*index);
        let (topic, partition) = (route.topic.to_string(), route.partition);
        let mut records = Vec::new();
        for segment in &written.segments {
            records.push(LedgerRecord::Segment {
                topic: topic.clone(),
                partition,
                owner,
                segment: segment.clone(),
            });
        }
        records.push(LedgerRecord::Checkpoint {
            topic,
            partition,
            owner,
            checkpoint: written.checkpoint.clone(),
        });
        records.extend(written.gone.iter().cloned().map(LedgerRecord::Gone));
        records
    };
    job.lanes
        .iter()
        .map(|(lane, written)| (*lane, written.iter().flat_map(records_of).collect()))
        .collect()
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake.into()).await,
        None => std::future::pending().await,
    }
}
