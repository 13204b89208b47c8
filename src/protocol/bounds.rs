//! Walks a message before the `kafka-protocol` crate decodes it: the clusters' responses, and the sandbox's requests.
//!
//! The crate reserves memory for whatever count a peer claims: five bytes are enough to reserve gigabytes. So nothing
//! reaches its decoders that has not been walked here: afterwards every count is known to be that of items which are
//! there, every length to be that of bytes which are there, and nothing is left over. Whether the contents make sense
//! (UTF-8, null where it may be) is left to the decoder, and to its caller.
//!
//! The walk must not be more lenient than the decoder about where a field ends, or the two would read different
//! messages: a tagged field that does not have the length which it claims is refused here, and let pass there.

use super::ApiKey;
use super::encoding::Encoding;
use super::frame::MAX_FRAME;
use super::primitives::{Reader, TaggedField, WireError};
use super::request_schemas;
use super::response_schemas;
use super::versions;

/// The largest body that is decoded into structs, which take up to some 25 times its bytes. Metadata has about 50
/// bytes for a partition with three replicas.
const MAX_BODY: usize = 32 * 1024 * 1024;

/// The most tagged fields without a meaning to us in a body; each may cost some 400 bytes once decoded.
const MAX_UNKNOWN_TAGS: usize = 65_536;

/// A field of a struct, in the versions that have it.
pub(super) struct Field {
    pub(super) since: i16,
    pub(super) until: i16,
    pub(super) tag: Option<u32>,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    /// So many bytes.
    Fixed(usize),
    String,
    Bytes,
    Array(&'static Self),
    Struct(&'static [Field]),
    /// A struct that may be null: a byte before it is negative then.
    Nullable(&'static [Field]),
}

/// Checks the body of a response, which begins after the response header.
pub fn check(api: ApiKey, version: i16, body: &[u8]) -> Result<(), WireError> {
    walk(response_schemas::response(api), MAX_BODY, api, version, body)?.finish()
}

/// Checks the body of a request, which begins after the request header. Bytes left over are let pass, as brokers do:
/// librdkafka (2.16) sends some after a Metadata request.
pub fn check_request(api: ApiKey, version: i16, body: &[u8]) -> Result<(), WireError> {
    let limit = match api {
        // Hardly anything of it becomes structs: records stay as they are.
        ApiKey::Produce => MAX_FRAME,
        _ => MAX_BODY,
    };
    walk(request_schemas::request(api), limit, api, version, body).map(drop)
}

/// Walks a body, and stops after its last field.
fn walk<'a>(
    schema: Option<(i16, &'static [Field])>,
    limit: usize,
    api: ApiKey,
    version: i16,
    body: &'a [u8],
) -> Result<Reader<'a>, WireError> {
    versions::check_known(api, version)?;
    let (first_flexible, fields) = schema.ok_or(WireError::UnknownVersion { api, version })?;
    if body.len() > limit {
        return Err(WireError::OverLimit {
            what: "bytes of a message to decode",
            limit,
        });
    }
    let encoding = Encoding::new(version >= first_flexible);
    let mut walker = Walker {
        version,
        encoding,
        unknown_tags: 0,
    };
    let mut reader = Reader::new(body);
    walker.fields(&mut reader, fields)?;
    Ok(reader)
}

struct Walker {
    version: i16,
    encoding: Encoding,
    unknown_tags: usize,
}

impl Walker {
    fn fields(&mut self, reader: &mut Reader<'_>, fields: &'static [Field]) -> Result<(), WireError> {
        let version = self.version;
        for field in fields
            .iter()
            .filter(|field| field.tag.is_none() && field.is_in(version))
        {
            self.value(reader, &field.kind)?;
        }
        self.encoding.tagged_fields(reader, |tag, value| {
            let known = fields
                .iter()
                .find(|field| field.tag == Some(tag) && field.is_in(version));
            if let Some(field) = known {
                self.value(value, &field.kind)?;
                return Ok(TaggedField::Read);
            }
            self.unknown_tags += 1;
            if self.unknown_tags > MAX_UNKNOWN_TAGS {
                return Err(WireError::OverLimit {
                    what: "unknown tagged fields",
                    limit: MAX_UNKNOWN_TAGS,
                });
            }
            Ok(TaggedField::Ignored)
        })
    }

    fn value(&mut self, reader: &mut Reader<'_>, kind: &Kind) -> Result<(), WireError> {
        match kind {
            Kind::Fixed(len) => reader.take(*len).map(drop),
            Kind::String => {
                let len = self.encoding.nullable_string_len(reader)?;
                reader.take(len.unwrap_or(0)).map(drop)
            }
            Kind::Bytes => {
                let len = self.encoding.nullable_bytes_len(reader)?;
                reader.take(len.unwrap_or(0)).map(drop)
            }
            Kind::Array(item) => {
                // Every item is walked, so its least size need not be known here.
                for _ in 0..self.encoding.nullable_array_len(reader, 1)?.unwrap_or(0) {
                    self.value(reader, item)?;
                }
                Ok(())
            }
            Kind::Struct(fields) => self.fields(reader, fields),
            Kind::Nullable(fields) => match reader.i8()? {
                ..0 => Ok(()),
                _ => self.fields(reader, fields),
            },
        }
    }
}

impl Field {
    const fn is_in(&self, version: i16) -> bool {
        self.since <= version && version <= self.until
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kafka_protocol::messages::*;
    use kafka_protocol::protocol::{Decodable, Encodable, Message, VersionRange};

    use super::*;
    use crate::protocol::damage;
    use crate::protocol::primitives::put_uvarint;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Side {
        Request,
        Response,
    }

    type Walked = (Side, ApiKey, i16);

    fn schema((side, api, _): Walked) -> (i16, &'static [Field]) {
        match side {
            Side::Request => request_schemas::request(api),
            Side::Response => response_schemas::response(api),
        }
        .unwrap()
    }

    fn check((side, api, version): Walked, body: &[u8]) -> Result<(), WireError> {
        match side {
            Side::Request => check_request(api, version, body),
            Side::Response => super::check(api, version, body),
        }
    }

    /// Decodes a body and encodes it again, for each API that is walked: no error unless every byte was understood.
    macro_rules! decoders {
        ($($side:ident $api:ident $message:ident,)*) => {
            const WALKED: &[(Side, ApiKey, VersionRange)] = &[$((Side::$side, ApiKey::$api, $message::VERSIONS)),*];

            fn decode_and_encode((side, api, version): Walked, body: &[u8]) -> Result<Vec<u8>, String> {
                let mut rest = Bytes::copy_from_slice(body);
                let mut again = Vec::new();
                match (side, api) {
                    $((Side::$side, ApiKey::$api) => $message::decode(&mut rest, version)
                        .and_then(|message| message.encode(&mut again, version)),)*
                    _ => unreachable!("{api:?}"),
                }
                .map_err(|error| error.to_string())?;
                if rest.is_empty() { Ok(again) } else { Err(format!("{} bytes left over", rest.len())) }
            }
        };
    }

    decoders! {
        Response ListOffsets ListOffsetsResponse, Response Metadata MetadataResponse,
        Response OffsetCommit OffsetCommitResponse, Response OffsetFetch OffsetFetchResponse,
        Response FindCoordinator FindCoordinatorResponse, Response JoinGroup JoinGroupResponse,
        Response Heartbeat HeartbeatResponse, Response LeaveGroup LeaveGroupResponse,
        Response SyncGroup SyncGroupResponse, Response DescribeGroups DescribeGroupsResponse,
        Response ListGroups ListGroupsResponse, Response SaslHandshake SaslHandshakeResponse,
        Response ApiVersions ApiVersionsResponse, Response CreateTopics CreateTopicsResponse,
        Response DeleteTopics DeleteTopicsResponse, Response DeleteRecords DeleteRecordsResponse,
        Response InitProducerId InitProducerIdResponse, Response OffsetForLeaderEpoch OffsetForLeaderEpochResponse,
        Response AddPartitionsToTxn AddPartitionsToTxnResponse, Response EndTxn EndTxnResponse,
        Response DescribeAcls DescribeAclsResponse, Response CreateAcls CreateAclsResponse,
        Response DeleteAcls DeleteAclsResponse, Response DescribeConfigs DescribeConfigsResponse,
        Response SaslAuthenticate SaslAuthenticateResponse, Response CreatePartitions CreatePartitionsResponse,
        Response DeleteGroups DeleteGroupsResponse, Response IncrementalAlterConfigs IncrementalAlterConfigsResponse,
        Response DescribeCluster DescribeClusterResponse, Response DescribeProducers DescribeProducersResponse,
        Response ConsumerGroupDescribe ConsumerGroupDescribeResponse,
        Request Produce ProduceRequest, Request Fetch FetchRequest,
        Request ListOffsets ListOffsetsRequest, Request Metadata MetadataRequest,
        Request OffsetCommit OffsetCommitRequest, Request OffsetFetch OffsetFetchRequest,
        Request FindCoordinator FindCoordinatorRequest, Request JoinGroup JoinGroupRequest,
        Request Heartbeat HeartbeatRequest, Request LeaveGroup LeaveGroupRequest,
        Request SyncGroup SyncGroupRequest, Request DescribeGroups DescribeGroupsRequest,
        Request ListGroups ListGroupsRequest, Request ApiVersions ApiVersionsRequest,
        Request CreateTopics CreateTopicsRequest, Request DeleteTopics DeleteTopicsRequest,
        Request DeleteRecords DeleteRecordsRequest, Request InitProducerId InitProducerIdRequest,
        Request OffsetForLeaderEpoch OffsetForLeaderEpochRequest, Request AddPartitionsToTxn AddPartitionsToTxnRequest,
        Request AddOffsetsToTxn AddOffsetsToTxnRequest, Request EndTxn EndTxnRequest,
        Request WriteTxnMarkers WriteTxnMarkersRequest, Request TxnOffsetCommit TxnOffsetCommitRequest,
        Request DescribeConfigs DescribeConfigsRequest, Request AlterConfigs AlterConfigsRequest,
        Request CreatePartitions CreatePartitionsRequest, Request DeleteGroups DeleteGroupsRequest,
        Request IncrementalAlterConfigs IncrementalAlterConfigsRequest, Request OffsetDelete OffsetDeleteRequest,
        Request DescribeCluster DescribeClusterRequest, Request DescribeProducers DescribeProducersRequest,
        Request DescribeTopicPartitions DescribeTopicPartitionsRequest,
    }

    fn each_version() -> impl Iterator<Item = Walked> {
        WALKED
            .iter()
            .flat_map(|&(side, api, versions)| (versions.min..=versions.max).map(move |version| (side, api, version)))
    }

    /// Writes a body after its schema: two items in each array, every tagged field, and some that nobody knows.
    struct Populated {
        body: Vec<u8>,
        /// Where the counts of arrays are.
        counts: Vec<usize>,
        version: i16,
        encoding: Encoding,
        filler: u8,
    }

    impl Populated {
        fn new(message: Walked) -> Self {
            let (first_flexible, fields) = schema(message);
            let version = message.2;
            let encoding = Encoding::new(version >= first_flexible);
            let mut populated = Self {
                body: Vec::new(),
                counts: Vec::new(),
                version,
                encoding,
                filler: 0,
            };
            populated.fields(fields);
            populated
        }

        fn fields(&mut self, fields: &'static [Field]) {
            let version = self.version;
            for field in fields
                .iter()
                .filter(|field| field.tag.is_none() && field.is_in(version))
            {
                self.value(&field.kind);
            }
            if self.encoding == Encoding::Plain {
                return;
            }
            let tagged: Vec<_> = fields
                .iter()
                .filter(|field| field.tag.is_some() && field.is_in(version))
                .collect();
            // The crate refuses a tag before the version that brings it.
            let first_unknown = fields.iter().filter(|field| field.tag.is_some()).count() as u32;
            put_uvarint(&mut self.body, tagged.len() as u32 + UNKNOWN_TAGS);
            for (tag, field) in tagged.iter().enumerate() {
                assert_eq!(field.tag, Some(tag as u32), "tags are numbered without gaps");
                self.tagged(&field.kind, tag as u32);
            }
            for tag in first_unknown..first_unknown + UNKNOWN_TAGS {
                // Were a tag known to the decoder, it would hardly find what it expects.
                self.body.extend([tag as u8, 1, 0x7f]);
            }
        }

        fn tagged(&mut self, kind: &Kind, tag: u32) {
            put_uvarint(&mut self.body, tag);
            let at = self.body.len();
            self.value(kind);
            let len = self.body.len() - at;
            assert!(len < 0x80, "the length must be one byte to be inserted");
            self.body.insert(at, len as u8);
            self.counts
                .iter_mut()
                .filter(|count| **count >= at)
                .for_each(|count| *count += 1);
        }

        fn value(&mut self, kind: &Kind) {
            match kind {
                // 1 is also the only byte that comes back from a decoded boolean.
                Kind::Fixed(1) => self.body.push(1),
                Kind::Fixed(len) => {
                    self.filler += 1;
                    self.body.extend(std::iter::repeat_n(self.filler % 0x70, *len));
                }
                Kind::String => self.encoding.put_string(&mut self.body, "text"),
                Kind::Bytes => {
                    self.encoding.put_len(&mut self.body, 3);
                    self.body.extend(b"raw");
                }
                Kind::Array(item) => {
                    self.counts.push(self.body.len());
                    self.encoding.put_len(&mut self.body, 2);
                    self.value(item);
                    self.value(item);
                }
                Kind::Struct(fields) => self.fields(fields),
                Kind::Nullable(fields) => {
                    self.body.push(1);
                    self.fields(fields);
                }
            }
        }
    }

    const UNKNOWN_TAGS: u32 = 4;

    #[test]
    fn every_spoken_api_is_walked_or_decoded_by_ourselves() {
        for api in ApiKey::iter() {
            let ours = matches!(api, ApiKey::Fetch | ApiKey::Produce);
            let is_walked = |side| WALKED.iter().any(|&(walked, of, _)| (walked, of) == (side, api));
            assert_eq!(
                versions::spoken(api).is_some(),
                is_walked(Side::Response) || ours,
                "{api:?}"
            );
            for (side, schema) in [
                (Side::Request, request_schemas::request(api)),
                (Side::Response, response_schemas::response(api)),
            ] {
                assert_eq!(schema.is_some(), is_walked(side), "{side:?} {api:?}");
            }
        }
    }

    #[test]
    fn the_schemas_are_the_layouts_of_the_kafka_protocol_crate() {
        for message in each_version() {
            let body = Populated::new(message).body;
            assert_eq!(decode_and_encode(message, &body), Ok(body), "{message:?}");
        }
    }

    #[test]
    fn what_the_kafka_protocol_crate_writes_is_accepted() {
        for message in each_version() {
            let populated = Populated::new(message).body;
            let body = decode_and_encode(message, &populated).unwrap();
            assert_eq!(check(message, &body), Ok(()), "{message:?}");
        }
    }

    #[test]
    fn an_absurd_count_is_refused_wherever_there_is_one() {
        for message in each_version() {
            let populated = Populated::new(message);
            for &at in &populated.counts {
                for absurd in [i32::MAX, 1 << 20] {
                    let mut body = populated.body.clone();
                    match populated.encoding {
                        Encoding::Plain => body[at..at + 4].copy_from_slice(&absurd.to_be_bytes()),
                        Encoding::Flexible => {
                            let mut count = Vec::new();
                            put_uvarint(&mut count, absurd as u32);
                            body.splice(at..=at, count);
                        }
                    }
                    assert!(check(message, &body).is_err(), "{message:?} at {at}");
                }
            }
        }
    }

    #[test]
    fn no_cut_is_mistaken_for_a_response() {
        for message in each_version() {
            let body = Populated::new(message).body;
            for cut in damage::cuts(&body) {
                assert!(check(message, cut).is_err(), "{message:?}, {} bytes", cut.len());
            }
        }
    }

    #[test]
    fn what_is_accepted_of_damaged_bodies_is_decoded_to_the_last_byte_or_refused() {
        for message in each_version() {
            let (side, api, version) = message;
            let is_end = |&(walked, of, versions): &(Side, ApiKey, VersionRange)| {
                (walked, of) == (side, api) && [versions.min, versions.max].contains(&version)
            };
            if !WALKED.iter().any(is_end) {
                continue;
            }
            for damaged in damage::mutations(&Populated::new(message).body) {
                if check(message, &damaged).is_ok()
                    && let Err(error) = decode_and_encode(message, &damaged)
                {
                    let may_be_left = side == Side::Request;
                    assert!(
                        may_be_left || !error.contains("left over"),
                        "{message:?}: {error} of {damaged:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_tagged_field_ends_where_it_says() {
        // ApiVersions 3 up to its tagged fields: no error, no APIs, no throttling; one field.
        let upto = [0, 0, 1, 0, 0, 0, 0, 1];
        let epoch = [1, 8, 0, 0, 0, 0, 0, 0, 0, 9]; // finalized features epoch
        let short = [1, 9, 0, 0, 0, 0, 0, 0, 0, 9, 0]; // the same, with a byte that nobody reads
        assert_eq!(
            super::check(ApiKey::ApiVersions, 3, &[&upto[..], &epoch].concat()),
            Ok(())
        );
        let error = WireError::TaggedFieldLength { at: 8, tag: 1 };
        assert_eq!(
            super::check(ApiKey::ApiVersions, 3, &[&upto[..], &short].concat()),
            Err(error)
        );
    }

    #[test]
    fn unknown_tagged_fields_are_limited() {
        let with_tags = |count: usize| {
            let mut body = vec![0, 0, 0, 0, 0, 0]; // Heartbeat 4: no throttling, no error
            put_uvarint(&mut body, count as u32);
            body.extend([9, 0].repeat(count));
            super::check(ApiKey::Heartbeat, 4, &body)
        };
        assert_eq!(with_tags(MAX_UNKNOWN_TAGS), Ok(()));
        let error = WireError::OverLimit {
            what: "unknown tagged fields",
            limit: MAX_UNKNOWN_TAGS,
        };
        assert_eq!(with_tags(MAX_UNKNOWN_TAGS + 1), Err(error));
    }

    #[test]
    fn a_body_that_is_too_large_is_not_walked() {
        let error = WireError::OverLimit {
            what: "bytes of a message to decode",
            limit: MAX_BODY,
        };
        assert_eq!(super::check(ApiKey::Metadata, 9, &vec![0; MAX_BODY + 1]), Err(error));
    }

    #[test]
    fn an_api_without_a_schema_is_refused() {
        let error = WireError::UnknownVersion {
            api: ApiKey::Fetch,
            version: 12,
        };
        assert_eq!(super::check(ApiKey::Fetch, 12, &[]), Err(error));
    }
}
