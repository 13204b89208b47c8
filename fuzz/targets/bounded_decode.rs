//! The walk over a response, and then the `kafka-protocol` crate's decoder, which would reserve memory for any count.
#![no_main]

use bytes::Bytes;
use kferry::protocol::bounds;
use kferry_fuzz::WALKED;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&[api, choice], body)) = data.split_first_chunk() else {
        return;
    };
    let api = WALKED[usize::from(api) % WALKED.len()];
    let version = kferry_fuzz::version(api, choice);
    if bounds::check(api, version, body).is_ok()
        && let Some(left_over) = kferry_fuzz::decode_response(api, version, Bytes::copy_from_slice(body))
    {
        assert_eq!(
            left_over, 0,
            "the walk and the decoder do not agree where the message ends"
        );
    }
});
