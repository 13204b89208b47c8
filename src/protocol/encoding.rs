//! The two encodings of message bodies, and the types that fetch and produce responses share.
//!
//! Each message has a version from which it is *flexible* (KIP-482): strings and arrays become compact, and every
//! struct ends in tagged fields. A parser decides once which of the two it reads, and is then the same for both.

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use super::primitives::{Reader, TaggedField, WireError, put_uvarint};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Plain,
    Flexible,
}

impl Encoding {
    pub const fn new(is_flexible: bool) -> Self {
        if is_flexible { Self::Flexible } else { Self::Plain }
    }

    pub fn string<'a>(self, reader: &mut Reader<'a>) -> Result<&'a str, WireError> {
        match self {
            Self::Plain => reader.string(),
            Self::Flexible => reader.compact_string(),
        }
    }

    pub fn nullable_string<'a>(self, reader: &mut Reader<'a>) -> Result<Option<&'a str>, WireError> {
        match self {
            Self::Plain => reader.nullable_string(),
            Self::Flexible => reader.compact_nullable_string(),
        }
    }

    pub fn nullable_string_len(self, reader: &mut Reader<'_>) -> Result<Option<usize>, WireError> {
        match self {
            Self::Plain => reader.nullable_string_len(),
            Self::Flexible => reader.compact_len(),
        }
    }

    pub fn nullable_bytes_len(self, reader: &mut Reader<'_>) -> Result<Option<usize>, WireError> {
        match self {
            Self::Plain => reader.nullable_bytes_len(),
            Self::Flexible => reader.compact_len(),
        }
    }

    /// The count of an array that may not be null.
    pub fn array_len(self, reader: &mut Reader<'_>, min_item_bytes: usize) -> Result<usize, WireError> {
        let at = reader.position();
        self.nullable_array_len(reader, min_item_bytes)?
            .ok_or(WireError::UnexpectedNull { at })
    }

    pub fn nullable_array_len(
        self,
        reader: &mut Reader<'_>,
        min_item_bytes: usize,
    ) -> Result<Option<usize>, WireError> {
        match self {
            Self::Plain => reader.array_len(min_item_bytes),
            Self::Flexible => reader.compact_array_len(min_item_bytes),
        }
    }

    /// The tagged fields at the end of a struct; in the plain encoding there are none.
    pub fn tagged_fields<'a>(
        self,
        reader: &mut Reader<'a>,
        field: impl FnMut(u32, &mut Reader<'a>) -> Result<TaggedField, WireError>,
    ) -> Result<(), WireError> {
        match self {
            Self::Plain => Ok(()),
            Self::Flexible => reader.tagged_fields(field),
        }
    }

    pub fn skip_tagged_fields(self, reader: &mut Reader<'_>) -> Result<(), WireError> {
        self.tagged_fields(reader, |_, _| Ok(TaggedField::Ignored))
    }

    /// Writes a string.
    ///
    /// # Panics
    /// In the plain encoding, if it has 32 KiB or more. Topic names have at most 249 characters, and `config` refuses a
    /// client id that is too long.
    pub fn put_string(self, out: &mut Vec<u8>, value: &str) {
        match self {
            Self::Plain => {
                let len = i16::try_from(value.len()).expect("a string that we send is short");
                out.extend(len.to_be_bytes());
            }
            Self::Flexible => put_compact_len(out, value.len()),
        }
        out.extend(value.as_bytes());
    }

    pub fn put_null_string(self, out: &mut Vec<u8>) {
        match self {
            Self::Plain => out.extend((-1i16).to_be_bytes()),
            Self::Flexible => put_uvarint(out, 0),
        }
    }

    /// Writes the count of an array, or the length of bytes.
    pub fn put_len(self, out: &mut Vec<u8>, len: usize) {
        match self {
            Self::Plain => {
                let len = i32::try_from(len).expect("a request that we send is smaller than 2 GiB");
                out.extend(len.to_be_bytes());
            }
            Self::Flexible => put_compact_len(out, len),
        }
    }

    /// Ends a struct: no tagged fields.
    pub fn put_no_tagged_fields(self, out: &mut Vec<u8>) {
        if self == Self::Flexible {
            put_uvarint(out, 0);
        }
    }
}

fn put_compact_len(out: &mut Vec<u8>, len: usize) {
    let len = u32::try_from(len + 1).expect("a request that we send is smaller than 2 GiB");
    put_uvarint(out, len);
}

/// How a fetch or produce response names a topic: by id from version 13 on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TopicRef {
    Name(Arc<str>),
    Id(Uuid),
}

impl fmt::Display for TopicRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Id(id) => id.fmt(f),
        }
    }
}

impl TopicRef {
    pub fn decode(reader: &mut Reader<'_>, version: i16, encoding: Encoding) -> Result<Self, WireError> {
        if version >= 13 {
            reader.uuid().map(Self::Id)
        } else {
            encoding.string(reader).map(|name| Self::Name(name.into()))
        }
    }
}

/// Where the leader is now: the hint that comes with `NOT_LEADER_OR_FOLLOWER` and `FENCED_LEADER_EPOCH` (KIP-951).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaderEpoch {
    pub leader_id: i32,
    pub leader_epoch: i32,
}

impl LeaderEpoch {
    /// Reads a tagged field. A broker that does not know the leader writes -1: no hint.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Option<Self>, WireError> {
        let hint = Self {
            leader_id: reader.i32()?,
            leader_epoch: reader.i32()?,
        };
        reader.skip_tagged_fields()?;
        Ok((hint.leader_id >= 0 && hint.leader_epoch >= 0).then_some(hint))
    }
}
