//! The scalar types of the Kafka protocol: a bounded [`Reader`] and the writers of varints.
//!
//! Everything kferry decodes by itself is decoded with this reader, so its invariant holds everywhere: a length or a
//! count from the wire is believed only once the bytes that it announces are known to be there. Nothing here
//! allocates, and no input panics. Record contents and message layouts are left to the callers.
//!
//! The wire types are described in the protocol guide ("Protocol Primitive Types"); the compact ones are KIP-482.

use std::ops::Range;

use thiserror::Error;
use uuid::Uuid;

use super::ApiKey;

/// Why bytes from a peer are not what they should be. `at` is the position in what the [`Reader`] was given.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WireError {
    #[error("cut off at byte {at}: {need} bytes are needed, {have} are left")]
    Truncated { at: usize, need: usize, have: usize },
    #[error("an array at byte {at} claims {count} items, for which {have} bytes are too few")]
    CountTooLarge { at: usize, count: u32, have: usize },
    #[error("the length at byte {at} is negative: {length}")]
    NegativeLength { at: usize, length: i32 },
    #[error("null at byte {at}, where a value is needed")]
    UnexpectedNull { at: usize },
    #[error("the varint at byte {at} is too long")]
    BadVarint { at: usize },
    #[error("the string at byte {at} is not UTF-8")]
    NotUtf8 { at: usize },
    #[error("the tagged field {tag} at byte {at} does not have the length that it claims")]
    TaggedFieldLength { at: usize, tag: u32 },
    #[error("{count} bytes left over at byte {at}")]
    TrailingBytes { at: usize, count: usize },
    #[error("more than {limit} {what}")]
    OverLimit { what: &'static str, limit: usize },
    #[error("a frame cannot be {length} bytes long")]
    FrameLength { length: i32 },
    #[error("the peer speaks {protocol}, not Kafka's protocol")]
    NotKafka { protocol: &'static str },
    #[error("version {version} of {api:?} is not known")]
    UnknownVersion { api: ApiKey, version: i16 },
}

/// Reads protocol types from the front of a slice. After an error its position is of no use.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
    len: usize,
}

impl<'a> Reader<'a> {
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            len: bytes.len(),
        }
    }

    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// How many bytes have been read.
    pub const fn position(&self) -> usize {
        self.len - self.rest.len()
    }

    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Ends the reading: refuses bytes left over.
    pub const fn finish(&self) -> Result<(), WireError> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(WireError::TrailingBytes {
                at: self.position(),
                count: self.remaining(),
            })
        }
    }

    #[inline]
    pub fn u8(&mut self) -> Result<u8, WireError> {
        self.array().map(u8::from_be_bytes)
    }

    #[inline]
    pub fn i8(&mut self) -> Result<i8, WireError> {
        self.array().map(i8::from_be_bytes)
    }

    #[inline]
    pub fn i16(&mut self) -> Result<i16, WireError> {
        self.array().map(i16::from_be_bytes)
    }

    #[inline]
    pub fn i32(&mut self) -> Result<i32, WireError> {
        self.array().map(i32::from_be_bytes)
    }

    #[inline]
    pub fn i64(&mut self) -> Result<i64, WireError> {
        self.array().map(i64::from_be_bytes)
    }

    #[inline]
    pub fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_be_bytes)
    }

    /// Any byte but 0 is true, as Kafka reads it.
    #[inline]
    pub fn bool(&mut self) -> Result<bool, WireError> {
        self.u8().map(|byte| byte != 0)
    }

    pub fn uuid(&mut self) -> Result<Uuid, WireError> {
        self.array().map(Uuid::from_bytes)
    }

    /// `UNSIGNED_VARINT`: at most five bytes, and no bit beyond the 32nd.
    #[inline]
    pub fn uvarint(&mut self) -> Result<u32, WireError> {
        // One byte is by far the commonest length.
        if let Some((&first, rest)) = self.rest.split_first()
            && first < 0x80
        {
            self.rest = rest;
            return Ok(u32::from(first));
        }
        self.long_uvarint(u32::BITS).map(|value| value as u32)
    }

    /// `VARINT`: zigzag.
    #[inline]
    pub fn varint(&mut self) -> Result<i32, WireError> {
        self.uvarint().map(|value| (value >> 1) as i32 ^ -((value & 1) as i32))
    }

    /// `VARLONG`: zigzag, at most ten bytes.
    #[inline]
    pub fn varlong(&mut self) -> Result<i64, WireError> {
        self.long_uvarint(u64::BITS)
            .map(|value| (value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn long_uvarint(&mut self, bits: u32) -> Result<u64, WireError> {
        let at = self.position();
        let mut value = 0;
        for (index, &byte) in self.rest.iter().enumerate() {
            let shift = 7 * index as u32;
            let low = u64::from(byte & 0x7f);
            if shift >= bits || (bits - shift < 7 && low >> (bits - shift) != 0) {
                return Err(WireError::BadVarint { at });
            }
            value |= low << shift;
            if byte < 0x80 {
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        Err(WireError::Truncated {
            at,
            need: self.remaining() + 1,
            have: self.remaining(),
        })
    }

    #[inline]
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], WireError> {
        let Some((taken, rest)) = self.rest.split_at_checked(n) else {
            return Err(self.truncated(n));
        };
        self.rest = rest;
        Ok(taken)
    }

    /// As [`take`](Self::take), but where the bytes are and not what they are: to slice the `Bytes` that they are of.
    pub fn take_range(&mut self, n: usize) -> Result<Range<usize>, WireError> {
        let start = self.position();
        self.take(n)?;
        Ok(start..start + n)
    }

    pub fn string(&mut self) -> Result<&'a str, WireError> {
        let at = self.position();
        self.nullable_string()?.ok_or(WireError::UnexpectedNull { at })
    }

    pub fn nullable_string(&mut self) -> Result<Option<&'a str>, WireError> {
        let length = self.nullable_string_len()?;
        self.utf8(length)
    }

    pub fn compact_string(&mut self) -> Result<&'a str, WireError> {
        let at = self.position();
        self.compact_nullable_string()?.ok_or(WireError::UnexpectedNull { at })
    }

    pub fn compact_nullable_string(&mut self) -> Result<Option<&'a str>, WireError> {
        let length = self.compact_len()?;
        self.utf8(length)
    }

    /// The length of a `NULLABLE_STRING`: an `INT16`.
    pub fn nullable_string_len(&mut self) -> Result<Option<usize>, WireError> {
        let at = self.position();
        let length = self.i16()?;
        nullable_length(length.into(), at)
    }

    /// The length of `BYTES` or `RECORDS` that may be null: an `INT32`.
    pub fn nullable_bytes_len(&mut self) -> Result<Option<usize>, WireError> {
        let at = self.position();
        let length = self.i32()?;
        nullable_length(length, at)
    }

    /// The length of any compact type but arrays: an `UNSIGNED_VARINT`, one more than the length, 0 for null.
    pub fn compact_len(&mut self) -> Result<Option<usize>, WireError> {
        self.uvarint()
            .map(|length| length.checked_sub(1).map(|length| length as usize))
    }

    /// The count of an array, refused when that many items of at least `min_item_bytes` cannot be in what is left.
    pub fn array_len(&mut self, min_item_bytes: usize) -> Result<Option<usize>, WireError> {
        let at = self.position();
        let count = self.i32()?;
        let count = nullable_length(count, at)?;
        self.checked_count(count, min_item_bytes, at)
    }

    /// As [`array_len`](Self::array_len), of a compact array.
    pub fn compact_array_len(&mut self, min_item_bytes: usize) -> Result<Option<usize>, WireError> {
        let at = self.position();
        let count = self.compact_len()?;
        self.checked_count(count, min_item_bytes, at)
    }

    /// Calls `field` for every tagged field with its tag and a reader of its bytes. Unknown tags are for `field` to
    /// ignore; of a field that it does read, it reads all.
    pub fn tagged_fields(
        &mut self,
        mut field: impl FnMut(u32, &mut Self) -> Result<TaggedField, WireError>,
    ) -> Result<(), WireError> {
        // Two bytes is the least that a field needs: its tag and its length.
        let at = self.position();
        let count = self.uvarint()?;
        self.checked_count(Some(count as usize), 2, at)?;
        for _ in 0..count {
            let at = self.position();
            let tag = self.uvarint()?;
            let length = self.uvarint()? as usize;
            let end = self
                .remaining()
                .checked_sub(length)
                .ok_or_else(|| self.truncated(length))?;
            let mut value = Self {
                rest: &self.rest[..length],
                len: self.len - end,
            };
            if field(tag, &mut value)? == TaggedField::Read && !value.is_empty() {
                return Err(WireError::TaggedFieldLength { at, tag });
            }
            self.rest = &self.rest[length..];
        }
        Ok(())
    }

    pub fn skip_tagged_fields(&mut self) -> Result<(), WireError> {
        self.tagged_fields(|_, _| Ok(TaggedField::Ignored))
    }

    fn checked_count(
        &self,
        count: Option<usize>,
        min_item_bytes: usize,
        at: usize,
    ) -> Result<Option<usize>, WireError> {
        let have = self.remaining();
        match count {
            Some(count) if count > have / min_item_bytes.max(1) => Err(WireError::CountTooLarge {
                at,
                count: count as u32,
                have,
            }),
            count => Ok(count),
        }
    }

    fn utf8(&mut self, length: Option<usize>) -> Result<Option<&'a str>, WireError> {
        let Some(length) = length else { return Ok(None) };
        let at = self.position();
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes)
            .map(Some)
            .map_err(|_| WireError::NotUtf8 { at })
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let Some((taken, rest)) = self.rest.split_first_chunk() else {
            return Err(self.truncated(N));
        };
        self.rest = rest;
        Ok(*taken)
    }

    #[cold]
    const fn truncated(&self, need: usize) -> WireError {
        WireError::Truncated {
            at: self.position(),
            need,
            have: self.remaining(),
        }
    }
}

/// What a reader of tagged fields did with one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaggedField {
    Read,
    Ignored,
}

/// Kafka writes null as the length -1; less than that is nonsense.
fn nullable_length(length: i32, at: usize) -> Result<Option<usize>, WireError> {
    match length {
        -1 => Ok(None),
        _ => usize::try_from(length)
            .map(Some)
            .map_err(|_| WireError::NegativeLength { at, length }),
    }
}

pub fn put_uvarint(out: &mut Vec<u8>, value: u32) {
    put_long_uvarint(out, value.into());
}

pub fn put_varint(out: &mut Vec<u8>, value: i32) {
    put_long_uvarint(out, zigzag32(value).into());
}

pub fn put_varlong(out: &mut Vec<u8>, value: i64) {
    put_long_uvarint(out, zigzag64(value));
}

pub const fn varint_len(value: i32) -> usize {
    long_uvarint_len(zigzag32(value) as u64)
}

pub const fn varlong_len(value: i64) -> usize {
    long_uvarint_len(zigzag64(value))
}

#[inline]
fn put_long_uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Seven bits for each byte, and a byte for 0 too.
const fn long_uvarint_len(value: u64) -> usize {
    (u64::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

const fn zigzag32(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

const fn zigzag64(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn scalars_are_big_endian() {
        let mut reader = Reader::new(&[0xff, 0xff, 0xfe, 0, 0, 1, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 2, 1]);
        assert_eq!(reader.i8(), Ok(-1));
        assert_eq!(reader.i16(), Ok(-2));
        assert_eq!(reader.i32(), Ok(0x100));
        assert_eq!(reader.u8(), Ok(0x80));
        assert_eq!(reader.i64(), Ok(2));
        assert_eq!((reader.position(), reader.remaining()), (16, 1));
        assert_eq!(reader.finish(), Err(WireError::TrailingBytes { at: 16, count: 1 }));
        assert_eq!(reader.bool(), Ok(true));
        assert_eq!(reader.finish(), Ok(()));
        assert_eq!(
            reader.u32(),
            Err(WireError::Truncated {
                at: 17,
                need: 4,
                have: 0
            })
        );
    }

    #[test]
    fn a_uvarint_has_no_more_than_32_bits() {
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x0f]).uvarint(), Ok(u32::MAX));
        for bad in [[0xff, 0xff, 0xff, 0xff, 0x1f, 0], [0x80, 0x80, 0x80, 0x80, 0x80, 0]] {
            assert_eq!(Reader::new(&bad).uvarint(), Err(WireError::BadVarint { at: 0 }));
        }
        assert_eq!(
            Reader::new(&[0x80]).uvarint(),
            Err(WireError::Truncated {
                at: 0,
                need: 2,
                have: 1
            })
        );
    }

    #[test]
    fn a_varlong_has_no_more_than_64_bits() {
        let mut longest = [0xff; 10];
        longest[9] = 1;
        assert_eq!(Reader::new(&longest).varlong(), Ok(i64::MIN));
        longest[9] = 2;
        assert_eq!(Reader::new(&longest).varlong(), Err(WireError::BadVarint { at: 0 }));
        assert_eq!(Reader::new(&[0x80; 11]).varlong(), Err(WireError::BadVarint { at: 0 }));
    }

    #[test]
    fn null_is_not_empty() {
        assert_eq!(Reader::new(&[0xff, 0xff]).nullable_string(), Ok(None));
        assert_eq!(Reader::new(&[0, 0]).nullable_string(), Ok(Some("")));
        assert_eq!(Reader::new(&[0]).compact_nullable_string(), Ok(None));
        assert_eq!(Reader::new(&[1]).compact_nullable_string(), Ok(Some("")));
        assert_eq!(
            Reader::new(&[0xff, 0xff]).string(),
            Err(WireError::UnexpectedNull { at: 0 })
        );
        assert_eq!(
            Reader::new(&[0]).compact_string(),
            Err(WireError::UnexpectedNull { at: 0 })
        );
    }

    #[test]
    fn a_string_is_utf8_of_the_claimed_length() {
        assert_eq!(Reader::new(&[0, 2, b'o', b'k']).string(), Ok("ok"));
        assert_eq!(Reader::new(&[3, b'o', b'k']).compact_string(), Ok("ok"));
        assert_eq!(Reader::new(&[0, 1, 0xff]).string(), Err(WireError::NotUtf8 { at: 2 }));
        assert_eq!(
            Reader::new(&[0xff, 0xfe]).string(),
            Err(WireError::NegativeLength { at: 0, length: -2 })
        );
        assert_eq!(
            Reader::new(&[0, 3, b'o']).string(),
            Err(WireError::Truncated {
                at: 2,
                need: 3,
                have: 1
            })
        );
    }

    #[test]
    fn a_count_is_refused_that_the_rest_cannot_hold() {
        assert_eq!(Reader::new(&[0, 0, 0, 1, 9, 9]).array_len(2), Ok(Some(1)));
        assert_eq!(
            Reader::new(&[0, 0, 0, 2, 9, 9]).array_len(2),
            Err(WireError::CountTooLarge {
                at: 0,
                count: 2,
                have: 2
            })
        );
        assert_eq!(
            Reader::new(&[0x7f, 0xff, 0xff, 0xff]).array_len(0),
            Err(WireError::CountTooLarge {
                at: 0,
                count: i32::MAX as u32,
                have: 0
            })
        );
        assert_eq!(
            Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x0f]).compact_array_len(1),
            Err(WireError::CountTooLarge {
                at: 0,
                count: u32::MAX - 1,
                have: 0
            })
        );
        assert_eq!(Reader::new(&[0xff; 4]).array_len(1), Ok(None));
        assert_eq!(Reader::new(&[0]).compact_array_len(1), Ok(None));
        assert_eq!(
            Reader::new(&[0xff, 0xff, 0xff, 0xfe]).array_len(1),
            Err(WireError::NegativeLength { at: 0, length: -2 })
        );
    }

    #[test]
    fn a_tagged_field_is_read_within_its_own_bytes() {
        // Two fields: tag 5 of one byte, tag 0 of four.
        let fields = [2, 5, 1, 0xaa, 0, 4, 0, 0, 0, 7, 0xbb];
        let mut found = None;
        let mut reader = Reader::new(&fields);
        reader
            .tagged_fields(|tag, value| {
                if tag == 0 {
                    assert_eq!(value.position(), 6);
                    found = Some(value.i32()?);
                    return Ok(TaggedField::Read);
                }
                Ok(TaggedField::Ignored)
            })
            .unwrap();
        assert_eq!(found, Some(7));
        assert_eq!(reader.take_range(1), Ok(10..11));

        let reads_too_little = Reader::new(&fields).tagged_fields(|_, _| Ok(TaggedField::Read));
        assert_eq!(reads_too_little, Err(WireError::TaggedFieldLength { at: 1, tag: 5 }));
        let reads_too_much = Reader::new(&fields).tagged_fields(|_, value| value.i64().map(|_| TaggedField::Read));
        assert_eq!(
            reads_too_much,
            Err(WireError::Truncated {
                at: 3,
                need: 8,
                have: 1
            })
        );
    }

    #[test]
    fn skipped_tagged_fields_are_bounded() {
        assert_eq!(Reader::new(&[1, 0, 2, 9, 9]).skip_tagged_fields(), Ok(()));
        assert_eq!(
            Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0]).skip_tagged_fields(),
            Err(WireError::CountTooLarge {
                at: 0,
                count: u32::MAX,
                have: 1
            })
        );
        assert_eq!(
            Reader::new(&[1, 0, 3, 9, 9]).skip_tagged_fields(),
            Err(WireError::Truncated {
                at: 3,
                need: 3,
                have: 2
            })
        );
    }

    proptest! {
        #[test]
        fn varints_round_trip(uint: u32, int: i32, long: i64) {
            let mut out = Vec::new();
            put_uvarint(&mut out, uint);
            let len = out.len();
            put_varint(&mut out, int);
            prop_assert_eq!(out.len(), len + varint_len(int));
            put_varlong(&mut out, long);
            prop_assert_eq!(out.len(), len + varint_len(int) + varlong_len(long));

            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.uvarint(), Ok(uint));
            prop_assert_eq!(reader.varint(), Ok(int));
            prop_assert_eq!(reader.varlong(), Ok(long));
            prop_assert_eq!(reader.finish(), Ok(()));
        }

        #[test]
        fn varint_lengths_are_right_around_each_step(shift in 0u32..64, step in -1i64..=1) {
            let long = (1i64 << shift).wrapping_add(step);
            let mut out = Vec::new();
            put_varlong(&mut out, long);
            prop_assert_eq!(out.len(), varlong_len(long));
            prop_assert_eq!(Reader::new(&out).varlong(), Ok(long));
        }
    }
}
