//! One Kafka cluster as a client sees it: connections, metadata, fetch, produce and admin calls.
