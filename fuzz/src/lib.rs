//! What targets and seeds share: how the first bytes of an input choose an API and a version, the decoders of the
//! `kafka-protocol` crate (its own choice among them is a feature that takes a minute to build), and batches.

use bytes::Bytes;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::Decodable;
use kferry::protocol::ApiKey;
use kferry::record::{DecodeLimits, HEADER_LEN, RawBatch, Reencoded, Scanned, decode, scan};

macro_rules! decoders {
    ($($api:ident $response:ident,)*) => {
        /// The APIs whose responses the `kafka-protocol` crate decodes, after `bounds` has walked them.
        pub const WALKED: &[ApiKey] = &[$(ApiKey::$api),*];

        /// Decodes a response and tells how many bytes it leaves; nothing if it cannot.
        pub fn decode_response(api: ApiKey, version: i16, mut body: Bytes) -> Option<usize> {
            match api {
                $(ApiKey::$api => $response::decode(&mut body, version).map(drop),)*
                _ => return None,
            }
            .ok()?;
            Some(body.len())
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

/// Chooses among the versions that decoders know: that they refuse the others is quickly tested.
pub fn version(api: ApiKey, choice: u8) -> i16 {
    let versions = api.valid_versions();
    versions.min + i16::from(choice) % (versions.max - versions.min + 1)
}

/// The byte that makes [`version`] choose this version.
pub fn choice(api: ApiKey, version: i16) -> u8 {
    (version - api.valid_versions().min) as u8
}

/// A batch with this payload, whose header is in order but for its CRC.
pub fn batch(attributes: u8, last_offset_delta: u8, record_count: u8, payload: &[u8]) -> RawBatch {
    let mut bytes = vec![0; HEADER_LEN];
    bytes[8..12].copy_from_slice(&(49 + payload.len() as u32).to_be_bytes());
    bytes[16] = 2; // magic
    bytes[22] = attributes;
    bytes[26] = last_offset_delta;
    bytes[60] = record_count;
    bytes.extend(payload);
    only_batch(bytes.into())
}

pub fn only_batch(bytes: Bytes) -> RawBatch {
    match scan(bytes).next() {
        Some(Ok(Scanned::Batch(batch))) => batch,
        other => panic!("a batch was expected: {other:?}"),
    }
}

/// Checks what a broker will check, and returns the records' keys, values and headers as they are written.
pub fn check_reencoded(batch: &Reencoded, max_batch_bytes: usize) -> Vec<Vec<u8>> {
    let raw = only_batch([&batch.header.as_bytes()[..], &batch.payload].concat().into());
    assert!(raw.bytes.len() <= max_batch_bytes);
    assert_eq!(raw.verify_crc(), Ok(()));
    assert!(!raw.header.has_offset_gaps());
    let decoded = decode(&raw, &DecodeLimits::default()).expect("what we have encoded");
    let records = decoded
        .records()
        .map(|record| record.expect("what we have encoded").after_offset_delta.to_vec());
    let records: Vec<_> = records.collect();
    let in_source = batch.source_offsets.iter().map(|range| range.count as usize);
    assert_eq!(in_source.sum::<usize>(), records.len());
    records
}
