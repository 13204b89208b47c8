//! `kferry copy` while everything around it, and it itself, dies, hangs and comes back; between real brokers.
//!
//! The claim is always the same: what the target shows to readers who do not care about transactions, read by Kafka's own
//! client, is every record that was committed at the source, once, in order, and nothing else. `KFERRY_CHAOS_ROUNDS`
//! repeats each scenario, by default once; what each has done is printed with `--nocapture`.

#[path = "../kafka/mod.rs"]
mod kafka;
#[path = "../replication/kferry.rs"]
mod kferry;

mod brokers;
mod data;
mod disk;
mod killing;
mod owners;
mod proxy;

/// How often each scenario is played.
fn rounds() -> usize {
    match std::env::var("KFERRY_CHAOS_ROUNDS") {
        Ok(rounds) => rounds.parse().expect("KFERRY_CHAOS_ROUNDS is a number"),
        Err(_) => 1,
    }
}

/// What happens at a moment that chance chooses, and to whoever sleeps, has no event to wait for.
#[expect(clippy::disallowed_methods, reason = "chance chooses the moment")]
fn pause(time: std::time::Duration) {
    std::thread::sleep(time);
}
