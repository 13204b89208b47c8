//! Messages in the formats before record batches (magic 0 and 1), made into record batches.
//!
//! A message set is a row of entries, each with an offset. An entry holds one message, or a compressed message whose value
//! is a message set of its own. In magic 0 the messages inside have their own offsets; in magic 1 theirs count from that of
//! the first, and the entry has the offset of the last (KIP-31). Magic 1 has timestamps (KIP-32), magic 0 has none, and
//! there are no headers.

use bytes::Bytes;

use super::codec::{Codec, CodecError, UnknownCodec};
use super::crc::crc32;
use super::decode::DecodeLimits;
use super::encode::Content;
use super::header::LOG_OVERHEAD;
use super::reencode::{ReencodeError, ReencodeOptions, Reencoded, SourceRecord, pack};
use super::scan::{CrcMismatch, ScanError, Scanned, scan};
use crate::protocol::primitives::{Reader, WireError};

/// The CRC comes first in a message and covers the rest of it.
const CRC_END: usize = LOG_OVERHEAD + 4;
/// The bit of a message's attributes that says that its time is the broker's.
const LOG_APPEND_TIME: u8 = 0x08;
/// The time of messages that have none.
const NO_TIMESTAMP: i64 = -1;

/// One entry of a message set: a message, or a compressed message that wraps a set of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyEntry {
    /// Of the message, or of the last one inside a compressed message.
    pub offset: i64,
    /// The whole entry, with offset and size at its front.
    pub bytes: Bytes,
}

/// What is wrong with a message.
#[derive(Debug, thiserror::Error)]
pub enum LegacyError {
    #[error("malformed message")]
    Malformed(#[from] WireError),
    #[error("malformed message set inside a compressed message")]
    MalformedSet(#[from] ScanError),
    #[error(transparent)]
    UnknownCodec(#[from] UnknownCodec),
    #[error("cannot decompress the message")]
    Codec(#[from] CodecError),
    #[error("a compressed message holds another format than its own")]
    MixedFormats,
    #[error("a compressed message inside a compressed message")]
    Nested,
    #[error("a compressed message without messages inside")]
    Empty,
    #[error("a compressed message with more than {limit} messages inside")]
    TooManyRecords { limit: usize },
    #[error("the last message inside a compressed message has relative offset {last}")]
    RelativeOffset { last: i64 },
    #[error("it comes after offset {previous}")]
    OffsetOrder { previous: i64 },
}

/// A message, borrowed from its entry.
#[derive(Debug)]
struct Message<'a> {
    offset: i64,
    /// Of the whole entry.
    size: usize,
    magic: u8,
    codec: Codec,
    has_append_time: bool,
    timestamp: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
}

impl LegacyEntry {
    /// Where to fetch next.
    pub fn next_offset(&self) -> i64 {
        self.offset + 1
    }

    /// Reads the whole entry: tells whether it is what its CRC was made for.
    pub fn verify_crc(&self) -> Result<(), CrcMismatch> {
        let stored = self.bytes[LOG_OVERHEAD..CRC_END]
            .iter()
            .fold(0, |crc, &byte| crc << 8 | u32::from(byte));
        CrcMismatch::check(self.offset, stored, crc32(&self.bytes[CRC_END..]))
    }
}

/// Makes record batches of consecutive entries. Messages that are not compressed share batches; those inside a compressed
/// message stay by themselves and keep its codec, so that no more than one of these is decompressed at a time.
pub fn convert(entries: &[LegacyEntry], options: &ReencodeOptions) -> Result<Vec<Reencoded>, ReencodeError> {
    let messages = parse(entries)?;
    let mut batches = Vec::new();
    for run in messages.chunk_by(|a, b| a.codec == Codec::None && b.codec == Codec::None) {
        batches.extend(match run {
            [wrapper] if wrapper.codec != Codec::None => convert_wrapper(wrapper, options)?,
            plain => repack(
                plain,
                Codec::None,
                plain.iter().map(|message| message.size).sum(),
                options,
            )?,
        });
    }
    check_order(&batches)?;
    Ok(batches)
}

fn convert_wrapper(wrapper: &Message<'_>, options: &ReencodeOptions) -> Result<Vec<Reencoded>, ReencodeError> {
    let entries = unwrap(wrapper, &options.limits).map_err(|error| error.at(wrapper.offset))?;
    let mut messages = parse(&entries)?;
    for message in &mut messages {
        if message.codec != Codec::None {
            return Err(LegacyError::Nested.at(wrapper.offset));
        } else if message.magic != wrapper.magic {
            return Err(LegacyError::MixedFormats.at(wrapper.offset));
        } else if wrapper.has_append_time && options.append_time {
            // The broker has put its time on the wrapper only.
            message.timestamp = wrapper.timestamp;
        }
    }
    repack(&messages, wrapper.codec, wrapper.size, options)
}

/// The entries inside a compressed message, with the offsets they have in the partition.
fn unwrap(wrapper: &Message<'_>, limits: &DecodeLimits) -> Result<Vec<LegacyEntry>, LegacyError> {
    let set = wrapper
        .codec
        .decompress(wrapper.value.ok_or(LegacyError::Empty)?, limits.max_bytes)?;
    let mut entries = Vec::new();
    // Old producers may have left half an entry at the end; to consumers it never existed.
    for scanned in scan(set.into()) {
        match scanned? {
            Scanned::Batch(_) => return Err(LegacyError::MixedFormats),
            Scanned::Legacy(_) if entries.len() == limits.max_records => {
                return Err(LegacyError::TooManyRecords {
                    limit: limits.max_records,
                });
            }
            Scanned::Legacy(entry) => entries.push(entry),
        }
    }
    let last = entries.last().ok_or(LegacyError::Empty)?.offset;
    if wrapper.magic == 1 {
        let base_offset = wrapper.offset - last;
        for entry in &mut entries {
            if base_offset < 0 || entry.offset > last {
                return Err(LegacyError::RelativeOffset { last });
            }
            entry.offset += base_offset;
        }
    }
    Ok(entries)
}

fn parse(entries: &[LegacyEntry]) -> Result<Vec<Message<'_>>, ReencodeError> {
    let mut messages = Vec::with_capacity(entries.len());
    for entry in entries {
        entry.verify_crc()?;
        messages.push(Message::read(entry).map_err(|error| error.at(entry.offset))?);
    }
    Ok(messages)
}

fn repack(
    messages: &[Message<'_>],
    codec: Codec,
    packed_size: usize,
    options: &ReencodeOptions,
) -> Result<Vec<Reencoded>, ReencodeError> {
    let records: Vec<_> = messages
        .iter()
        .filter(|message| message.offset >= options.start_offset)
        .map(|message| SourceRecord {
            offset: message.offset,
            timestamp: message.timestamp,
            attributes: 0,
            content: Content::Fields {
                key: message.key,
                value: message.value,
                headers: &[],
            },
        })
        .collect();
    pack(&records, codec, options.max_batch_bytes, packed_size)
}

/// Record batches have rising offsets by themselves; message sets have them if their writers were right.
fn check_order(batches: &[Reencoded]) -> Result<(), ReencodeError> {
    let mut previous = -1;
    for range in batches.iter().flat_map(|batch| &batch.source_offsets) {
        if range.start <= previous {
            return Err(LegacyError::OffsetOrder { previous }.at(range.start));
        }
        previous = range.start + i64::from(range.count) - 1;
    }
    Ok(())
}

impl LegacyError {
    fn at(self, offset: i64) -> ReencodeError {
        ReencodeError::Legacy { offset, source: self }
    }
}

impl<'a> Message<'a> {
    fn read(entry: &'a LegacyEntry) -> Result<Self, LegacyError> {
        let mut fields = Reader::new(&entry.bytes[CRC_END..]);
        let magic = fields.u8()?;
        let attributes = fields.u8()?;
        let timestamp = match magic {
            0 => NO_TIMESTAMP,
            _ => fields.i64()?,
        };
        let key = nullable_bytes(&mut fields)?;
        let value = nullable_bytes(&mut fields)?;
        fields.finish()?;
        Ok(Self {
            offset: entry.offset,
            size: entry.bytes.len(),
            magic,
            codec: Codec::from_attributes(attributes.into())?,
            has_append_time: attributes & LOG_APPEND_TIME != 0,
            timestamp,
            key,
            value,
        })
    }
}

fn nullable_bytes<'a>(fields: &mut Reader<'a>) -> Result<Option<&'a [u8]>, WireError> {
    fields.nullable_bytes_len()?.map(|len| fields.take(len)).transpose()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::decode::records;
    use super::super::golden;
    use super::super::reencode::OffsetRange;
    use super::*;

    const OPTIONS: ReencodeOptions = ReencodeOptions {
        start_offset: 0,
        max_batch_bytes: 1 << 20,
        append_time: true,
        limits: DecodeLimits {
            max_bytes: 1 << 20,
            max_records: 1000,
        },
    };

    fn entries(set: impl Into<Bytes>) -> Vec<LegacyEntry> {
        scan(set.into())
            .map(|scanned| match scanned {
                Ok(Scanned::Legacy(entry)) => entry,
                other => panic!("no entry: {other:?}"),
            })
            .collect()
    }

    /// An entry of magic 1 with a right CRC.
    fn entry(offset: i64, attributes: u8, value: &[u8]) -> Vec<u8> {
        let rest = [
            &[1, attributes][..],
            &5_i64.to_be_bytes(),
            &(-1_i32).to_be_bytes(),
            &(value.len() as i32).to_be_bytes(),
            value,
        ]
        .concat();
        let size = 4 + rest.len() as i32;
        [
            &offset.to_be_bytes()[..],
            &size.to_be_bytes(),
            &crc32(&rest).to_be_bytes(),
            &rest,
        ]
        .concat()
    }

    fn wrapper(offset: i64, set: &[u8]) -> Vec<u8> {
        entry(offset, 1, &Codec::Gzip.compress(set).unwrap())
    }

    fn error(set: Vec<u8>) -> LegacyError {
        match convert(&entries(set), &OPTIONS) {
            Err(ReencodeError::Legacy { source, .. }) => source,
            other => panic!("{other:?}"),
        }
    }

    fn offsets(set: Vec<u8>) -> Vec<i64> {
        let ranges = convert(&entries(set), &OPTIONS)
            .unwrap()
            .into_iter()
            .flat_map(|batch| batch.source_offsets);
        ranges
            .flat_map(|range| (range.start..).take(range.count as usize))
            .collect()
    }

    #[test]
    fn what_java_wrote_becomes_a_batch() {
        for set in golden::message_sets() {
            let batches = convert(&entries(set.bytes), &OPTIONS).unwrap();

            let [batch] = &batches[..] else { panic!("one batch") };
            assert_eq!(batch.source_offsets, [OffsetRange { start: 7, count: 3 }]);
            assert_eq!(batch.header.codec(), Ok(set.codec));
            let payload = set.codec.decompress(&batch.payload, 1 << 20).unwrap();
            for (i, record) in records(&payload, 3).enumerate() {
                let record = record.unwrap();
                let (key, value) = (format!("key-{i}"), format!("value value value value value {i}"));
                assert_eq!(record.key, (i != 1).then_some(key.as_bytes()));
                assert_eq!(record.value, (i != 2).then_some(value.as_bytes()));
                assert_eq!(record.headers.len(), 0);
                let expected = match (set.magic, set.append_time) {
                    (0, _) => -1,
                    (_, false) => 1_700_000_000_000 + i as i64,
                    (_, true) => 1_700_000_001_000,
                };
                assert_eq!(batch.header.base_timestamp() + record.timestamp_delta, expected);
            }
        }
    }

    #[test]
    fn messages_before_the_start_offset_are_dropped() {
        for set in golden::message_sets() {
            let batches = convert(
                &entries(set.bytes),
                &ReencodeOptions {
                    start_offset: 9,
                    ..OPTIONS
                },
            )
            .unwrap();

            assert_eq!(batches.len(), 1);
            assert_eq!(batches[0].source_offsets, [OffsetRange { start: 9, count: 1 }]);
        }
    }

    #[test]
    fn a_message_alone_becomes_a_batch_and_a_cut_one_waits() {
        let message = golden::message();
        for tail in 0..message.len() {
            let set = [&message[..], &message[..tail]].concat();
            assert_eq!(offsets(set), [9]);
        }
    }

    #[test]
    fn relative_offsets_count_back_from_the_wrapper() {
        let inner = [entry(0, 0, b"a"), entry(2, 0, b"b"), entry(3, 0, b"c")].concat();

        assert_eq!(offsets(wrapper(103, &inner)), [100, 102, 103]);
        assert!(matches!(
            error(wrapper(2, &inner)),
            LegacyError::RelativeOffset { last: 3 }
        ));
    }

    #[test]
    fn half_an_entry_inside_a_wrapper_never_existed() {
        let mut inner = [entry(0, 0, b"a"), entry(1, 0, b"b")].concat();
        inner.truncate(inner.len() - 1);

        assert_eq!(offsets(wrapper(100, &inner)), [100]);
    }

    #[test]
    fn a_wrapper_holds_messages_of_its_own_format_and_not_compressed() {
        let inner = entry(0, 0, b"a");
        let of_magic_0 = entries(golden::message_sets().swap_remove(0).bytes)
            .swap_remove(0)
            .bytes;

        assert!(matches!(error(wrapper(0, &wrapper(0, &inner))), LegacyError::Nested));
        assert!(matches!(error(wrapper(7, &of_magic_0)), LegacyError::MixedFormats));
        assert!(matches!(
            error(wrapper(43, &golden::two_records())),
            LegacyError::MixedFormats
        ));
        assert!(matches!(error(wrapper(0, &[])), LegacyError::Empty));
        assert!(matches!(error(wrapper(0, &inner[..20])), LegacyError::Empty));
    }

    #[test]
    fn a_wrapper_is_bounded() {
        let many: Vec<u8> = (0..1001).flat_map(|i| entry(i, 0, b"")).collect();
        let large = entry(0, 0, &vec![0; 1 << 20]);

        assert!(matches!(
            error(wrapper(1000, &many)),
            LegacyError::TooManyRecords { limit: 1000 }
        ));
        assert!(matches!(
            error(wrapper(0, &large)),
            LegacyError::Codec(CodecError::TooLarge { .. })
        ));
    }

    #[test]
    fn offsets_that_do_not_rise_are_an_error() {
        let set = [
            entry(5, 0, b"a"),
            wrapper(6, &[entry(0, 0, b"b"), entry(1, 0, b"c")].concat()),
        ]
        .concat();

        assert!(matches!(error(set), LegacyError::OffsetOrder { previous: 5 }));
    }

    #[test]
    fn a_bit_flipped_anywhere_is_an_error() {
        for intact in golden::message_sets() {
            for bit in 0..intact.bytes.len() * 8 {
                let mut damaged = intact.bytes.to_vec();
                damaged[bit / 8] ^= 1 << (bit % 8);

                let scanned: Result<Vec<_>, _> = scan(damaged.into()).collect();
                let Ok(scanned) = scanned else { continue };
                for scanned in scanned {
                    let Scanned::Legacy(entry) = scanned else { continue };
                    let converted = convert(std::slice::from_ref(&entry), &OPTIONS);
                    // Offsets are not covered by the CRC.
                    let untouched = entry.verify_crc().is_ok();
                    assert!(untouched || matches!(converted, Err(ReencodeError::Crc(_))));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_with_a_right_crc_panic(offset in 0..i64::MAX, attributes: u8, value: Vec<u8>) {
            let _any_outcome = convert(&entries(entry(offset, attributes, &value)), &OPTIONS);
            let _any_outcome = convert(&entries(wrapper(offset, &value)), &OPTIONS);
        }
    }
}
