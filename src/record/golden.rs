//! Batches as other implementations write them, byte for byte, for the tests of this folder.

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
