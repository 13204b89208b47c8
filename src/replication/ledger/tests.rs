//! Ledger records, written and read.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::offsets::{OffsetPair, Run, SourceOffset, TargetOffset};
use crate::replication::epochs::{BatchMark, EpochHistory, EpochStart};

const OWNER: OwnerId = OwnerId {
    generation: 2,
    instance: 0x0102_0304_0506_0708,
};

fn checkpoint() -> Checkpoint {
    Checkpoint {
        target_topic: "a.orders".into(),
        source_topic_id: Uuid::from_u128(1),
        target_topic_id: Uuid::from_u128(2),
        start: OffsetPair {
            source: SourceOffset(5),
            target: TargetOffset(0),
        },
        source_position: SourceOffset(300),
        source_leader_epoch: 4,
        target_next: TargetOffset(290),
        producer_id: 1000,
        producer_epoch: 0,
        next_sequence: 290,
        source_mark: Some(BatchMark {
            base_offset: SourceOffset(298),
            crc: 0x0102_0304,
        }),
        source_epochs: epochs(),
        cuts: vec![OffsetPair {
            source: SourceOffset(250),
            target: TargetOffset(280),
        }],
    }
}

fn epochs() -> EpochHistory {
    let mut epochs = EpochHistory::default();
    for (epoch, start) in [(0, 0), (4, 250)] {
        let start = SourceOffset(start);
        epochs.take(EpochStart { epoch, start });
    }
    epochs
}

fn records() -> Vec<LedgerRecord> {
    let mut segment = Segment::default();
    segment.push(Run {
        source_start: SourceOffset(5),
        target_start: TargetOffset(0),
        count: 10,
    });
    vec![
        LedgerRecord::Flow(FlowRecord {
            source_cluster_id: "MkU3OEVBNTcwNTJENDM2Qg".into(),
            target_cluster_id: "Some-Other-Cluster-Id_".into(),
            lanes: 8,
        }),
        LedgerRecord::Checkpoint {
            topic: "orders".into(),
            partition: 3,
            owner: OWNER,
            checkpoint: checkpoint(),
        },
        LedgerRecord::Segment {
            topic: "orders".into(),
            partition: 3,
            owner: OWNER,
            segment,
        },
        LedgerRecord::Owner(OwnerRecord {
            owner: OWNER,
            released: true,
        }),
        LedgerRecord::Lane(LaneRecord {
            producer_id: 1000,
            producer_epoch: 3,
            is_transactional: true,
        }),
        LedgerRecord::Group {
            group: "billing".into(),
            topic: "orders".into(),
            partition: 3,
            record: GroupRecord {
                source_offset: SourceOffset(17),
                target_offset: TargetOffset(12),
            },
        },
    ]
}

#[test]
fn what_is_written_is_read() {
    for record in records() {
        let (key, value) = record.encode();
        assert_eq!(LedgerRecord::decode(&key, value.as_deref()), Ok(record));
    }
}

#[test]
fn a_tombstone_says_what_is_gone() {
    for record in records() {
        let gone = LedgerRecord::Gone(record.key());
        let (key, value) = gone.encode();
        assert_eq!(value, None);
        assert_eq!(LedgerRecord::decode(&key, None), Ok(gone));
    }
}

#[test]
fn golden_checkpoint() {
    let mut golden = vec![3]; // format
    golden.extend([0, 8]); // target topic
    golden.extend(b"a.orders");
    golden.extend(Uuid::from_u128(1).as_bytes());
    golden.extend(Uuid::from_u128(2).as_bytes());
    golden.extend([10, 0]); // flow start: source 5, target 0
    golden.extend([0xd8, 0x04]); // source position 300
    golden.push(8); // source leader epoch 4
    golden.extend([0xc4, 0x04]); // target next 290
    golden.extend([0xd0, 0x0f]); // producer id 1000
    golden.push(0); // producer epoch 0
    golden.extend([0xc4, 0x04]); // next sequence 290
    golden.extend([1, 0xd4, 0x04, 1, 2, 3, 4]); // the batch before: at offset 298, its checksum
    golden.extend([4, 0, 0, 8, 0xf4, 0x03]); // two source epochs: 0 from offset 0 on, 4 from 250 on
    golden.extend([0xf4, 0x03, 0xb0, 0x04]); // a cut: source 250, target 280
    assert_eq!(checkpoint().encode(), golden);
    let key = LedgerKey::Checkpoint {
        topic: "orders".into(),
        partition: 3,
        owner: OWNER,
    };
    assert_eq!(
        key.encode(),
        [&[2, 0, 6][..], b"orders", &[6, 4, 1, 2, 3, 4, 5, 6, 7, 8]].concat()
    );
}

#[test]
fn a_cut_record_is_an_error_at_every_length() {
    for record in records() {
        let (key, value) = record.encode();
        let value = value.expect("not a tombstone");
        for cut in 0..key.len() {
            assert!(LedgerRecord::decode(&key[..cut], Some(&value)).is_err());
        }
        // What ends with a list can be cut to a shorter one: the broker's CRC guards against that, not we.
        for cut in 0..value.len().saturating_sub(4) {
            assert!(
                LedgerRecord::decode(&key, Some(&value[..cut])).is_err(),
                "{record:?} cut to {cut}"
            );
        }
    }
}

#[test]
fn another_format_is_refused() {
    let (key, value) = records().remove(1).encode();
    let mut value = value.expect("not a tombstone");
    value[0] = 2;
    assert_eq!(LedgerRecord::decode(&key, Some(&value)), Err(LedgerError::Format(2)));
    assert_eq!(LedgerKey::decode(&[9]), Err(LedgerError::Kind(9)));
}

#[test]
fn lanes_never_move() {
    // Written into ledgers by what lies where: these values may never change.
    assert_eq!(lane_of("orders", 0, 8), 4);
    assert_eq!(lane_of("orders", 1, 8), 7);
    assert_eq!(lane_of("a.b-c_d", 1234, 8), 5);
    assert_eq!(
        lane_transactional_id("kferry-ledger.A.B.internal", 3),
        "kferry-ledger.A.B.internal-3"
    );
}

proptest! {
    #[test]
    fn no_bytes_panic(
        key in prop::collection::vec(any::<u8>(), 0..60),
        value in prop::option::of(prop::collection::vec(any::<u8>(), 0..100)),
    ) {
        let _ = LedgerRecord::decode(&key, value.as_deref());
    }
}
