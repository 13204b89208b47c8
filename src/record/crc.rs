//! The CRCs of batches, computed whole or adjusted.
//!
//! A batch's CRC-32C covers everything from its attributes on. When only the header changes, the checksum of the whole need
//! not be computed again: CRCs are affine over GF(2), so for two prefixes of one length before the same tail
//!
//! ```text
//! crc(new ‖ tail) = crc(old ‖ tail) ^ shift(crc(old) ^ crc(new), tail length)
//! shift(c, n)     = c · x^(8n) mod P
//! ```
//!
//! which takes some 100 ns whatever the tail's length. More than speed: an adjusted CRC of a damaged batch is still
//! wrong, so the target notices what was damaged on the way through us; a CRC computed anew would bless the damage.

/// The generator polynomial P (Castagnoli), lowest power in the highest bit, x^32 left out.
const POLYNOMIAL: u32 = 0x82F6_3B78;
/// The polynomial 1 in the same order of bits.
const ONE: u32 = 1 << 31;

/// The checksum that Kafka calls CRC-32C.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The CRC of the message formats before record batches.
pub fn crc32(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iso_hdlc(bytes)
}

/// Adjusts the CRC of `old_prefix` and some tail to that of `new_prefix` and the same tail.
///
/// # Panics
/// When the prefixes differ in length.
pub fn patched(old_crc: u32, old_prefix: &[u8], new_prefix: &[u8], tail_len: usize) -> u32 {
    assert_eq!(old_prefix.len(), new_prefix.len(), "a patch does not change the length");
    old_crc ^ shift(crc32c(old_prefix) ^ crc32c(new_prefix), tail_len)
}

/// The CRC of two parts from theirs, the second being `second_len` long.
///
/// # Panics
/// As [`shift`].
pub fn combined(first_crc: u32, second_crc: u32, second_len: usize) -> u32 {
    shift(first_crc, second_len) ^ second_crc
}

/// Carries a CRC, or a difference of two, over `len` further bytes: multiplies by x^(8·len).
///
/// # Panics
/// From 4 GiB on, which no batch can have.
pub fn shift(crc: u32, len: usize) -> u32 {
    let mut rest = len;
    let mut product = crc;
    for powers in &POWERS {
        let digit = rest & 0xFF;
        if digit != 0 {
            product = multiply(product, powers[digit]);
        }
        rest >>= 8;
    }
    assert_eq!(rest, 0, "a batch has less than 4 GiB");
    product
}

/// `POWERS[k][j]` is x^(8·j·256^k) mod P: one row for each byte of a length, so that a shift takes one multiplication
/// for each byte that is not zero.
static POWERS: [[u32; 256]; 4] = powers();

const fn powers() -> [[u32; 256]; 4] {
    let mut table = [[ONE; 256]; 4];
    let mut step = ONE >> 8; // x^8: one byte further.
    let mut k = 0;
    while k < 4 {
        let mut j = 1;
        while j < 256 {
            table[k][j] = multiply(table[k][j - 1], step);
            j += 1;
        }
        step = multiply(table[k][255], step);
        k += 1;
    }
    table
}

/// The product of two polynomials mod P. Masks instead of branches: the bits are as good as random.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = 32;
    while bit > 0 {
        bit -= 1;
        product ^= b & (a >> bit & 1).wrapping_neg();
        b = (b >> 1) ^ (POLYNOMIAL & (b & 1).wrapping_neg());
    }
    product
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn crcs_match_the_published_check_values() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn shifting_by_nothing_changes_nothing() {
        assert_eq!(shift(0xDEAD_BEEF, 0), 0xDEAD_BEEF);
    }

    #[test]
    fn shifts_add_up() {
        for (a, b) in [
            (1, 255),
            (255, 1),
            (65_535, 1),
            (16_777_215, 1),
            (1 << 20, 77),
            (2_000_000_000, 147_483_647),
        ] {
            assert_eq!(
                shift(shift(0x1234_5678, a), b),
                shift(0x1234_5678, a + b),
                "{a} and {b}"
            );
        }
    }

    #[test]
    fn a_patch_before_a_long_tail_is_right() {
        for tail_len in [255, 256, 65_535, 65_536, (1 << 20) + 77, (16 << 20) - 1, 16 << 20] {
            let mut bytes = vec![0x5A; 40 + tail_len];
            let old_crc = crc32c(&bytes);
            let old_prefix = bytes[..40].to_vec();
            bytes[3] ^= 0x81;
            bytes[39] = 0;

            assert_eq!(
                patched(old_crc, &old_prefix, &bytes[..40], tail_len),
                crc32c(&bytes),
                "{tail_len}"
            );
        }
    }

    #[test]
    fn the_patched_crc_of_a_damaged_tail_stays_wrong() {
        let mut bytes = b"prefix and then a tail".to_vec();
        let old_crc = crc32c(&bytes);
        bytes[15] ^= 1;
        bytes[..6].copy_from_slice(b"PREFIX");

        assert_ne!(patched(old_crc, b"prefix", b"PREFIX", bytes.len() - 6), crc32c(&bytes));
    }

    #[test]
    fn the_crcs_of_two_parts_make_that_of_the_whole() {
        let bytes = b"123456789";
        for cut in 0..=bytes.len() {
            let (first, second) = bytes.split_at(cut);

            assert_eq!(
                combined(crc32c(first), crc32c(second), second.len()),
                0xE306_9283,
                "{cut}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn a_patched_crc_equals_a_computed_one(
            prefixes in vec(any::<(u8, u8)>(), 0..64),
            tail in vec(any::<u8>(), 0..2048),
        ) {
            let (old, new): (Vec<u8>, Vec<u8>) = prefixes.into_iter().unzip();
            let old_crc = crc32c(&[&old[..], &tail].concat());

            prop_assert_eq!(patched(old_crc, &old, &new, tail.len()), crc32c(&[&new[..], &tail].concat()));
        }
    }
}
