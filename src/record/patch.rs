//! The header with which a fetched batch goes to the target.
//!
//! Only what a target must not see changes; the payload does not, and the CRC is adjusted rather than computed (see
//! [`crc`]). For batches that may go as they are: dense, magic 2, data. Deciding that is the caller's.

use super::crc;
use super::header::{BatchHeader, HEADER_LEN, at, attribute, put};

/// Whose batch it is on the target, and its place in the sequence there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerStamp {
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
}

impl ProducerStamp {
    /// A producer without idempotence.
    pub const NONE: Self = Self {
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
    };
}

/// Makes the header that a broker accepts from a producer and that promises nothing about the source.
///
/// - The base offset is 0: anything else is INVALID_RECORD.
/// - The leader epoch is the target's to fill in.
/// - Of the attributes only the codec stays. Transactional and control belong to the source's transactions. The append
///   time bit is refused with INVALID_TIMESTAMP by topics that use it. With the delete horizon the target would drop
///   tombstones when the *source* chose to; `base_timestamp` stays, since the deltas count from it all the same.
pub fn for_produce(header: &BatchHeader, stamp: ProducerStamp) -> [u8; HEADER_LEN] {
    let old = header.as_bytes();
    let mut new = *old;
    put(&mut new, at::BASE_OFFSET, 0_i64.to_be_bytes());
    put(&mut new, at::PARTITION_LEADER_EPOCH, (-1_i32).to_be_bytes());
    put(
        &mut new,
        at::ATTRIBUTES,
        (header.attributes() & attribute::CODEC).to_be_bytes(),
    );
    put(&mut new, at::PRODUCER_ID, stamp.producer_id.to_be_bytes());
    put(&mut new, at::PRODUCER_EPOCH, stamp.producer_epoch.to_be_bytes());
    put(&mut new, at::BASE_SEQUENCE, stamp.base_sequence.to_be_bytes());
    let crc = crc::patched(
        header.crc(),
        &old[at::ATTRIBUTES..],
        &new[at::ATTRIBUTES..],
        header.payload_len(),
    );
    put(&mut new, at::CRC, crc.to_be_bytes());
    new
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::golden;
    use super::*;

    const STAMP: ProducerStamp = ProducerStamp {
        producer_id: 77,
        producer_epoch: 4,
        base_sequence: 1000,
    };

    #[test]
    fn a_patched_header_is_ours_and_its_crc_right() {
        let mut bytes = golden::two_records();

        let new = for_produce(&BatchHeader::parse(&bytes).unwrap(), STAMP);

        bytes[..HEADER_LEN].copy_from_slice(&new);
        let patched = BatchHeader::parse(&new).unwrap();
        assert_eq!((patched.base_offset(), patched.partition_leader_epoch()), (0, -1));
        assert_eq!(
            (patched.producer_id(), patched.producer_epoch(), patched.base_sequence()),
            (77, 4, 1000)
        );
        assert_eq!((patched.last_offset_delta(), patched.record_count()), (1, 2));
        assert_eq!(
            (patched.base_timestamp(), patched.max_timestamp()),
            (1_700_000_000_000, 1_700_000_000_007)
        );
        assert_eq!(patched.crc(), crc::crc32c(&bytes[at::ATTRIBUTES..]));
    }

    #[test]
    fn of_the_attributes_only_the_codec_stays() {
        let mut bytes = golden::two_records();
        bytes[at::ATTRIBUTES..at::LAST_OFFSET_DELTA].copy_from_slice(&0x7FFC_u16.to_be_bytes());

        let patched = for_produce(&BatchHeader::parse(&bytes).unwrap(), STAMP);

        assert_eq!(patched[at::ATTRIBUTES..at::LAST_OFFSET_DELTA], [0, 4]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn patching_any_batch_equals_recomputing_its_crc(
            attributes: i16,
            base_offset in 0..i64::MAX / 2,
            timestamps: (i64, i64),
            source: (i64, i16, i32),
            target: (i64, i16, i32),
            payload in vec(any::<u8>(), 0..2000),
        ) {
            let mut bytes = golden::two_records();
            bytes.truncate(HEADER_LEN);
            let (fixed, _) = bytes.split_first_chunk_mut::<HEADER_LEN>().unwrap();
            put(fixed, at::BASE_OFFSET, base_offset.to_be_bytes());
            put(fixed, at::BATCH_LENGTH, (49 + payload.len() as i32).to_be_bytes());
            put(fixed, at::ATTRIBUTES, attributes.to_be_bytes());
            put(fixed, at::BASE_TIMESTAMP, timestamps.0.to_be_bytes());
            put(fixed, at::MAX_TIMESTAMP, timestamps.1.to_be_bytes());
            put(fixed, at::PRODUCER_ID, source.0.to_be_bytes());
            put(fixed, at::PRODUCER_EPOCH, source.1.to_be_bytes());
            put(fixed, at::BASE_SEQUENCE, source.2.to_be_bytes());
            bytes.extend(payload);
            let crc = crc::crc32c(&bytes[at::ATTRIBUTES..]);
            bytes[at::CRC..at::ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());

            let (producer_id, producer_epoch, base_sequence) = target;
            let stamp = ProducerStamp { producer_id, producer_epoch, base_sequence };
            let patched = for_produce(&BatchHeader::parse(&bytes).unwrap(), stamp);
            bytes[..HEADER_LEN].copy_from_slice(&patched);

            prop_assert_eq!(BatchHeader::parse(&patched).unwrap().crc(), crc::crc32c(&bytes[at::ATTRIBUTES..]));
        }
    }
}
