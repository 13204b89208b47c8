//! Seeded simulation: the production code between two clusters in one thread, in which everything that can go wrong does.

mod announcements;
mod campaign;
mod clusters;
mod deeds;
mod faults;
mod incarnation;
mod judge;
mod network;
mod options;
mod seed;
mod simulation;
mod workload;
mod world;

use campaign::Extent;
use seed::Seed;
use simulation::Simulation;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn seeds() {
    if let Some(seed) = variable("KFERRY_SIMULATION_SEED") {
        let simulation = Simulation::new(Seed(seed));
        eprintln!("{:#?}", simulation.options);
        match simulation.run() {
            Ok(report) => eprintln!("{report:#?}"),
            Err(violation) => panic!("{violation}"),
        }
        return;
    }
    let first = variable("KFERRY_SIMULATION_FIRST").unwrap_or(1);
    let extent =
        variable("KFERRY_SIMULATION_SEEDS").map_or(Extent::Time(std::time::Duration::from_secs(20)), Extent::Seeds);
    let campaign = campaign::run(Seed(first), extent);
    eprintln!("{}", campaign.coverage);
    eprintln!("{campaign:#?}");
    assert!(campaign.failures.is_empty());
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in variable("KFERRY_SAME").map_or(1..=20, |s| s..=s) {
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
