//! What one seed enables: sizes, habits, and a random subset of the faults with random rates ("swarm testing": what is
//! always on hides what only shows without it).

use std::collections::BTreeMap;

use kferry::replication::coalesce::Coalescing;
use kferry::replication::partition::OnChange;

use crate::faults::FaultKind;
use crate::network::Delays;
use crate::seed::{Random, Seed};
use crate::workload::{Habits, Kind, Subject, Times};

/// See the module. All times are in milliseconds.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) source_brokers: i32,
    pub(crate) target_brokers: i32,
    pub(crate) marker_delay_ms: i64,
    pub(crate) lanes: i32,
    pub(crate) subjects: Vec<Subject>,
    pub(crate) writers: Vec<(Kind, Habits)>,
    /// Batches and ends of transactions before the copy begins, and until the writers end.
    pub(crate) steps_before: i64,
    pub(crate) steps: i64,
    /// When writers, and faults, come to their end.
    pub(crate) active_ms: i64,
    pub(crate) follow: bool,
    pub(crate) memory: usize,
    pub(crate) coalescing: Coalescing,
    /// What an operator wants where the source has lost what was copied. Once it has stopped, it is to go on.
    pub(crate) on_truncation: OnChange,
    pub(crate) delays: Delays,
    /// For a fault of requests how likely it is, for another one how often it comes.
    pub(crate) faults: BTreeMap<FaultKind, f64>,
}

impl Options {
    pub(crate) fn draw(seed: Seed) -> Self {
        let random = &mut Random::new(seed, "options");
        let habits = |random: &mut Random| Habits {
            most_records: random.scale(1..20),
            largest_value: random.scale(1..2000),
            times: random.pick(&[Times::Now, Times::Now, Times::Old, Times::Both]),
            keys: random.scale(2..20),
            codecs: 1 + random.index(5),
        };
        let subjects: Vec<Subject> = (0..random.scale(1..4))
            .map(|number| Subject {
                name: format!("topic-{number}"),
                partitions: random.scale(1..4) as i32,
                is_compacted: random.chance(0.15),
            })
            .collect();
        let mut writers = Vec::new();
        for _ in 0..random.scale(1..6) {
            let kind = random.pick(&[Kind::Plain, Kind::Idempotent, Kind::Transactional, Kind::Transactional]);
            writers.push((kind, habits(random)));
        }
        let usual = random.scale(1..20);
        let mut options = Self {
            source_brokers: random.within(1..4) as i32,
            target_brokers: random.within(1..4) as i32,
            marker_delay_ms: random.pick(&[0, 2, 2, 50, 1000]),
            lanes: random.pick(&[1, 1, 2, 3, 8]),
            subjects,
            writers,
            steps_before: random.scale(1..100),
            steps: random.scale(1..300),
            active_ms: random.scale(1_000..60_000),
            follow: random.chance(0.7),
            memory: random.pick(&[1 << 20, 16 << 20, 256 << 20]),
            coalescing: random.pick(&[Coalescing::Auto, Coalescing::Auto, Coalescing::Never]),
            on_truncation: random.pick(&[OnChange::Stop, OnChange::Continue]),
            delays: Delays {
                usual: (1, usual),
                long: (20, 4_000),
                chance_of_long: 0.0,
                chance_of_pieces: random.pick(&[0.0, 0.0, 0.1]),
            },
            faults: BTreeMap::new(),
        };
        options.draw_faults(random);
        options
    }

    fn draw_faults(&mut self, random: &mut Random) {
        // One seed in ten is all well.
        let share = random.pick(&[0.0, 0.1, 0.1, 0.2, 0.2, 0.2, 0.3, 0.3, 0.5, 0.7]);
        for kind in FaultKind::ALL {
            let is_enabled = random.chance(share);
            let rate = match kind {
                _ if kind.is_of_requests() => random.scale(1..200) as f64 / 2_000.0,
                FaultKind::Slow => random.scale(1..100) as f64 / 1_000.0,
                FaultKind::SentBeforeDeath => random.scale(10..100) as f64 / 100.0,
                _ => random.scale(1..10) as f64,
            };
            if is_enabled {
                self.faults.insert(kind, rate);
            }
        }
        if self.faults.contains_key(&FaultKind::SourceTailLost) {
            // What is lost in silence is not told from what is lost aloud above it.
            for louder in [
                FaultKind::SourceCutBack,
                FaultKind::LeaderMoved,
                FaultKind::LeaderAway,
                FaultKind::Restart,
            ] {
                self.faults.remove(&louder);
            }
        }
        if self.faults.contains_key(&FaultKind::SourceCompacted) {
            self.subjects[0].is_compacted = true;
        }
        self.delays.chance_of_long = self.rate(FaultKind::Slow);
    }

    /// 0 where the fault is not enabled.
    pub(crate) fn rate(&self, kind: FaultKind) -> f64 {
        self.faults.get(&kind).copied().unwrap_or(0.0)
    }
}
