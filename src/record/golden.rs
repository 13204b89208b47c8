//! Batches as Kafka's Java client (3.9.1) writes them, byte for byte, for the tests of this folder.

use bytes::Bytes;

use super::codec::Codec;
use super::scan::{RawBatch, Scanned, scan};

/// Takes the only batch there is.
pub(super) fn batch(bytes: impl Into<Bytes>) -> RawBatch {
    let scanned: Vec<_> = scan(bytes.into()).collect();
    match &scanned[..] {
        [Ok(Scanned::Batch(batch))] => batch.clone(),
        _ => panic!("not one batch: {scanned:?}"),
    }
}

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

/// What the cleaner has left of six records at offsets 50 to 55, keys `k0` to `k5`, values `v0` to `v5`, a millisecond apart
/// from 1700000000000 on: offsets 51, 52 and, a tombstone, 53. So it has a delete horizon for its base timestamp.
#[rustfmt::skip]
pub(super) fn compacted() -> Vec<u8> {
    let fields: [&[u8]; _] = [
        &[0, 0, 0, 0, 0, 0, 0, 50],                  // base offset
        &[0, 0, 0, 89],                              // batch length
        &[0, 0, 0, 5],                               // partition leader epoch
        &[2],                                        // magic
        &[0x40, 0xA6, 0xB1, 0xB1],                   // CRC
        &[0, 0x40],                                  // attributes: delete horizon
        &[0, 0, 0, 5],                               // last offset delta
        &[0, 0, 0x01, 0x8B, 0xD5, 0x0B, 0xC5, 0xF4], // base timestamp: 1700086400500, the horizon
        &[0, 0, 0x01, 0x8B, 0xCF, 0xE5, 0x68, 0x03], // max timestamp: 1700000000003
        &[0, 0, 0, 0, 0, 0, 0x23, 0x28],             // producer id
        &[0, 3],                                     // producer epoch
        &[0, 0, 0, 17],                              // base sequence
        &[0, 0, 0, 3],                               // record count

        &[0x1A, 0],                                  // 13 bytes; attributes
        &[0xE5, 0xF7, 0xB2, 0x52, 0x02],             //   timestamp delta: -86400499; offset delta: 1
        &[0x04, b'k', b'1', 0x04, b'v', b'1', 0],    //   key, value, no headers
        &[0x1A, 0],                                  // 13 bytes; attributes
        &[0xE3, 0xF7, 0xB2, 0x52, 0x04],             //   timestamp delta: -86400498; offset delta: 2
        &[0x04, b'k', b'2', 0x04, b'v', b'2', 0],    //   key, value, no headers
        &[0x16, 0],                                  // 11 bytes; attributes
        &[0xE1, 0xF7, 0xB2, 0x52, 0x06],             //   timestamp delta: -86400497; offset delta: 3
        &[0x04, b'k', b'3', 0x01, 0],                //   key, null value, no headers
    ];
    fields.concat()
}

/// A message of magic 1 with its broker's time.
#[rustfmt::skip]
pub(super) fn message() -> Vec<u8> {
    let fields: [&[u8]; _] = [
        &[0, 0, 0, 0, 0, 0, 0, 9],                   // offset
        &[0, 0, 0, 27],                              // size
        &[0x2D, 0xD2, 0x72, 0x9C],                   // CRC
        &[1],                                        // magic
        &[0x08],                                     // attributes: log append time
        &[0, 0, 0x01, 0x8B, 0xCF, 0xE5, 0x6B, 0xE8], // timestamp: 1700000001000
        &[0, 0, 0, 5],                               // key: 5 bytes
        b"key-2",
        &[0xFF, 0xFF, 0xFF, 0xFF],                   // value: null
    ];
    fields.concat()
}

/// Message sets with three messages each, compressed or not: offsets 7 to 9, keys `key-0`, null, `key-2`, values
/// `value value value value value 0`, the same with 1, null. In magic 1 with times from 1700000000000 on, a millisecond
/// apart; where the broker's time counts, that is 1700000001000.
pub(super) struct MessageSet {
    pub(super) magic: u8,
    pub(super) append_time: bool,
    pub(super) codec: Codec,
    pub(super) bytes: Bytes,
}

pub(super) fn message_sets() -> Vec<MessageSet> {
    MESSAGE_SETS
        .iter()
        .map(|&(magic, append_time, codec, hex)| MessageSet {
            magic,
            append_time,
            codec,
            bytes: from_hex(hex),
        })
        .collect()
}

fn from_hex(hex: &str) -> Bytes {
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

#[rustfmt::skip]
const MESSAGE_SETS: [(u8, bool, Codec, &str); 12] = [
    (0, false, Codec::None, "\
        000000000000000700000032286144330000000000056b65792d300000001f76616c75652076616c75652076616c75652076616c\
        75652076616c7565203000000000000000080000002d388ffde00000ffffffff0000001f76616c75652076616c75652076616c75\
        652076616c75652076616c75652031000000000000000900000013b05f31100000000000056b65792d32ffffffff\
        "),
    (0, false, Codec::Gzip, "\
        0000000000000009000000625484befc0001ffffffff000000541f8b08000000000000ff63600003762036d248743106f358b353\
        2b750d800cf9b2c49cd254055ca4014433030710eb5af4ff7dc0c0f01f08086b34846ae40462e10df18602086b8d40260000a54b\
        e18b96000000\
        "),
    (0, false, Codec::Snappy, "\
        00000000000000090000007fc772cab80002ffffffff0000007182534e415050590000000001000000010000005d960100000901\
        20070000003228614433050f3c056b65792d300000001f76616c7565205e06000123010138080000002d388ffde00000ffffffff\
        86390000310136680000000900000013b05f31100000000000056b65792d32ffffffff\
        "),
    (0, false, Codec::Lz4, "\
        00000000000000090000007aae6a9e600003ffffffff0000006c04224d1860401a5d00000012000100910700000032286144330f\
        00ff01056b65792d300000001f76616c756520060005002300000200ff00080000002d388ffde00000ffffffff39000f10313600\
        c10000000900000013b05f31100e00a0056b65792d32ffffffff00000000\
        "),
    (1, false, Codec::None, "\
        00000000000000070000003ac70e1a0f01000000018bcfe56800000000056b65792d300000001f76616c75652076616c75652076\
        616c75652076616c75652076616c75652030000000000000000800000035e06ded4601000000018bcfe56801ffffffff0000001f\
        76616c75652076616c75652076616c75652076616c75652076616c7565203100000000000000090000001b587584b50100000001\
        8bcfe56802000000056b65792d32ffffffff\
        "),
    (1, true, Codec::None, "\
        00000000000000070000003a9a2abe0201080000018bcfe56be8000000056b65792d300000001f76616c75652076616c75652076\
        616c75652076616c75652076616c756520300000000000000008000000357dd02dce01080000018bcfe56be8ffffffff0000001f\
        76616c75652076616c75652076616c75652076616c75652076616c7565203100000000000000090000001b2dd2729c0108000001\
        8bcfe56be8000000056b65792d32ffffffff\
        "),
    (1, false, Codec::Gzip, "\
        00000000000000090000007333dfb25f01010000018bcfe56802ffffffff0000005d1f8b08000000000000ff63608003abe37c52\
        fc8c400663f7f9a7192011d6ecd44a5d032043be2c31a73455011769003501a4d9f441ee5b37b8298cff8180b001865003988058\
        3aa2b4652bdc002698338c40260100e69998d2ae000000\
        "),
    (1, true, Codec::Gzip, "\
        000000000000000900000072f439704c01090000018bcfe56be8ffffffff0000005c1f8b08000000000000ff63608003ab595afb\
        981839181818bbcf3fcd7e011461cd4eadd4350032e4cb12734a531570910650131881d8b4f682ee398429ff8180b00186500398\
        80585af752d11c4c6718814c02004f105312ae000000\
        "),
    (1, false, Codec::Snappy, "\
        0000000000000009000000901b5593eb01020000018bcfe56802ffffffff0000007a82534e415050590000000001000000010000\
        0066ae0100001901343ac70e1a0f01000000018bcfe56801183c056b65792d300000001f76616c7565205e060001230101013d10\
        35e06ded46010905461001ffffffff8641000031013e2c000000020000001b587584b515413402000000056b65792d32ffffffff\
        "),
    (1, true, Codec::Snappy, "\
        00000000000000090000008b8ec8a2a9010a0000018bcfe56be8ffffffff0000007582534e415050590000000001000000010000\
        0061ae0100001901883a9a2abe0201080000018bcfe56be8000000056b65792d300000001f76616c756520765a06000123010120\
        01000000357dd02dce194610ffffffff008241000031013e30000000020000001b2dd2729c014287001032ffffffff\
        "),
    (1, false, Codec::Lz4, "\
        00000000000000090000008d967ec51701030000018bcfe56802ffffffff0000007704224d186040826800000016000100e03ac7\
        0e1a0f01000000018bcfe5681800ff01056b65792d300000001f76616c756520060005002300000200003d005035e06ded460900\
        0146005f01ffffffff41000f10313e00c5000000020000001b587584b54100001200a0056b65792d32ffffffff00000000\
        "),
    (1, true, Codec::Lz4, "\
        000000000000000900000086b3a31b40010b0000018bcfe56be8ffffffff0000007004224d186040826100000016000100ff133a\
        9a2abe0201080000018bcfe56be8000000056b65792d300000001f76616c7565200600050023000002009601000000357dd02dce\
        46004fffffffff41000f10313e00c6000000020000001b2dd2729c41000487005032ffffffff00000000\
        "),
];
