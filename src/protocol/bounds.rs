//! Walks a response before the `kafka-protocol` crate decodes it.
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
use super::primitives::{Reader, TaggedField, WireError};
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
}

/// Checks the body of a response, which begins after the response header.
pub fn check(api: ApiKey, version: i16, body: &[u8]) -> Result<(), WireError> {
    versions::check_known(api, version)?;
    let (first_flexible, fields) = response_schemas::response(api).ok_or(WireError::UnknownVersion { api, version })?;
    if body.len() > MAX_BODY {
        return Err(WireError::OverLimit {
            what: "bytes of a response to decode",
            limit: MAX_BODY,
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
    reader.finish()
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
    use kafka_protocol::protocol::{Decodable, Encodable};

    use super::*;
    use crate::protocol::damage;
    use crate::protocol::primitives::put_uvarint;

    /// Decodes a body and encodes it again, for each API that is walked: no error unless every byte was understood.
    macro_rules! decoders {
        ($($api:ident $response:ident,)*) => {
            const WALKED: &[ApiKey] = &[$(ApiKey::$api),*];

            fn decode_and_encode(api: ApiKey, version: i16, body: &[u8]) -> Result<Vec<u8>, String> {
                let mut rest = Bytes::copy_from_slice(body);
                let mut again = Vec::new();
                match api {
                    $(ApiKey::$api => $response::decode(&mut rest, version)
                        .and_then(|response| response.encode(&mut again, version)),)*
                    _ => unreachable!("{api:?}"),
                }
                .map_err(|error| error.to_string())?;
                if rest.is_empty() { Ok(again) } else { Err(format!("{} bytes left over", rest.len())) }
            }
        };
    }

    decoders! {
        ListOffsets ListOffsetsResponse,
        Metadata MetadataResponse,
        OffsetCommit OffsetCommitResponse,
        OffsetFetch OffsetFetchResponse,
        FindCoordinator FindCoordinatorResponse,
        JoinGroup JoinGroupResponse,
        Heartbeat HeartbeatResponse,
        LeaveGroup LeaveGroupResponse,
        SyncGroup SyncGroupResponse,
        DescribeGroups DescribeGroupsResponse,
        ListGroups ListGroupsResponse,
        SaslHandshake SaslHandshakeResponse,
        ApiVersions ApiVersionsResponse,
        CreateTopics CreateTopicsResponse,
        DeleteTopics DeleteTopicsResponse,
        DeleteRecords DeleteRecordsResponse,
        InitProducerId InitProducerIdResponse,
        OffsetForLeaderEpoch OffsetForLeaderEpochResponse,
        AddPartitionsToTxn AddPartitionsToTxnResponse,
        EndTxn EndTxnResponse,
        DescribeAcls DescribeAclsResponse,
        CreateAcls CreateAclsResponse,
        DeleteAcls DeleteAclsResponse,
        DescribeConfigs DescribeConfigsResponse,
        SaslAuthenticate SaslAuthenticateResponse,
        CreatePartitions CreatePartitionsResponse,
        DeleteGroups DeleteGroupsResponse,
        IncrementalAlterConfigs IncrementalAlterConfigsResponse,
        DescribeCluster DescribeClusterResponse,
        DescribeProducers DescribeProducersResponse,
        ConsumerGroupDescribe ConsumerGroupDescribeResponse,
    }

    fn each_version() -> impl Iterator<Item = (ApiKey, i16)> {
        WALKED.iter().flat_map(|&api| {
            let versions = api.valid_versions();
            (versions.min..=versions.max).map(move |version| (api, version))
        })
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
        fn new(api: ApiKey, version: i16) -> Self {
            let (first_flexible, fields) = response_schemas::response(api).unwrap();
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
            let first_unknown = tagged.len() as u32;
            put_uvarint(&mut self.body, first_unknown + UNKNOWN_TAGS);
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
            }
        }
    }

    const UNKNOWN_TAGS: u32 = 4;

    #[test]
    fn every_spoken_api_is_walked_or_decoded_by_ourselves() {
        for api in ApiKey::iter() {
            let ours = matches!(api, ApiKey::Fetch | ApiKey::Produce);
            assert_eq!(
                versions::spoken(api).is_some(),
                WALKED.contains(&api) || ours,
                "{api:?}"
            );
            assert_eq!(
                response_schemas::response(api).is_some(),
                WALKED.contains(&api),
                "{api:?}"
            );
        }
    }

    #[test]
    fn the_schemas_are_the_layouts_of_the_kafka_protocol_crate() {
        for (api, version) in each_version() {
            let body = Populated::new(api, version).body;
            assert_eq!(decode_and_encode(api, version, &body), Ok(body), "{api:?} {version}");
        }
    }

    #[test]
    fn what_the_kafka_protocol_crate_writes_is_accepted() {
        for (api, version) in each_version() {
            let populated = Populated::new(api, version).body;
            let body = decode_and_encode(api, version, &populated).unwrap();
            assert_eq!(check(api, version, &body), Ok(()), "{api:?} {version}");
        }
    }

    #[test]
    fn an_absurd_count_is_refused_wherever_there_is_one() {
        for (api, version) in each_version() {
            let populated = Populated::new(api, version);
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
                    assert!(check(api, version, &body).is_err(), "{api:?} {version} at {at}");
                }
            }
        }
    }

    #[test]
    fn no_cut_is_mistaken_for_a_response() {
        for (api, version) in each_version() {
            let body = Populated::new(api, version).body;
            for cut in damage::cuts(&body) {
                assert!(
                    check(api, version, cut).is_err(),
                    "{api:?} {version}, {} bytes",
                    cut.len()
                );
            }
        }
    }

    #[test]
    fn what_is_accepted_of_damaged_bodies_is_decoded_to_the_last_byte_or_refused() {
        for (api, version) in each_version() {
            let versions = api.valid_versions();
            if version != versions.min && version != versions.max {
                continue;
            }
            for damaged in damage::mutations(&Populated::new(api, version).body) {
                if check(api, version, &damaged).is_ok()
                    && let Err(error) = decode_and_encode(api, version, &damaged)
                {
                    assert!(
                        !error.contains("left over"),
                        "{api:?} {version}: {error} of {damaged:?}"
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
        assert_eq!(check(ApiKey::ApiVersions, 3, &[&upto[..], &epoch].concat()), Ok(()));
        let error = WireError::TaggedFieldLength { at: 8, tag: 1 };
        assert_eq!(check(ApiKey::ApiVersions, 3, &[&upto[..], &short].concat()), Err(error));
    }

    #[test]
    fn unknown_tagged_fields_are_limited() {
        let with_tags = |count: usize| {
            let mut body = vec![0, 0, 0, 0, 0, 0]; // Heartbeat 4: no throttling, no error
            put_uvarint(&mut body, count as u32);
            body.extend([9, 0].repeat(count));
            check(ApiKey::Heartbeat, 4, &body)
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
            what: "bytes of a response to decode",
            limit: MAX_BODY,
        };
        assert_eq!(check(ApiKey::Metadata, 9, &vec![0; MAX_BODY + 1]), Err(error));
    }

    #[test]
    fn an_api_without_a_schema_is_refused() {
        let error = WireError::UnknownVersion {
            api: ApiKey::Fetch,
            version: 12,
        };
        assert_eq!(check(ApiKey::Fetch, 12, &[]), Err(error));
    }
}
