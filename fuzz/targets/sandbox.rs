//! The sandbox's core: frames of a client, one after the other, to a fresh cluster.
#![no_main]

use bytes::Bytes;
use kferry::sandbox::core::{BrokerAddress, Cluster, Settings};
use libfuzzer_sys::fuzz_target;

/// Requests of one input.
const MAX_REQUESTS: usize = 16;

fuzz_target!(|data: &[u8]| {
    let broker = BrokerAddress {
        host: "localhost".to_owned(),
        port: 9092,
    };
    let settings = Settings {
        auto_create_topics: true,
        ..Settings::default()
    };
    let mut cluster = Cluster::new(settings, [broker.clone(), broker]);
    let mut rest = data;
    for request in 0..MAX_REQUESTS {
        let Some((&[a, b], after)) = rest.split_first_chunk() else {
            return;
        };
        let Some((frame, after)) = after.split_at_checked(usize::from(u16::from_be_bytes([a, b]))) else {
            return;
        };
        rest = after;
        let connection = cluster.connect(1 + request as i32 % 2);
        let now_ms = 1_700_000_000_000 + 1000 * request as i64;
        cluster.handle(connection, Bytes::copy_from_slice(frame), now_ms);
        cluster.poll(now_ms + 10);
    }
});
