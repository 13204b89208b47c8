//! Which APIs are served, in which versions. ApiVersions says this and nothing else.

use kafka_protocol::messages::ApiKey;

/// The versions of one API, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    pub api: ApiKey,
    pub min: i16,
    pub max: i16,
}

const fn serve(api: ApiKey, min: i16, max: i16) -> Served {
    Served { api, min, max }
}

/// As Kafka 4.1, but for what the sandbox does not do (see [`sandbox`](super::super)).
pub const SERVED: &[Served] = &[
    serve(ApiKey::Produce, 3, 13),
    serve(ApiKey::Fetch, 4, 18),
    serve(ApiKey::ListOffsets, 1, 10),
    serve(ApiKey::Metadata, 0, 13),
    serve(ApiKey::OffsetCommit, 2, 9),
    serve(ApiKey::OffsetFetch, 1, 9),
    serve(ApiKey::FindCoordinator, 0, 6),
    serve(ApiKey::JoinGroup, 0, 9),
    serve(ApiKey::Heartbeat, 0, 4),
    serve(ApiKey::LeaveGroup, 0, 5),
    serve(ApiKey::SyncGroup, 0, 5),
    serve(ApiKey::DescribeGroups, 0, 6),
    serve(ApiKey::ListGroups, 0, 5),
    serve(ApiKey::ApiVersions, 0, 4),
    serve(ApiKey::CreateTopics, 2, 7),
    serve(ApiKey::DeleteTopics, 1, 6),
    serve(ApiKey::DeleteRecords, 0, 2),
    serve(ApiKey::InitProducerId, 0, 5),
    serve(ApiKey::OffsetForLeaderEpoch, 2, 4),
    // From 4 on only brokers may.
    serve(ApiKey::AddPartitionsToTxn, 0, 3),
    serve(ApiKey::AddOffsetsToTxn, 0, 4),
    // From 5 on, and TxnOffsetCommit likewise, it is transaction version 2.
    serve(ApiKey::EndTxn, 0, 4),
    serve(ApiKey::WriteTxnMarkers, 1, 1),
    serve(ApiKey::TxnOffsetCommit, 0, 4),
    serve(ApiKey::DescribeConfigs, 1, 4),
    serve(ApiKey::AlterConfigs, 0, 2),
    serve(ApiKey::CreatePartitions, 0, 3),
    serve(ApiKey::DeleteGroups, 0, 2),
    serve(ApiKey::IncrementalAlterConfigs, 0, 1),
    serve(ApiKey::OffsetDelete, 0, 0),
    serve(ApiKey::DescribeCluster, 0, 2),
    serve(ApiKey::DescribeProducers, 0, 0),
    serve(ApiKey::DescribeTopicPartitions, 0, 0),
];

pub fn is_served(api: ApiKey, version: i16) -> bool {
    SERVED
        .iter()
        .any(|served| served.api == api && (served.min..=served.max).contains(&version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_served_that_cannot_be_decoded() {
        for served in SERVED {
            let known = served.api.valid_versions();
            assert!(
                known.min <= served.min && served.max <= known.max,
                "{:?}: {known}",
                served.api
            );
        }
    }

    #[test]
    fn each_api_is_listed_once() {
        for (index, served) in SERVED.iter().enumerate() {
            assert!(
                SERVED[..index].iter().all(|other| other.api != served.api),
                "{served:?}"
            );
        }
    }
}
