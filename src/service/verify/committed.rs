//! Which batches of a fetch response a consumer of committed records gets: found out anew, so that a mistake of the copy's
//! is not repeated here.
//!
//! The broker lists aborted transactions as (producer id, first offset). A producer has one transaction at a time, so its
//! offsets fall into stretches, each from a first offset to the ABORT marker behind it; a batch is void if it lies in one.

use std::collections::BTreeMap;

use crate::protocol::fetch_response::AbortedTransaction;
use crate::record::{ControlType, DecodeLimits, RawBatch, RecordError, decode};

/// The offsets at which aborted transactions begin, by producer, and where their producers' markers are.
#[derive(Debug, Default)]
pub(super) struct Committed {
    begins: BTreeMap<i64, Vec<i64>>,
    aborts: BTreeMap<i64, Vec<i64>>,
}

impl Committed {
    /// Looks through all batches of a response, before any of them is judged.
    pub(super) fn new(listed: &[AbortedTransaction], batches: &[RawBatch]) -> Result<Self, RecordError> {
        let mut committed = Self::default();
        for transaction in listed {
            committed
                .begins
                .entry(transaction.producer_id)
                .or_default()
                .push(transaction.first_offset);
        }
        committed.begins.values_mut().for_each(|begins| begins.sort_unstable());
        for batch in batches.iter().filter(|batch| batch.header.is_control()) {
            let decoded = decode(batch, &DecodeLimits::default())?;
            for record in decoded.records() {
                if ControlType::from_key(record?.key.unwrap_or_default()) == Some(ControlType::Abort) {
                    let markers = committed.aborts.entry(batch.header.producer_id()).or_default();
                    markers.push(batch.header.base_offset());
                }
            }
        }
        Ok(committed)
    }

    /// Whether consumers of committed records get the batch.
    pub(super) fn has(&self, batch: &RawBatch) -> bool {
        let header = &batch.header;
        if header.is_control() {
            return false;
        }
        if !header.is_transactional() {
            return true;
        }
        let (producer, offset) = (header.producer_id(), header.last_offset());
        let none = Vec::new();
        let begins = self.begins.get(&producer).unwrap_or(&none);
        let aborts = self.aborts.get(&producer).unwrap_or(&none);
        // The last transaction that began before, unless a marker has ended it between.
        let begun = begins.partition_point(|begin| *begin <= offset);
        match begun.checked_sub(1).map(|last| begins[last]) {
            Some(begin) => aborts.iter().any(|abort| (begin..offset).contains(abort)),
            None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::record::{BatchBuilder, BatchOptions, ProducerStamp, Scanned, control_batch, scan};

    fn data(offset: i64, producer_id: i64, transactional: bool) -> Bytes {
        let mut builder = BatchBuilder::new(BatchOptions {
            base_offset: offset,
            transactional,
            producer: Some(ProducerStamp {
                producer_id,
                producer_epoch: 0,
                base_sequence: 0,
            }),
            ..BatchOptions::default()
        });
        builder.push(0, None, Some(b"v"), &[]);
        builder.build().unwrap()
    }

    fn end(offset: i64, producer_id: i64, control_type: ControlType) -> Bytes {
        control_batch(offset, producer_id, 0, control_type, 0, 0)
    }

    fn aborted(producer_id: i64, first_offset: i64) -> AbortedTransaction {
        AbortedTransaction {
            producer_id,
            first_offset,
        }
    }

    /// The offsets that are got.
    fn got(listed: &[AbortedTransaction], batches: &[Bytes]) -> Vec<i64> {
        let batches: Vec<RawBatch> = scan(batches.concat().into())
            .map(|scanned| match scanned.unwrap() {
                Scanned::Batch(batch) => batch,
                Scanned::Legacy(_) => panic!("a batch"),
            })
            .collect();
        let committed = Committed::new(listed, &batches).unwrap();
        let got = batches.iter().filter(|batch| committed.has(batch));
        got.map(|batch| batch.header.base_offset()).collect()
    }

    #[test]
    fn what_lies_between_a_beginning_and_its_abort_is_void() {
        let batches = [
            data(0, 1, true),
            data(1, 2, true),
            end(2, 1, ControlType::Abort),
            data(3, 1, true),
            end(4, 2, ControlType::Commit),
            end(5, 1, ControlType::Commit),
        ];
        assert_eq!(got(&[aborted(1, 0)], &batches), [1, 3]);
    }

    #[test]
    fn a_list_in_any_order_does() {
        let batches = [
            data(0, 1, true),
            end(1, 1, ControlType::Abort),
            data(2, 1, true),
            end(3, 1, ControlType::Commit),
            data(4, 1, true),
            end(5, 1, ControlType::Abort),
        ];
        assert_eq!(got(&[aborted(1, 4), aborted(1, 0)], &batches), [2]);
    }

    #[test]
    fn an_abort_that_is_still_to_come_makes_void_as_well() {
        assert_eq!(got(&[aborted(1, 0)], &[data(0, 1, true), data(1, 1, false)]), [1]);
    }
}
