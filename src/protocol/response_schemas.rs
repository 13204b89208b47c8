//! The layouts of the responses that the `kafka-protocol` crate decodes, for [`bounds`](super::bounds) to walk.
//!
//! Only sizes matter here, so whether a string may be null is not said, and names are for the reader alone. Versions
//! are written as in Kafka's own message definitions: `3+` is from 3 on, `0-3` is 0 to 3.

use super::ApiKey;
use super::bounds::{Field, Kind};

/// The first flexible version of a response, and its fields.
pub(super) const fn response(api: ApiKey) -> Option<(i16, &'static [Field])> {
    Some(match api {
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
        ApiKey::SaslHandshake => (NEVER, SASL_HANDSHAKE),
        ApiKey::ApiVersions => (3, API_VERSIONS),
        ApiKey::CreateTopics => (5, CREATE_TOPICS),
        ApiKey::DeleteTopics => (4, DELETE_TOPICS),
        ApiKey::DeleteRecords => (2, DELETE_RECORDS),
        ApiKey::InitProducerId => (2, INIT_PRODUCER_ID),
        ApiKey::OffsetForLeaderEpoch => (4, OFFSET_FOR_LEADER_EPOCH),
        ApiKey::AddPartitionsToTxn => (3, ADD_PARTITIONS_TO_TXN),
        ApiKey::EndTxn => (3, END_TXN),
        ApiKey::DescribeAcls => (2, DESCRIBE_ACLS),
        ApiKey::CreateAcls => (2, CREATE_ACLS),
        ApiKey::DeleteAcls => (2, DELETE_ACLS),
        ApiKey::DescribeConfigs => (4, DESCRIBE_CONFIGS),
        ApiKey::SaslAuthenticate => (2, SASL_AUTHENTICATE),
        ApiKey::CreatePartitions => (2, CREATE_PARTITIONS),
        ApiKey::DeleteGroups => (2, DELETE_GROUPS),
        ApiKey::IncrementalAlterConfigs => (1, INCREMENTAL_ALTER_CONFIGS),
        ApiKey::DescribeCluster => (0, DESCRIBE_CLUSTER),
        ApiKey::DescribeProducers => (0, DESCRIBE_PRODUCERS),
        ApiKey::ConsumerGroupDescribe => (0, CONSUMER_GROUP_DESCRIBE),
        _ => return None,
    })
}

/// Of a message that has no flexible version.
pub(super) const NEVER: i16 = i16::MAX;

/// `name: KIND`, `name(versions): KIND` or `name(versions, tag number): KIND`. A kind is the name of a scalar,
/// `STRUCT { fields }`, `NULLABLE { fields }` for a struct that may be null, or `ARRAY { fields }` for an array of structs.
macro_rules! fields {
    ($($name:ident $(($($when:tt)*))?: $kind:ident $({ $($inner:tt)* })?),* $(,)?) => {
        &[$(fields!(@field ($($($when)*)?) fields!(@kind $kind $({ $($inner)* })?))),*]
    };
    (@field () $kind:expr) => { Field { since: 0, until: i16::MAX, tag: None, kind: $kind } };
    (@field ($since:literal + $(, tag $tag:literal)?) $kind:expr) => {
        Field { since: $since, until: i16::MAX, tag: fields!(@tag $($tag)?), kind: $kind }
    };
    (@field ($since:literal - $until:literal) $kind:expr) => {
        Field { since: $since, until: $until, tag: None, kind: $kind }
    };
    (@tag) => { None };
    (@tag $tag:literal) => { Some($tag) };
    (@kind ARRAY { $($inner:tt)* }) => { Kind::Array(&Kind::Struct(fields! { $($inner)* })) };
    (@kind NULLABLE { $($inner:tt)* }) => { Kind::Nullable(fields! { $($inner)* }) };
    (@kind STRUCT { $($inner:tt)* }) => { Kind::Struct(fields! { $($inner)* }) };
    (@kind $scalar:ident) => { $scalar };
}

pub(super) use fields;

pub(super) const BOOLEAN: Kind = Kind::Fixed(1);
pub(super) const INT8: Kind = Kind::Fixed(1);
pub(super) const INT16: Kind = Kind::Fixed(2);
pub(super) const INT32: Kind = Kind::Fixed(4);
pub(super) const INT64: Kind = Kind::Fixed(8);
pub(super) const UUID: Kind = Kind::Fixed(16);
pub(super) const STRING: Kind = Kind::String;
pub(super) const BYTES: Kind = Kind::Bytes;
pub(super) const INT32_ARRAY: Kind = Kind::Array(&INT32);
pub(super) const STRING_ARRAY: Kind = Kind::Array(&STRING);

const LIST_OFFSETS: &[Field] = fields! {
    throttle_time_ms(2+): INT32,
    topics: ARRAY {
        name: STRING,
        partitions: ARRAY {
            partition_index: INT32,
            error_code: INT16,
            timestamp: INT64,
            offset: INT64,
            leader_epoch(4+): INT32,
        },
    },
};

const METADATA: &[Field] = fields! {
    throttle_time_ms(3+): INT32,
    brokers: ARRAY {
        node_id: INT32,
        host: STRING,
        port: INT32,
        rack(1+): STRING,
    },
    cluster_id(2+): STRING,
    controller_id(1+): INT32,
    topics: ARRAY {
        error_code: INT16,
        name: STRING,
        topic_id(10+): UUID,
        is_internal(1+): BOOLEAN,
        partitions: ARRAY {
            error_code: INT16,
            partition_index: INT32,
            leader_id: INT32,
            leader_epoch(7+): INT32,
            replica_nodes: INT32_ARRAY,
            isr_nodes: INT32_ARRAY,
            offline_replicas(5+): INT32_ARRAY,
        },
        topic_authorized_operations(8+): INT32,
    },
    cluster_authorized_operations(8-10): INT32,
    error_code(13+): INT16,
};

const OFFSET_COMMIT: &[Field] = fields! {
    throttle_time_ms(3+): INT32,
    topics: ARRAY {
        name(2-9): STRING,
        topic_id(10+): UUID,
        partitions: ARRAY {
            partition_index: INT32,
            error_code: INT16,
        },
    },
};

const OFFSET_FETCH: &[Field] = fields! {
    throttle_time_ms(3+): INT32,
    topics(1-7): ARRAY {
        name: STRING,
        partitions: ARRAY {
            partition_index: INT32,
            committed_offset: INT64,
            committed_leader_epoch(5+): INT32,
            metadata: STRING,
            error_code: INT16,
        },
    },
    error_code(2-7): INT16,
    groups(8+): ARRAY {
        group_id: STRING,
        topics: ARRAY {
            name(8-9): STRING,
            topic_id(10+): UUID,
            partitions: ARRAY {
                partition_index: INT32,
                committed_offset: INT64,
                committed_leader_epoch: INT32,
                metadata: STRING,
                error_code: INT16,
            },
        },
        error_code: INT16,
    },
};

const FIND_COORDINATOR: &[Field] = fields! {
    throttle_time_ms(1+): INT32,
    error_code(0-3): INT16,
    error_message(1-3): STRING,
    node_id(0-3): INT32,
    host(0-3): STRING,
    port(0-3): INT32,
    coordinators(4+): ARRAY {
        key: STRING,
        node_id: INT32,
        host: STRING,
        port: INT32,
        error_code: INT16,
        error_message: STRING,
    },
};

const JOIN_GROUP: &[Field] = fields! {
    throttle_time_ms(2+): INT32,
    error_code: INT16,
    generation_id: INT32,
    protocol_type(7+): STRING,
    protocol_name: STRING,
    leader: STRING,
    skip_assignment(9+): BOOLEAN,
    member_id: STRING,
    members: ARRAY {
        member_id: STRING,
        group_instance_id(5+): STRING,
        metadata: BYTES,
    },
};

const HEARTBEAT: &[Field] = fields! {
    throttle_time_ms(1+): INT32,
    error_code: INT16,
};

const LEAVE_GROUP: &[Field] = fields! {
    throttle_time_ms(1+): INT32,
    error_code: INT16,
    members(3+): ARRAY {
        member_id: STRING,
        group_instance_id: STRING,
        error_code: INT16,
    },
};

const SYNC_GROUP: &[Field] = fields! {
    throttle_time_ms(1+): INT32,
    error_code: INT16,
    protocol_type(5+): STRING,
    protocol_name(5+): STRING,
    assignment: BYTES,
};

const DESCRIBE_GROUPS: &[Field] = fields! {
    throttle_time_ms(1+): INT32,
    groups: ARRAY {
        error_code: INT16,
        error_message(6+): STRING,
        group_id: STRING,
        group_state: STRING,
        protocol_type: STRING,
        protocol_data: STRING,
        members: ARRAY {
            member_id: STRING,
            group_instance_id(4+): STRING,
            client_id: STRING,
            client_host: STRING,
            member_metadata: BYTES,
            member_assignment: BYTES,
        },
        authorized_operations(3+): INT32,
    },
};

const LIST_GROUPS: &[Field] = fields! {
    throttle_time_ms(1+): INT32,
    error_code: INT16,
    groups: ARRAY {
        group_id: STRING,
        protocol_type: STRING,
        group_state(4+): STRING,
        group_type(5+): STRING,
    },
};

const SASL_HANDSHAKE: &[Field] = fields! {
    error_code: INT16,
    mechanisms: STRING_ARRAY,
};

const API_VERSIONS: &[Field] = fields! {
    error_code: INT16,
    api_keys: ARRAY {
        api_key: INT16,
        min_version: INT16,
        max_version: INT16,
    },
    throttle_time_ms(1+): INT32,
    supported_features(3+, tag 0): ARRAY {
        name: STRING,
        min_version: INT16,
        max_version: INT16,
    },
    finalized_features_epoch(3+, tag 1): INT64,
    finalized_features(3+, tag 2): ARRAY {
        name: STRING,
        max_version_level: INT16,
        min_version_level: INT16,
    },
    zk_migration_ready(3+, tag 3): BOOLEAN,
};

const CREATE_TOPICS: &[Field] = fields! {
    throttle_time_ms: INT32,
    topics: ARRAY {
        name: STRING,
        topic_id(7+): UUID,
        error_code: INT16,
        error_message: STRING,
        num_partitions(5+): INT32,
        replication_factor(5+): INT16,
        configs(5+): ARRAY {
            name: STRING,
            value: STRING,
            read_only: BOOLEAN,
            config_source: INT8,
            is_sensitive: BOOLEAN,
        },
        topic_config_error_code(5+, tag 0): INT16,
    },
};

const DELETE_TOPICS: &[Field] = fields! {
    throttle_time_ms: INT32,
    responses: ARRAY {
        name: STRING,
        topic_id(6+): UUID,
        error_code: INT16,
        error_message(5+): STRING,
    },
};

const DELETE_RECORDS: &[Field] = fields! {
    throttle_time_ms: INT32,
    topics: ARRAY {
        name: STRING,
        partitions: ARRAY {
            partition_index: INT32,
            low_watermark: INT64,
            error_code: INT16,
        },
    },
};

const INIT_PRODUCER_ID: &[Field] = fields! {
    throttle_time_ms: INT32,
    error_code: INT16,
    producer_id: INT64,
    producer_epoch: INT16,
    ongoing_txn_producer_id(6+): INT64,
    ongoing_txn_producer_epoch(6+): INT16,
};

const OFFSET_FOR_LEADER_EPOCH: &[Field] = fields! {
    throttle_time_ms: INT32,
    topics: ARRAY {
        topic: STRING,
        partitions: ARRAY {
            error_code: INT16,
            partition: INT32,
            leader_epoch: INT32,
            end_offset: INT64,
        },
    },
};

const ADD_PARTITIONS_TO_TXN: &[Field] = fields! {
    throttle_time_ms: INT32,
    error_code(4+): INT16,
    results_by_transaction(4+): ARRAY {
        transactional_id: STRING,
        topic_results: ARRAY {
            name: STRING,
            results_by_partition: ARRAY {
                partition_index: INT32,
                partition_error_code: INT16,
            },
        },
    },
    results_by_topic_v3_and_below(0-3): ARRAY {
        name: STRING,
        results_by_partition: ARRAY {
            partition_index: INT32,
            partition_error_code: INT16,
        },
    },
};

const END_TXN: &[Field] = fields! {
    throttle_time_ms: INT32,
    error_code: INT16,
    producer_id(5+): INT64,
    producer_epoch(5+): INT16,
};

const DESCRIBE_ACLS: &[Field] = fields! {
    throttle_time_ms: INT32,
    error_code: INT16,
    error_message: STRING,
    resources: ARRAY {
        resource_type: INT8,
        resource_name: STRING,
        pattern_type: INT8,
        acls: ARRAY {
            principal: STRING,
            host: STRING,
            operation: INT8,
            permission_type: INT8,
        },
    },
};

const CREATE_ACLS: &[Field] = fields! {
    throttle_time_ms: INT32,
    results: ARRAY {
        error_code: INT16,
        error_message: STRING,
    },
};

const DELETE_ACLS: &[Field] = fields! {
    throttle_time_ms: INT32,
    filter_results: ARRAY {
        error_code: INT16,
        error_message: STRING,
        matching_acls: ARRAY {
            error_code: INT16,
            error_message: STRING,
            resource_type: INT8,
            resource_name: STRING,
            pattern_type: INT8,
            principal: STRING,
            host: STRING,
            operation: INT8,
            permission_type: INT8,
        },
    },
};

const DESCRIBE_CONFIGS: &[Field] = fields! {
    throttle_time_ms: INT32,
    results: ARRAY {
        error_code: INT16,
        error_message: STRING,
        resource_type: INT8,
        resource_name: STRING,
        configs: ARRAY {
            name: STRING,
            value: STRING,
            read_only: BOOLEAN,
            config_source: INT8,
            is_sensitive: BOOLEAN,
            synonyms: ARRAY {
                name: STRING,
                value: STRING,
                source: INT8,
            },
            config_type(3+): INT8,
            documentation(3+): STRING,
        },
    },
};

const SASL_AUTHENTICATE: &[Field] = fields! {
    error_code: INT16,
    error_message: STRING,
    auth_bytes: BYTES,
    session_lifetime_ms(1+): INT64,
};

const CREATE_PARTITIONS: &[Field] = fields! {
    throttle_time_ms: INT32,
    results: ARRAY {
        name: STRING,
        error_code: INT16,
        error_message: STRING,
    },
};

const DELETE_GROUPS: &[Field] = fields! {
    throttle_time_ms: INT32,
    results: ARRAY {
        group_id: STRING,
        error_code: INT16,
    },
};

const INCREMENTAL_ALTER_CONFIGS: &[Field] = fields! {
    throttle_time_ms: INT32,
    responses: ARRAY {
        error_code: INT16,
        error_message: STRING,
        resource_type: INT8,
        resource_name: STRING,
    },
};

const DESCRIBE_CLUSTER: &[Field] = fields! {
    throttle_time_ms: INT32,
    error_code: INT16,
    error_message: STRING,
    endpoint_type(1+): INT8,
    cluster_id: STRING,
    controller_id: INT32,
    brokers: ARRAY {
        broker_id: INT32,
        host: STRING,
        port: INT32,
        rack: STRING,
        is_fenced(2+): BOOLEAN,
    },
    cluster_authorized_operations: INT32,
};

const DESCRIBE_PRODUCERS: &[Field] = fields! {
    throttle_time_ms: INT32,
    topics: ARRAY {
        name: STRING,
        partitions: ARRAY {
            partition_index: INT32,
            error_code: INT16,
            error_message: STRING,
            active_producers: ARRAY {
                producer_id: INT64,
                producer_epoch: INT32,
                last_sequence: INT32,
                last_timestamp: INT64,
                coordinator_epoch: INT32,
                current_txn_start_offset: INT64,
            },
        },
    },
};

const CONSUMER_GROUP_DESCRIBE: &[Field] = fields! {
    throttle_time_ms: INT32,
    groups: ARRAY {
        error_code: INT16,
        error_message: STRING,
        group_id: STRING,
        group_state: STRING,
        group_epoch: INT32,
        assignment_epoch: INT32,
        assignor_name: STRING,
        members: ARRAY {
            member_id: STRING,
            instance_id: STRING,
            rack_id: STRING,
            member_epoch: INT32,
            client_id: STRING,
            client_host: STRING,
            subscribed_topic_names: STRING_ARRAY,
            subscribed_topic_regex: STRING,
            assignment: STRUCT {
                topic_partitions: ARRAY {
                    topic_id: UUID,
                    topic_name: STRING,
                    partitions: INT32_ARRAY,
                },
            },
            target_assignment: STRUCT {
                topic_partitions: ARRAY {
                    topic_id: UUID,
                    topic_name: STRING,
                    partitions: INT32_ARRAY,
                },
            },
            member_type(1+): INT8,
        },
        authorized_operations: INT32,
    },
};
