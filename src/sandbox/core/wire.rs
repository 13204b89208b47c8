//! Requests in, responses out: the frames of a connection, without their transport.

use bytes::Bytes;
use kafka_protocol::protocol::{Decodable, Encodable};

use super::produce_request::ProduceRequest;
use crate::protocol::ApiKey;
use crate::protocol::bounds;
use crate::protocol::encoding::Encoding;
use crate::protocol::frame::LENGTH_PREFIX;
use crate::protocol::primitives::{Reader, WireError};
use crate::protocol::produce_request::Segments;

/// Payloads up to this size are copied into the response's small pieces: cheaper than one more piece to write.
const COPIED_PAYLOAD: usize = 1024;

/// One request, read as far as can be done without knowing the cluster.
#[derive(Debug)]
pub struct Request {
    pub head: RequestHead,
    pub(super) body: Body,
}

#[derive(Debug, Clone)]
pub struct RequestHead {
    pub api: ApiKey,
    pub version: i16,
    pub correlation_id: i32,
    pub client_id: String,
}

#[derive(Debug)]
pub(super) enum Body {
    /// Decoded when it is served.
    Encoded(Bytes),
    /// Decoded, and its batches read through: that takes time, and needs no lock.
    Produce(ProduceRequest),
}

/// Why a frame is no request. Brokers close the connection over each of them.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("malformed request")]
    Malformed(#[from] WireError),
    #[error("api key {0} is not known")]
    UnknownApi(i16),
    #[error("version {version} of {api:?} is not served")]
    UnsupportedVersion { api: ApiKey, version: i16 },
    #[error("the body of a {api:?} request of version {version} cannot be decoded: {cause}")]
    Body { api: ApiKey, version: i16, cause: String },
    #[error("the records of a produce request are null")]
    NullRecords,
}

impl Request {
    /// Reads a frame, given without its length. This is the costly part of serving a produce request, and does not
    /// need the cluster: a server of many connections does it before it locks anything.
    pub fn parse(frame: Bytes) -> Result<Self, RequestError> {
        let mut reader = Reader::new(&frame);
        let key = reader.i16()?;
        let version = reader.i16()?;
        let correlation_id = reader.i32()?;
        let client_id = reader.nullable_string()?.unwrap_or_default().to_owned();
        let api = ApiKey::try_from(key).map_err(|()| RequestError::UnknownApi(key))?;
        let head = RequestHead {
            api,
            version,
            correlation_id,
            client_id,
        };
        if !super::versions::is_served(api, version) && api != ApiKey::ApiVersions {
            return Err(RequestError::UnsupportedVersion { api, version });
        }
        if api.request_header_version(version) >= 2 {
            reader.skip_tagged_fields()?;
        }
        let encoded = frame.slice(reader.position()..);
        let body = match api {
            ApiKey::Produce => Body::Produce(ProduceRequest::read(&head, encoded)?),
            _ => Body::Encoded(encoded),
        };
        Ok(Self { head, body })
    }
}

impl RequestHead {
    /// Decodes a body with the `kafka-protocol` crate, which reserves memory for whatever a count claims: hence the
    /// check before it.
    pub(super) fn decode<Q: Decodable>(&self, mut body: Bytes) -> Result<Q, RequestError> {
        let (api, version) = (self.api, self.version);
        bounds::check_request(api, version, &body)?;
        Q::decode(&mut body, version).map_err(|error| RequestError::Body {
            api,
            version,
            cause: error.to_string(),
        })
    }

    /// Encodes a response to this request.
    pub(super) fn encode<R: Encodable>(&self, response: &R) -> Result<Segments, RequestError> {
        let mut writer = FrameWriter::new(self);
        response
            .encode(&mut writer.ours, self.version)
            .map_err(|error| RequestError::Body {
                api: self.api,
                version: self.version,
                cause: error.to_string(),
            })?;
        Ok(writer.finish())
    }
}

/// All of a response in one buffer, without its length: what a client gets to see.
pub fn body_of(frame: &Segments) -> Bytes {
    Bytes::from(frame.0.concat()).slice(LENGTH_PREFIX..)
}

/// Inverts the bits of one byte of a response, counted from its correlation id and again from there past its end.
pub(super) fn corrupt(frame: &Segments, position: usize) -> Segments {
    let mut bytes = frame.0.concat();
    let length = bytes.len() - LENGTH_PREFIX;
    bytes[LENGTH_PREFIX + position % length] ^= 0xFF;
    Bytes::from(bytes).into()
}

/// Sets the throttle time of a response that begins with it.
pub(super) fn throttle(frame: &Segments, head: &RequestHead, ms: i32) -> Segments {
    let mut bytes = frame.0.concat();
    let header = FrameWriter::new(head).ours.len();
    bytes[header..header + size_of::<i32>()].copy_from_slice(&ms.to_be_bytes());
    Bytes::from(bytes).into()
}

/// Puts a response together: our own bytes, all in one buffer, and between them payloads, which are shared.
#[derive(Debug)]
pub(super) struct FrameWriter {
    pub(super) ours: Vec<u8>,
    /// Each with the place in `ours` before which it goes.
    payloads: Vec<(usize, Bytes)>,
}

impl FrameWriter {
    /// Begins with the response's header.
    pub(super) fn new(head: &RequestHead) -> Self {
        let mut ours = Vec::with_capacity(256);
        ours.extend([0; LENGTH_PREFIX]);
        ours.extend(head.correlation_id.to_be_bytes());
        Encoding::new(head.api.response_header_version(head.version) >= 1).put_no_tagged_fields(&mut ours);
        let payloads = Vec::new();
        Self { ours, payloads }
    }

    pub(super) fn payload(&mut self, payload: Bytes) {
        if payload.len() <= COPIED_PAYLOAD {
            self.ours.extend_from_slice(&payload);
        } else {
            self.payloads.push((self.ours.len(), payload));
        }
    }

    pub(super) fn finish(mut self) -> Segments {
        let payloads: usize = self.payloads.iter().map(|(_, payload)| payload.len()).sum();
        let length = self.ours.len() + payloads - LENGTH_PREFIX;
        self.ours[..LENGTH_PREFIX].copy_from_slice(&(length as u32).to_be_bytes());
        let mut ours = Bytes::from(self.ours);
        let mut pieces = Vec::with_capacity(2 * self.payloads.len() + 1);
        let mut written = 0;
        for (place, payload) in self.payloads {
            if place > written {
                pieces.push(ours.split_to(place - written));
                written = place;
            }
            pieces.push(payload);
        }
        if !ours.is_empty() {
            pieces.push(ours);
        }
        Segments(pieces)
    }
}
