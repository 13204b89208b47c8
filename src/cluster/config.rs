//! Whom to connect to, and how long to wait for what.

use std::sync::Arc;
use std::time::Duration;

use super::backoff::BackoffRange;
use super::buffer_pool::BufferPool;
use super::error::Side;
use super::world::{RealWorld, World};

/// How a cluster is reached. [`ClusterConfig::new`] fills in the defaults, which are those of Kafka's own clients
/// where those have them.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    pub side: Side,
    /// The cluster's name in the configuration, for messages.
    pub alias: String,
    /// `host:port` of some brokers. The others are found through them.
    pub bootstrap: Vec<String>,
    pub client_id: String,
    /// For one broker: name resolution and all its addresses together.
    pub connect_timeout: Duration,
    /// For one answer, from the first byte sent to the last byte read, on top of the time for which the broker was
    /// asked to hold it back (a fetch's `max_wait_ms`, a produce request's and an admin call's `timeout_ms`).
    pub request_timeout: Duration,
    /// For as long as no broker at all can be reached, before that is an error.
    pub reach_timeout: Duration,
    /// For one admin call, all attempts together.
    pub admin_timeout: Duration,
    /// How old metadata may grow before it is asked for again.
    pub metadata_max_age: Duration,
    /// Waits between attempts of every kind.
    pub backoff: BackoffRange,
    /// Where large frames are read into. Give clusters the same pool for one bound over all.
    pub buffers: BufferPool,
    pub world: Arc<dyn World>,
}

impl ClusterConfig {
    pub fn new(side: Side, alias: impl Into<String>, bootstrap: Vec<String>) -> Self {
        Self {
            side,
            alias: alias.into(),
            bootstrap,
            client_id: "kferry".to_owned(),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            reach_timeout: Duration::from_secs(30),
            admin_timeout: Duration::from_secs(60),
            metadata_max_age: Duration::from_secs(300),
            backoff: BackoffRange::default(),
            buffers: BufferPool::default(),
            world: Arc::new(RealWorld),
        }
    }
}
