//! Message sets of the formats before record batches, and what is made of them.
#![no_main]

use bytes::Bytes;
use kferry::record::{Codec, DecodeLimits, LegacyEntry, ReencodeOptions, Scanned, crc, legacy, scan};
use libfuzzer_sys::fuzz_target;

const OPTIONS: ReencodeOptions = ReencodeOptions {
    start_offset: 1,
    max_batch_bytes: 4096,
    append_time: true,
    limits: DecodeLimits {
        max_bytes: 1 << 20,
        max_records: 1000,
    },
};

fuzz_target!(|data: &[u8]| {
    let Some((&codec, set)) = data.split_first() else {
        return;
    };
    let mut set = with_right_crcs(set);
    if let Ok(codec @ (Codec::Gzip | Codec::Snappy | Codec::Lz4)) = Codec::from_attributes(codec.into()) {
        set = with_right_crcs(&wrapper(codec, &set));
    }
    let Ok(batches) = legacy::convert(&entries(set), &OPTIONS) else {
        return;
    };
    let mut next = OPTIONS.start_offset;
    for batch in batches {
        kferry_fuzz::check_reencoded(&batch, OPTIONS.max_batch_bytes);
        for range in &batch.source_offsets {
            assert!(range.start >= next);
            next = range.start + i64::from(range.count);
        }
    }
});

fn entries(set: Vec<u8>) -> Vec<LegacyEntry> {
    let entry = |scanned| match scanned {
        Ok(Scanned::Legacy(entry)) => Some(entry),
        _ => None,
    };
    scan(Bytes::from(set)).map_while(entry).collect()
}

/// Chance would never find the CRC of a message.
fn with_right_crcs(set: &[u8]) -> Vec<u8> {
    let mut set = set.to_vec();
    let mut at = 0;
    for entry in entries(set.clone()) {
        let end = at + entry.bytes.len();
        let crc = crc::crc32(&set[at + 16..end]);
        set[at + 12..at + 16].copy_from_slice(&crc.to_be_bytes());
        at = end;
    }
    set
}

/// A compressed message of the format that the set begins with, at the offset that its last message says.
fn wrapper(codec: Codec, set: &[u8]) -> Vec<u8> {
    let magic = set.get(16).copied().unwrap_or(1);
    let last_offset = entries(set.to_vec()).last().map_or(0, |entry| entry.offset);
    let value = codec.compress(set).expect("anything can be compressed");
    let mut message = vec![0, 0, 0, 0, magic, codec.attributes() as u8];
    message.extend(&5_i64.to_be_bytes()[..if magic == 0 { 0 } else { 8 }]);
    message.extend((-1_i32).to_be_bytes()); // null key
    message.extend((value.len() as i32).to_be_bytes());
    message.extend(value);
    [
        &last_offset.to_be_bytes()[..],
        &(message.len() as i32).to_be_bytes(),
        &message,
    ]
    .concat()
}
