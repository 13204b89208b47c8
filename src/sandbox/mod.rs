//! A small Kafka in memory, for the demo and for tests.

pub mod groups;
