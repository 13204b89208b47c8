//! `kferry copy` while everything around it, and it itself, dies, hangs and comes back; between real brokers.
//!
//! The claim is always the same: what the target shows to readers who do not care about transactions, read by Kafka's own
//! client, is every record that was committed at the source, once, in order, and nothing else. `KFERRY_CHAOS_ROUNDS`
//! repeats each scenario, by default once; what each has done is printed with `--nocapture`.

#[path = "../kafka/mod.rs"]
mod kafka;
#[path = "../replication/kferry.rs"]
mod kferry;

use std::time::Duration;

use kafka::{KafkaCluster, Version, shared};

mod answers;
mod brokers;
mod data;
mod disk;
mod killing;
mod members;
mod owners;
mod proxy;
mod storm;

/// The longest that a kferry is left alone before it is killed.
const LONGEST_RUN: Duration = Duration::from_secs(3);

/// A target that looks every second, and not every ten minutes, which writers it may forget: those of records that are older
/// than a day.
const FORGETFUL: &[(&str, &str)] = &[("producer.id.expiration.check.interval.ms", "1000")];

/// How often each scenario is played.
fn rounds() -> usize {
    match std::env::var("KFERRY_CHAOS_ROUNDS") {
        Ok(rounds) => rounds.parse().expect("KFERRY_CHAOS_ROUNDS is a number"),
        Err(_) => 1,
    }
}

/// A broker of the other release, for the side that is left alone.
fn other(version: Version) -> &'static KafkaCluster {
    shared(match version {
        Version::V4 => Version::V3,
        Version::V3 | Version::V2 => Version::V4,
    })
}

/// A time from 5 ms to `longest`, all magnitudes alike.
fn by_magnitude(longest: Duration) -> Duration {
    const SHORTEST: f64 = 0.005;
    let magnitudes = longest.as_secs_f64() / SHORTEST;
    Duration::from_secs_f64(SHORTEST * magnitudes.powf(fastrand::f64()))
}

/// What happens at a moment that chance chooses, and to whoever sleeps, has no event to wait for.
#[expect(clippy::disallowed_methods, reason = "chance chooses the moment")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}
