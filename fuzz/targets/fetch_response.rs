//! The scanner of fetch responses.
#![no_main]

use bytes::Bytes;
use kferry::protocol::{ApiKey, fetch_response};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&choice, body)) = data.split_first() else {
        return;
    };
    let version = kferry_fuzz::version(ApiKey::Fetch, choice);
    let body = Bytes::copy_from_slice(body);
    let Ok(response) = fetch_response::scan(body.clone(), version) else {
        return;
    };
    let mut bytes_found = 0;
    for partition in &response.partitions {
        bytes_found += 26 + 16 * partition.aborted.len() + partition.records.len();
        let within = body.as_ptr_range();
        assert!(partition.records.is_empty() || within.contains(&partition.records.as_ptr()));
    }
    assert!(bytes_found <= body.len(), "more was found than there is");
});
