//! Batches as a client may send them, right and wrong.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use kferry::record::{BatchBuilder, BatchHeader, BatchOptions, Codec, ProducerStamp, RawBatch, Scanned, crc, scan};

/// What a CRC covers begins here.
const CRC_FROM: usize = 21;

/// A batch, and the hand on each of its fields. The CRC is right unless it is broken on purpose.
#[derive(Debug, Clone)]
pub(crate) struct Batch(Vec<u8>);

/// Who sends a batch, and at which place of its stream.
pub(crate) fn stamp(producer_id: i64, producer_epoch: i16, base_sequence: i32) -> ProducerStamp {
    ProducerStamp {
        producer_id,
        producer_epoch,
        base_sequence,
    }
}

pub(crate) fn now_ms() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "brokers compare timestamps with their clock")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).expect("a clock past 1970").as_millis() as i64
}

impl Batch {
    /// So many records of now, keys and values "0", "1" …
    pub(crate) fn of(records: usize) -> Self {
        Self::with(BatchOptions::default(), records)
    }

    pub(crate) fn compressed(codec: Codec, records: usize) -> Self {
        Self::with(
            BatchOptions {
                codec,
                ..BatchOptions::default()
            },
            records,
        )
    }

    /// By a producer that numbers its batches.
    pub(crate) fn by(producer: ProducerStamp, records: usize) -> Self {
        Self::with(
            BatchOptions {
                producer: Some(producer),
                ..BatchOptions::default()
            },
            records,
        )
    }

    pub(crate) fn transactional(producer: ProducerStamp, records: usize) -> Self {
        let options = BatchOptions {
            producer: Some(producer),
            transactional: true,
            ..BatchOptions::default()
        };
        Self::with(options, records)
    }

    pub(crate) fn with(options: BatchOptions, records: usize) -> Self {
        let deltas: Vec<i32> = (0..).take(records).collect();
        Self::with_offsets(options, &deltas)
    }

    /// Records with these offsets inside, as a cleaner leaves them. The header says so.
    pub(crate) fn with_offsets(options: BatchOptions, deltas: &[i32]) -> Self {
        let mut builder = BatchBuilder::new(options);
        for delta in deltas {
            let text = delta.to_string();
            builder.push_at(*delta, now_ms(), Some(text.as_bytes()), Some(text.as_bytes()), &[]);
        }
        Self::built(builder)
    }

    /// Records of these times.
    pub(crate) fn at_times(options: BatchOptions, times_ms: &[i64]) -> Self {
        let mut builder = BatchBuilder::new(options);
        for time_ms in times_ms {
            builder.push(*time_ms, Some(b"key"), Some(b"value"), &[]);
        }
        Self::built(builder)
    }

    /// A record of now for each key.
    pub(crate) fn keyed(producer: ProducerStamp, keys: &[&str]) -> Self {
        let producer = Some(producer).filter(|producer| *producer != ProducerStamp::NONE);
        let mut builder = BatchBuilder::new(BatchOptions {
            producer,
            ..BatchOptions::default()
        });
        for key in keys {
            builder.push(now_ms(), Some(key.as_bytes()), Some(b"value"), &[]);
        }
        Self::built(builder)
    }

    /// Three records of different times; the one in the middle deletes the key.
    pub(crate) fn deleting(producer: ProducerStamp, key: &str) -> Self {
        let producer = Some(producer);
        let mut builder = BatchBuilder::new(BatchOptions {
            producer,
            ..BatchOptions::default()
        });
        builder.push(now_ms() - 20, Some(b"before"), Some(b"value"), &[]);
        builder.push(now_ms() - 10, Some(key.as_bytes()), None, &[]);
        builder.push(now_ms(), Some(b"after"), Some(b"value"), &[]);
        Self::built(builder)
    }

    /// One record without a key.
    pub(crate) fn without_key() -> Self {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder.push(now_ms(), Some(b"key"), Some(b"value"), &[]);
        builder.push(now_ms(), None, Some(b"value"), &[]);
        Self::built(builder)
    }

    /// One record, such that the whole batch has this size.
    pub(crate) fn of_size(size: usize) -> Self {
        let with_value = |len: usize| {
            let mut builder = BatchBuilder::new(BatchOptions::default());
            builder.push(now_ms(), Some(b"key"), Some(&vec![b'x'; len]), &[]);
            Self::built(builder)
        };
        let overhead = with_value(size).0.len() - size;
        let batch = with_value(size - overhead);
        assert_eq!(batch.0.len(), size, "a size that no length of the value gives");
        batch
    }

    fn built(builder: BatchBuilder) -> Self {
        Self(builder.build().expect("a batch").to_vec())
    }

    pub(crate) fn base_offset(self, offset: i64) -> Self {
        self.put(0, &offset.to_be_bytes())
    }

    pub(crate) fn leader_epoch(self, epoch: i32) -> Self {
        self.put(12, &epoch.to_be_bytes())
    }

    pub(crate) fn magic(self, magic: u8) -> Self {
        self.put(16, &[magic])
    }

    /// Sets these bits of the attributes besides those that are set.
    pub(crate) fn attributes(self, bits: u16) -> Self {
        let set = u16::from_be_bytes([self.0[21], self.0[22]]) | bits;
        self.put(21, &set.to_be_bytes())
    }

    pub(crate) fn last_offset_delta(self, delta: i32) -> Self {
        self.put(23, &delta.to_be_bytes())
    }

    pub(crate) fn max_timestamp(self, timestamp: i64) -> Self {
        self.put(35, &timestamp.to_be_bytes())
    }

    pub(crate) fn record_count(self, count: i32) -> Self {
        self.put(57, &count.to_be_bytes())
    }

    /// Damages the last byte, and leaves the CRC as it was.
    pub(crate) fn damaged(mut self) -> Self {
        *self.0.last_mut().expect("a batch has bytes") ^= 0xff;
        self
    }

    /// Damages the middle of the records, and makes the CRC fit.
    pub(crate) fn damaged_inside(mut self) -> Self {
        let middle = self.0.len() - (self.0.len() - 61) / 2;
        for byte in &mut self.0[middle..] {
            *byte = 0xff;
        }
        self.sealed()
    }

    pub(crate) fn bytes(&self) -> Bytes {
        Bytes::copy_from_slice(&self.0)
    }

    /// What follows the header.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.0[61..]
    }

    pub(crate) fn raw(&self) -> RawBatch {
        RawBatch {
            header: self.header(),
            bytes: self.bytes(),
        }
    }

    pub(crate) fn header(&self) -> BatchHeader {
        BatchHeader::parse(&self.0).expect("a header that can be read")
    }

    fn put(mut self, place: usize, field: &[u8]) -> Self {
        self.0[place..place + field.len()].copy_from_slice(field);
        self.sealed()
    }

    fn sealed(mut self) -> Self {
        let crc = crc::crc32c(&self.0[CRC_FROM..]);
        self.0[17..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
        self
    }
}

/// All the batches in what a fetch gave; what a broker has cut off at the end is left out.
pub(crate) fn batches(records: Bytes) -> Vec<RawBatch> {
    let batches = scan(records).map(|scanned| match scanned.expect("batches") {
        Scanned::Batch(batch) => {
            batch.verify_crc().expect("a CRC that is right");
            batch
        }
        Scanned::Legacy(entry) => panic!("an older format: {entry:?}"),
    });
    batches.collect()
}
