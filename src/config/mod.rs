//! Properties as written, and configuration as meant. Pure: `cli` reads the files.

pub mod client;
pub mod pattern;
pub mod properties;
pub mod size;

pub use client::ClientProperties;
pub use pattern::{Patterns, PatternsError};
