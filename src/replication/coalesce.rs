//! Puts small batches together, where a backlog of them has built up.
//!
//! Brokers take one batch of a partition a request, and one request of a connection at a time, so a partition of small batches
//! goes no faster than requests do. Several batches of a partition in one answer are such a backlog: the source had more than one
//! when it was asked. A partition that keeps up gets them one by one, and they stay as they are.
//!
//! Pure: values in, values out. What can't be put together stays as it is.

use std::sync::Arc;

use bytes::Bytes;

use super::aborted::AbortedTransactions;
use super::fate::{BatchFate, FateContext, fate};
use super::prepare::{Copied, PreparedBatch, SourceOffsets};
use crate::cluster::BufferPool;
use crate::offsets::SourceOffset;
use crate::record::coalesce::largest;
use crate::record::{BatchHeader, Codec, DecodeLimits, Merged, Merger, OffsetRange, Pushed, Scanned, scan};

/// Whether small batches are put together (`kferry.coalesce`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Coalescing {
    /// Where a backlog of them has built up.
    #[default]
    Auto,
    Never,
}

/// A batch of less than this costs more as a request's part than its records cost when they are written anew.
pub const SMALL: usize = 32 << 10;

/// Compressed ones, which have to be decompressed and compressed again, are small when they are smaller by this.
const COMPRESSED: usize = 4;

/// What a batch is to hold before it is compressed. Consumers ask for 1 MiB of a partition by default.
pub const FULL: usize = 900 << 10;

/// What batches to put together.
#[derive(Debug, Clone, Copy)]
pub struct CoalesceOptions {
    /// Those smaller than this.
    pub below: usize,
    /// The target's `max.message.bytes`.
    pub max_batch_bytes: usize,
}

/// Puts neighbours together.
pub fn coalesce(batches: Vec<PreparedBatch>, options: CoalesceOptions, buffers: &BufferPool) -> Vec<PreparedBatch> {
    let mut groups: Vec<Group> = Vec::new();
    let mut rest = &batches[..];
    while !rest.is_empty() {
        let group = Group::at_front(rest, options, buffers);
        rest = &rest[group.count..];
        groups.push(group);
    }
    // What is put together is known: now each batch moves once at the most.
    let mut members = batches.into_iter();
    let mut out = Vec::with_capacity(groups.len());
    for Group { count, merged } in groups {
        match merged {
            Some(merged) => {
                out.push(merged);
                members.by_ref().take(count).for_each(drop);
            }
            None => out.extend(members.by_ref().take(count)),
        }
    }
    out
}

/// The next batches.
struct Group {
    count: usize,
    /// What stands for all of them, if they are put together.
    merged: Option<PreparedBatch>,
}

impl Group {
    fn at_front(batches: &[PreparedBatch], options: CoalesceOptions, buffers: &BufferPool) -> Self {
        let CoalesceOptions { below, max_batch_bytes } = options;
        let alone = |count| Self { count, merged: None };
        // Room for the header, and for bytes that do not compress.
        let limit = FULL.min(max_batch_bytes - max_batch_bytes / 16);
        let joining = joining(batches, below, limit);
        if joining < 2 {
            return alone(1);
        }
        let largest = |batch: &PreparedBatch| largest(batch.payload.len(), batch.header.record_count());
        let room: usize = batches[..joining].iter().map(largest).sum();
        let codec = batches[0].header.codec().unwrap_or(Codec::None); // Small ones have a known one.
        let mut merger = Merger::new(codec, limit, buffers.take_or_make(room.min(limit)));
        let limits = DecodeLimits {
            max_bytes: limit, // What is larger decompressed would be alone anyway.
            ..DecodeLimits::default()
        };
        let push = |batch: &&PreparedBatch| {
            let pushed = merger.push(batch.header, &batch.payload, &limits);
            matches!(pushed, Ok(Pushed::Taken))
        };
        let taken = batches[..joining].iter().take_while(push);
        let count = taken.count();
        // One that can't be read goes to the target as it is.
        let merged = match count {
            0 | 1 => return alone(1),
            _ => merger.finish().ok(),
        };
        let merged = merged.map(
            |Merged {
                 header,
                 payload,
                 unused,
             }| {
                drop(unused.map(|buffer| buffers.lend(buffer))); // Comes back at once.
                (header, buffers.lend(payload))
            },
        );
        match merged.filter(|(header, _)| header.size() <= max_batch_bytes) {
            Some((header, payload)) => Self {
                count,
                merged: Some(joined(&batches[..count], header, payload)),
            },
            None => alone(count),
        }
    }
}

/// Whether none of a partition's records has to be written anew, as far as headers tell.
pub fn is_light(records: &Bytes, context: &FateContext, below: usize) -> bool {
    let nobody = AbortedTransactions::new(Vec::new());
    let mut small = 0;
    scan(records.clone()).all(|scanned| match scanned {
        Ok(Scanned::Batch(batch)) => {
            small += usize::from(is_small(&batch.header, below));
            small < 2 && !matches!(fate(&batch.header, &nobody, context), BatchFate::Reencode(_))
        }
        Ok(Scanned::Legacy(_)) => false,
        Err(_) => true, // Nothing is done with it.
    })
}

/// How many batches may lie in one, of which as they are no more than `limit` bytes.
fn joining(batches: &[PreparedBatch], below: usize, limit: usize) -> usize {
    let mut bytes = batches[0].payload.len();
    let pairs = batches.windows(2).take_while(|pair| {
        bytes += pair[1].payload.len();
        bytes <= limit && joins(&pair[0], &pair[1], below)
    });
    1 + pairs.count()
}

/// Whether a batch may lie in one with the batch before.
fn joins(before: &PreparedBatch, batch: &PreparedBatch, below: usize) -> bool {
    is_small(&before.header, below)
        && is_small(&batch.header, below)
        && before.header.codec() == batch.header.codec()
        && before.source.epoch == batch.source.epoch // Where two logs part, it is between epochs.
}

fn is_small(header: &BatchHeader, below: usize) -> bool {
    match header.codec() {
        Ok(Codec::None) => header.size() < below,
        Ok(_) => header.size() < below / COMPRESSED,
        Err(_) => false,
    }
}

/// What stands for all of them.
fn joined(members: &[PreparedBatch], header: BatchHeader, payload: Bytes) -> PreparedBatch {
    let mut ranges: Vec<OffsetRange> = Vec::new();
    for (start, count) in members.iter().flat_map(PreparedBatch::source_ranges) {
        let (start, count) = (start.0, count as u32);
        match ranges.last_mut() {
            Some(last) if last.start + i64::from(last.count) == start => last.count += count,
            _ => ranges.push(OffsetRange { start, count }),
        }
    }
    let source_offsets = match ranges[..] {
        [OffsetRange { start, .. }] => SourceOffsets::From(SourceOffset(start)),
        _ => SourceOffsets::Ranges(ranges),
    };
    let last = &members[members.len() - 1];
    PreparedBatch {
        header,
        payload,
        source_offsets,
        next_position: last.next_position,
        source: last.source,
        copied: Copied::Coalesced(members.len() as u32),
        hold: Arc::clone(&last.hold),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BatchBuilder, BatchOptions, decode_payload};
    use crate::replication::epochs::{BatchMark, Before};

    const MAX: usize = 1 << 20;

    /// Values of `len` bytes at these source offsets, of which each run is told as one.
    fn batch(codec: Codec, epoch: i32, ranges: &[(i64, u32)], len: usize) -> PreparedBatch {
        let mut builder = BatchBuilder::new(BatchOptions {
            codec,
            ..BatchOptions::default()
        });
        let mut random = fastrand::Rng::with_seed(ranges[0].0 as u64);
        for _ in 0..ranges.iter().map(|(_, count)| *count).sum() {
            let value: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(len).collect();
            builder.push(9, None, Some(&value), &[]);
        }
        let batch = PreparedBatch::built(builder, ranges, epoch);
        let mark = BatchMark {
            base_offset: SourceOffset(ranges[ranges.len() - 1].0),
            crc: batch.header.crc(),
        };
        PreparedBatch {
            source: Before {
                epoch,
                mark: Some(mark),
            },
            ..batch
        }
    }

    fn plain(start: i64, count: u32, len: usize) -> PreparedBatch {
        batch(Codec::None, 3, &[(start, count)], len)
    }

    fn coalesced(batches: Vec<PreparedBatch>, max_batch_bytes: usize) -> Vec<PreparedBatch> {
        let options = CoalesceOptions {
            below: SMALL,
            max_batch_bytes,
        };
        coalesce(batches, options, &BufferPool::default())
    }

    /// The source offsets of each batch.
    fn offsets(batches: &[PreparedBatch]) -> Vec<Vec<(i64, i64)>> {
        let of_batch = |batch: &PreparedBatch| batch.source_ranges().map(|(start, count)| (start.0, count)).collect();
        batches.iter().map(of_batch).collect()
    }

    fn values(batches: &[PreparedBatch]) -> Vec<Vec<u8>> {
        let mut values = Vec::new();
        for batch in batches {
            let decoded = decode_payload(batch.header, batch.payload.clone(), &DecodeLimits::default()).unwrap();
            values.extend(decoded.records().map(|record| record.unwrap().value.unwrap().to_vec()));
        }
        values
    }

    #[test]
    fn a_batch_alone_stays_as_it_is() {
        let alone = coalesced(vec![plain(5, 2, 10)], MAX);
        assert_eq!(
            (offsets(&alone), alone[0].copied),
            (vec![vec![(5, 2)]], Copied::Patched)
        );
        assert!(coalesced(Vec::new(), MAX).is_empty());
    }

    #[test]
    fn small_neighbours_become_one_that_stands_for_all_of_them() {
        let batches = || vec![plain(5, 2, 10), plain(7, 1, 10), plain(8, 3, 10)];
        let last = batches()[2].source;
        let one = coalesced(batches(), MAX);
        assert_eq!(offsets(&one), [[(5, 6)]]);
        assert_eq!(one[0].source_offsets, SourceOffsets::From(SourceOffset(5)));
        assert_eq!(
            (one[0].next_position, one[0].source, one[0].copied),
            (SourceOffset(11), last, Copied::Coalesced(3))
        );
        assert_eq!(values(&one), values(&batches()));
    }

    #[test]
    fn gaps_between_and_inside_batches_stay_in_the_map() {
        let batches = vec![
            batch(Codec::Lz4, 3, &[(5, 2), (9, 1)], 10),
            batch(Codec::Lz4, 3, &[(10, 2)], 10),
            batch(Codec::Lz4, 3, &[(20, 1)], 10),
        ];
        assert_eq!(offsets(&coalesced(batches, MAX)), [[(5, 2), (9, 3), (20, 1)]]);
    }

    #[test]
    fn other_codecs_other_epochs_and_large_batches_part_them() {
        let batches = vec![
            plain(0, 1, 10),
            plain(1, 1, 10),
            batch(Codec::Zstd, 3, &[(2, 1)], 10),
            batch(Codec::Zstd, 3, &[(3, 1)], 10),
            batch(Codec::Zstd, 4, &[(4, 1)], 10),
            plain(5, 1, SMALL),
            plain(6, 1, 10),
            batch(Codec::Zstd, 3, &[(7, 1)], SMALL / COMPRESSED),
        ];
        let parted = coalesced(batches, MAX);
        let expected = [&[(0, 2)], &[(2, 2)], &[(4, 1)], &[(5, 1)], &[(6, 1)], &[(7, 1)]];
        assert_eq!(offsets(&parted), expected);
    }

    #[test]
    fn no_batch_is_larger_than_the_target_takes() {
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let batches = || {
                (0..300)
                    .map(|number| batch(codec, 3, &[(10 * number, 10)], 100))
                    .collect::<Vec<_>>()
            };
            for max in [20_000, MAX] {
                let fewer = coalesced(batches(), max);
                assert!(fewer.iter().all(|batch| batch.header.size() <= max));
                assert!(fewer.len() <= 320_000 / (max * 4 / 5) + 1, "{codec}: {}", fewer.len());
                assert_eq!(values(&fewer), values(&batches()));
            }
        }
    }

    #[test]
    fn a_bomb_goes_on_as_it_is() {
        let bomb = |start| {
            let mut builder = BatchBuilder::new(BatchOptions {
                codec: Codec::Zstd,
                ..BatchOptions::default()
            });
            builder.push(9, None, Some(&vec![0; 2 * FULL]), &[]);
            PreparedBatch::built(builder, &[(start, 1)], 3)
        };
        assert!(is_small(&bomb(0).header, SMALL));
        let kept = coalesced(vec![bomb(0), bomb(1)], MAX);
        assert_eq!(offsets(&kept), [[(0, 1)], [(1, 1)]]);
    }

    #[test]
    fn headers_tell_what_takes_long() {
        let context = FateContext {
            start_offset: 0,
            max_batch_bytes: MAX,
            keep_append_time: true,
        };
        let bytes = |batch: &PreparedBatch| [&batch.header.as_bytes()[..], &batch.payload].concat();
        let records = |batches: &[PreparedBatch]| Bytes::from(batches.iter().flat_map(bytes).collect::<Vec<_>>());
        let (small, large) = (|| plain(0, 1, 10), || plain(0, 1, SMALL));
        assert!(is_light(&records(&[large(), small(), large()]), &context, SMALL));
        assert!(!is_light(&records(&[small(), small()]), &context, SMALL));
        assert!(is_light(&records(&[small(), small()]), &context, 0));
        let tight = FateContext {
            max_batch_bytes: SMALL,
            ..context
        };
        assert!(!is_light(&records(&[large()]), &tight, 0));
    }

    #[test]
    fn what_can_t_be_read_goes_on_as_it_is() {
        let damaged = |start| {
            let mut batch = plain(start, 2, 10);
            batch.payload = batch.payload.slice(..20);
            batch
        };
        let batches = vec![
            damaged(0),
            plain(2, 1, 10),
            plain(3, 1, 10),
            damaged(4),
            plain(6, 1, 10),
        ];
        let kept = coalesced(batches, MAX);
        assert_eq!(offsets(&kept), [[(0, 2)], [(2, 2)], [(4, 2)], [(6, 1)]]);
        assert_eq!(kept[0].copied, Copied::Patched);
    }
}
