//! kferry carries Kafka record batches from one cluster to another, unopened.
//!
//! The folders follow the data, and each may use only those below it (`sandbox` stands apart: it uses `record` and
//! `protocol`, and only `cli` and the tests use it). Folders marked *I/O* open sockets and read clocks; the others are
//! pure: what they know comes in as a value.
//!
//! | folder | what it does |
//! |---|---|
//! | [`cli`] | one file for each subcommand: parses, calls, prints (I/O) |
//! | [`service`] | runs a flow: tokio tasks, timers, shutdown; drives the cores below (I/O) |
//! | [`reconcile`] | what the target should look like: topics, partitions, configs |
//! | [`replication`] | what becomes of a batch, and the state of each partition on its way |
//! | [`offsets`] | which target offset a source offset has become |
//! | [`cluster`] | one cluster: connections, metadata, fetch, produce, admin calls (I/O) |
//! | [`record`] | record batches: header, scan, patch, re-encode, codecs |
//! | [`protocol`] | what we read and write ourselves of the wire |
//! | [`config`] | properties as written, configuration as meant |
//! | [`telemetry`] | logs |
//! | [`sandbox`] | a small Kafka in memory, for the demo and for tests (I/O at its edge) |

pub mod cli;
pub mod cluster;
pub mod config;
pub mod offsets;
pub mod protocol;
pub mod reconcile;
pub mod record;
pub mod replication;
pub mod sandbox;
pub mod service;
pub mod telemetry;
