//! Control batches: the markers that end a transaction on a partition (KIP-98).

use bytes::Bytes;

use super::encode::{BatchBuilder, BatchOptions};
use super::patch::ProducerStamp;

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlType {
    Abort,
    Commit,
}

impl ControlType {
    /// From the key of a control record. `None` for what is no transaction marker, such as a Raft leader's note.
    pub fn from_key(key: &[u8]) -> Option<Self> {
        let (_version, rest) = key.split_first_chunk::<2>()?;
        match i16::from_be_bytes(*rest.first_chunk()?) {
            0 => Some(Self::Abort),
            1 => Some(Self::Commit),
            _ => None,
        }
    }

    fn key(self) -> [u8; 4] {
        match self {
            Self::Abort => [0, 0, 0, 0],
            Self::Commit => [0, 0, 0, 1],
        }
    }
}

/// The marker that a coordinator has written into a partition.
///
/// # Panics
/// When `offset` is none.
pub fn control_batch(
    offset: i64,
    producer_id: i64,
    producer_epoch: i16,
    control_type: ControlType,
    coordinator_epoch: i32,
    timestamp: i64,
) -> Bytes {
    let mut batch = BatchBuilder::new(BatchOptions {
        base_offset: offset,
        transactional: true,
        control: true,
        producer: Some(ProducerStamp {
            producer_id,
            producer_epoch,
            base_sequence: -1,
        }),
        ..BatchOptions::default()
    });
    let version = 0_i16.to_be_bytes();
    let value = [&version[..], &coordinator_epoch.to_be_bytes()].concat();
    batch.push(timestamp, Some(&control_type.key()), Some(&value), &[]);
    batch.build().expect("one small record makes a batch at any offset")
}

#[cfg(test)]
mod tests {
    use super::super::decode::{DecodeLimits, decode};
    use super::super::golden;
    use super::*;

    #[test]
    fn a_marker_is_the_78_bytes_that_java_writes() {
        let mut expected = golden::commit_marker();
        expected[12..16].copy_from_slice(&(-1_i32).to_be_bytes()); // The leader's epoch is the leader's to fill in.

        let marker = control_batch(100, 9000, 3, ControlType::Commit, 11, 1_700_000_000_000);

        assert_eq!(marker.len(), 78);
        assert_eq!(marker, expected);
    }

    #[test]
    fn a_marker_tells_how_the_transaction_ended() {
        for control_type in [ControlType::Abort, ControlType::Commit] {
            let batch = golden::batch(control_batch(100, 9000, 3, control_type, 11, 1_700_000_000_000));
            let decoded = decode(&batch, &DecodeLimits::default()).unwrap();
            let record = decoded.records().next().unwrap().unwrap();

            assert!(batch.header.is_control() && batch.header.is_transactional());
            assert_eq!(ControlType::from_key(record.key.unwrap()), Some(control_type));
        }
    }

    #[test]
    fn other_control_records_are_no_markers() {
        assert_eq!(ControlType::from_key(&[0, 0, 0, 2]), None); // A Raft leader has been elected.
        assert_eq!(ControlType::from_key(&[0, 0, 0]), None);
        assert_eq!(ControlType::from_key(&[]), None);
    }
}
