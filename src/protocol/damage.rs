//! Damages messages, for the tests of what reads them.

/// The message cut at each length but its own.
pub(super) fn cuts(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    (0..message.len()).map(|len| &message[..len])
}

/// The message with each byte changed in several ways, and with an absurd length or count written over each place.
pub(super) fn mutations(message: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let flips = (0..message.len()).flat_map(move |at| {
        [0x01, 0x02, 0x80, 0xff].map(|mask| {
            let mut damaged = message.to_vec();
            damaged[at] ^= mask;
            damaged
        })
    });
    let absurdities = (0..message.len()).flat_map(move |at| {
        ABSURD.iter().filter_map(move |absurd| {
            let mut damaged = message.to_vec();
            damaged.get_mut(at..at + absurd.len())?.copy_from_slice(absurd);
            Some(damaged)
        })
    });
    flips.chain(absurdities)
}

/// As INT32 and INT16: the greatest, -1, -2, the least. As UNSIGNED_VARINT: the greatest, one too long.
const ABSURD: [&[u8]; 9] = [
    &[0x7f, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xfe],
    &[0x80, 0x00, 0x00, 0x00],
    &[0x7f, 0xff],
    &[0xff, 0xff],
    &[0x80, 0x00],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0xff],
];
