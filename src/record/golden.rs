//! Batches as Kafka's Java client (3.9.1) writes them, byte for byte, for the tests of this folder.

use bytes::Bytes;

/// The CRC of [`two_records`].
pub(super) const TWO_RECORDS_CRC: u32 = 0xA7DD76B3;

/// What a Java producer sent with idempotence and no compression, after the broker gave it its offset.
#[rustfmt::skip]
pub(super) fn two_records() -> Vec<u8> {
    let fields: [&[u8]; _] = [
        &[0, 0, 0, 0, 0, 0, 0, 42],                  // base offset
        &[0, 0, 0, 77],                              // batch length
        &[0, 0, 0, 5],                               // partition leader epoch
        &[2],                                        // magic
        &TWO_RECORDS_CRC.to_be_bytes(),              // CRC
        &[0, 0],                                     // attributes
        &[0, 0, 0, 1],                               // last offset delta
        &[0, 0, 0x01, 0x8B, 0xCF, 0xE5, 0x68, 0x00], // base timestamp: 1700000000000
        &[0, 0, 0x01, 0x8B, 0xCF, 0xE5, 0x68, 0x07], // max timestamp: 7 ms later
        &[0, 0, 0, 0, 0, 0, 0x23, 0x28],             // producer id: 9000
        &[0, 3],                                     // producer epoch
        &[0, 0, 0, 17],                              // base sequence
        &[0, 0, 0, 2],                               // record count

        &[0x1A],                                     // first record: 13 bytes
        &[0],                                        //   attributes
        &[0],                                        //   timestamp delta
        &[0],                                        //   offset delta
        &[0x02, b'k'],                               //   key
        &[0x04, b'v', b'1'],                         //   value
        &[0x02],                                     //   one header
        &[0x02, b'h'],                               //     key
        &[0x02, 0xFF],                               //     value

        &[0x1A],                                     // second record: 13 bytes
        &[0],                                        //   attributes
        &[0x0E],                                     //   timestamp delta: 7
        &[0x02],                                     //   offset delta: 1
        &[0x01],                                     //   key: null
        &[0x00],                                     //   value: empty
        &[0x04],                                     //   two headers
        &[0x02, b'h'],                               //     key
        &[0x01],                                     //     value: null
        &[0x02, b'h'],                               //     the same key again
        &[0x02, b'x'],                               //     value
    ];
    fields.concat()
}

/// A coordinator's marker: offset 100, producer 9000 with epoch 3, committed, coordinator epoch 11.
#[rustfmt::skip]
pub(super) fn commit_marker() -> Vec<u8> {
    let fields: [&[u8]; _] = [
        &[0, 0, 0, 0, 0, 0, 0, 100],                 // base offset
        &[0, 0, 0, 66],                              // batch length
        &[0, 0, 0, 5],                               // partition leader epoch
        &[2],                                        // magic
        &[0xD0, 0x88, 0xC9, 0x49],                   // CRC
        &[0, 0x30],                                  // attributes: control, transactional
        &[0, 0, 0, 0],                               // last offset delta
        &[0, 0, 0x01, 0x8B, 0xCF, 0xE5, 0x68, 0x00], // base timestamp
        &[0, 0, 0x01, 0x8B, 0xCF, 0xE5, 0x68, 0x00], // max timestamp
        &[0, 0, 0, 0, 0, 0, 0x23, 0x28],             // producer id
        &[0, 3],                                     // producer epoch
        &[0xFF, 0xFF, 0xFF, 0xFF],                   // base sequence: none
        &[0, 0, 0, 1],                               // record count

        &[0x20],                                     // the record: 16 bytes
        &[0],                                        //   attributes
        &[0],                                        //   timestamp delta
        &[0],                                        //   offset delta
        &[0x08],                                     //   key: 4 bytes
        &[0, 0],                                     //     version
        &[0, 1],                                     //     type: commit
        &[0x0C],                                     //   value: 6 bytes
        &[0, 0],                                     //     version
        &[0, 0, 0, 11],                              //     coordinator epoch
        &[0],                                        //   no headers
    ];
    fields.concat()
}

/// Three records in each codec: offsets 7 to 9, a millisecond apart from 1700000000000 on, keys `key-0` to `key-2`, values
/// `value value value value value 0` to `… 2`, each with the header `header: header`.
pub(super) fn in_every_codec() -> [Bytes; 5] {
    [NONE, GZIP, SNAPPY, LZ4, ZSTD].map(from_hex)
}

pub(super) fn from_hex(hex: &str) -> Bytes {
    let digits: Vec<u8> = hex.chars().map(|digit| digit.to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

const NONE: &str = "\
    0000000000000007000000dc00000000025e8265b80000000000020000018bcfe568000000018bcfe56802ffffffffffffffffffffff\
    ffffff00000003700000000a6b65792d303e76616c75652076616c75652076616c75652076616c75652076616c75652030020c686561\
    6465720c686561646572700002020a6b65792d313e76616c75652076616c75652076616c75652076616c75652076616c75652031020c\
    6865616465720c686561646572700004040a6b65792d323e76616c75652076616c75652076616c75652076616c75652076616c756520\
    32020c6865616465720c686561646572\
    ";
const GZIP: &str = "\
    00000000000000070000007900000000027e3cf1030001000000020000018bcfe568000000018bcfe56802ffffffffffffffffffffff\
    ffffff000000031f8b08000000000000ff2b606060e0ca4eadd435b02b4bcc294d55c0451a30f164a426a6a41641a902062626b04643\
    021a0d3134b2b080351a11d06884a61100dd87e93aab000000\
    ";
const SNAPPY: &str = "\
    00000000000000070000009400000000023908f35d0002000000020000018bcfe568000000018bcfe56802ffffffffffffffffffffff\
    ffffff0000000382534e415050590000000001000000010000004fab0140700000000a6b65792d303e76616c7565205e06002030020c\
    6865616465720d070c70000202053900317a39000031423900040404053900327a39003c32020c6865616465720c686561646572\
    ";
const LZ4: &str = "\
    00000000000000070000008600000000022e1b48ea0003000000020000018bcfe568000000018bcfe56802ffffffffffffffffffffff\
    ffffff0000000304224d1860408246000000ff02700000000a6b65792d303e76616c7565200600059330020c68656164657207004170\
    00020239001f3139000c1d31390021040439001f3239000c1632390050656164657200000000\
    ";
const ZSTD: &str = "\
    0000000000000007000000760000000002029443470004000000020000018bcfe568000000018bcfe56802ffffffffffffffffffffff\
    ffffff0000000328b52ffd0058cc01004402700000000a6b65792d303e76616c75652030020c68656164657270000202313104043232\
    0800a013d0175c0866065a7075894a76062c4b010000\
    ";
