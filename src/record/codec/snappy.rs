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

#[cfg(test)]
mod tests {
    use super::super::Codec;
    use super::*;

    #[test]
    fn a_raw_block_is_read_too() {
        let input = b"raw raw raw raw raw".repeat(10_000);
        let block = Encoder::new().compress_vec(&input).unwrap();

        assert_eq!(Codec::Snappy.decompress(&block, input.len()).unwrap(), input);
        assert!(Codec::Snappy.decompress(&block, input.len() - 1).is_err());
    }

    #[test]
    fn a_claimed_length_reserves_nothing() {
        // A block that claims 2^31 - 1 bytes.
        let lie = [0xFF, 0xFF, 0xFF, 0xFF, 0x07, 0x00, b'x'];

        assert!(matches!(decompress(&lie, 1 << 40), Err(Failure::Malformed(_))));
        assert!(matches!(decompress(&lie, 1 << 20), Err(Failure::TooLarge)));
    }

    #[test]
    fn what_compresses_best_is_not_taken_for_a_lie() {
        let input = vec![0; 10 << 20];
        let block = Encoder::new().compress_vec(&input).unwrap();

        assert!(decompress(&block, input.len()).is_ok_and(|output| output == input));
    }

    #[test]
    fn a_frame_cut_anywhere_but_between_blocks_is_an_error() {
        let input = b"0123456789abcdef".repeat(4096);
        let frame = compress(&input).unwrap();
        let first_block = HEADER.len() + 4 + u32::from_be_bytes(frame[16..20].try_into().unwrap()) as usize;

        for length in 1..frame.len() {
            let cut = decompress(&frame[..length], input.len());
            assert_eq!(cut.is_ok(), length == first_block || length == HEADER.len(), "{length}");
        }
    }
}
