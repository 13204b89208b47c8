//! One run: a source and a target, writers, and incarnations of the replicator between them, until everything has arrived.
//!
//! The loop knows when the next thing is due: bytes that arrive, a deadline of a cluster, a deed of the plan. It lets every
//! incarnation go on until then, does the thing, and asks the judge.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use kferry::cluster::ClusterConfig;
use kferry::protocol::ApiKey;
use kferry::protocol::error_code::ErrorCode;
use kferry::reconcile::topics::TopicSelection;
use kferry::replication::ledger::ledger_topic;
use kferry::replication::partition::Policies;
use kferry::sandbox::core::{Effect, Fault, Settings};
use kferry::service::copy::{CopyRequest, StartFrom};

use crate::announcements::{self, tell};
use crate::clusters::SimulatedCluster;
use crate::deeds::{Deed, Plan};
use crate::faults::{Coverage, FaultKind, api_name, refusals};
use crate::incarnation::{Ended, Incarnation};
use crate::judge::{Invariant, Judge, Rules, Violation, violation};
use crate::network::{Arrival, End, LinkId, Network, damaged};
use crate::options::Options;
use crate::seed::{Random, Seed};
use crate::workload::Writer;
use crate::world::{SharedNetwork, locked};

/// How long after the last fault everything has to have arrived.
const PATIENCE_MS: i64 = 600_000;

/// Between the end of an incarnation and the start of the next.
const RESTART_MS: i64 = 1_000;

/// For how long an incarnation that has nothing to do is let run.
const GRACE_MS: i64 = 20_000;

/// How long it may take until an incarnation looks at the source: it may wait for an answer that never comes, and again.
const NOTICE_MS: i64 = 120_000;

/// What a run came to.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    pub(crate) trace: u64,
    pub(crate) arrivals: u64,
    pub(crate) records: usize,
    pub(crate) repeated: usize,
    /// Batches of the source, by incarnations that came to an end.
    pub(crate) coalesced: u64,
    pub(crate) incarnations: usize,
    pub(crate) simulated_ms: i64,
    /// From the last fault to the last record.
    pub(crate) recovered_ms: i64,
    /// Partitions that are out of order, which was said.
    pub(crate) holes: usize,
    pub(crate) coverage: Coverage,
}

/// See the module.
pub(crate) struct Simulation {
    pub(crate) seed: Seed,
    pub(crate) options: Options,
    pub(crate) network: SharedNetwork,
    pub(crate) source: SimulatedCluster,
    pub(crate) target: SimulatedCluster,
    pub(crate) judge: Judge,
    pub(crate) writers: Vec<Writer>,
    /// By number; those that are gone are not in it.
    pub(crate) incarnations: BTreeMap<usize, Incarnation>,
    coalesced: u64,
    pub(crate) started: usize,
    started_at: i64,
    /// When the source has last lost something.
    pub(crate) cut_back_at: Option<i64>,
    pub(crate) plan: Plan,
    pub(crate) coverage: Coverage,
    pub(crate) random: Random,
    /// Kills at the so-manieth request of an API.
    pub(crate) ambush: Option<(ApiKey, u64)>,
    pub(crate) faults_are_over: bool,
    /// Some incarnation has ended in good order, with everything copied.
    has_ended_well: bool,
    /// What could not be kept was said.
    pub(crate) has_said_so: bool,
}

impl Simulation {
    /// Everything as the seed draws it.
    pub(crate) fn new(seed: Seed) -> Self {
        Self::with(seed, Options::draw(seed))
    }

    pub(crate) fn with(seed: Seed, options: Options) -> Self {
        let settings = |number: u64| Settings {
            marker_delay_ms: options.marker_delay_ms,
            ..Settings::seeded(2 * seed.0 + number)
        };
        let network = Network::new(options.delays, Random::new(seed, "network"));
        let writers = (0..).zip(&options.writers).map(|(number, (kind, habits))| {
            let random = Random::new(seed, &format!("writer {number}"));
            Writer::new(number, *kind, *habits, random)
        });
        let mut simulation = Self {
            seed,
            network: Arc::new(Mutex::new(network)),
            source: SimulatedCluster::new(End::Source, settings(1), options.source_brokers),
            target: SimulatedCluster::new(End::Target, settings(2), options.target_brokers),
            judge: Judge::new(ledger_topic("source", "target")),
            writers: writers.collect(),
            incarnations: BTreeMap::new(),
            coalesced: 0,
            started: 0,
            started_at: 0,
            cut_back_at: None,
            plan: Plan::default(),
            coverage: Coverage::default(),
            random: Random::new(seed, "faults"),
            ambush: None,
            faults_are_over: false,
            has_ended_well: false,
            has_said_so: false,
            options,
        };
        simulation.create_topics();
        simulation.make_plan();
        simulation
    }

    fn create_topics(&mut self) {
        let network = Arc::clone(&self.network);
        let network = &mut locked(&network);
        for subject in self.options.subjects.clone() {
            let configs: &[(&str, &str)] = match subject.is_compacted {
                true => &[("cleanup.policy", "compact")],
                false => &[],
            };
            self.source
                .create_topic(&subject.name, subject.partitions, configs, network);
            let rules = Rules {
                source_is_compacted: subject.is_compacted,
                is_followed: self.options.follow,
            };
            for partition in 0..subject.partitions {
                self.judge.add(&subject.name, partition, rules);
            }
        }
        let ledger = ledger_topic("source", "target");
        self.target
            .create_topic(&ledger, self.options.lanes, &[("cleanup.policy", "compact")], network);
    }

    /// Runs until everything has arrived, and whoever runs has ended in good order.
    pub(crate) fn run(mut self) -> Result<Report, Violation> {
        announcements::listen();
        let mut ended_at = None;
        loop {
            let now = self.step()?;
            self.hear()?;
            if self.has_said_so {
                return Ok(self.report(now));
            }
            if !self.faults_are_over {
                continue;
            }
            if now > self.options.active_ms + PATIENCE_MS {
                return self.too_long();
            }
            if self.judge.is_complete() && ended_at.is_none() {
                ended_at = Some(now);
                tell(|| "everything has arrived".to_owned());
            }
            if ended_at.is_some() && now > self.may_end_at() {
                self.incarnations.values().for_each(Incarnation::shut_down);
            }
            if self.incarnations.is_empty() && self.has_ended_well {
                break;
            }
        }
        self.judge.conclude(&self.source.core)?;
        Ok(self.report(ended_at.unwrap_or(0)))
    }

    fn report(&self, ended_at: i64) -> Report {
        let network = locked(&self.network);
        Report {
            trace: network.trace(),
            arrivals: network.arrivals(),
            records: self.judge.partitions().map(|(_, judge)| judge.committed().len()).sum(),
            repeated: self.judge.partitions().map(|(_, judge)| judge.repeated()).sum(),
            coalesced: self.coalesced,
            incarnations: self.started,
            simulated_ms: network.now(),
            recovered_ms: ended_at - self.options.active_ms,
            holes: self
                .judge
                .partitions()
                .filter(|(_, judge)| judge.hole().is_some())
                .count(),
            coverage: self.coverage.clone(),
        }
    }

    /// When whatever an incarnation can notice has been noticed.
    fn may_end_at(&self) -> i64 {
        let noticed = self.cut_back_at.map_or(0, |at| at + NOTICE_MS);
        noticed.max(self.started_at + GRACE_MS)
    }

    fn too_long(&self) -> Result<Report, Violation> {
        let open = self.judge.partitions().filter(|(_, judge)| !judge.is_complete());
        let open: Vec<String> = open
            .map(|(_, judge)| format!("{}: {} of {}", judge.name(), judge.arrived(), judge.committed().len()))
            .collect();
        let alive: Vec<_> = self.incarnations.keys().collect();
        violation(
            Invariant::Live,
            format!(
                "{PATIENCE_MS} ms after the last fault incarnations {alive:?} run, {}",
                open.join(", ")
            ),
        )
    }

    /// Goes on to the next thing that is due, and does it. Says what time it is then.
    fn step(&mut self) -> Result<i64, Violation> {
        let due = self.next_due();
        self.run_incarnations(due)?;
        let network = Arc::clone(&self.network);
        let due = {
            let mut network = locked(&network);
            let due = network.next_arrival().map_or(due, |arrival| arrival.min(due));
            let due = due.max(network.now());
            network.set_now(due);
            due
        };
        announcements::set_now(due);
        while let Some((link, arrival)) = { locked(&network).pop() } {
            self.arrive(link, arrival, &mut locked(&network));
            self.look()?;
            self.die_in_ambush();
        }
        for cluster in [&mut self.source, &mut self.target] {
            if cluster.next_deadline().is_some_and(|deadline| deadline <= due) {
                cluster.poll(&mut locked(&network));
            }
        }
        self.look()?;
        while let Some(deed) = self.plan.pop(due) {
            self.carry_out(deed);
            self.look()?;
        }
        Ok(due)
    }

    fn next_due(&self) -> i64 {
        let times = [
            locked(&self.network).next_arrival(),
            self.source.next_deadline(),
            self.target.next_deadline(),
            self.plan.next(),
        ];
        let now = locked(&self.network).now();
        // Incarnations wait for their own timers only: in steps, so that an end of theirs is noticed.
        let times = times.into_iter().flatten().chain([now + 1_000]);
        times.min().expect("at least one").max(now)
    }

    fn run_incarnations(&mut self, due: i64) -> Result<(), Violation> {
        let now = locked(&self.network).now();
        let numbers: Vec<usize> = self.incarnations.keys().copied().collect();
        for number in numbers {
            let incarnation = self.incarnations.get_mut(&number).expect("it is there");
            if incarnation.is_stopped(now) {
                continue;
            }
            let ended = incarnation.run_until(due);
            if let Some(panic) = announcements::take_panic() {
                return violation(Invariant::Sound, format!("incarnation {number} panicked: {panic}"));
            }
            if let Some(ended) = ended {
                self.end(number, ended)?;
            }
        }
        Ok(())
    }

    /// An incarnation has ended by itself.
    fn end(&mut self, number: usize, ended: Ended) -> Result<(), Violation> {
        self.remove(number);
        let summary = match ended {
            Err(error) => return violation(Invariant::Sound, format!("incarnation {number}: {error}")),
            Ok(summary) => summary,
        };
        match &summary {
            Ok(summary) => {
                self.coalesced += summary.outcome.totals.coalesced;
                let stopped = &summary.outcome.stopped;
                let stopped: Vec<String> = stopped.iter().map(|stopped| stopped.reason.to_string()).collect();
                tell(|| format!("incarnation {number} has ended: {stopped:?}"));
                // Somebody may have shut it down for what an earlier one had said.
                let has_looked = !self.options.follow || locked(&self.network).now() > self.may_end_at();
                self.has_ended_well =
                    self.faults_are_over && self.judge.is_complete() && stopped.is_empty() && has_looked;
            }
            Err(error) => tell(|| format!("incarnation {number} has failed: {}", chain(error))),
        }
        if self.incarnations.is_empty() && !self.has_ended_well {
            let at = locked(&self.network).now() + RESTART_MS;
            self.plan.add(at, Deed::Start);
        }
        Ok(())
    }

    /// A process is gone. In which order it drops what it has is not to matter.
    pub(crate) fn remove(&mut self, number: usize) {
        locked(&self.network).bury(number);
        drop(self.incarnations.remove(&number));
    }

    fn arrive(&mut self, id: LinkId, mut arrival: Arrival, network: &mut Network) {
        let Some(link) = network.link(id) else { return };
        let (end, incarnation) = (link.end, link.incarnation);
        let Arrival::Request(request) = &arrival else {
            return self.cluster(end).handle(id, arrival, network);
        };
        let api = i16::from_be_bytes(*request.first_chunk().expect("a whole request"));
        let api = ApiKey::try_from(api).expect("a request that we know");
        if self.befalls(FaultKind::RequestLost, api) {
            return network.cut(id);
        }
        if self.befalls(FaultKind::Silence, api) {
            // Whether this request still arrives nobody knows.
            let arrives = self.random.chance(0.5);
            network.silence(id);
            if !arrives {
                return;
            }
        }
        let codes = refusals(api);
        if !codes.is_empty() && self.befalls(FaultKind::Refused, api) {
            let code: ErrorCode = self.random.pick(codes);
            self.cluster(end).core.arm(Fault::new(api, Effect::Refuse(code)));
        }
        let is_damaged = self.random.chance(self.rate(FaultKind::Damaged));
        if is_damaged {
            tell(|| format!("Damaged: {api:?}"));
        }
        if is_damaged && let Some(damaged) = damaged(request) {
            self.coverage.count(FaultKind::Damaged, api_name(api));
            arrival = Arrival::Request(damaged);
        }
        let ends = (end == End::Target && api == ApiKey::Produce && self.befalls(FaultKind::Unreplicated, api))
            .then(|| self.target_ends());
        self.cluster(end).handle(id, arrival, network);
        self.cluster(end).core.disarm();
        if let Some(ends) = ends {
            network.cut(id);
            self.cut_back(ends);
        }
        if is_damaged && network.damage(id) {
            self.coverage.count(FaultKind::Damaged, api_name(api));
        }
        if self.befalls(FaultKind::ResponseLost, api) {
            network.cut(id);
        }
        if let Some((ambushed, left)) = &mut self.ambush
            && *ambushed == api
            && self.incarnations.contains_key(&incarnation)
        {
            *left = left.saturating_sub(1);
        }
    }

    fn target_ends(&mut self) -> Vec<((String, i32), i64)> {
        let partitions = self.partitions(End::Target);
        let core = &self.target.core;
        let end =
            |(topic, index): &(String, i32)| core.partition(topic, *index).map_or(0, |found| found.log.end_offset());
        partitions
            .into_iter()
            .map(|partition| (partition.clone(), end(&partition)))
            .collect()
    }

    /// Other leaders are elected for what has grown since, and have nothing of it.
    fn cut_back(&mut self, ends: Vec<((String, i32), i64)>) {
        for ((topic, index), end) in ends {
            let found = self.target.core.partition(&topic, index);
            if found.is_ok_and(|found| found.log.end_offset() > end) {
                self.target.core.truncate(&topic, index, end).expect("it exists");
                let leader = self.a_broker(End::Target);
                let moved = self.target.core.move_leader(&topic, index, Some(leader));
                moved.expect("it exists");
            }
        }
    }

    fn die_in_ambush(&mut self) {
        if let Some((api, 0)) = self.ambush {
            self.ambush = None;
            self.coverage.count(FaultKind::KilledAt, api_name(api));
            self.kill();
        }
    }

    fn befalls(&mut self, kind: FaultKind, api: ApiKey) -> bool {
        let befalls = self.random.chance(self.rate(kind));
        if befalls {
            self.coverage.count(kind, api_name(api));
            tell(|| format!("{kind:?}: {api:?}"));
        }
        befalls
    }

    fn rate(&self, kind: FaultKind) -> f64 {
        match self.faults_are_over {
            true => 0.0,
            false => self.options.rate(kind),
        }
    }

    pub(crate) fn cluster(&mut self, end: End) -> &mut SimulatedCluster {
        match end {
            End::Source => &mut self.source,
            End::Target => &mut self.target,
        }
    }

    /// What has changed is as it should be.
    fn look(&mut self) -> Result<(), Violation> {
        self.judge.look_at_source(&self.source.core);
        self.hear()?;
        self.judge.look_at_target(&self.target.core)
    }

    /// Starts another incarnation.
    pub(crate) fn start_incarnation(&mut self) {
        let number = self.started;
        self.started += 1;
        tell(|| format!("incarnation {number} starts"));
        let random = Random::new(self.seed, &format!("incarnation {number}"));
        let brokers = (self.source.brokers(), self.target.brokers());
        let (follow, memory, coalescing) = (self.options.follow, self.options.memory, self.options.coalescing);
        let request = |source: ClusterConfig, target: ClusterConfig, instance| CopyRequest {
            source,
            target,
            topics: TopicSelection {
                include: "topic-.*".parse().expect("a pattern"),
                exclude: kferry::config::Patterns::none(),
                prefix: String::new(),
                same_cluster: false,
            },
            start: StartFrom::Earliest,
            follow,
            replication_factor: -1,
            create: true,
            max_rate: None,
            memory,
            coalescing,
            policies: Policies {
                truncation: self.options.on_truncation,
                ..Policies::default()
            },
            instance,
            groups: None,
        };
        let incarnation = Incarnation::start(number, &self.network, random, brokers, request);
        self.started_at = locked(&self.network).now();
        self.incarnations.insert(number, incarnation);
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    kferry::replication::stopped::chain(error)
}
