//! Messages in the formats before record batches (magic 0 and 1).

use bytes::Bytes;

/// One entry of a message set: a message, or a compressed message that wraps a set of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyEntry {
    /// Of the message, or of the last one inside a compressed message.
    pub offset: i64,
    /// The whole entry, with offset and size at its front.
    pub bytes: Bytes,
}
