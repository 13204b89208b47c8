//! The ledger's records: others can write to that topic too.
#![no_main]

use kferry::replication::ledger::LedgerRecord;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&key_len, rest)) = data.split_first() else {
        return;
    };
    let Some((key, value)) = rest.split_at_checked(key_len.into()) else {
        return;
    };
    let Ok(record) = LedgerRecord::decode(key, Some(value)) else {
        return;
    };
    let (key, value) = record.encode();
    assert_eq!(LedgerRecord::decode(&key, value.as_deref()), Ok(record));
});
