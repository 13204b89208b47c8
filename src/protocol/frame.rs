//! Frames and headers: what surrounds each request and response.
//!
//! A frame is four bytes of length, a header and a body. The length is checked before a byte of it is waited for, and
//! the correlation id is for the connection to compare. Request header versions 1 and 2 and response header versions
//! 0 and 1 are those that Kafka 2.1 and later use; which one goes with a request follows from its API and version.

use bytes::{Buf, Bytes};

use super::ApiKey;
use super::encoding::Encoding;
use super::primitives::{Reader, WireError};

/// The largest frame that is read. The largest batch that a broker takes fits in its `socket.request.max.bytes`,
/// 100 MiB by default, and a fetch response exceeds what was asked for by one batch at most.
pub const MAX_FRAME: usize = 128 * 1024 * 1024;

/// The bytes of length before each frame.
pub const LENGTH_PREFIX: usize = 4;

/// The least that a frame can hold: a correlation id.
const MIN_FRAME: usize = 4;

/// Checks the length at the front of a frame.
pub fn frame_len(prefix: [u8; LENGTH_PREFIX]) -> Result<usize, WireError> {
    let length = i32::from_be_bytes(prefix);
    match usize::try_from(length) {
        Ok(len) if (MIN_FRAME..=MAX_FRAME).contains(&len) => Ok(len),
        _ => Err(foreign_protocol(prefix).unwrap_or(WireError::FrameLength { length })),
    }
}

/// Peers that do not speak Kafka are mostly these; saying so spares a search.
fn foreign_protocol(prefix: [u8; LENGTH_PREFIX]) -> Option<WireError> {
    match &prefix {
        // An alert (21) or a handshake (22) record of TLS, and its version.
        [21 | 22, 3, 0..=4, _] => Some(WireError::NotKafka { protocol: "TLS" }),
        b"HTTP" => Some(WireError::NotKafka { protocol: "HTTP" }),
        b"SSH-" => Some(WireError::NotKafka { protocol: "SSH" }),
        _ => None,
    }
}

/// Writes a request's header.
pub fn put_request_header(out: &mut Vec<u8>, api: ApiKey, version: i16, correlation_id: i32, client_id: &str) {
    out.extend((api as i16).to_be_bytes());
    out.extend(version.to_be_bytes());
    out.extend(correlation_id.to_be_bytes());
    // The client id stays a plain string in the flexible header, so that a broker can read it of any version.
    Encoding::Plain.put_string(out, client_id);
    Encoding::new(api.request_header_version(version) >= 2).put_no_tagged_fields(out);
}

/// Splits a response to a request of this API and version into its correlation id and its body.
pub fn split_response(mut frame: Bytes, api: ApiKey, version: i16) -> Result<(i32, Bytes), WireError> {
    let mut reader = Reader::new(&frame);
    let correlation_id = reader.i32()?;
    Encoding::new(api.response_header_version(version) >= 1).skip_tagged_fields(&mut reader)?;
    let header_len = reader.position();
    frame.advance(header_len);
    Ok((correlation_id, frame))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::{RequestHeader, ResponseHeader};
    use kafka_protocol::protocol::{Encodable, StrBytes};

    use super::*;

    #[test]
    fn request_headers_are_those_of_the_kafka_protocol_crate() {
        for (api, version) in [
            (ApiKey::Fetch, 11),
            (ApiKey::Fetch, 12),
            (ApiKey::ApiVersions, 3),
            (ApiKey::Produce, 8),
        ] {
            let theirs = RequestHeader::default()
                .with_request_api_key(api as i16)
                .with_request_api_version(version)
                .with_correlation_id(-7)
                .with_client_id(Some(StrBytes::from_static_str("kferry")));
            let mut expected = Vec::new();
            theirs
                .encode(&mut expected, api.request_header_version(version))
                .unwrap();

            let mut ours = Vec::new();
            put_request_header(&mut ours, api, version, -7, "kferry");
            assert_eq!(ours, expected, "{api:?} {version}");
        }
    }

    #[test]
    fn a_flexible_request_header_ends_in_tagged_fields() {
        let mut header = Vec::new();
        put_request_header(&mut header, ApiKey::Fetch, 12, 1, "kf");
        let expected = [
            0, 1, // API key
            0, 12, // version
            0, 0, 0, 1, // correlation id
            0, 2, b'k', b'f', // client id: not compact
            0,    // no tagged fields
        ];
        assert_eq!(header, expected);
    }

    #[test]
    fn a_response_is_split_after_its_header() {
        let mut flexible = Vec::new();
        let header = ResponseHeader::default()
            .with_correlation_id(5)
            .with_unknown_tagged_field(9, Bytes::from_static(b"later"));
        header.encode(&mut flexible, 1).unwrap();
        flexible.extend(b"body");
        let split = split_response(flexible.into(), ApiKey::Fetch, 12);
        assert_eq!(split, Ok((5, Bytes::from_static(b"body"))));

        let plain = Bytes::from_static(&[0, 0, 0, 6, 0, 35]);
        let body = Bytes::from_static(&[0, 35]);
        assert_eq!(split_response(plain.clone(), ApiKey::Fetch, 11), Ok((6, body.clone())));
        assert_eq!(
            split_response(plain, ApiKey::ApiVersions, 3),
            Ok((6, body)),
            "always header version 0"
        );
    }

    #[test]
    fn a_response_without_a_whole_header_is_refused() {
        let cut = Bytes::from_static(&[0, 0, 0, 6, 1, 0, 3, 1]);
        for len in 0..cut.len() {
            assert!(split_response(cut.slice(..len), ApiKey::Fetch, 12).is_err(), "{len}");
        }
    }

    #[test]
    fn an_absurd_frame_length_is_refused() {
        assert_eq!(frame_len([0, 0, 0, 4]), Ok(4));
        assert_eq!(frame_len((MAX_FRAME as i32).to_be_bytes()), Ok(MAX_FRAME));
        for length in [i32::MIN, -1, 0, 3, MAX_FRAME as i32 + 1, i32::MAX] {
            assert_eq!(frame_len(length.to_be_bytes()), Err(WireError::FrameLength { length }));
        }
    }

    #[test]
    fn another_protocol_is_named() {
        assert_eq!(frame_len(*b"HTTP"), Err(WireError::NotKafka { protocol: "HTTP" }));
        assert_eq!(frame_len([21, 3, 3, 0]), Err(WireError::NotKafka { protocol: "TLS" }));
    }
}
