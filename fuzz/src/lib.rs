//! What targets and seeds share: how the first bytes of an input choose an API and a version, and the decoders of the
//! `kafka-protocol` crate. (Its own choice among them is a feature that takes a minute to build with coverage.)

use bytes::Bytes;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::Decodable;
use kferry::protocol::ApiKey;

macro_rules! decoders {
    ($($api:ident $response:ident,)*) => {
        /// The APIs whose responses the `kafka-protocol` crate decodes, after `bounds` has walked them.
        pub const WALKED: &[ApiKey] = &[$(ApiKey::$api),*];

        /// Decodes a response and tells how many bytes it leaves; nothing if it cannot.
        pub fn decode(api: ApiKey, version: i16, mut body: Bytes) -> Option<usize> {
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
