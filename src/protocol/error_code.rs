//! Every Kafka error code up to Kafka 4.1: its name, and what it calls for.
//!
//! The table below is the only place that says what to do about a code. What a code means for one particular request
//! (`OFFSET_OUT_OF_RANGE` of a fetch, `OUT_OF_ORDER_SEQUENCE_NUMBER` of a batch behind one that failed) is for the
//! caller to see first; [`ErrorCode::recovery`] is the answer when it has no better one.

use std::fmt;

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Recovery {
    /// Nothing: not a failure.
    None,
    /// The leader or the controller is elsewhere, or not known there yet: refresh the metadata, then try again.
    RefreshMetadata,
    /// The right broker cannot do it now: try the same again later.
    Backoff,
    /// The connection is of no use: open another.
    Reconnect,
    /// The fetch session is lost: begin another with a full fetch.
    ResetSession,
    /// The coordinator is elsewhere: ask who it is, then try again.
    FindCoordinator,
    /// Trying again cannot help, or might do harm: stop and say why.
    Stop,
}

macro_rules! error_codes {
    ($($code:literal $variant:ident $name:literal $recovery:ident,)*) => {
        /// An error code as a broker sends it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $($variant,)*
            /// A code newer than the table.
            Unknown(i16),
        }

        impl ErrorCode {
            pub const fn from_wire(code: i16) -> Self {
                match code {
                    $($code => Self::$variant,)*
                    code => Self::Unknown(code),
                }
            }

            pub const fn code(self) -> i16 {
                match self {
                    $(Self::$variant => $code,)*
                    Self::Unknown(code) => code,
                }
            }

            /// The name in Kafka's documentation.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Unknown(_) => "UNKNOWN_ERROR_CODE",
                }
            }

            pub const fn recovery(self) -> Recovery {
                match self {
                    $(Self::$variant => Recovery::$recovery,)*
                    // What is not understood is not repeated.
                    Self::Unknown(_) => Recovery::Stop,
                }
            }
        }
    };
}

// Less obvious choices:
// - CORRUPT_MESSAGE may be retried in Kafka's clients; here the payload passes through unread, so the damage would be
//   found again for ever.
// - DUPLICATE_SEQUENCE_NUMBER says that the batch is there, but not at which offset. So do UNKNOWN_PRODUCER_ID and
//   OUT_OF_ORDER_SEQUENCE_NUMBER leave open where the log stands: only reading the log can tell.
// - KAFKA_STORAGE_ERROR takes the log directory offline, and the leader moves.
// - UNKNOWN_TOPIC_ID and INCONSISTENT_TOPIC_ID mean a topic created anew: fresh metadata shows the new id.
// - UNKNOWN_SERVER_ERROR is mostly a broker on its way up or down.
error_codes! {
    -1 UnknownServerError "UNKNOWN_SERVER_ERROR" Backoff,
    0 None "NONE" None,
    1 OffsetOutOfRange "OFFSET_OUT_OF_RANGE" Stop,
    2 CorruptMessage "CORRUPT_MESSAGE" Stop,
    3 UnknownTopicOrPartition "UNKNOWN_TOPIC_OR_PARTITION" RefreshMetadata,
    4 InvalidFetchSize "INVALID_FETCH_SIZE" Stop,
    5 LeaderNotAvailable "LEADER_NOT_AVAILABLE" RefreshMetadata,
    6 NotLeaderOrFollower "NOT_LEADER_OR_FOLLOWER" RefreshMetadata,
    7 RequestTimedOut "REQUEST_TIMED_OUT" Backoff,
    8 BrokerNotAvailable "BROKER_NOT_AVAILABLE" RefreshMetadata,
    9 ReplicaNotAvailable "REPLICA_NOT_AVAILABLE" RefreshMetadata,
    10 MessageTooLarge "MESSAGE_TOO_LARGE" Stop,
    11 StaleControllerEpoch "STALE_CONTROLLER_EPOCH" RefreshMetadata,
    12 OffsetMetadataTooLarge "OFFSET_METADATA_TOO_LARGE" Stop,
    13 NetworkException "NETWORK_EXCEPTION" Reconnect,
    14 CoordinatorLoadInProgress "COORDINATOR_LOAD_IN_PROGRESS" Backoff,
    15 CoordinatorNotAvailable "COORDINATOR_NOT_AVAILABLE" FindCoordinator,
    16 NotCoordinator "NOT_COORDINATOR" FindCoordinator,
    17 InvalidTopicException "INVALID_TOPIC_EXCEPTION" Stop,
    18 RecordListTooLarge "RECORD_LIST_TOO_LARGE" Stop,
    19 NotEnoughReplicas "NOT_ENOUGH_REPLICAS" Backoff,
    20 NotEnoughReplicasAfterAppend "NOT_ENOUGH_REPLICAS_AFTER_APPEND" Backoff,
    21 InvalidRequiredAcks "INVALID_REQUIRED_ACKS" Stop,
    22 IllegalGeneration "ILLEGAL_GENERATION" Stop,
    23 InconsistentGroupProtocol "INCONSISTENT_GROUP_PROTOCOL" Stop,
    24 InvalidGroupId "INVALID_GROUP_ID" Stop,
    25 UnknownMemberId "UNKNOWN_MEMBER_ID" Stop,
    26 InvalidSessionTimeout "INVALID_SESSION_TIMEOUT" Stop,
    27 RebalanceInProgress "REBALANCE_IN_PROGRESS" Backoff,
    28 InvalidCommitOffsetSize "INVALID_COMMIT_OFFSET_SIZE" Stop,
    29 TopicAuthorizationFailed "TOPIC_AUTHORIZATION_FAILED" Stop,
    30 GroupAuthorizationFailed "GROUP_AUTHORIZATION_FAILED" Stop,
    31 ClusterAuthorizationFailed "CLUSTER_AUTHORIZATION_FAILED" Stop,
    32 InvalidTimestamp "INVALID_TIMESTAMP" Stop,
    33 UnsupportedSaslMechanism "UNSUPPORTED_SASL_MECHANISM" Stop,
    34 IllegalSaslState "ILLEGAL_SASL_STATE" Stop,
    35 UnsupportedVersion "UNSUPPORTED_VERSION" Stop,
    36 TopicAlreadyExists "TOPIC_ALREADY_EXISTS" Stop,
    37 InvalidPartitions "INVALID_PARTITIONS" Stop,
    38 InvalidReplicationFactor "INVALID_REPLICATION_FACTOR" Stop,
    39 InvalidReplicaAssignment "INVALID_REPLICA_ASSIGNMENT" Stop,
    40 InvalidConfig "INVALID_CONFIG" Stop,
    41 NotController "NOT_CONTROLLER" RefreshMetadata,
    42 InvalidRequest "INVALID_REQUEST" Stop,
    43 UnsupportedForMessageFormat "UNSUPPORTED_FOR_MESSAGE_FORMAT" Stop,
    44 PolicyViolation "POLICY_VIOLATION" Stop,
    45 OutOfOrderSequenceNumber "OUT_OF_ORDER_SEQUENCE_NUMBER" Stop,
    46 DuplicateSequenceNumber "DUPLICATE_SEQUENCE_NUMBER" Stop,
    47 InvalidProducerEpoch "INVALID_PRODUCER_EPOCH" Stop,
    48 InvalidTxnState "INVALID_TXN_STATE" Stop,
    49 InvalidProducerIdMapping "INVALID_PRODUCER_ID_MAPPING" Stop,
    50 InvalidTransactionTimeout "INVALID_TRANSACTION_TIMEOUT" Stop,
    51 ConcurrentTransactions "CONCURRENT_TRANSACTIONS" Backoff,
    52 TransactionCoordinatorFenced "TRANSACTION_COORDINATOR_FENCED" Stop,
    53 TransactionalIdAuthorizationFailed "TRANSACTIONAL_ID_AUTHORIZATION_FAILED" Stop,
    54 SecurityDisabled "SECURITY_DISABLED" Stop,
    55 OperationNotAttempted "OPERATION_NOT_ATTEMPTED" Stop,
    56 KafkaStorageError "KAFKA_STORAGE_ERROR" RefreshMetadata,
    57 LogDirNotFound "LOG_DIR_NOT_FOUND" Stop,
    58 SaslAuthenticationFailed "SASL_AUTHENTICATION_FAILED" Stop,
    59 UnknownProducerId "UNKNOWN_PRODUCER_ID" Stop,
    60 ReassignmentInProgress "REASSIGNMENT_IN_PROGRESS" Backoff,
    61 DelegationTokenAuthDisabled "DELEGATION_TOKEN_AUTH_DISABLED" Stop,
    62 DelegationTokenNotFound "DELEGATION_TOKEN_NOT_FOUND" Stop,
    63 DelegationTokenOwnerMismatch "DELEGATION_TOKEN_OWNER_MISMATCH" Stop,
    64 DelegationTokenRequestNotAllowed "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED" Stop,
    65 DelegationTokenAuthorizationFailed "DELEGATION_TOKEN_AUTHORIZATION_FAILED" Stop,
    66 DelegationTokenExpired "DELEGATION_TOKEN_EXPIRED" Stop,
    67 InvalidPrincipalType "INVALID_PRINCIPAL_TYPE" Stop,
    68 NonEmptyGroup "NON_EMPTY_GROUP" Stop,
    69 GroupIdNotFound "GROUP_ID_NOT_FOUND" Stop,
    70 FetchSessionIdNotFound "FETCH_SESSION_ID_NOT_FOUND" ResetSession,
    71 InvalidFetchSessionEpoch "INVALID_FETCH_SESSION_EPOCH" ResetSession,
    72 ListenerNotFound "LISTENER_NOT_FOUND" RefreshMetadata,
    73 TopicDeletionDisabled "TOPIC_DELETION_DISABLED" Stop,
    74 FencedLeaderEpoch "FENCED_LEADER_EPOCH" RefreshMetadata,
    75 UnknownLeaderEpoch "UNKNOWN_LEADER_EPOCH" RefreshMetadata,
    76 UnsupportedCompressionType "UNSUPPORTED_COMPRESSION_TYPE" Stop,
    77 StaleBrokerEpoch "STALE_BROKER_EPOCH" Stop,
    78 OffsetNotAvailable "OFFSET_NOT_AVAILABLE" Backoff,
    79 MemberIdRequired "MEMBER_ID_REQUIRED" Stop,
    80 PreferredLeaderNotAvailable "PREFERRED_LEADER_NOT_AVAILABLE" Backoff,
    81 GroupMaxSizeReached "GROUP_MAX_SIZE_REACHED" Stop,
    82 FencedInstanceId "FENCED_INSTANCE_ID" Stop,
    83 EligibleLeadersNotAvailable "ELIGIBLE_LEADERS_NOT_AVAILABLE" Backoff,
    84 ElectionNotNeeded "ELECTION_NOT_NEEDED" Stop,
    85 NoReassignmentInProgress "NO_REASSIGNMENT_IN_PROGRESS" Stop,
    86 GroupSubscribedToTopic "GROUP_SUBSCRIBED_TO_TOPIC" Stop,
    87 InvalidRecord "INVALID_RECORD" Stop,
    88 UnstableOffsetCommit "UNSTABLE_OFFSET_COMMIT" Backoff,
    89 ThrottlingQuotaExceeded "THROTTLING_QUOTA_EXCEEDED" Backoff,
    90 ProducerFenced "PRODUCER_FENCED" Stop,
    91 ResourceNotFound "RESOURCE_NOT_FOUND" Stop,
    92 DuplicateResource "DUPLICATE_RESOURCE" Stop,
    93 UnacceptableCredential "UNACCEPTABLE_CREDENTIAL" Stop,
    94 InconsistentVoterSet "INCONSISTENT_VOTER_SET" Stop,
    95 InvalidUpdateVersion "INVALID_UPDATE_VERSION" Stop,
    96 FeatureUpdateFailed "FEATURE_UPDATE_FAILED" Stop,
    97 PrincipalDeserializationFailure "PRINCIPAL_DESERIALIZATION_FAILURE" Stop,
    98 SnapshotNotFound "SNAPSHOT_NOT_FOUND" Stop,
    99 PositionOutOfRange "POSITION_OUT_OF_RANGE" Stop,
    100 UnknownTopicId "UNKNOWN_TOPIC_ID" RefreshMetadata,
    101 DuplicateBrokerRegistration "DUPLICATE_BROKER_REGISTRATION" Stop,
    102 BrokerIdNotRegistered "BROKER_ID_NOT_REGISTERED" Stop,
    103 InconsistentTopicId "INCONSISTENT_TOPIC_ID" RefreshMetadata,
    104 InconsistentClusterId "INCONSISTENT_CLUSTER_ID" Stop,
    105 TransactionalIdNotFound "TRANSACTIONAL_ID_NOT_FOUND" Stop,
    106 FetchSessionTopicIdError "FETCH_SESSION_TOPIC_ID_ERROR" ResetSession,
    107 IneligibleReplica "INELIGIBLE_REPLICA" Stop,
    108 NewLeaderElected "NEW_LEADER_ELECTED" Stop,
    109 OffsetMovedToTieredStorage "OFFSET_MOVED_TO_TIERED_STORAGE" Stop,
    110 FencedMemberEpoch "FENCED_MEMBER_EPOCH" Stop,
    111 UnreleasedInstanceId "UNRELEASED_INSTANCE_ID" Stop,
    112 UnsupportedAssignor "UNSUPPORTED_ASSIGNOR" Stop,
    113 StaleMemberEpoch "STALE_MEMBER_EPOCH" Stop,
    114 MismatchedEndpointType "MISMATCHED_ENDPOINT_TYPE" Stop,
    115 UnsupportedEndpointType "UNSUPPORTED_ENDPOINT_TYPE" Stop,
    116 UnknownControllerId "UNKNOWN_CONTROLLER_ID" Stop,
    117 UnknownSubscriptionId "UNKNOWN_SUBSCRIPTION_ID" Stop,
    118 TelemetryTooLarge "TELEMETRY_TOO_LARGE" Stop,
    119 InvalidRegistration "INVALID_REGISTRATION" Stop,
    120 TransactionAbortable "TRANSACTION_ABORTABLE" Stop,
    121 InvalidRecordState "INVALID_RECORD_STATE" Stop,
    122 ShareSessionNotFound "SHARE_SESSION_NOT_FOUND" Stop,
    123 InvalidShareSessionEpoch "INVALID_SHARE_SESSION_EPOCH" Stop,
    124 FencedStateEpoch "FENCED_STATE_EPOCH" Stop,
    125 InvalidVoterKey "INVALID_VOTER_KEY" Stop,
    126 DuplicateVoter "DUPLICATE_VOTER" Stop,
    127 VoterNotFound "VOTER_NOT_FOUND" Stop,
    128 InvalidRegularExpression "INVALID_REGULAR_EXPRESSION" Stop,
    129 RebootstrapRequired "REBOOTSTRAP_REQUIRED" Reconnect,
    130 StreamsInvalidTopology "STREAMS_INVALID_TOPOLOGY" Stop,
    131 StreamsInvalidTopologyEpoch "STREAMS_INVALID_TOPOLOGY_EPOCH" Stop,
    132 StreamsTopologyFenced "STREAMS_TOPOLOGY_FENCED" Stop,
    133 ShareSessionLimitReached "SHARE_SESSION_LIMIT_REACHED" Stop,
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.code())
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::ResponseError;

    use super::*;

    #[test]
    fn the_table_has_every_code_up_to_kafka_4_1() {
        for code in -1..=133 {
            let error = ErrorCode::from_wire(code);
            assert!(!matches!(error, ErrorCode::Unknown(_)), "{code}");
            assert_eq!(error.code(), code);
        }
        assert_eq!(ErrorCode::from_wire(134), ErrorCode::Unknown(134));
        assert_eq!(ErrorCode::from_wire(-2).code(), -2);
    }

    #[test]
    fn the_names_are_those_of_the_kafka_protocol_crate() {
        for code in (-1..=133).filter(|&code| code != 0) {
            let theirs = format!("{:?}", ResponseError::try_from_code(code).unwrap());
            let ours = ErrorCode::from_wire(code);
            assert_eq!(ours.name().replace('_', ""), theirs.to_uppercase(), "{code}");
            assert_eq!(format!("{ours:?}"), theirs);
        }
    }

    #[test]
    fn what_kafka_calls_fatal_is_retried_only_where_listed() {
        let exceptions: Vec<_> = (-1..=133)
            .filter(|&code| code != 0)
            .map(|code| (ErrorCode::from_wire(code), ResponseError::try_from_code(code).unwrap()))
            .filter(|(ours, theirs)| !theirs.is_retriable() && ours.recovery() != Recovery::Stop)
            .map(|(ours, _)| ours.name())
            .collect();
        assert_eq!(
            exceptions,
            [
                "UNKNOWN_SERVER_ERROR",
                "BROKER_NOT_AVAILABLE",
                "STALE_CONTROLLER_EPOCH",
                "REBALANCE_IN_PROGRESS",
                "CONCURRENT_TRANSACTIONS",
                "REASSIGNMENT_IN_PROGRESS",
                "REBOOTSTRAP_REQUIRED",
            ]
        );
    }

    #[test]
    fn only_none_needs_no_recovery() {
        for code in i16::MIN..=i16::MAX {
            assert_eq!(ErrorCode::from_wire(code).recovery() == Recovery::None, code == 0);
        }
    }

    #[test]
    fn an_error_shows_its_name_and_code() {
        assert_eq!(ErrorCode::NotLeaderOrFollower.to_string(), "NOT_LEADER_OR_FOLLOWER (6)");
        assert_eq!(ErrorCode::Unknown(999).to_string(), "UNKNOWN_ERROR_CODE (999)");
    }
}
