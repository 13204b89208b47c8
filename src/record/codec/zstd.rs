//! Zstandard: in Rust, or by libzstd with the cargo feature `zstd`.

#[cfg(feature = "zstd")]
pub(super) use libzstd::{compress, decompress};
#[cfg(not(feature = "zstd"))]
pub(super) use rust::{compress, decompress};

#[cfg(not(feature = "zstd"))]
mod rust {
    use super::super::{Cause, Failure, read_up_to};

    /// On JSON this encoder's level 1 is both faster and smaller than its level 3.
    const LEVEL: i32 = 1;

    /// Block by block: decompressing in one go would reserve what the frame header claims.
    pub(in super::super) fn decompress(input: &[u8], limit: usize) -> Result<Vec<u8>, Failure> {
        read_up_to(limit, zrip::FrameDecoder::new(input))
    }

    pub(in super::super) fn compress(input: &[u8]) -> Result<Vec<u8>, Cause> {
        Ok(zrip::compress(input, LEVEL)?)
    }
}

#[cfg(feature = "zstd")]
mod libzstd {
    use super::super::{Cause, Failure, read_up_to};

    /// The default of Kafka's producers.
    const LEVEL: i32 = 3;

    pub(in super::super) fn decompress(input: &[u8], limit: usize) -> Result<Vec<u8>, Failure> {
        read_up_to(limit, zstd::stream::read::Decoder::with_buffer(input)?)
    }

    pub(in super::super) fn compress(input: &[u8]) -> Result<Vec<u8>, Cause> {
        Ok(zstd::bulk::compress(input, LEVEL)?)
    }
}
