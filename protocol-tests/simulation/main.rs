//! Seeded simulation: the production code between two clusters in one thread, in which everything that can go wrong does.
//!
//! A seed says how large the clusters are, who writes what, which faults there are and when; the same seed gives the same
//! run, byte for byte. `cargo test --test simulation` runs a fixed set of seeds and then others, which are new each time,
//! and prints what to call to see a failure again. With an optimized build it is some twenty times as fast:
//! `cargo test --release --test simulation`.
//!
//! | environment variable | |
//! |---|---|
//! | `KFERRY_SIMULATION_SEED` | runs this seed only |
//! | `KFERRY_SIMULATION_SEEDS` | runs so many new ones |
//! | `KFERRY_SIMULATION_FIRST` | the first of these; without it chance chooses it |
//! | `KFERRY_SIMULATION_LOG` | prints everything as it happens; sensible with one seed |
//!
//! | file | what is in it |
//! |---|---|
//! | [`simulation`] | the loop: time, arrivals, what is due |
//! | [`options`], [`seed`] | what a seed draws |
//! | [`workload`] | writers at the source |
//! | [`faults`], [`deeds`] | what goes wrong, and when |
//! | [`network`], [`clusters`] | links, and the sandbox's clusters at their ends |
//! | [`incarnation`], [`world`] | the replicator, and the world that it sees |
//! | [`announcements`], [`hearing`] | what it says, and what that leads to |
//! | [`judge`] | what has to be so at every moment |
//! | [`campaign`] | many seeds |

mod announcements;
mod campaign;
mod clusters;
mod deeds;
mod faults;
mod hearing;
mod incarnation;
mod judge;
mod network;
mod options;
mod seed;
mod simulation;
mod workload;
mod world;

use campaign::Campaign;
use faults::FaultKind;
use seed::Seed;
use simulation::Simulation;

/// How many of a fixed set, and how many new ones.
const FIXED: u64 = 150;
const NEW: u64 = 100;

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name}={value} is not a number")),
    )
}

fn check(campaign: &Campaign) {
    eprintln!("{campaign}");
    assert!(campaign.failures.is_empty(), "see above how to run these seeds again");
}

#[test]
fn seeds() {
    if let Some(seed) = variable("KFERRY_SIMULATION_SEED") {
        let simulation = Simulation::new(Seed(seed));
        eprintln!("{:#?}", simulation.options);
        match simulation.run() {
            Ok(report) => return eprintln!("{report:#?}"),
            Err(violation) => panic!("{violation}"),
        }
    }
    let first = variable("KFERRY_SIMULATION_FIRST").unwrap_or_else(|| fastrand::u64(..1 << 40));
    if let Some(count) = variable("KFERRY_SIMULATION_SEEDS") {
        return check(&campaign::run((first..first + count).map(Seed)));
    }
    let fixed = campaign::run((1..=FIXED).map(Seed));
    check(&fixed);
    for kind in FaultKind::ALL {
        assert!(fixed.coverage.of(kind) > 0, "{kind:?} has never befallen anybody");
    }
    assert!(fixed.coalesced > 0);
    eprintln!("new seeds, from {first} on");
    check(&campaign::run((first..first + NEW).map(Seed)));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 1..=20 {
        let run = || {
            Simulation::new(Seed(seed))
                .run()
                .map(|report| (report.trace, report.arrivals, report.simulated_ms))
        };
        let (one, other) = (run(), run());
        assert_eq!(
            one.map_err(|v| v.to_string()),
            other.map_err(|v| v.to_string()),
            "seed {seed}"
        );
    }
}
