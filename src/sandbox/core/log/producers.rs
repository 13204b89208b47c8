//! What a leader remembers of the producers of one partition: sequences, epochs, open transactions.
//!
//! The rules are those of Kafka's `ProducerStateManager`. Dedupe looks at epoch, first and last sequence and never at
//! content, state is per partition, and it is forgotten by the *records'* timestamps.

use std::collections::{BTreeMap, VecDeque};

use crate::protocol::error_code::ErrorCode;
use crate::record::BatchHeader;

/// Batches of a producer whose retries are recognised. After a restart it is one.
const REMEMBERED_BATCHES: usize = 5;

/// All producers of one partition.
#[derive(Debug, Clone, Default)]
pub(super) struct Producers(BTreeMap<i64, Producer>);

/// One producer of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Producer {
    pub epoch: i16,
    /// That of the last transaction marker; -1 before the first.
    pub coordinator_epoch: i32,
    /// The greatest timestamp of the last batch, or the time of the last marker.
    pub last_timestamp: i64,
    /// First offset of the transaction that is open.
    pub transaction_start: Option<i64>,
    /// The last data batches of this epoch, oldest first.
    batches: VecDeque<ProducedBatch>,
}

/// What is remembered of a batch to know its retry by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducedBatch {
    pub first_sequence: i32,
    pub last_sequence: i32,
    pub base_offset: i64,
    pub max_timestamp: i64,
}

impl Producer {
    /// The last sequence of this epoch; -1 where there is none.
    pub fn last_sequence(&self) -> i32 {
        self.batches.back().map_or(-1, |batch| batch.last_sequence)
    }

    /// Sequences of another epoch are no longer of interest.
    fn enter(&mut self, epoch: i16) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.batches.clear();
        }
    }
}

impl Producers {
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, &Producer)> {
        self.0.iter().map(|(&id, producer)| (id, producer))
    }

    /// The batch that `header` repeats. Asked before epoch and sequence are checked, as brokers do.
    pub(super) fn duplicate_of(&self, header: &BatchHeader) -> Option<ProducedBatch> {
        let producer = self.0.get(&header.producer_id())?;
        let (first, last) = (header.base_sequence(), last_sequence(header));
        (producer.epoch == header.producer_epoch())
            .then(|| {
                producer
                    .batches
                    .iter()
                    .find(|batch| (batch.first_sequence, batch.last_sequence) == (first, last))
            })
            .flatten()
            .copied()
    }

    pub(super) fn has_open_transaction(&self, producer_id: i64, epoch: i16) -> bool {
        self.0
            .get(&producer_id)
            .is_some_and(|producer| producer.epoch == epoch && producer.transaction_start.is_some())
    }

    /// First offset of the oldest transaction that is open.
    pub(super) fn first_open_transaction(&self) -> Option<i64> {
        self.0.values().filter_map(|producer| producer.transaction_start).min()
    }

    /// Whether a client's data batch may be appended.
    pub(super) fn check(&self, header: &BatchHeader) -> Result<(), ErrorCode> {
        let Some(producer) = self.0.get(&header.producer_id()) else {
            // Kafka 2.5 and newer take any sequence of a producer that they do not know.
            return Ok(());
        };
        let (epoch, first) = (header.producer_epoch(), header.base_sequence());
        if epoch < producer.epoch {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        let in_sequence = if producer.epoch < 0 {
            true
        } else if epoch > producer.epoch {
            first == 0
        } else {
            first == next_sequence(producer.last_sequence())
        };
        if !in_sequence {
            return Err(ErrorCode::OutOfOrderSequenceNumber);
        }
        if producer.transaction_start.is_some() && !header.is_transactional() {
            return Err(ErrorCode::InvalidTxnState);
        }
        Ok(())
    }

    /// Takes note of a data batch that is in the log now, at the offset in its header.
    pub(super) fn append(&mut self, header: &BatchHeader) {
        let producer = self.producer(header.producer_id(), header.producer_epoch());
        producer.enter(header.producer_epoch());
        producer.last_timestamp = header.max_timestamp();
        if producer.batches.len() == REMEMBERED_BATCHES {
            producer.batches.pop_front();
        }
        producer.batches.push_back(ProducedBatch {
            first_sequence: header.base_sequence(),
            last_sequence: last_sequence(header),
            base_offset: header.base_offset(),
            max_timestamp: header.max_timestamp(),
        });
        if header.is_transactional() {
            producer.transaction_start = Some(producer.transaction_start.unwrap_or_else(|| header.base_offset()));
        }
    }

    /// Whether a transaction marker may be appended.
    pub(super) fn check_marker(&self, producer_id: i64, epoch: i16, coordinator_epoch: i32) -> Result<(), ErrorCode> {
        match self.0.get(&producer_id) {
            Some(producer) if epoch < producer.epoch => Err(ErrorCode::InvalidProducerEpoch),
            Some(producer) if coordinator_epoch < producer.coordinator_epoch => {
                Err(ErrorCode::TransactionCoordinatorFenced)
            }
            _ => Ok(()),
        }
    }

    /// Takes note of a marker that is in the log now, and says where the transaction began that it has ended. It fences
    /// lower epochs whether or not one was open.
    pub(super) fn append_marker(&mut self, header: &BatchHeader, coordinator_epoch: i32) -> Option<i64> {
        let producer = self.producer(header.producer_id(), header.producer_epoch());
        producer.enter(header.producer_epoch());
        producer.coordinator_epoch = coordinator_epoch;
        producer.last_timestamp = header.max_timestamp();
        producer.transaction_start.take()
    }

    /// Forgets producers whose records are as old as `expiration_ms`, unless a transaction is open.
    pub(super) fn expire(&mut self, now_ms: i64, expiration_ms: i64) {
        self.0.retain(|_, producer| {
            producer.transaction_start.is_some() || now_ms.saturating_sub(producer.last_timestamp) < expiration_ms
        });
    }

    /// What a leader still knows after it has restarted: of each producer the last batch.
    pub(super) fn restart(&mut self) {
        for producer in self.0.values_mut() {
            let forgotten = producer.batches.len().saturating_sub(1);
            producer.batches.drain(..forgotten);
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    fn producer(&mut self, producer_id: i64, epoch: i16) -> &mut Producer {
        self.0.entry(producer_id).or_insert_with(|| Producer {
            epoch,
            coordinator_epoch: -1,
            last_timestamp: -1,
            transaction_start: None,
            batches: VecDeque::new(),
        })
    }
}

/// Sequences wrap from 2³¹-1 to 0, also inside a batch.
fn last_sequence(header: &BatchHeader) -> i32 {
    header.base_sequence().wrapping_add(header.last_offset_delta()) & i32::MAX
}

fn next_sequence(sequence: i32) -> i32 {
    sequence.wrapping_add(1) & i32::MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::header::{at, put};
    use crate::record::{BatchBuilder, BatchOptions, ProducerStamp};

    const ID: i64 = 7;

    /// The header of a batch of so many records, with this base offset.
    fn header(epoch: i16, base_sequence: i32, count: i32, base_offset: i64) -> BatchHeader {
        let mut builder = BatchBuilder::new(BatchOptions {
            producer: Some(ProducerStamp {
                producer_id: ID,
                producer_epoch: epoch,
                base_sequence,
            }),
            ..BatchOptions::default()
        });
        for _ in 0..count {
            builder.push(1000, None, None, &[]);
        }
        let mut bytes = *builder.build().unwrap().first_chunk().unwrap();
        put(&mut bytes, at::BASE_OFFSET, base_offset.to_be_bytes());
        BatchHeader::parse(&bytes).unwrap()
    }

    fn after(headers: &[BatchHeader]) -> Producers {
        let mut producers = Producers::default();
        for header in headers {
            assert_eq!(producers.check(header), Ok(()));
            producers.append(header);
        }
        producers
    }

    #[test]
    fn the_last_five_batches_are_known_again_and_no_more() {
        let sent: Vec<_> = (0..6).map(|i| header(0, i, 1, i64::from(i))).collect();
        let producers = after(&sent);

        let known: Vec<_> = sent
            .iter()
            .map(|header| producers.duplicate_of(header).map(|batch| batch.base_offset))
            .collect();
        assert_eq!(known, [None, Some(1), Some(2), Some(3), Some(4), Some(5)]);
        assert_eq!(producers.check(&sent[0]), Err(ErrorCode::OutOfOrderSequenceNumber));
    }

    #[test]
    fn a_batch_cut_differently_is_not_known_again() {
        let producers = after(&[header(0, 0, 4, 0)]);

        assert_eq!(producers.duplicate_of(&header(0, 0, 3, 0)), None);
        assert_eq!(producers.duplicate_of(&header(0, 1, 3, 0)), None);
        assert_eq!(producers.duplicate_of(&header(1, 0, 4, 0)), None);
    }

    #[test]
    fn a_restarted_leader_knows_the_last_batch_only() {
        let mut producers = after(&[header(0, 0, 1, 0), header(0, 1, 1, 1)]);
        producers.restart();

        assert_eq!(producers.duplicate_of(&header(0, 0, 1, 0)), None);
        assert!(producers.duplicate_of(&header(0, 1, 1, 1)).is_some());
        assert_eq!(producers.check(&header(0, 2, 1, 2)), Ok(()));
    }

    #[test]
    fn sequences_wrap_also_inside_a_batch() {
        let producers = after(&[header(0, i32::MAX - 1, 5, 0)]);

        assert_eq!(producers.check(&header(0, 3, 1, 5)), Ok(()));
        assert_eq!(
            producers.check(&header(0, 4, 1, 5)),
            Err(ErrorCode::OutOfOrderSequenceNumber)
        );
    }

    #[test]
    fn a_new_epoch_begins_at_zero_and_fences_the_old_one() {
        let mut producers = after(&[header(0, 40, 1, 0)]);
        assert_eq!(
            producers.check(&header(1, 41, 1, 1)),
            Err(ErrorCode::OutOfOrderSequenceNumber)
        );
        producers.append(&header(1, 0, 1, 1));

        assert_eq!(
            producers.check(&header(0, 41, 1, 2)),
            Err(ErrorCode::InvalidProducerEpoch)
        );
        assert_eq!(producers.duplicate_of(&header(0, 40, 1, 0)), None);
    }

    #[test]
    fn a_marker_of_the_same_epoch_leaves_the_stream_alone() {
        let mut producers = after(&[header(3, 0, 2, 0)]);

        assert_eq!(producers.append_marker(&header(3, -1, 1, 2), 0), None);
        assert_eq!(producers.check(&header(3, 2, 1, 3)), Ok(()));
        assert!(producers.duplicate_of(&header(3, 0, 2, 0)).is_some());
    }

    #[test]
    fn a_marker_of_a_new_epoch_fences_and_starts_over() {
        let mut producers = after(&[header(3, 0, 2, 0)]);
        producers.append_marker(&header(4, -1, 1, 2), 0);

        assert_eq!(
            producers.check(&header(3, 2, 1, 3)),
            Err(ErrorCode::InvalidProducerEpoch)
        );
        assert_eq!(
            producers.check(&header(4, 2, 1, 3)),
            Err(ErrorCode::OutOfOrderSequenceNumber)
        );
        assert_eq!(producers.check(&header(4, 0, 1, 3)), Ok(()));
        assert_eq!(producers.check_marker(ID, 3, 0), Err(ErrorCode::InvalidProducerEpoch));
        assert_eq!(
            producers.check_marker(ID, 4, -1),
            Err(ErrorCode::TransactionCoordinatorFenced)
        );
    }

    #[test]
    fn producers_are_forgotten_by_the_time_of_their_records() {
        let mut producers = after(&[header(0, 0, 1, 0)]);
        producers.expire(1999, 1000);
        assert!(producers.duplicate_of(&header(0, 0, 1, 0)).is_some());
        producers.expire(2000, 1000);

        assert_eq!(producers.iter().count(), 0);
        assert_eq!(producers.check(&header(0, 99, 1, 1)), Ok(()), "any sequence will do");
    }
}
