//! Writes the records of a batch into new batches, where a patched header will not do.
//!
//! That is where offsets have gaps, the batch begins before the offset wanted, it is too large for the target, the append
//! time is to stay, or its format is older ([`legacy`](super::legacy)). Keys, values and headers move as bytes, the codec
//! stays, and every record keeps its timestamp; what comes out is dense, without a producer and ready for
//! [`patch::for_produce`](super::patch::for_produce). Each new batch remembers which source offsets it carries.
//!
//! New batches get new CRCs, which would bless damaged records. So nothing is re-encoded whose own CRC is wrong.

use bytes::Bytes;

use super::codec::Codec;
use super::decode::{DecodeLimits, RecordError, decode};
use super::encode::{BatchBuilder, BatchOptions, Content, EncodeError};
use super::header::BatchHeader;
use super::legacy::LegacyError;
use super::scan::{CrcMismatch, RawBatch};

/// What is wanted of the new batches.
#[derive(Debug, Clone, Copy)]
pub struct ReencodeOptions {
    /// Records before this offset are dropped.
    pub start_offset: i64,
    /// The target's `max.message.bytes`: of a batch with its header, compressed.
    pub max_batch_bytes: usize,
    /// Records that got their time from the source's broker keep it. Otherwise they have their producers' time again.
    pub append_time: bool,
    pub limits: DecodeLimits,
}

/// A new batch: base offset 0, no gaps, no producer.
#[derive(Debug, Clone)]
pub struct Reencoded {
    pub header: BatchHeader,
    pub payload: Bytes,
    /// Which offsets its records had in the source, in order.
    pub source_offsets: Vec<OffsetRange>,
}

/// Offsets without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetRange {
    pub start: i64,
    pub count: u32,
}

/// Why no batches could be made.
#[derive(Debug, thiserror::Error)]
pub enum ReencodeError {
    #[error(transparent)]
    Crc(#[from] CrcMismatch),
    #[error("cannot read the records of the batch")]
    Decode(#[from] RecordError),
    #[error("cannot write the records into a batch")]
    Encode(#[from] EncodeError),
    #[error("cannot convert the message at offset {offset}")]
    Legacy { offset: i64, source: LegacyError },
    #[error("the record at offset {offset} takes a batch of {size} bytes, more than {limit}")]
    RecordTooLarge { offset: i64, size: usize, limit: usize },
}

/// A record on its way from one batch to another.
#[derive(Debug, Clone, Copy)]
pub(super) struct SourceRecord<'a> {
    pub(super) offset: i64,
    pub(super) timestamp: i64,
    pub(super) attributes: i8,
    pub(super) content: Content<'a>,
}

/// Makes new batches of the records in `batch`: none if it has none to keep, several if one would be too large.
pub fn reencode(batch: &RawBatch, options: &ReencodeOptions) -> Result<Vec<Reencoded>, ReencodeError> {
    batch.verify_crc()?;
    let decoded = decode(batch, &options.limits)?;
    let mut records = Vec::new();
    for record in decoded.records() {
        let record = record?;
        let offset = decoded.offset(&record);
        if offset < options.start_offset {
            continue;
        }
        let timestamp = match options.append_time {
            true => decoded.timestamp(&record)?,
            false => decoded.create_time(&record)?,
        };
        let content = Content::Verbatim(record.after_offset_delta);
        records.push(SourceRecord {
            offset,
            timestamp,
            attributes: record.attributes,
            content,
        });
    }
    let codec = batch.header.codec().map_err(RecordError::from)?;
    pack(&records, codec, options.max_batch_bytes, batch.header.size())
}

/// Fills batches of at most `limit` bytes. How much fits is not known before it is compressed, so each attempt's outcome
/// says how much to try next, beginning with `packed_size`, which all the records are thought to take.
pub(super) fn pack(
    mut records: &[SourceRecord<'_>],
    codec: Codec,
    limit: usize,
    packed_size: usize,
) -> Result<Vec<Reencoded>, ReencodeError> {
    let mut batches = Vec::new();
    let mut budget = match packed_size <= limit {
        true => usize::MAX,
        false => scaled(
            records.iter().map(|record| record.content.len()).sum(),
            limit,
            packed_size,
        ),
    };
    while let [first, ..] = records {
        let (count, len) = prefix(records, budget);
        let batch = encode(&records[..count], codec, len)?;
        let size = batch.header.size();
        // When the attempt was too large, this is less than `len`: the next one has fewer records.
        budget = scaled(len, limit, size);
        if size <= limit {
            batches.push(batch);
            records = &records[count..];
        } else if count == 1 {
            return Err(ReencodeError::RecordTooLarge {
                offset: first.offset,
                size,
                limit,
            });
        }
    }
    Ok(batches)
}

/// How much to put into a batch of `limit` bytes when `len` bytes have made one of `size`: a little less than that says,
/// because the next records may compress less well.
fn scaled(len: usize, limit: usize, size: usize) -> usize {
    let scaled = len as u128 * limit as u128 * 15 / (size as u128 * 16);
    usize::try_from(scaled).unwrap_or(usize::MAX)
}

/// How many records to put into a batch, at least one, and how long their contents are.
fn prefix(records: &[SourceRecord<'_>], budget: usize) -> (usize, usize) {
    let mut len = 0;
    for (count, record) in records.iter().enumerate() {
        let longer = len + record.content.len();
        if longer > budget && count > 0 {
            return (count, len);
        }
        len = longer;
    }
    (records.len(), len)
}

fn encode(records: &[SourceRecord<'_>], codec: Codec, len: usize) -> Result<Reencoded, EncodeError> {
    let mut batch = BatchBuilder::with_capacity(
        BatchOptions {
            codec,
            ..BatchOptions::default()
        },
        records.len(),
        len,
    );
    let mut source_offsets: Vec<OffsetRange> = Vec::new();
    for (offset_delta, record) in (0..).zip(records) {
        batch.push_content(offset_delta, record.timestamp, record.attributes, record.content);
        match source_offsets.last_mut() {
            Some(run) if run.start + i64::from(run.count) == record.offset => run.count += 1,
            _ => source_offsets.push(OffsetRange {
                start: record.offset,
                count: 1,
            }),
        }
    }
    let (header, payload) = batch.build_parts()?;
    Ok(Reencoded {
        header,
        payload,
        source_offsets,
    })
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::golden;
    use super::super::header::{HEADER_LEN, TimestampType};
    use super::super::patch::ProducerStamp;
    use super::*;

    const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    const OPTIONS: ReencodeOptions = ReencodeOptions {
        start_offset: 0,
        max_batch_bytes: 1 << 20,
        append_time: false,
        limits: DecodeLimits {
            max_bytes: 64 << 20,
            max_records: 100_000,
        },
    };

    /// A record as a consumer sees it: source offset, time, and the rest of its bytes.
    type Seen = (i64, i64, Vec<u8>);

    fn seen(batch: &RawBatch) -> Vec<Seen> {
        let decoded = decode(batch, &OPTIONS.limits).unwrap();
        let records = decoded.records().map(Result::unwrap);
        records
            .map(|record| {
                let timestamp = decoded.timestamp(&record).unwrap();
                (decoded.offset(&record), timestamp, record.after_offset_delta.to_vec())
            })
            .collect()
    }

    fn seen_again(batches: &[Reencoded]) -> Vec<Seen> {
        let mut all = Vec::new();
        for batch in batches {
            let bytes = [&batch.header.as_bytes()[..], &batch.payload].concat();
            let raw = golden::batch(bytes);
            assert_eq!(raw.verify_crc(), Ok(()));
            assert_eq!(raw.header.timestamp_type(), TimestampType::CreateTime);
            assert!(!raw.header.has_offset_gaps());
            assert_eq!(
                (
                    raw.header.base_offset(),
                    raw.header.producer_id(),
                    raw.header.base_sequence()
                ),
                (0, -1, -1)
            );
            let seen = seen(&raw);
            assert_eq!(
                raw.header.max_timestamp(),
                seen.iter().map(|seen| seen.1).max().unwrap().max(-1)
            );
            let offsets = batch
                .source_offsets
                .iter()
                .flat_map(|run| (run.start..).take(run.count as usize));
            all.extend(
                offsets
                    .zip(seen)
                    .map(|(source_offset, (_, timestamp, rest))| (source_offset, timestamp, rest)),
            );
            assert_eq!(
                batch.header.base_timestamp(),
                all[all.len() - raw.header.record_count()].1
            );
        }
        all
    }

    /// A batch with a record of `len` bytes at each of the offsets; of random bytes, which do not compress.
    fn batch(codec: Codec, offset_deltas: impl IntoIterator<Item = i32>, len: usize) -> RawBatch {
        let mut random = fastrand::Rng::with_seed(7);
        let mut batch = BatchBuilder::new(BatchOptions {
            codec,
            base_offset: 1000,
            producer: Some(ProducerStamp {
                producer_id: 5,
                producer_epoch: 1,
                base_sequence: 3,
            }),
            ..BatchOptions::default()
        });
        for delta in offset_deltas {
            let value: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(len).collect();
            batch.push_at(
                delta,
                1_700_000_000_000 - i64::from(delta),
                Some(b"key"),
                Some(&value),
                &[(b"h", None)],
            );
        }
        golden::batch(batch.build().unwrap())
    }

    #[test]
    fn gaps_go_and_the_source_offsets_tell_where_they_were() {
        for codec in CODECS {
            let sparse = batch(codec, [0, 1, 2, 7, 8, 20], 10);

            let dense = reencode(&sparse, &OPTIONS).unwrap();

            assert_eq!(dense.len(), 1);
            assert_eq!(dense[0].header.codec(), Ok(codec));
            let run = |start, count| OffsetRange { start, count };
            assert_eq!(dense[0].source_offsets, [run(1000, 3), run(1007, 2), run(1020, 1)]);
            assert_eq!(seen_again(&dense), seen(&sparse));
        }
    }

    #[test]
    fn records_before_the_start_offset_are_dropped() {
        for codec in CODECS {
            let straddling = batch(codec, 0..10, 10);

            let kept = reencode(
                &straddling,
                &ReencodeOptions {
                    start_offset: 1006,
                    ..OPTIONS
                },
            )
            .unwrap();
            assert_eq!(seen_again(&kept), seen(&straddling)[6..]);
            let none = reencode(
                &straddling,
                &ReencodeOptions {
                    start_offset: 1010,
                    ..OPTIONS
                },
            )
            .unwrap();
            assert!(none.is_empty());
        }
    }

    #[test]
    fn a_batch_too_large_becomes_several_that_fit() {
        for codec in CODECS {
            let large = batch(codec, 0..1000, 100);

            let pieces = reencode(
                &large,
                &ReencodeOptions {
                    max_batch_bytes: 10_000,
                    ..OPTIONS
                },
            )
            .unwrap();

            assert!((11..20).contains(&pieces.len()), "{codec}: {} pieces", pieces.len());
            assert!(pieces.iter().all(|piece| piece.header.size() <= 10_000));
            assert_eq!(seen_again(&pieces), seen(&large));
        }
    }

    #[test]
    fn a_record_too_large_for_any_batch_is_an_error() {
        for codec in CODECS {
            let mut mixed = BatchBuilder::new(BatchOptions {
                codec,
                base_offset: 1000,
                ..BatchOptions::default()
            });
            let value: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(5000).collect();
            mixed.push(0, None, Some(&value[..10]), &[]);
            mixed.push(0, None, Some(&value), &[]);
            let mixed = golden::batch(mixed.build().unwrap());

            match reencode(
                &mixed,
                &ReencodeOptions {
                    max_batch_bytes: 5000,
                    ..OPTIONS
                },
            ) {
                Err(ReencodeError::RecordTooLarge {
                    offset: 1001,
                    size: 5001..,
                    limit: 5000,
                }) => {}
                other => panic!("{codec}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_batch_exactly_as_large_as_allowed_stays_whole() {
        let large = batch(Codec::None, 0..100, 100);
        let max_batch_bytes = large.header.size();

        assert_eq!(
            reencode(
                &large,
                &ReencodeOptions {
                    max_batch_bytes,
                    ..OPTIONS
                }
            )
            .unwrap()
            .len(),
            1
        );
        let max_batch_bytes = max_batch_bytes - 1;
        assert_eq!(
            reencode(
                &large,
                &ReencodeOptions {
                    max_batch_bytes,
                    ..OPTIONS
                }
            )
            .unwrap()
            .len(),
            2
        );
    }

    #[test]
    fn the_append_time_stays_if_wanted() {
        let mut appended = BatchBuilder::new(BatchOptions {
            timestamp_type: TimestampType::LogAppendTime,
            ..BatchOptions::default()
        });
        appended.push(50, None, None, &[]);
        appended.push(70, None, None, &[]);
        let appended = golden::batch(appended.build().unwrap());

        let times = |append_time| -> Vec<i64> {
            let batches = reencode(&appended, &ReencodeOptions { append_time, ..OPTIONS }).unwrap();
            seen_again(&batches).iter().map(|seen| seen.1).collect()
        };
        assert_eq!(times(true), [70, 70]);
        assert_eq!(times(false), [50, 70]);
    }

    #[test]
    fn a_delete_horizon_goes_and_the_timestamps_stay() {
        let compacted = golden::batch(golden::compacted());
        assert_eq!(compacted.verify_crc(), Ok(()));

        let dense = reencode(&compacted, &OPTIONS).unwrap();

        assert!(!dense[0].header.has_delete_horizon());
        assert_eq!(dense[0].header.base_timestamp(), 1_700_000_000_001);
        assert_eq!(dense[0].header.max_timestamp(), 1_700_000_000_003);
        assert_eq!(dense[0].source_offsets, [OffsetRange { start: 51, count: 3 }]);
        assert_eq!(seen_again(&dense), seen(&compacted));
    }

    #[test]
    fn damage_is_not_blessed_with_a_new_crc() {
        let mut bytes = golden::compacted();
        bytes[HEADER_LEN + 10] ^= 1;

        assert!(matches!(
            reencode(&golden::batch(bytes), &OPTIONS),
            Err(ReencodeError::Crc(_))
        ));
    }

    #[test]
    fn an_emptied_batch_makes_no_batch() {
        let mut emptied = BatchBuilder::new(BatchOptions::default());
        emptied.end_at(5);

        assert!(
            reencode(&golden::batch(emptied.build().unwrap()), &OPTIONS)
                .unwrap()
                .is_empty()
        );
    }

    proptest! {
        #[test]
        fn every_record_survives_in_its_order(
            steps in vec((1..5_i32, 0..300_usize, i64::MIN / 4..i64::MAX / 4), 1..60),
            limit in 500..4000_usize,
            start in 0..50_i64,
        ) {
            for codec in CODECS {
                let mut source = BatchBuilder::new(BatchOptions { codec, ..BatchOptions::default() });
                let mut offset_delta = -1;
                for (step, len, timestamp) in &steps {
                    offset_delta += step;
                    source.push_at(offset_delta, *timestamp, None, Some(&b"abcdefghij"[..].repeat(30)[..*len]), &[]);
                }
                let source = golden::batch(source.build().unwrap());
                let options = ReencodeOptions { start_offset: start, max_batch_bytes: limit, ..OPTIONS };

                let batches = reencode(&source, &options).unwrap();

                prop_assert!(batches.iter().all(|batch| batch.header.size() <= limit));
                let expected: Vec<Seen> = seen(&source).into_iter().filter(|seen| seen.0 >= start).collect();
                prop_assert_eq!(seen_again(&batches), expected);
            }
        }
    }
}
