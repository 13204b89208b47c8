//! What the ledger costs: a checkpoint of a partition is written each second while it moves, and all are read at a start.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use kferry::offsets::{OffsetPair, SourceOffset, TargetOffset};
use kferry::replication::epochs::{BatchMark, EpochHistory, EpochStart};
use kferry::replication::ledger::{Checkpoint, LedgerRecord, OwnerId};
use uuid::Uuid;

const PARTITIONS: i32 = 1000;

fn main() {
    divan::main();
}

/// Of partitions whose source has had three leaders.
fn checkpoints() -> Vec<LedgerRecord> {
    let owner = OwnerId {
        generation: 7,
        instance: 0x0123_4567_89ab_cdef,
    };
    let mut epochs = EpochHistory::default();
    let starts = [(3, 0), (4, 1 << 20), (9, 1 << 30)];
    epochs.take_all(&starts.map(|(epoch, start)| EpochStart {
        epoch,
        start: SourceOffset(start),
    }));
    let checkpoint = |partition| LedgerRecord::Checkpoint {
        topic: "shop.orders.v1".to_owned(),
        partition,
        owner,
        checkpoint: Checkpoint {
            target_topic: "shop.orders.v1".to_owned(),
            source_topic_id: Uuid::from_u128(1),
            target_topic_id: Uuid::from_u128(2),
            start: OffsetPair {
                source: SourceOffset(0),
                target: TargetOffset(0),
            },
            source_position: SourceOffset(1 << 40),
            source_leader_epoch: 9,
            source_mark: Some(BatchMark {
                base_offset: SourceOffset((1 << 40) - 100),
                crc: 0xdead_beef,
            }),
            source_epochs: epochs.clone(),
            target_next: TargetOffset(1 << 40),
            producer_id: 4000,
            producer_epoch: 1,
            next_sequence: 1 << 30,
            cuts: Vec::new(),
        },
    };
    (0..PARTITIONS).map(checkpoint).collect()
}

#[divan::bench]
fn write_a_checkpoint_down(bencher: Bencher<'_, '_>) {
    let records = checkpoints();
    bencher.counter(ItemsCount::new(records.len())).bench(|| {
        records
            .iter()
            .map(|record| black_box(record.encode()).0.len())
            .sum::<usize>()
    });
}

#[divan::bench]
fn read_a_checkpoint(bencher: Bencher<'_, '_>) {
    let written: Vec<_> = checkpoints().iter().map(LedgerRecord::encode).collect();
    bencher.counter(ItemsCount::new(written.len())).bench(|| {
        for (key, value) in &written {
            black_box(LedgerRecord::decode(key, value.as_deref()).expect("as it was written"));
        }
    });
}
