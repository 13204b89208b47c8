//! What happens by the clock: who writes, who is killed, which broker goes down.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use kferry::protocol::ApiKey;
use kferry::replication::ledger::ledger_topic;

use crate::announcements::tell;
use crate::faults::FaultKind;
use crate::incarnation::Incarnation;
use crate::network::End;
use crate::simulation::Simulation;
use crate::world::locked;

/// Brokers forget producers whose records are older (`producer.id.expiration.ms`).
const PRODUCER_EXPIRATION_MS: i64 = 86_400_000;

/// One thing to do.
#[derive(Debug, Clone)]
pub(crate) enum Deed {
    Write(usize),
    /// A new incarnation begins.
    Start,
    /// All incarnations are asked to end.
    ShutDown,
    Befall(FaultKind),
    /// A broker is up again.
    Return(End, i32),
    /// Partitions without a leader get one.
    Elect(End),
    FindCoordinators(End),
    /// A stopped incarnation goes on.
    Continue(usize),
    /// Nothing goes wrong any more, and nobody begins to write.
    EndFaults,
    EndTransactions,
}

/// What is to be done when.
#[derive(Debug, Default)]
pub(crate) struct Plan(BTreeMap<i64, VecDeque<Deed>>);

impl Plan {
    pub(crate) fn add(&mut self, at: i64, deed: Deed) {
        self.0.entry(at).or_default().push_back(deed);
    }

    pub(crate) fn next(&self) -> Option<i64> {
        self.0.first_key_value().map(|(at, _)| *at)
    }

    pub(crate) fn pop(&mut self, now: i64) -> Option<Deed> {
        let mut first = self.0.first_entry().filter(|first| *first.key() <= now)?;
        let deed = first.get_mut().pop_front();
        if first.get().is_empty() {
            first.remove();
        }
        deed
    }
}

impl Simulation {
    pub(crate) fn make_plan(&mut self) {
        let (writers, active_ms) = (self.writers.len(), self.options.active_ms);
        let mut times: Vec<i64> = (0..self.options.steps)
            .map(|_| self.random.within(0..active_ms))
            .collect();
        times.extend((0..self.options.steps_before).map(|_| 0));
        for at in times {
            let writer = self.random.index(writers);
            self.plan.add(at, Deed::Write(writer));
        }
        self.plan.add(1, Deed::Start);
        for (kind, rate) in self.options.faults.clone() {
            if kind == FaultKind::Slow {
                self.coverage.count(kind, ""); // The network's doing, from the first byte on.
            }
            if kind.is_of_requests() || matches!(kind, FaultKind::Slow | FaultKind::SentBeforeDeath) {
                continue;
            }
            for _ in 0..rate as i64 {
                // More of them early, when more is under way.
                let at = match self.random.chance(0.5) {
                    true => self.random.scale(1..active_ms),
                    false => self.random.within(1..active_ms),
                };
                self.plan.add(at, Deed::Befall(kind));
            }
        }
        self.plan.add(active_ms, Deed::EndFaults);
    }

    pub(crate) fn carry_out(&mut self, deed: Deed) {
        let network = Arc::clone(&self.network);
        match deed {
            Deed::Write(writer) => {
                let subjects = self.options.subjects.clone();
                self.writers[writer].step(&mut self.source, &subjects, &mut locked(&network));
            }
            Deed::Start => self.start_incarnation(),
            Deed::ShutDown => self.incarnations.values().for_each(Incarnation::shut_down),
            Deed::Befall(kind) => self.befall(kind),
            Deed::Return(end, broker) => self.bring_back(end, broker),
            Deed::Elect(end) => self.elect(end),
            Deed::FindCoordinators(end) => self.cluster(end).core.move_coordinators(),
            Deed::Continue(number) => self.go_on(number),
            Deed::EndFaults => self.end_faults(),
            Deed::EndTransactions => self.end_transactions(),
        }
        for cluster in [&mut self.source, &mut self.target] {
            cluster.poll(&mut locked(&network));
        }
    }

    fn befall(&mut self, kind: FaultKind) {
        let now = self.now();
        let end = self.random.pick(&[End::Source, End::Target]);
        let a_while = self.random.scale(10..15_000);
        let what = end.name();
        tell(|| format!("{kind:?} {what} {a_while}"));
        let has_happened = match kind {
            FaultKind::Parted => {
                let incarnations: Vec<usize> = self.incarnations.keys().copied().collect();
                for incarnation in incarnations {
                    locked(&self.network).part(incarnation, end, now + a_while);
                }
                true
            }
            FaultKind::Restart => self.restart(end, now + a_while),
            FaultKind::LeaderMoved => self.change_leader(end, true),
            FaultKind::LeaderAway => {
                self.plan.add(now + a_while, Deed::Elect(end));
                self.change_leader(end, false)
            }
            FaultKind::CoordinatorMoved => {
                self.cluster(end).core.move_coordinators();
                true
            }
            FaultKind::CoordinatorAway => {
                self.cluster(end).core.lose_coordinators();
                self.plan.add(now + a_while, Deed::FindCoordinators(end));
                true
            }
            FaultKind::ProducersForgotten => {
                let may_forget = self.may_forget(end);
                if may_forget {
                    self.cluster(end).core.expire_producers(PRODUCER_EXPIRATION_MS);
                }
                may_forget
            }
            FaultKind::LedgerCompacted => {
                let lane = self.random.index(self.options.lanes as usize) as i32;
                let ledger = ledger_topic("source", "target");
                self.target.core.compact(&ledger, lane).is_ok()
            }
            FaultKind::SourceCompacted => {
                let compacted = self.options.subjects.iter().filter(|subject| subject.is_compacted);
                for subject in compacted {
                    for partition in 0..subject.partitions {
                        self.source
                            .core
                            .compact(&subject.name, partition)
                            .expect("a topic of ours");
                    }
                }
                true
            }
            FaultKind::Retention => self.delete_copied(),
            FaultKind::SourceCutBack => self.cut_source_back(false),
            FaultKind::SourceTailLost => self.cut_source_back(true),
            FaultKind::Killed => self.kill(),
            FaultKind::KilledAt => {
                // Counted when it happens.
                let api = self.random.pick(&AMBUSHES);
                let after = self.random.scale(1..30) as u64;
                self.ambush = Some((api, after));
                return;
            }
            FaultKind::Stopped => self.stop(now + a_while),
            FaultKind::Rival => {
                if self.incarnations.len() == 1 {
                    self.start_incarnation();
                }
                true
            }
            _ => unreachable!("{kind:?} befalls requests"),
        };
        if has_happened {
            let what = match kind {
                FaultKind::SourceCutBack | FaultKind::SourceTailLost => "source",
                _ => what,
            };
            self.coverage.count(kind, what);
        }
    }

    fn now(&self) -> i64 {
        locked(&self.network).now()
    }

    /// Ends an incarnation without a word. Another one starts some time later.
    pub(crate) fn kill(&mut self) -> bool {
        let numbers: Vec<usize> = self.incarnations.keys().copied().collect();
        let now = self.now();
        if numbers.is_empty() {
            return false;
        }
        let number = self.random.pick(&numbers);
        tell(|| format!("incarnation {number} is killed"));
        self.remove(number);
        let start = now + self.random.scale(5..10_000);
        if self.random.chance(self.options.rate(FaultKind::SentBeforeDeath)) {
            self.coverage.count(FaultKind::SentBeforeDeath, "");
            let until = now + self.random.scale(10..20_000);
            tell(|| format!("what it has sent arrives at {until}"));
            locked(&self.network).hold(number, until);
        }
        if numbers.len() == 1 {
            self.plan.add(start, Deed::Start);
        }
        true
    }

    /// Stops an incarnation; another one starts meanwhile.
    fn stop(&mut self, until: i64) -> bool {
        let now = self.now();
        let Some((number, incarnation)) = self.incarnations.iter_mut().find(|(_, one)| !one.is_stopped(now)) else {
            return false;
        };
        incarnation.stopped_until = until;
        self.plan.add(until, Deed::Continue(*number));
        if self.incarnations.len() == 1 {
            let start = self.random.scale(1..10_000);
            self.plan.add(now + start, Deed::Start);
        }
        true
    }

    fn go_on(&mut self, number: usize) {
        let now = self.now();
        if let Some(incarnation) = self.incarnations.get_mut(&number) {
            tell(|| format!("incarnation {number} goes on"));
            incarnation.stopped_until = 0;
            incarnation.wake_at(now);
        }
    }

    pub(crate) fn a_broker(&mut self, end: End) -> i32 {
        let brokers = self.cluster(end).brokers();
        self.random.within(1..i64::from(brokers) + 1) as i32
    }

    /// A broker goes down. What it leads goes to another one, or waits for it.
    fn restart(&mut self, end: End, until: i64) -> bool {
        let broker = self.a_broker(end);
        locked(&self.network).take_down(end, broker, until);
        for (topic, partition) in self.led_by(end, Some(broker)) {
            let others: Vec<i32> = (1..=self.cluster(end).brokers())
                .filter(|other| *other != broker)
                .collect();
            let fails_over = !others.is_empty() && self.random.chance(0.7);
            let leader = fails_over.then(|| self.random.pick(&others));
            self.cluster(end)
                .core
                .move_leader(&topic, partition, leader)
                .expect("it exists");
        }
        self.cluster(end).core.close_connections(broker);
        self.plan.add(until, Deed::Return(end, broker));
        true
    }

    fn bring_back(&mut self, end: End, broker: i32) {
        for (topic, partition) in self.led_by(end, None) {
            self.cluster(end)
                .core
                .move_leader(&topic, partition, Some(broker))
                .expect("it exists");
        }
        let expiration_ms = match self.may_forget(end) {
            true => PRODUCER_EXPIRATION_MS,
            false => i64::MAX,
        };
        self.cluster(end).core.restart_broker(broker, expiration_ms);
    }

    /// What was sent before an owner lost its flow, and arrives when the leader has forgotten the next one's producer, is
    /// appended: nothing protects from that, and it is not asked of anybody.
    fn may_forget(&self, end: End) -> bool {
        end == End::Source || !locked(&self.network).others_have_sent(self.started.saturating_sub(1))
    }

    /// Another broker leads a partition, or none.
    fn change_leader(&mut self, end: End, to_another: bool) -> bool {
        let partitions = self.partitions(end);
        if partitions.is_empty() {
            return false;
        }
        let (topic, partition) = partitions[self.random.index(partitions.len())].clone();
        let leader = to_another.then(|| self.a_broker(end));
        self.cluster(end)
            .core
            .move_leader(&topic, partition, leader)
            .expect("it exists");
        true
    }

    fn elect(&mut self, end: End) {
        for (topic, partition) in self.led_by(end, None) {
            let leader = self.a_broker(end);
            self.cluster(end)
                .core
                .move_leader(&topic, partition, Some(leader))
                .expect("it exists");
        }
    }

    /// Retention deletes what the target holds.
    fn delete_copied(&mut self) -> bool {
        let mut has_deleted = false;
        for subject in self
            .options
            .subjects
            .clone()
            .iter()
            .filter(|subject| !subject.is_compacted)
        {
            for partition in 0..subject.partitions {
                let judge = self.judge.partition(&subject.name, partition).expect("it exists");
                let place = self.random.index(judge.arrived() + 1);
                if let Some(first) = judge.committed().get(place).filter(|_| place < judge.arrived()) {
                    let first = first.offset;
                    let deleted = self.source.core.delete_records(&subject.name, partition, first);
                    deleted.expect("it exists");
                    has_deleted = true;
                }
            }
        }
        has_deleted
    }

    /// Another broker leads a partition of the source, and has never had its last batches. Markers it has: without them
    /// transactions would stay open that their coordinator takes for ended.
    fn cut_source_back(&mut self, in_silence: bool) -> bool {
        // Of a compacted topic nobody can tell what was cut back from what the cleaner has taken.
        let subjects = self.options.subjects.iter().filter(|subject| !subject.is_compacted);
        let subjects: Vec<_> = subjects.cloned().collect();
        if subjects.is_empty() {
            return false;
        }
        let subject = &subjects[self.random.index(subjects.len())];
        let partition = self.random.index(subject.partitions as usize) as i32;
        let found = self.source.core.partition(&subject.name, partition).expect("it exists");
        let batches = found.log.batches().rev();
        let ends: Vec<i64> = batches
            .take_while(|batch| !batch.header.is_control())
            .map(|batch| batch.header.base_offset())
            .collect();
        let Some(leader) = found.leader.filter(|_| !ends.is_empty()) else {
            return false;
        };
        let end = self.random.pick(&ends);
        // What was copied since the last checkpoint is not told from what comes in its place.
        if in_silence && self.judge.checkpointed(&subject.name, partition) <= end {
            return false;
        }
        tell(|| {
            format!(
                "{} partition {partition} of the source is cut back to {end}",
                subject.name
            )
        });
        let judge = self.judge.partition(&subject.name, partition).expect("it exists");
        judge.cut_source_back(end);
        self.cut_back_at = Some(self.now());
        let core = &mut self.source.core;
        if in_silence {
            core.lose_tail(&subject.name, partition, end).expect("it exists");
            core.close_connections(leader);
            return true;
        }
        core.truncate(&subject.name, partition, end).expect("it exists");
        let next = self.a_broker(End::Source);
        let moved = self.source.core.move_leader(&subject.name, partition, Some(next));
        moved.expect("it exists");
        true
    }

    pub(crate) fn partitions(&mut self, end: End) -> Vec<(String, i32)> {
        let topics = self.cluster(end).core.topics().iter();
        topics
            .flat_map(|topic| (0..topic.partitions.len() as i32).map(|index| (topic.name.to_string(), index)))
            .collect()
    }

    fn led_by(&mut self, end: End, leader: Option<i32>) -> Vec<(String, i32)> {
        let mut partitions = self.partitions(end);
        let core = &self.cluster(end).core;
        partitions.retain(|(topic, index)| core.partition(topic, *index).is_ok_and(|found| found.leader == leader));
        partitions
    }

    fn end_faults(&mut self) {
        tell(|| "faults end".to_owned());
        self.faults_are_over = true;
        self.ambush = None;
        locked(&self.network).heal();
        for end in [End::Source, End::Target] {
            self.cluster(end).core.move_coordinators();
            self.elect(end);
        }
        let stopped: Vec<usize> = self.incarnations.keys().copied().collect();
        for number in stopped {
            self.go_on(number);
        }
        self.end_transactions();
    }

    fn end_transactions(&mut self) {
        let network = Arc::clone(&self.network);
        let network = &mut locked(&network);
        let mut all_ended = true;
        for writer in &mut self.writers {
            all_ended &= writer.finish(&mut self.source, network);
        }
        if !all_ended {
            self.plan.add(network.now() + 100, Deed::EndTransactions);
        }
    }
}

/// Where processes are killed on purpose.
const AMBUSHES: [ApiKey; 12] = [
    ApiKey::Produce,
    ApiKey::Produce,
    ApiKey::Produce,
    ApiKey::Fetch,
    ApiKey::Fetch,
    ApiKey::ListOffsets,
    ApiKey::DescribeProducers,
    ApiKey::InitProducerId,
    ApiKey::AddPartitionsToTxn,
    ApiKey::EndTxn,
    ApiKey::FindCoordinator,
    ApiKey::CreateTopics,
];
