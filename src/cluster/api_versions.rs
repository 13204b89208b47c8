//! Which versions of each API the broker at the other end speaks.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::ApiVersionsRequest;
use kafka_protocol::protocol::StrBytes;

use super::call::Caller;
use super::error::{ClusterError, Malformed, VersionRange};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::primitives::Reader;
use crate::protocol::{ApiKey, versions};

/// What a broker offers, of the APIs that we speak. It belongs to one connection: during a rolling upgrade the brokers
/// of a cluster differ.
#[derive(Debug, Clone, Default)]
pub(super) struct ApiVersions(HashMap<ApiKey, VersionRange>);

impl ApiVersions {
    pub(super) fn range(&self, api: ApiKey) -> Option<VersionRange> {
        self.0.get(&api).copied()
    }
}

/// Asks in the newest version that we speak. A broker to which that is too new answers UNSUPPORTED_VERSION in the layout
/// of version 0; from Kafka 2.4 on it says there which versions it knows (KIP-511).
pub(super) async fn ask(caller: &Caller) -> Result<ApiVersions, ClusterError> {
    let request = ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str(env!("CARGO_PKG_NAME")))
        .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
    let mut version = versions::spoken(API).map_or(0, |(_, newest)| newest);
    loop {
        let body = caller.exchange(version, &request, Duration::ZERO).await?;
        match Reader::new(&body).i16().map(ErrorCode::from_wire) {
            Ok(ErrorCode::UnsupportedVersion) if version > 0 => version = older(caller, version, body),
            Ok(ErrorCode::None) | Err(_) => return decode(caller, version, body),
            Ok(code) => return Err(caller.wire().peer().refused(API, "", code)),
        }
    }
}

/// The next version to try: an older one each time, so that the asking ends.
fn older(caller: &Caller, version: i16, body: Bytes) -> i16 {
    let offered = decode(caller, 0, body).ok().and_then(|offered| offered.range(API));
    let common = offered.and_then(|range| versions::negotiate(API, range.min, range.max));
    common.map_or(0, |common| common.min(version - 1))
}

fn decode(caller: &Caller, version: i16, body: Bytes) -> Result<ApiVersions, ClusterError> {
    let answer = caller.decode::<ApiVersionsRequest>(version, body)?;
    let mut offered = HashMap::new();
    for entry in answer.api_keys {
        let (api_key, min, max) = (entry.api_key, entry.min_version, entry.max_version);
        let Some(api) = ApiKey::try_from(api_key)
            .ok()
            .filter(|&api| versions::spoken(api).is_some())
        else {
            continue;
        };
        let range = VersionRange { min, max };
        if min > max {
            let cause = Malformed::VersionRange { api_key, range };
            return Err(caller.wire().peer().malformed(API, cause));
        }
        offered.insert(api, range);
    }
    Ok(ApiVersions(offered))
}

const API: ApiKey = ApiKey::ApiVersions;
