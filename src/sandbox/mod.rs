//! A small Kafka in memory, for the demo and for tests.

mod connection;
pub mod core;
pub mod groups;
mod server;

pub use server::{Sandbox, SandboxOptions};
