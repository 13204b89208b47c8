//! What the tests of the fetch share.

use bytes::Bytes;
use kafka_protocol::messages::{FetchRequest, FetchResponse};

use crate::protocol::error_code::ErrorCode;
use crate::sandbox::core::testing::{code, fetch_request};

/// A request for the first partitions of topic `t`, each from its own offset.
pub(super) fn request_of(offsets: &[i64]) -> FetchRequest {
    let mut request = fetch_request("t", 0, 0);
    let one = request.topics[0].partitions[0].clone();
    request.topics[0].partitions = (0..)
        .zip(offsets)
        .map(|(index, &offset)| one.clone().with_partition(index).with_fetch_offset(offset))
        .collect();
    request
}

pub(super) fn sizes(response: &FetchResponse) -> Vec<(i32, usize)> {
    response
        .responses
        .iter()
        .flat_map(|topic| &topic.partitions)
        .map(|partition| {
            (
                partition.partition_index,
                partition.records.as_ref().map_or(0, Bytes::len),
            )
        })
        .collect()
}

pub(super) fn error_of(response: &FetchResponse) -> ErrorCode {
    code(response.responses[0].partitions[0].error_code)
}
