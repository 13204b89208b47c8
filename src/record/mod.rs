//! Record batches: checked header, scan, patch, re-encode, codecs.
//!
//! Reads and writes Kafka's record batch format (magic 2, KIP-98) and reads its predecessors (magic 0 and 1). Most batches
//! are never opened: [`scan()`] finds them in a fetch response, [`BatchHeader`] answers everything about one from its
//! first 61 bytes, and [`patch::for_produce`] makes a header the target accepts, with the payload untouched. What cannot
//! go as it is (gaps, too large, an older format) is decoded and written anew by [`reencode`] and [`legacy`].
//!
//! What becomes of a batch is decided in `replication`, not here.
//!
//! Everything read comes from a peer: lengths and counts are checked before they are believed, nothing is allocated
//! because a header claims it, and no input panics.

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

pub use codec::{Codec, CodecError, UnknownCodec};
pub use control::{ControlType, control_batch};
pub use decode::{DecodeLimits, Decoded, Headers, Record, RecordError, Records, decode, records};
pub use encode::{BatchBuilder, BatchOptions, EncodeError};
pub use header::{BatchHeader, HEADER_LEN, HeaderError, LOG_OVERHEAD, TimestampType};
pub use legacy::{LegacyEntry, LegacyError};
pub use patch::ProducerStamp;
pub use reencode::{OffsetRange, ReencodeError, ReencodeOptions, Reencoded, reencode};
pub use scan::{CrcMismatch, RawBatch, Scan, ScanError, Scanned, scan};
