//! Many seeds, on as many threads as there are processors.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::faults::Coverage;
use crate::judge::Violation;
use crate::seed::Seed;
use crate::simulation::{Report, Simulation};
use crate::world::locked;

/// What a campaign came to.
#[derive(Debug, Default)]
pub(crate) struct Campaign {
    pub(crate) runs: u64,
    pub(crate) failures: BTreeMap<Seed, Violation>,
    pub(crate) coverage: Coverage,
    pub(crate) records: usize,
    pub(crate) repeated: usize,
    pub(crate) coalesced: u64,
    pub(crate) holes: usize,
    pub(crate) incarnations: usize,
    pub(crate) arrivals: u64,
    pub(crate) simulated_ms: i64,
    pub(crate) slowest: Option<(Duration, Seed)>,
    pub(crate) longest: Option<(i64, Seed)>,
}

const MOST_FAILURES: usize = 20;

#[expect(clippy::disallowed_methods, reason = "how long it takes is what is asked")]
fn now() -> Instant {
    Instant::now()
}

/// Runs them all, or until there is enough to see to.
pub(crate) fn run(seeds: impl Iterator<Item = Seed> + Send) -> Campaign {
    let seeds = Mutex::new(seeds);
    let campaign = Mutex::new(Campaign::default());
    let work = || {
        loop {
            let Some(seed) = locked(&seeds).next() else { return };
            let began = now();
            let outcome = Simulation::new(seed).run();
            if locked(&campaign).take(seed, outcome, began.elapsed()) >= MOST_FAILURES {
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    campaign.into_inner().expect("no thread has panicked")
}

impl Campaign {
    fn take(&mut self, seed: Seed, outcome: Result<Report, Violation>, took: Duration) -> usize {
        self.runs += 1;
        self.slowest = self.slowest.max(Some((took, seed)));
        match outcome {
            Ok(report) => {
                self.coverage.add(&report.coverage);
                self.records += report.records;
                self.repeated += report.repeated;
                self.coalesced += report.coalesced;
                self.holes += report.holes;
                self.incarnations += report.incarnations;
                self.arrivals += report.arrivals;
                self.simulated_ms += report.simulated_ms;
                self.longest = self.longest.max(Some((report.recovered_ms, seed)));
            }
            Err(violation) => {
                eprintln!("{}", replay(seed, &violation));
                self.failures.insert(seed, violation);
            }
        }
        self.failures.len()
    }
}

impl fmt::Display for Campaign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.coverage)?;
        writeln!(
            f,
            "{} seeds, {} incarnations, {} records ({} announced as twice there), {} batches coalesced, {} arrivals in {} \
             simulated hours; {} partitions found out of order and said to be",
            self.runs,
            self.incarnations,
            self.records,
            self.repeated,
            self.coalesced,
            self.arrivals,
            self.simulated_ms / 3_600_000,
            self.holes
        )?;
        if let Some((took, seed)) = self.slowest {
            writeln!(f, "the slowest seed, {seed}, took {took:?}")?;
        }
        if let Some((ms, seed)) = self.longest {
            writeln!(f, "seed {seed} took {ms} simulated ms to recover from its last fault")?;
        }
        Ok(())
    }
}

/// What to do about a failure.
pub(crate) fn replay(seed: Seed, violation: &Violation) -> String {
    format!(
        "seed {seed} failed: {violation}\n  again: KFERRY_SIMULATION_SEED={seed} cargo test --test simulation seeds -- \
         --nocapture"
    )
}
