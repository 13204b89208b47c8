//! The scan for batches, everything that a header says, and the header that goes to the target.
#![no_main]

use bytes::Bytes;
use kferry::record::{HEADER_LEN, ProducerStamp, RawBatch, Scanned, patch, scan};
use libfuzzer_sys::fuzz_target;

const STAMP: ProducerStamp = ProducerStamp {
    producer_id: 77,
    producer_epoch: 4,
    base_sequence: 1000,
};

fuzz_target!(|data: &[u8]| {
    let mut scan = scan(Bytes::copy_from_slice(data));
    let mut bytes_found = 0;
    for scanned in scan.by_ref() {
        match scanned {
            Ok(Scanned::Batch(batch)) => {
                bytes_found += batch.bytes.len();
                look_at(&batch);
                patch(&batch);
            }
            Ok(Scanned::Legacy(entry)) => bytes_found += entry.bytes.len(),
            Err(error) => drop(error.to_string()),
        }
    }
    assert_eq!(bytes_found + scan.partial_tail(), data.len());
});

fn look_at(batch: &RawBatch) {
    let header = &batch.header;
    assert_eq!(header.size(), batch.bytes.len());
    assert_eq!(header.payload_len(), batch.payload().len());
    assert!(header.next_offset() >= header.base_offset());
    let _ = (format!("{header:?}"), header.codec(), header.has_offset_gaps());
}

/// A patched batch has the target's header, and a right CRC exactly when it had one before.
fn patch(batch: &RawBatch) {
    let patched = patch::for_produce(&batch.header, STAMP);
    let bytes = Bytes::from([&patched[..], &batch.bytes[HEADER_LEN..]].concat());
    let Some(Ok(Scanned::Batch(patched))) = scan(bytes).next() else {
        panic!("no batch after patching")
    };
    assert_eq!(patched.header.producer_id(), STAMP.producer_id);
    assert_eq!(patched.header.record_count(), batch.header.record_count());
    assert_eq!(patched.verify_crc().is_ok(), batch.verify_crc().is_ok());
}
