//! What kferry reads and writes itself of the Kafka wire protocol.
//!
//! The `kafka-protocol` crate does most of the wire. Ours is what it cannot do safely or fast enough: records pass
//! through as slices of the frame they came in, and no count that a peer claims decides how much memory is reserved.
//!
//! | module | what it does |
//! |---|---|
//! | [`primitives`] | the protocol's scalar types: a bounded reader, and writers of varints |
//! | [`encoding`] | plain and flexible bodies; what fetch and produce responses share |
//! | [`error_code`] | every error code, its name, and what it calls for |
//! | [`versions`] | which versions of each API we speak |
//! | [`frame`] | frame lengths, request and response headers |
//! | [`fetch_response`] | scans a fetch response in place |
//! | [`produce_request`] | writes a produce request around payloads that it does not copy |
//! | [`produce_response`] | decodes a produce response |
//! | [`bounds`] | walks the other responses, and requests, before the crate decodes them |

pub mod bounds;
#[cfg(test)]
mod damage;
pub mod encoding;
pub mod error_code;
pub mod fetch_response;
pub mod frame;
pub mod primitives;
pub mod produce_request;
pub mod produce_response;
mod request_schemas;
mod response_schemas;
pub mod versions;

pub use kafka_protocol::messages::ApiKey;
