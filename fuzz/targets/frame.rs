//! Frame length and response header, of any API and version.
#![no_main]

use bytes::Bytes;
use kferry::protocol::{ApiKey, frame};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&[api, choice, a, b, c, d], body)) = data.split_first_chunk() else {
        return;
    };
    if let Ok(len) = frame::frame_len([a, b, c, d]) {
        assert!((4..=frame::MAX_FRAME).contains(&len));
    }
    let Ok(api) = ApiKey::try_from(i16::from(api)) else {
        return;
    };
    let version = kferry_fuzz::version(api, choice);
    if let Ok((_, rest)) = frame::split_response(Bytes::copy_from_slice(body), api, version) {
        assert!(body.ends_with(&rest));
    }
});
