//! The data plane as state machines without I/O: time comes in as `now`, bytes as values, outcomes as events.
//!
//! | file | what it decides |
//! |---|---|
//! | [`fate`] | what becomes of a batch, from its header |
//! | [`prepare`] | turns what a fetch brought into batches ready to produce |
//! | [`coalesce`] | puts small batches together, where a backlog of them has built up |
//! | [`partition`] | fetched -> prepared -> produced -> acked -> checkpointed, for one partition |
//! | [`flow`] | which partitions fetch and produce together on which connection, and when |
//! | [`budget`], [`rate`] | bytes held in memory, bytes taken a second |
//! | [`recovery`] | where a dead incarnation came to, and how to go on |
//! | [`forgetting`] | which batches a leader may forget the producer of |
//! | [`fence`] | shuts out whoever writes under an older epoch |
//! | [`epochs`] | from where on a source that was cut back has become another |
//! | [`ledger`] | what is remembered on the target |
//!
//! The order that everything here keeps: `checkpointed <= acked <= produced <= fetched`.

pub mod aborted;
pub mod budget;
pub mod coalesce;
pub mod epochs;
pub mod fate;
pub mod fence;
pub mod flow;
pub mod forgetting;
pub mod ledger;
pub mod partition;
pub mod prepare;
pub mod rate;
pub mod recovery;
pub mod stopped;
