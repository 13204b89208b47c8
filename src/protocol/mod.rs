//! What kferry reads and writes itself of the Kafka wire protocol.
//!
//! The `kafka-protocol` crate does most of the wire. Ours is what it cannot do safely or fast enough: records pass
//! through as slices of the frame they came in, and no count that a peer claims decides how much memory is reserved.
//!
//! | module | what it does |
//! |---|---|
//! | [`primitives`] | the protocol's scalar types: a bounded reader, and writers of varints |
//! | [`error_code`] | every error code, its name, and what it calls for |

pub mod error_code;
pub mod primitives;
