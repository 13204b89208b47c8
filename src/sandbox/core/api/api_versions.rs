//! ApiVersions: what is served. It is answered in every version, so that a client can find out.

use bytes::Bytes;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};

use super::Call;
use crate::protocol::ApiKey;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::produce_request::Segments;
use crate::sandbox::core::versions::{SERVED, is_served};
use crate::sandbox::core::wire::{RequestError, RequestHead};

/// From here on a client has to say which software it is (KIP-511).
const FIRST_WITH_NAMES: i16 = 3;

pub(super) fn handle(call: &Call, body: Bytes) -> Result<Segments, RequestError> {
    let version = call.head.version;
    let is_known = is_served(ApiKey::ApiVersions, version);
    if is_known && version >= FIRST_WITH_NAMES {
        let request: ApiVersionsRequest = call.head.decode(body)?;
        if !is_name(&request.client_software_name) || !is_name(&request.client_software_version) {
            let refused = ApiVersionsResponse::default().with_error_code(ErrorCode::InvalidRequest.code());
            return call.head.encode(&refused);
        }
    }
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
        version: if is_known { version } else { 0 },
        ..call.head.clone()
    };
    head.encode(&response)
}

/// Letters and digits, and between them dots and hyphens.
fn is_name(name: &str) -> bool {
    let is_plain = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    is_plain(bytes.first())
        && is_plain(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(byte))
}
