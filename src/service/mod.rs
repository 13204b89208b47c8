//! Runs flows: tokio tasks, timers and shutdown around the pure cores.
//!
//! | file | what it does |
//! |---|---|
//! | [`copy`] | one `kferry copy` from connecting to the summary |
//! | [`runner`] | drives a flow's state machine: carries its actions out, brings events back |
//! | [`fetching`], [`producing`] | the task of one source slot, of one target slot |
//! | [`ledger`] | the ledger topic: made, read, written |
//! | [`recovering`] | takes partitions over where a dead incarnation has left them |
//! | [`incidents`] | what is told of partitions that go on |
//! | [`flow_map`] | the offset maps that a flow's ledger has, for questions |
//! | [`groups`] | moves consumer groups |
//! | [`verify`] | compares source and target through the offset map |
//! | [`reader`] | a partition's records from one offset to another |
//! | [`topics`] | asks both clusters for topics, applies what is planned for the target |
//! | [`progress`] | numbers for whoever watches |

pub mod copy;
mod fetching;
pub mod flow_map;
pub mod groups;
mod incidents;
pub mod ledger;
mod producing;
pub mod progress;
pub mod reader;
mod recovering;
mod routes;
pub mod runner;
mod topics;
pub mod verify;

/// The one place in this folder that reads the clock.
#[expect(clippy::disallowed_methods, reason = "an I/O folder; timers need the clock")]
fn now() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}
