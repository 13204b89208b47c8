//! Which versions of each API kferry speaks.
//!
//! A range ends where the `kafka-protocol` crate does, or earlier where a later version has nothing for us; it begins
//! with Kafka 2.1, or later where a field that we rely on does. What a connection uses is negotiated on each
//! connection by itself: during a rolling upgrade two brokers of one cluster differ.

use super::ApiKey;
use super::primitives::WireError;

/// The least and the greatest version of `api` that kferry speaks, or none if it does not speak it.
pub const fn spoken(api: ApiKey) -> Option<(i16, i16)> {
    Some(match api {
        // Brokers from 4.0 on say that they take version 0, for librdkafka's sake, but do not (KAFKA-18659). Version 3
        // is the first with record batches; zstd needs 7.
        ApiKey::Produce => (3, 13),
        // Version 4 is the first that returns batches as stored; zstd needs 10.
        ApiKey::Fetch => (4, 18),
        ApiKey::ListOffsets => (1, 10),
        // Version 4 is the first that can ask about a topic without creating it; 5 tells of offline replicas.
        ApiKey::Metadata => (5, 13),
        // Up to 9 topics have names, then ids.
        ApiKey::OffsetCommit => (2, 9),
        ApiKey::OffsetFetch => (1, 9),
        ApiKey::FindCoordinator => (1, 6),
        ApiKey::JoinGroup => (0, 9),
        ApiKey::Heartbeat => (0, 4),
        ApiKey::LeaveGroup | ApiKey::SyncGroup => (0, 5),
        ApiKey::DescribeGroups => (0, 6),
        ApiKey::ListGroups => (0, 5),
        // Version 0 leaves what follows without frames.
        ApiKey::SaslHandshake => (1, 1),
        ApiKey::SaslAuthenticate => (0, 2),
        // The first request on a connection, so not negotiated: a broker that finds the version too new answers
        // UNSUPPORTED_VERSION in the layout of version 0, which is then asked for. 4 has nothing for us over 3.
        ApiKey::ApiVersions => (0, 3),
        ApiKey::CreateTopics => (2, 7),
        ApiKey::DeleteTopics => (1, 6),
        ApiKey::DeleteRecords => (0, 2),
        ApiKey::DeleteGroups => (0, 2),
        // 6 is not stable yet.
        ApiKey::InitProducerId => (0, 5),
        ApiKey::OffsetForLeaderEpoch => (2, 4),
        // From 4 on only brokers may.
        ApiKey::AddPartitionsToTxn => (0, 3),
        // 5 begins the next transaction's epoch by itself (KIP-890), which a fence must not.
        ApiKey::EndTxn => (0, 4),
        ApiKey::DescribeConfigs => (1, 4),
        ApiKey::IncrementalAlterConfigs => (0, 1),
        ApiKey::CreatePartitions => (0, 3),
        ApiKey::DescribeAcls | ApiKey::CreateAcls | ApiKey::DeleteAcls => (1, 3),
        ApiKey::DescribeCluster => (0, 2),
        ApiKey::DescribeProducers => (0, 0),
        ApiKey::ConsumerGroupDescribe => (0, 1),
        _ => return None,
    })
}

/// The greatest version that both sides speak, if there is one.
pub fn negotiate(api: ApiKey, broker_min: i16, broker_max: i16) -> Option<i16> {
    let (min, max) = spoken(api)?;
    let version = max.min(broker_max);
    (version >= min.max(broker_min)).then_some(version)
}

/// What a decoder asks first: whether it knows this version's layout.
pub(super) fn check_known(api: ApiKey, version: i16) -> Result<(), WireError> {
    let known = api.valid_versions();
    if (known.min..=known.max).contains(&version) {
        Ok(())
    } else {
        Err(WireError::UnknownVersion { api, version })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spoken_version_is_known_to_the_kafka_protocol_crate() {
        for api in ApiKey::iter() {
            let Some((min, max)) = spoken(api) else { continue };
            let known = api.valid_versions();
            assert!(known.min <= min && min <= max && max <= known.max, "{api:?}");
        }
    }

    #[test]
    fn the_greatest_common_version_is_taken() {
        assert_eq!(negotiate(ApiKey::Fetch, 4, 17), Some(17));
        assert_eq!(negotiate(ApiKey::Fetch, 4, 99), Some(18));
        assert_eq!(negotiate(ApiKey::Metadata, 0, 5), Some(5));
    }

    #[test]
    fn produce_never_goes_below_version_3() {
        assert_eq!(negotiate(ApiKey::Produce, 0, 12), Some(12));
        assert_eq!(negotiate(ApiKey::Produce, 0, 2), None);
    }

    #[test]
    fn no_common_version_is_none() {
        assert_eq!(negotiate(ApiKey::Fetch, 19, 20), None);
        assert_eq!(negotiate(ApiKey::Fetch, 12, 11), None, "a broker that says nonsense");
        assert_eq!(negotiate(ApiKey::WriteTxnMarkers, 1, 1), None, "not spoken");
    }
}
