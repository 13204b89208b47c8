//! `kferry copy` end to end: between real brokers, judged by clients that are not ours; and between sandboxes, where
//! faults can be had on demand.
//!
//! The claim of nearly every test: what the target shows to readers who do not care about transactions equals what the
//! source shows to those who do, in partition, order, key, value, headers and timestamp, and there is nothing else.

#[path = "../kafka/mod.rs"]
mod kafka;

mod coalescing;
mod faults;
mod groups;
mod judges;
mod kferry;
mod limits;
mod losses;
mod offsets;
mod pair;
mod records;
mod refusals;
mod resuming;
mod sandboxes;
mod sizes;
mod timestamps;
mod topics;
mod transactions;
mod truncation;
mod verifying;
mod wire_faults;
