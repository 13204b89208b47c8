//! The codecs a batch's records may be compressed with.

/// How the records of a batch are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// Why compressing or decompressing failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("compression codec {0} is not known")]
    Unknown(i16),
}

impl Codec {
    /// From the attributes of a batch or of a message, whose lowest three bits name the codec.
    pub fn from_attributes(attributes: i16) -> Result<Self, CodecError> {
        match attributes & 0x07 {
            0 => Ok(Self::None),
            1 => Ok(Self::Gzip),
            2 => Ok(Self::Snappy),
            3 => Ok(Self::Lz4),
            4 => Ok(Self::Zstd),
            unknown => Err(CodecError::Unknown(unknown)),
        }
    }
}
