//! Many seeds, on as many threads as there are processors.
//!
//! | environment variable | |
//! |---|---|
//! | `KFERRY_SIMULATION_SEED` | runs this seed only |
//! | `KFERRY_SIMULATION_SEEDS` | runs so many, from the first one on |
//! | `KFERRY_SIMULATION_FIRST` | the first one; without it the fixed set and then others, which are new each time |
//! | `KFERRY_SIMULATION_LOG` | prints everything as it happens; sensible with one seed |

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    pub(crate) incarnations: usize,
    pub(crate) arrivals: u64,
    pub(crate) simulated_ms: i64,
    pub(crate) slowest: Option<(Duration, Seed)>,
    pub(crate) longest: Option<(i64, Seed)>,
}

/// How long to go on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Extent {
    Seeds(u64),
    /// Seeds from the first one on until the time is over.
    Time(Duration),
}

const MOST_FAILURES: usize = 20;

#[expect(clippy::disallowed_methods, reason = "how long it takes is what is asked")]
fn now() -> Instant {
    Instant::now()
}

/// Runs seeds from `first` on.
pub(crate) fn run(first: Seed, extent: Extent) -> Campaign {
    let began = now();
    let next = AtomicU64::new(first.0);
    let is_over = AtomicBool::new(false);
    let campaign = Mutex::new(Campaign::default());
    let work = || {
        while !is_over.load(Ordering::Relaxed) {
            let seed = Seed(next.fetch_add(1, Ordering::Relaxed));
            let goes_on = match extent {
                Extent::Seeds(count) => seed.0 < first.0 + count,
                Extent::Time(time) => began.elapsed() < time,
            };
            if !goes_on {
                return;
            }
            let began = now();
            let outcome = Simulation::new(seed).run();
            let failures = locked(&campaign).take(seed, outcome, began.elapsed());
            is_over.fetch_or(failures >= MOST_FAILURES, Ordering::Relaxed);
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

/// What to do about a failure.
pub(crate) fn replay(seed: Seed, violation: &Violation) -> String {
    format!(
        "seed {seed} failed: {violation}\n  again: KFERRY_SIMULATION_SEED={seed} cargo test --test simulation seeds -- \
         --nocapture"
    )
}
