//! Zstandard: in Rust, or by libzstd with the cargo feature `zstd`.

#[cfg(feature = "zstd")]
pub(super) use libzstd::{compress, decompress};
#[cfg(not(feature = "zstd"))]
pub(super) use rust::{compress, decompress};

#[cfg(not(feature = "zstd"))]
mod rust {
    use zrip::FrameDecoder;

    use super::super::{Cause, Failure, read_up_to};

    /// More than records usually make of their compressed bytes.
    const USUAL_EXPANSION: usize = 64;

    /// On JSON this encoder's level 1 is both faster and smaller than its level 3.
    const LEVEL: i32 = 1;

    /// In one go if that works: it is up to twice as fast, but reserves what the frame header claims. What claims or makes
    /// more than usual, or is damaged, is decompressed block by block.
    pub(in super::super) fn decompress(input: &[u8], limit: usize) -> Result<Vec<u8>, Failure> {
        let usual = input.len().saturating_mul(USUAL_EXPANSION);
        match zrip::decompress_with_limit(input, limit.min(usual)) {
            Ok(output) => Ok(output),
            Err(_) => read_up_to(limit, FrameDecoder::new(input)),
        }
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
