//! LZ4 frames as Kafka has them: independent blocks, written with 64 KiB each.
//!
//! The frame is our own, the blocks are lz4_flex's. Its frame decoder takes a frame that has been cut between two blocks
//! for a whole one, and sets aside the largest block that the header allows (up to 4 MiB) for whatever small batch.
//!
//! No checksum of the frame is verified. The batch's CRC has covered the same bytes, and what clients of Kafka 0.8 and 0.9
//! wrote as the header's checksum is wrong (KIP-57).

use lz4_flex::block::{
    CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size as max_compress_len,
};

use super::{Cause, Failure};
use crate::protocol::primitives::{Reader, WireError};

const MAGIC: u32 = 0x184D_2204;
/// How much of a frame's input each block holds.
const BLOCK_SIZE: usize = 64 * 1024;
/// Version 1, independent blocks, no checksums; blocks of 64 KiB; the descriptor's checksum.
const DESCRIPTOR: [u8; 3] = [0x60, 0x40, 0x82];
/// Set in a block's length when it is stored as it is.
const STORED: u32 = 1 << 31;
/// A byte of LZ4 stands for 255 bytes at most.
const MAX_EXPANSION: usize = 255;

/// The flags that begin a frame's descriptor.
mod flag {
    pub(super) const VERSION_MASK: u8 = 0xC0;
    pub(super) const VERSION_1: u8 = 0x40;
    pub(super) const INDEPENDENT_BLOCKS: u8 = 0x20;
    pub(super) const BLOCK_CHECKSUM: u8 = 0x10;
    pub(super) const CONTENT_SIZE: u8 = 0x08;
    pub(super) const DICTIONARY: u8 = 0x01;
}

/// Decompresses one frame. What follows it is ignored, as Kafka does.
pub(super) fn decompress(input: &[u8], limit: usize) -> Result<Vec<u8>, Failure> {
    let mut frame = Reader::new(input);
    let (flags, max_block) = descriptor(&mut frame)?;
    let mut output = Vec::new();
    loop {
        let length = little_endian(&mut frame)?;
        if length == 0 {
            return Ok(output);
        }
        let block = frame.take((length & !STORED) as usize)?;
        append_block(&mut output, block, length & STORED != 0, max_block)?;
        if output.len() > limit {
            return Err(Failure::TooLarge);
        }
        if flags & flag::BLOCK_CHECKSUM != 0 {
            frame.take(4)?;
        }
    }
}

/// The frame's flags, and how much a block of it may hold.
fn descriptor(frame: &mut Reader<'_>) -> Result<(u8, usize), Failure> {
    if little_endian(frame)? != MAGIC {
        return Err(Failure::Malformed("not an LZ4 frame".into()));
    }
    let flags = frame.u8()?;
    if flags & flag::VERSION_MASK != flag::VERSION_1 {
        return Err(Failure::Malformed("unknown version of the LZ4 frame".into()));
    }
    if flags & flag::INDEPENDENT_BLOCKS == 0 || flags & flag::DICTIONARY != 0 {
        return Err(Failure::Malformed(
            "linked blocks and dictionaries are not Kafka's".into(),
        ));
    }
    let max_block = match frame.u8()? >> 4 & 0x07 {
        4 => 64 << 10,
        5 => 256 << 10,
        6 => 1 << 20,
        7 => 4 << 20,
        _ => return Err(Failure::Malformed("unknown block size".into())),
    };
    if flags & flag::CONTENT_SIZE != 0 {
        frame.take(8)?;
    }
    frame.u8()?; // The descriptor's checksum.
    Ok((flags, max_block))
}

fn append_block(output: &mut Vec<u8>, block: &[u8], stored: bool, max_block: usize) -> Result<(), Failure> {
    if stored && block.len() <= max_block {
        output.extend_from_slice(block);
        return Ok(());
    } else if stored {
        return Err(Failure::Malformed("a stored block is too large".into()));
    }
    let start = output.len();
    output.resize(start + max_block.min(block.len() * MAX_EXPANSION), 0);
    let len = decompress_into(block, &mut output[start..])?;
    output.truncate(start + len);
    Ok(())
}

fn little_endian(frame: &mut Reader<'_>) -> Result<u32, WireError> {
    frame.u32().map(u32::swap_bytes)
}

pub(super) fn compress(input: &[u8]) -> Result<Vec<u8>, Cause> {
    let mut table = CompressTable::default();
    let mut output = MAGIC.to_le_bytes().to_vec();
    output.extend_from_slice(&DESCRIPTOR);
    for block in input.chunks(BLOCK_SIZE) {
        let start = output.len() + 4;
        output.resize(start + max_compress_len(block.len()), 0);
        let mut len = compress_into_with_table(block, &mut output[start..], &mut table)?;
        let mut stored = 0;
        if len >= block.len() {
            output[start..start + block.len()].copy_from_slice(block);
            (len, stored) = (block.len(), STORED);
        }
        output[start - 4..start].copy_from_slice(&(len as u32 | stored).to_le_bytes());
        output.truncate(start + len);
    }
    output.extend_from_slice(&[0; 4]);
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_compress_is_stored() {
        let input: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..))
            .take(3 * BLOCK_SIZE / 2)
            .collect();

        let frame = compress(&input).unwrap();

        assert_eq!(frame.len(), 7 + 4 + BLOCK_SIZE + 4 + BLOCK_SIZE / 2 + 4);
        assert!(decompress(&frame, input.len()).is_ok_and(|output| output == input));
    }

    #[test]
    fn optional_fields_are_read_over() {
        // Block checksums, content size and content checksum, as other writers add them.
        let frame =
            b"\x04\x22\x4D\x18\x7C\x40\x02\0\0\0\0\0\0\0\xAA\x02\0\0\x80hi\xBB\xBB\xBB\xBB\0\0\0\0\xCC\xCC\xCC\xCC";

        assert!(decompress(frame, 2).is_ok_and(|output| output == b"hi"));
        assert!(matches!(decompress(frame, 1), Err(Failure::TooLarge)));
    }

    #[test]
    fn a_frame_cut_anywhere_is_an_error() {
        let frame = compress(&b"0123456789abcdef".repeat(8192)).unwrap();

        for length in 0..frame.len() {
            assert!(decompress(&frame[..length], 1 << 20).is_err(), "{length}");
        }
    }

    #[test]
    fn linked_blocks_are_refused() {
        let mut frame = compress(b"linked").unwrap();
        frame[4] &= !flag::INDEPENDENT_BLOCKS;

        assert!(matches!(decompress(&frame, 100), Err(Failure::Malformed(_))));
    }
}
