//! Record batches: checked header, scan, patch, re-encode, codecs.
//!
//! Reads and writes Kafka's record batch format (magic 2, KIP-98) and reads its predecessors (magic 0 and 1). Most batches
//! are never opened: they are found, looked at from the front, and given another header.
//!
//! | module | what it does |
//! |---|---|
//! | [`scan`](mod@scan) | finds the batches in a fetch response |
//! | [`header`] | answers everything about a batch from its first 61 bytes |
//! | [`patch`] | makes a header that the target accepts before the same payload |
//! | [`crc`] | computes CRCs, and adjusts one to a changed header |
//! | [`decode`](mod@decode), [`encode`] | the records inside |
//! | [`codec`] | how they are compressed |
//! | [`reencode`](mod@reencode) | writes new batches where a patched header will not do |
//! | [`coalesce`] | puts neighbouring batches together |
//! | [`legacy`] | makes batches of messages in the older formats |
//! | [`control`] | the markers that end a transaction |
//!
//! What becomes of a batch is decided in `replication`, not here.
//!
//! Everything read comes from a peer: lengths and counts are checked before they are believed, nothing is allocated
//! because a header claims it, and no input panics.

pub mod coalesce;
pub mod codec;
pub mod control;
pub mod crc;
pub mod decode;
pub mod encode;
#[cfg(test)]
mod golden;
pub mod header;
pub mod legacy;
pub mod patch;
pub mod reencode;
pub mod scan;

pub use coalesce::{Merged, Merger, Pushed};
pub use codec::{Codec, CodecError, UnknownCodec};
pub use control::{ControlType, control_batch};
pub use decode::{DecodeLimits, Decoded, Headers, Record, RecordError, Records, decode, decode_payload, records};
pub use encode::{BatchBuilder, BatchOptions, EncodeError};
pub use header::{BatchHeader, HEADER_LEN, HeaderError, LOG_OVERHEAD, TimestampType};
pub use legacy::{LegacyEntry, LegacyError};
pub use patch::ProducerStamp;
pub use reencode::{OffsetRange, ReencodeError, ReencodeOptions, Reencoded, reencode};
pub use scan::{CrcMismatch, RawBatch, Scan, ScanError, Scanned, scan};
