//! Snappy as Kafka has it.
//!
//! Java clients put Snappy blocks into the framing of the xerial library; librdkafka and franz-go write one raw Snappy
//! block instead. Consumers take both, so both are read, and xerial framing is written.

use snap::raw::{Decoder, Encoder, decompress_len, max_compress_len};

use super::{Cause, Failure};
use crate::protocol::primitives::Reader;

/// The magic of the framing, with the version and the oldest version that reads it.
const HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
/// How many of the header's bytes tell framing from a raw block.
const MAGIC_LEN: usize = 8;
/// What the xerial library compresses at a time.
const BLOCK_SIZE: usize = 32 * 1024;
/// No Snappy element makes more of its bytes than a copy of 64 bytes, which takes 3.
const MAX_EXPANSION: usize = 22;

pub(super) fn decompress(input: &[u8], limit: usize) -> Result<Vec<u8>, Failure> {
    let mut output = Vec::new();
    if !input.starts_with(&HEADER[..MAGIC_LEN]) {
        append_block(&mut output, input, limit)?;
        return Ok(output);
    }
    let mut frame = Reader::new(input);
    frame.take(HEADER.len())?;
    while !frame.is_empty() {
        let len = frame.u32()? as usize;
        append_block(&mut output, frame.take(len)?, limit)?;
    }
    Ok(output)
}

fn append_block(output: &mut Vec<u8>, block: &[u8], limit: usize) -> Result<(), Failure> {
    let (start, len) = (output.len(), decompress_len(block)?);
    if len > limit - start {
        return Err(Failure::TooLarge);
    }
    if len > block.len() * MAX_EXPANSION {
        return Err(Failure::Malformed("a block claims to be longer than it can be".into()));
    }
    output.resize(start + len, 0);
    Decoder::new().decompress(block, &mut output[start..])?;
    Ok(())
}

pub(super) fn compress(input: &[u8]) -> Result<Vec<u8>, Cause> {
    let mut encoder = Encoder::new();
    let mut output = HEADER.to_vec();
    for block in input.chunks(BLOCK_SIZE) {
        let start = output.len() + 4;
        output.resize(start + max_compress_len(block.len()), 0);
        let len = encoder.compress(block, &mut output[start..])?;
        output[start - 4..start].copy_from_slice(&(len as u32).to_be_bytes());
        output.truncate(start + len);
    }
    Ok(output)
}
