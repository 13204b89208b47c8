//! What the log cleaner makes of a log, with everything that readers have to cope with afterwards.
//!
//! Base offset, last offset, producer, epoch and sequence of a batch stay while records vanish from within. A batch that
//! has lost all of them is deleted, but for the last of a producer, which stays empty, since its sequence is still
//! needed. The first pass over a tombstone writes into its batch when it may go; passes after that time drop it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::client_batch::LIMITS;
use super::maintenance::marker_of;
use super::{PartitionLog, StoredBatch};
use crate::protocol::primitives::{put_varint, put_varlong, varint_len, varlong_len};
use crate::record::header::{at, attribute, put};
use crate::record::{
    BatchHeader, Codec, ControlType, Decoded, HEADER_LEN, LOG_OVERHEAD, Record, TimestampType, crc, decode,
};

/// What becomes of one batch.
enum Cleaned {
    AsItIs,
    Rewritten(StoredBatch),
    Empty,
    Deleted,
}

impl PartitionLog {
    /// Cleans everything below the last stable offset.
    pub fn compact(&mut self, now_ms: i64, delete_retention_ms: i64) {
        let end = self.last_stable_offset();
        let latest = self.latest_offsets(end);
        let last_of_producers = self.last_batches_of_producers();
        let mut with_data = BTreeSet::new();
        let mut cleaned = Vec::with_capacity(self.batches.len());
        for batch in &self.batches {
            if batch.header.base_offset() >= end {
                cleaned.push(batch.clone());
                continue;
            }
            let fate = if batch.header.is_control() {
                // A marker may go when none of its transaction's data is left.
                let is_needed = with_data.remove(&batch.header.producer_id());
                clean_marker(batch, is_needed, now_ms, delete_retention_ms)
            } else if self.is_aborted(&batch.header) {
                Cleaned::Deleted
            } else {
                if batch.header.is_transactional() {
                    with_data.insert(batch.header.producer_id());
                }
                clean_data(batch, &latest, now_ms, delete_retention_ms)
            };
            let is_last = last_of_producers.contains(&batch.header.base_offset());
            match fate {
                Cleaned::AsItIs => cleaned.push(batch.clone()),
                Cleaned::Rewritten(batch) => cleaned.push(batch),
                Cleaned::Empty | Cleaned::Deleted if is_last => cleaned.push(emptied(&batch.header)),
                Cleaned::Empty | Cleaned::Deleted => {}
            }
        }
        self.batches = cleaned.into();
        self.forget_aborted_without_marker(end);
    }

    /// The last offset of each key, without the data of aborted transactions.
    fn latest_offsets(&self, end: i64) -> BTreeMap<Vec<u8>, i64> {
        let mut latest = BTreeMap::new();
        let batches = self.batches.iter().take_while(|batch| batch.header.base_offset() < end);
        for batch in batches.filter(|batch| !batch.header.is_control() && !self.is_aborted(&batch.header)) {
            let Ok(decoded) = decode(&batch.to_raw(), &LIMITS) else {
                continue;
            };
            for record in decoded.records().flatten() {
                if let Some(key) = record.key {
                    latest.insert(key.to_vec(), decoded.offset(&record));
                }
            }
        }
        latest
    }

    /// Base offsets of the batches that each producer's last sequence, or its epoch, is known from.
    fn last_batches_of_producers(&self) -> BTreeSet<i64> {
        let mut last = BTreeMap::new();
        for batch in self.batches.iter().filter(|batch| batch.header.producer_id() >= 0) {
            let is_data = !batch.header.is_control();
            let known = last.entry(batch.header.producer_id()).or_insert((is_data, 0));
            // Data says more than a marker, whichever is later.
            if is_data || !known.0 {
                *known = (is_data, batch.header.base_offset());
            }
        }
        last.into_values().map(|(_, base_offset)| base_offset).collect()
    }

    /// Without its marker, an aborted transaction would take the producer's later data with it.
    fn forget_aborted_without_marker(&mut self, end: i64) {
        let markers: BTreeSet<i64> = self
            .batches
            .iter()
            .filter(|batch| matches!(marker_of(batch), Some((ControlType::Abort, _))))
            .map(|batch| batch.header.base_offset())
            .collect();
        self.aborted
            .retain(|aborted| aborted.last_offset >= end || markers.contains(&aborted.last_offset));
    }
}

fn clean_marker(batch: &StoredBatch, is_needed: bool, now_ms: i64, delete_retention_ms: i64) -> Cleaned {
    let header = &batch.header;
    if is_needed || header.record_count() == 0 {
        Cleaned::AsItIs
    } else if !header.has_delete_horizon() {
        let Ok(decoded) = decode(&batch.to_raw(), &LIMITS) else {
            return Cleaned::AsItIs;
        };
        let records: Vec<_> = decoded.records().flatten().collect();
        rewritten(&decoded, &records, Some(now_ms.saturating_add(delete_retention_ms)))
    } else if header.base_timestamp() > now_ms {
        Cleaned::AsItIs
    } else {
        Cleaned::Deleted
    }
}

fn clean_data(batch: &StoredBatch, latest: &BTreeMap<Vec<u8>, i64>, now_ms: i64, delete_retention_ms: i64) -> Cleaned {
    let header = &batch.header;
    if header.record_count() == 0 {
        return Cleaned::Empty;
    }
    let Ok(decoded) = decode(&batch.to_raw(), &LIMITS) else {
        return Cleaned::AsItIs;
    };
    let horizon_is_past = header.has_delete_horizon() && header.base_timestamp() <= now_ms;
    let is_kept = |record: &Record<'_>| {
        let is_latest = record
            .key
            .is_some_and(|key| latest.get(key) == Some(&decoded.offset(record)));
        is_latest && !(record.value.is_none() && horizon_is_past)
    };
    let kept: Vec<_> = decoded.records().flatten().filter(is_kept).collect();
    let has_tombstone = kept.iter().any(|record| record.value.is_none());
    if kept.is_empty() {
        Cleaned::Empty
    } else if has_tombstone && !header.has_delete_horizon() {
        rewritten(&decoded, &kept, Some(now_ms.saturating_add(delete_retention_ms)))
    } else if kept.len() == header.record_count() {
        Cleaned::AsItIs
    } else {
        let horizon = header.has_delete_horizon().then(|| header.base_timestamp());
        rewritten(&decoded, &kept, horizon)
    }
}

/// The batch with these of its records.
fn rewritten(batch: &Decoded, kept: &[Record<'_>], horizon: Option<i64>) -> Cleaned {
    let header = batch.header();
    let times: Vec<i64> = kept
        .iter()
        .map(|record| batch.create_time(record).unwrap_or_else(|_| header.max_timestamp()))
        .collect();
    let base_timestamp = horizon.or_else(|| times.first().copied()).unwrap_or(-1);
    let mut records = Vec::new();
    for (record, time) in kept.iter().zip(&times) {
        let timestamp_delta = time.wrapping_sub(base_timestamp);
        let length =
            1 + varlong_len(timestamp_delta) + varint_len(record.offset_delta) + record.after_offset_delta.len();
        put_varint(&mut records, length as i32);
        records.push(record.attributes as u8);
        put_varlong(&mut records, timestamp_delta);
        put_varint(&mut records, record.offset_delta);
        records.extend(record.after_offset_delta);
    }
    let codec = header.codec().unwrap_or(Codec::None);
    let Ok(payload) = codec.compress(&records) else {
        return Cleaned::AsItIs;
    };
    let max_timestamp = match header.timestamp_type() {
        TimestampType::CreateTime => times.iter().copied().max().unwrap_or(-1),
        TimestampType::LogAppendTime => header.max_timestamp(),
    };
    let attributes = match horizon {
        Some(_) => header.attributes() | attribute::DELETE_HORIZON,
        None => header.attributes(),
    };
    Cleaned::Rewritten(with_records(
        header,
        attributes,
        (base_timestamp, max_timestamp),
        kept.len(),
        payload.into(),
    ))
}

/// All that is left of a batch without records.
fn emptied(header: &BatchHeader) -> StoredBatch {
    let attributes = header.attributes() & !(attribute::CODEC | attribute::DELETE_HORIZON);
    let time = header.max_timestamp();
    with_records(header, attributes, (time, time), 0, Bytes::new())
}

fn with_records(
    header: &BatchHeader,
    attributes: i16,
    (base_timestamp, max_timestamp): (i64, i64),
    count: usize,
    payload: Bytes,
) -> StoredBatch {
    let mut bytes = *header.as_bytes();
    let length = HEADER_LEN - LOG_OVERHEAD + payload.len();
    put(&mut bytes, at::BATCH_LENGTH, (length as i32).to_be_bytes());
    put(&mut bytes, at::ATTRIBUTES, attributes.to_be_bytes());
    put(&mut bytes, at::BASE_TIMESTAMP, base_timestamp.to_be_bytes());
    put(&mut bytes, at::MAX_TIMESTAMP, max_timestamp.to_be_bytes());
    put(&mut bytes, at::RECORD_COUNT, (count as i32).to_be_bytes());
    let covered = [&bytes[at::ATTRIBUTES..], &payload[..]].concat();
    put(&mut bytes, at::CRC, crc::crc32c(&covered).to_be_bytes());
    StoredBatch {
        header: BatchHeader::parse(&bytes).unwrap_or(*header),
        payload,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BatchBuilder, BatchOptions, ProducerStamp};
    use crate::sandbox::core::config::TopicConfig;
    use crate::sandbox::core::log::ClientBatch;
    use crate::sandbox::core::log::{Isolation, Marker};

    const NOW: i64 = 1_700_000_000_000;
    const HORIZON: i64 = 1000;

    struct TestLog(PartitionLog);

    impl TestLog {
        fn new() -> Self {
            Self(PartitionLog::default())
        }

        fn append(&mut self, options: BatchOptions, records: &[(&str, Option<&str>)]) {
            let mut builder = BatchBuilder::new(options);
            for (key, value) in records {
                builder.push(NOW - 5, Some(key.as_bytes()), value.map(str::as_bytes), &[]);
            }
            let batch = ClientBatch::read(builder.build().unwrap(), 9).unwrap();
            let valid = batch.validate(&TopicConfig::default(), NOW).unwrap();
            self.0.append(valid, 0).unwrap();
        }

        fn plain(&mut self, records: &[(&str, Option<&str>)]) {
            self.append(BatchOptions::default(), records);
        }

        fn marker(&mut self, producer_id: i64, commit: bool) {
            let marker = Marker {
                producer_id,
                producer_epoch: 0,
                commit,
                coordinator_epoch: 0,
            };
            self.0.append_marker(marker, NOW, 0).unwrap();
        }

        fn compact(&mut self, now_ms: i64) {
            self.0.compact(now_ms, HORIZON);
            for batch in self.0.batches() {
                batch.to_raw().verify_crc().unwrap();
            }
        }

        /// Base offset and, relative to it, last offset and offsets of the records that are left.
        fn shape(&self) -> Vec<(i64, i32, Vec<i32>)> {
            let shape = |batch: &StoredBatch| {
                let decoded = decode(&batch.to_raw(), &LIMITS).unwrap();
                let deltas = decoded.records().map(|record| record.unwrap().offset_delta).collect();
                (batch.header.base_offset(), batch.header.last_offset_delta(), deltas)
            };
            self.0.batches().map(shape).collect()
        }
    }

    fn stamped(producer_id: i64, base_sequence: i32) -> BatchOptions {
        BatchOptions {
            producer: Some(ProducerStamp {
                producer_id,
                producer_epoch: 0,
                base_sequence,
            }),
            ..BatchOptions::default()
        }
    }

    fn transactional(producer_id: i64, base_sequence: i32) -> BatchOptions {
        BatchOptions {
            transactional: true,
            ..stamped(producer_id, base_sequence)
        }
    }

    #[test]
    fn only_the_latest_of_each_key_stays_and_offsets_do_too() {
        for codec in [Codec::None, Codec::Zstd] {
            let mut log = TestLog::new();
            let options = BatchOptions {
                codec,
                ..BatchOptions::default()
            };
            log.append(options, &[("a", Some("1")), ("b", Some("1")), ("c", Some("1"))]);
            log.plain(&[("x", Some("1"))]);
            log.plain(&[("b", Some("2")), ("x", Some("2"))]);
            let kept_whole = log.0.batches().last().unwrap().clone();

            log.compact(NOW);

            assert_eq!(log.shape(), [(0, 2, vec![0, 2]), (4, 1, vec![0, 1])]);
            assert_eq!(log.0.batches().last(), Some(&kept_whole), "byte for byte");
            assert_eq!(log.0.end_offset(), 6);
            let read = log.0.read(1, Isolation::ReadCommitted, 10_000, true).unwrap();
            assert_eq!(read.bytes, log.0.size());
        }
    }

    #[test]
    fn the_last_batch_of_a_producer_stays_though_empty() {
        let mut log = TestLog::new();
        log.append(stamped(7, 0), &[("a", Some("1"))]);
        log.append(stamped(7, 1), &[("a", Some("2")), ("b", Some("2"))]);
        log.plain(&[("a", Some("3")), ("b", Some("3"))]);

        log.compact(NOW);

        assert_eq!(log.shape(), [(1, 1, vec![]), (3, 1, vec![0, 1])]);
        let empty = log.0.batches().next().unwrap().header;
        assert_eq!(
            (empty.producer_id(), empty.base_sequence(), empty.record_count()),
            (7, 1, 0)
        );
        log.compact(NOW);
        assert_eq!(log.shape().len(), 2, "it stays");
    }

    #[test]
    fn a_tombstone_gets_its_horizon_first_and_goes_after_it() {
        let mut log = TestLog::new();
        log.plain(&[("a", None), ("b", Some("1"))]);

        log.compact(NOW);
        let marked = log.0.batches().next().unwrap().clone();
        assert!(marked.header.has_delete_horizon());
        assert_eq!(marked.header.base_timestamp(), NOW + HORIZON);
        assert_eq!(marked.header.max_timestamp(), NOW - 5);
        let decoded = decode(&marked.to_raw(), &LIMITS).unwrap();
        let first = decoded.records().next().unwrap().unwrap();
        assert_eq!(
            decoded.timestamp(&first).unwrap(),
            NOW - 5,
            "counted anew from the horizon"
        );
        log.compact(NOW + HORIZON - 1);
        assert_eq!(log.shape(), [(0, 1, vec![0, 1])]);

        log.compact(NOW + HORIZON);
        assert_eq!(log.shape(), [(0, 1, vec![1])]);
    }

    #[test]
    fn aborted_data_goes_and_its_marker_after_it() {
        let mut log = TestLog::new();
        log.append(transactional(7, 0), &[("a", Some("aborted"))]);
        log.append(transactional(7, 1), &[("b", Some("aborted"))]);
        log.marker(7, false);
        log.append(transactional(7, 2), &[("c", Some("committed"))]);
        log.marker(7, true);

        log.compact(NOW);
        let shape = log.shape();
        assert_eq!(shape.iter().map(|(base, ..)| *base).collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!(log.0.aborted.len(), 1);

        log.compact(NOW + HORIZON);
        assert_eq!(log.shape().iter().map(|(base, ..)| *base).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(log.0.aborted, [], "or the committed data would be taken for aborted");
    }

    #[test]
    fn an_open_transaction_is_left_alone() {
        let mut log = TestLog::new();
        log.plain(&[("a", Some("1"))]);
        log.append(transactional(7, 0), &[("a", Some("2"))]);
        log.plain(&[("a", Some("3"))]);

        log.compact(NOW);

        assert_eq!(log.shape(), [(0, 0, vec![0]), (1, 0, vec![0]), (2, 0, vec![0])]);
    }
}
