//! The layouts of the requests that the sandbox takes, for [`bounds`](super::bounds) to walk: a client may be a fuzzer.
//!
//! Written as in [`response_schemas`](super::response_schemas).

use super::ApiKey;
use super::bounds::{Field, Kind};
use super::response_schemas::{
    BOOLEAN, BYTES, INT8, INT16, INT32, INT32_ARRAY, INT64, NEVER, STRING, STRING_ARRAY, UUID, fields,
};

/// The first flexible version of a request, and its fields.
pub(super) const fn request(api: ApiKey) -> Option<(i16, &'static [Field])> {
    Some(match api {
        ApiKey::Produce => (9, PRODUCE),
        ApiKey::Fetch => (12, FETCH),
        ApiKey::ListOffsets => (6, LIST_OFFSETS),
        ApiKey::Metadata => (9, METADATA),
        ApiKey::OffsetCommit => (8, OFFSET_COMMIT),
        ApiKey::OffsetFetch => (6, OFFSET_FETCH),
        ApiKey::FindCoordinator => (3, FIND_COORDINATOR),
        ApiKey::JoinGroup => (6, JOIN_GROUP),
        ApiKey::Heartbeat => (4, HEARTBEAT),
        ApiKey::LeaveGroup => (4, LEAVE_GROUP),
        ApiKey::SyncGroup => (4, SYNC_GROUP),
        ApiKey::DescribeGroups => (5, DESCRIBE_GROUPS),
        ApiKey::ListGroups => (3, LIST_GROUPS),
        ApiKey::ApiVersions => (3, API_VERSIONS),
        ApiKey::CreateTopics => (5, CREATE_TOPICS),
        ApiKey::DeleteTopics => (4, DELETE_TOPICS),
        ApiKey::DeleteRecords => (2, DELETE_RECORDS),
        ApiKey::InitProducerId => (2, INIT_PRODUCER_ID),
        ApiKey::OffsetForLeaderEpoch => (4, OFFSET_FOR_LEADER_EPOCH),
        ApiKey::AddPartitionsToTxn => (3, ADD_PARTITIONS_TO_TXN),
        ApiKey::AddOffsetsToTxn => (3, ADD_OFFSETS_TO_TXN),
        ApiKey::EndTxn => (3, END_TXN),
        ApiKey::WriteTxnMarkers => (0, WRITE_TXN_MARKERS),
        ApiKey::TxnOffsetCommit => (3, TXN_OFFSET_COMMIT),
        ApiKey::DescribeConfigs => (4, DESCRIBE_CONFIGS),
        ApiKey::AlterConfigs => (2, ALTER_CONFIGS),
        ApiKey::CreatePartitions => (2, CREATE_PARTITIONS),
        ApiKey::DeleteGroups => (2, DELETE_GROUPS),
        ApiKey::IncrementalAlterConfigs => (1, INCREMENTAL_ALTER_CONFIGS),
        ApiKey::OffsetDelete => (NEVER, OFFSET_DELETE),
        ApiKey::DescribeCluster => (0, DESCRIBE_CLUSTER),
        ApiKey::DescribeProducers => (0, DESCRIBE_PRODUCERS),
        ApiKey::DescribeTopicPartitions => (0, DESCRIBE_TOPIC_PARTITIONS),
        _ => return None,
    })
}

const PRODUCE: &[Field] = fields! {
    transactional_id: STRING,
    acks: INT16,
    timeout_ms: INT32,
    topic_data: ARRAY {
        name(3-12): STRING,
        topic_id(13+): UUID,
        partition_data: ARRAY {
            index: INT32,
            records: BYTES,
        },
    },
};

const FETCH: &[Field] = fields! {
    cluster_id(12+, tag 0): STRING,
    replica_id(4-14): INT32,
    replica_state(15+, tag 1): STRUCT {
        replica_id: INT32,
        replica_epoch: INT64,
    },
    max_wait_ms: INT32,
    min_bytes: INT32,
    max_bytes: INT32,
    isolation_level: INT8,
    session_id(7+): INT32,
    session_epoch(7+): INT32,
    topics: ARRAY {
        topic(4-12): STRING,
        topic_id(13+): UUID,
        partitions: ARRAY {
            partition: INT32,
            current_leader_epoch(9+): INT32,
            fetch_offset: INT64,
            last_fetched_epoch(12+): INT32,
            log_start_offset(5+): INT64,
            partition_max_bytes: INT32,
            replica_directory_id(17+, tag 0): UUID,
            high_watermark(18+, tag 1): INT64,
        },
    },
    forgotten_topics_data(7+): ARRAY {
        topic(7-12): STRING,
        topic_id(13+): UUID,
        partitions: INT32_ARRAY,
    },
    rack_id(11+): STRING,
};

const LIST_OFFSETS: &[Field] = fields! {
    replica_id: INT32,
    isolation_level(2+): INT8,
    topics: ARRAY {
        name: STRING,
        partitions: ARRAY {
            partition_index: INT32,
            current_leader_epoch(4+): INT32,
            timestamp: INT64,
        },
    },
    timeout_ms(10+): INT32,
};

const METADATA: &[Field] = fields! {
    topics: ARRAY {
        topic_id(10+): UUID,
        name: STRING,
    },
    allow_auto_topic_creation(4+): BOOLEAN,
    include_cluster_authorized_operations(8-10): BOOLEAN,
    include_topic_authorized_operations(8+): BOOLEAN,
};

const OFFSET_COMMIT: &[Field] = fields! {
    group_id: STRING,
    generation_id_or_member_epoch: INT32,
    member_id: STRING,
    group_instance_id(7+): STRING,
    retention_time_ms(2-4): INT64,
    topics: ARRAY {
        name: STRING,
        partitions: ARRAY {
            partition_index: INT32,
            committed_offset: INT64,
            committed_leader_epoch(6+): INT32,
            committed_metadata: STRING,
        },
    },
};

const OFFSET_FETCH: &[Field] = fields! {
    group_id(1-7): STRING,
    topics(1-7): ARRAY {
        name: STRING,
        partition_indexes: INT32_ARRAY,
    },
    groups(8+): ARRAY {
        group_id: STRING,
        member_id(9+): STRING,
        member_epoch(9+): INT32,
        topics: ARRAY {
            name: STRING,
            partition_indexes: INT32_ARRAY,
        },
    },
    require_stable(7+): BOOLEAN,
};

const FIND_COORDINATOR: &[Field] = fields! {
    key(0-3): STRING,
    key_type(1+): INT8,
    coordinator_keys(4+): STRING_ARRAY,
};

const JOIN_GROUP: &[Field] = fields! {
    group_id: STRING,
    session_timeout_ms: INT32,
    rebalance_timeout_ms(1+): INT32,
    member_id: STRING,
    group_instance_id(5+): STRING,
    protocol_type: STRING,
    protocols: ARRAY {
        name: STRING,
        metadata: BYTES,
    },
    reason(8+): STRING,
};

const HEARTBEAT: &[Field] = fields! {
    group_id: STRING,
    generation_id: INT32,
    member_id: STRING,
    group_instance_id(3+): STRING,
};

const LEAVE_GROUP: &[Field] = fields! {
    group_id: STRING,
    member_id(0-2): STRING,
    members(3+): ARRAY {
        member_id: STRING,
        group_instance_id: STRING,
        reason(5+): STRING,
    },
};

const SYNC_GROUP: &[Field] = fields! {
    group_id: STRING,
    generation_id: INT32,
    member_id: STRING,
    group_instance_id(3+): STRING,
    protocol_type(5+): STRING,
    protocol_name(5+): STRING,
    assignments: ARRAY {
        member_id: STRING,
        assignment: BYTES,
    },
};

const DESCRIBE_GROUPS: &[Field] = fields! {
    groups: STRING_ARRAY,
    include_authorized_operations(3+): BOOLEAN,
};

const LIST_GROUPS: &[Field] = fields! {
    states_filter(4+): STRING_ARRAY,
    types_filter(5+): STRING_ARRAY,
};

const API_VERSIONS: &[Field] = fields! {
    client_software_name(3+): STRING,
    client_software_version(3+): STRING,
};

const CREATE_TOPICS: &[Field] = fields! {
    topics: ARRAY {
        name: STRING,
        num_partitions: INT32,
        replication_factor: INT16,
        assignments: ARRAY {
            partition_index: INT32,
            broker_ids: INT32_ARRAY,
        },
        configs: ARRAY {
            name: STRING,
            value: STRING,
        },
    },
    timeout_ms: INT32,
    validate_only: BOOLEAN,
};

const DELETE_TOPICS: &[Field] = fields! {
    topics(6+): ARRAY {
        name: STRING,
        topic_id: UUID,
    },
    topic_names(1-5): STRING_ARRAY,
    timeout_ms: INT32,
};

const DELETE_RECORDS: &[Field] = fields! {
    topics: ARRAY {
        name: STRING,
        partitions: ARRAY {
            partition_index: INT32,
            offset: INT64,
        },
    },
    timeout_ms: INT32,
};

const INIT_PRODUCER_ID: &[Field] = fields! {
    transactional_id: STRING,
    transaction_timeout_ms: INT32,
    producer_id(3+): INT64,
    producer_epoch(3+): INT16,
};

const OFFSET_FOR_LEADER_EPOCH: &[Field] = fields! {
    replica_id(3+): INT32,
    topics: ARRAY {
        topic: STRING,
        partitions: ARRAY {
            partition: INT32,
            current_leader_epoch: INT32,
            leader_epoch: INT32,
        },
    },
};

const ADD_PARTITIONS_TO_TXN: &[Field] = fields! {
    transactions(4+): ARRAY {
        transactional_id: STRING,
        producer_id: INT64,
        producer_epoch: INT16,
        verify_only: BOOLEAN,
        topics: ARRAY {
            name(0+): STRING,
            partitions(0+): INT32_ARRAY,
        },
    },
    v3_and_below_transactional_id(0-3): STRING,
    v3_and_below_producer_id(0-3): INT64,
    v3_and_below_producer_epoch(0-3): INT16,
    v3_and_below_topics(0-3): ARRAY {
        name(0+): STRING,
        partitions(0+): INT32_ARRAY,
    },
};

const ADD_OFFSETS_TO_TXN: &[Field] = fields! {
    transactional_id: STRING,
    producer_id: INT64,
    producer_epoch: INT16,
    group_id: STRING,
};

const END_TXN: &[Field] = fields! {
    transactional_id: STRING,
    producer_id: INT64,
    producer_epoch: INT16,
    committed: BOOLEAN,
};

const WRITE_TXN_MARKERS: &[Field] = fields! {
    markers: ARRAY {
        producer_id: INT64,
        producer_epoch: INT16,
        transaction_result: BOOLEAN,
        topics: ARRAY {
            name: STRING,
            partition_indexes: INT32_ARRAY,
        },
        coordinator_epoch: INT32,
    },
};

const TXN_OFFSET_COMMIT: &[Field] = fields! {
    transactional_id: STRING,
    group_id: STRING,
    producer_id: INT64,
    producer_epoch: INT16,
    generation_id(3+): INT32,
    member_id(3+): STRING,
    group_instance_id(3+): STRING,
    topics: ARRAY {
        name: STRING,
        partitions: ARRAY {
            partition_index: INT32,
            committed_offset: INT64,
            committed_leader_epoch(2+): INT32,
            committed_metadata: STRING,
        },
    },
};

const DESCRIBE_CONFIGS: &[Field] = fields! {
    resources: ARRAY {
        resource_type: INT8,
        resource_name: STRING,
        configuration_keys: STRING_ARRAY,
    },
    include_synonyms: BOOLEAN,
    include_documentation(3+): BOOLEAN,
};

const ALTER_CONFIGS: &[Field] = fields! {
    resources: ARRAY {
        resource_type: INT8,
        resource_name: STRING,
        configs: ARRAY {
            name: STRING,
            value: STRING,
        },
    },
    validate_only: BOOLEAN,
};

const CREATE_PARTITIONS: &[Field] = fields! {
    topics: ARRAY {
        name: STRING,
        count: INT32,
        assignments: ARRAY {
            broker_ids: INT32_ARRAY,
        },
    },
    timeout_ms: INT32,
    validate_only: BOOLEAN,
};

const DELETE_GROUPS: &[Field] = fields! {
    groups_names: STRING_ARRAY,
};

const INCREMENTAL_ALTER_CONFIGS: &[Field] = fields! {
    resources: ARRAY {
        resource_type: INT8,
        resource_name: STRING,
        configs: ARRAY {
            name: STRING,
            config_operation: INT8,
            value: STRING,
        },
    },
    validate_only: BOOLEAN,
};

const OFFSET_DELETE: &[Field] = fields! {
    group_id: STRING,
    topics: ARRAY {
        name: STRING,
        partitions: ARRAY {
            partition_index: INT32,
        },
    },
};

const DESCRIBE_CLUSTER: &[Field] = fields! {
    include_cluster_authorized_operations: BOOLEAN,
    endpoint_type(1+): INT8,
    include_fenced_brokers(2+): BOOLEAN,
};

const DESCRIBE_PRODUCERS: &[Field] = fields! {
    topics: ARRAY {
        name: STRING,
        partition_indexes: INT32_ARRAY,
    },
};

const DESCRIBE_TOPIC_PARTITIONS: &[Field] = fields! {
    topics: ARRAY {
        name: STRING,
    },
    response_partition_limit: INT32,
    cursor: NULLABLE {
        topic_name: STRING,
        partition_index: INT32,
    },
};
