//! ApiVersions: what is served. It is answered in every version, so that a client can find out.

use kafka_protocol::messages::ApiVersionsResponse;
use kafka_protocol::messages::api_versions_response::ApiVersion;

use super::Call;
use crate::protocol::ApiKey;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::produce_request::Segments;
use crate::sandbox::core::versions::{SERVED, is_served};
use crate::sandbox::core::wire::{RequestError, RequestHead};

pub(super) fn handle(call: &Call) -> Result<Segments, RequestError> {
    let is_known = is_served(ApiKey::ApiVersions, call.head.version);
    let code = match call.refused() {
        Some(code) => code,
        None if is_known => ErrorCode::None,
        None => ErrorCode::UnsupportedVersion,
    };
    let api_keys = SERVED.iter().map(|served| {
        // Real brokers say 0 of Produce for the sake of old librdkafka, and refuse it all the same (KAFKA-18659).
        let min = if served.api == ApiKey::Produce { 0 } else { served.min };
        ApiVersion::default()
            .with_api_key(served.api as i16)
            .with_min_version(min)
            .with_max_version(served.max)
    });
    let response = ApiVersionsResponse::default()
        .with_error_code(code.code())
        .with_api_keys(api_keys.collect());
    let head = RequestHead {
        // A client that asked in a version unknown here understands version 0.
        version: if is_known { call.head.version } else { 0 },
        ..call.head.clone()
    };
    head.encode(&response)
}
