//! One message there and back, at a version that the caller knows.
//!
//! The messages are the `kafka-protocol` crate's. Its decoders reserve memory for any count that a peer claims, so that
//! a body is walked through [`bounds`] before it goes there.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::{Decodable, Request, StrBytes};
use tokio::time::Instant;

use super::error::{ClusterError, Malformed};
use super::wire::{Answer, Wire};
use crate::protocol::primitives::WireError;
use crate::protocol::produce_request::Segments;
use crate::protocol::{ApiKey, bounds, frame};

#[derive(Debug)]
pub(super) struct Caller {
    wire: Wire,
    client_id: Arc<str>,
    request_timeout: Duration,
}

impl Caller {
    pub(super) fn new(wire: Wire, client_id: Arc<str>, request_timeout: Duration) -> Self {
        Self {
            wire,
            client_id,
            request_timeout,
        }
    }

    pub(super) fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Queues a request, which `encode` writes given a correlation id and the client id, before it returns.
    pub(super) fn send(
        &self,
        api: ApiKey,
        version: i16,
        held: Duration,
        send_before: Option<Instant>,
        encode: impl FnOnce(i32, &str) -> Segments,
    ) -> Answer {
        let timeout = self.request_timeout.saturating_add(held);
        let encode = |correlation_id| encode(correlation_id, &self.client_id);
        self.wire.send(api, version, timeout, send_before, encode)
    }

    /// Sends a message and returns the body of the answer.
    pub(super) async fn exchange<Req: Request>(
        &self,
        version: i16,
        request: &Req,
        held: Duration,
    ) -> Result<Bytes, ClusterError> {
        let api = api_key::<Req>();
        let mut body = Vec::new();
        request
            .encode(&mut body, version)
            .map_err(|reason| ClusterError::Unwritable {
                peer: self.wire.peer().clone(),
                api,
                reason: format!("{reason:#}"),
            })?;
        let encode = |correlation_id, client_id: &str| whole_frame(api, version, correlation_id, client_id, &body);
        self.send(api, version, held, None, encode).body().await
    }

    /// Decodes the body of an answer, all of it.
    pub(super) fn decode<Req: Request>(&self, version: i16, body: Bytes) -> Result<Req::Response, ClusterError> {
        let api = api_key::<Req>();
        decode(api, version, body).map_err(|cause| self.wire.peer().malformed(api, cause))
    }
}

/// The request's API, which the crate gives as a number.
pub(super) fn api_key<Req: Request>() -> ApiKey {
    ApiKey::try_from(Req::KEY).expect("each request type has the key of an API")
}

pub(super) fn wire_string(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(super) fn topic_name(name: &str) -> TopicName {
    TopicName(wire_string(name))
}

/// A duration as the wire has it.
pub(super) fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

fn decode<Res: Decodable>(api: ApiKey, version: i16, mut body: Bytes) -> Result<Res, Malformed> {
    bounds::check(api, version, &body)?;
    let len = body.len();
    let decoded = Res::decode(&mut body, version).map_err(|cause| Malformed::Undecodable(format!("{cause:#}")))?;
    if body.is_empty() {
        Ok(decoded)
    } else {
        let (at, count) = (len - body.len(), body.len());
        Err(WireError::TrailingBytes { at, count }.into())
    }
}

pub(super) fn whole_frame(api: ApiKey, version: i16, correlation_id: i32, client_id: &str, body: &[u8]) -> Segments {
    let mut out = vec![0; frame::LENGTH_PREFIX];
    frame::put_request_header(&mut out, api, version, correlation_id, client_id);
    out.extend_from_slice(body);
    let len = i32::try_from(out.len() - frame::LENGTH_PREFIX).expect("a request is smaller than 2 GiB");
    out[..frame::LENGTH_PREFIX].copy_from_slice(&len.to_be_bytes());
    Bytes::from(out).into()
}
