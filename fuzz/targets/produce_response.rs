//! The decoder of produce responses.
#![no_main]

use kferry::protocol::{ApiKey, produce_response};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&choice, body)) = data.split_first() else {
        return;
    };
    let version = kferry_fuzz::version(ApiKey::Produce, choice);
    let Ok(response) = produce_response::decode(body, version) else {
        return;
    };
    let bytes_found = response
        .partitions
        .iter()
        .map(|partition| 22 + 5 * partition.record_errors.len());
    assert!(bytes_found.sum::<usize>() <= body.len(), "more was found than there is");
});
