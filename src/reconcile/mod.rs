//! The control plane: desired and actual state, the plan between them, and its application.
//!
//! Pure: what the clusters have comes in as values, a plan comes out as one. `service` asks and applies.

pub mod configs;
pub mod groups;
pub mod topics;
