//! Which configs of a topic are copied.

/// Configs that belong to a cluster and not to a topic's data: replica placement and throttling, what only one broker
/// version knows, what needs a tiered cluster. MirrorMaker 2 excludes the same (`config.properties.exclude`), save the
/// last three lines.
const NEVER_COPIED: &[&str] = &[
    "follower.replication.throttled.replicas",
    "leader.replication.throttled.replicas",
    "message.timestamp.difference.max.ms",
    "message.timestamp.before.max.ms",
    "message.timestamp.after.max.ms",
    "log.message.timestamp.before.max.ms",
    "log.message.timestamp.after.max.ms",
    "unclean.leader.election.enable",
    "min.insync.replicas",
    "message.format.version",
    "message.downconversion.enable",
    "remote.storage.enable",
    "remote.log.copy.disable",
    "remote.log.delete.on.disable",
    "local.retention.ms",
    "local.retention.bytes",
];

/// Whether a config that was set on a source topic is set on the target's as well.
pub fn is_copied(name: &str) -> bool {
    !NEVER_COPIED.contains(&name)
}

/// The part of a topic's configs that decides what its batches must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchConfigs {
    /// `max.message.bytes`
    pub max_message_bytes: usize,
    /// `message.timestamp.type=LogAppendTime`
    pub is_log_append_time: bool,
    /// `cleanup.policy` with `compact`
    pub is_compacted: bool,
}

impl BatchConfigs {
    /// The default of every Kafka since 0.11.
    const MAX_MESSAGE_BYTES: usize = 1_048_588;

    /// Reads a topic's configs, in effect or as they will be.
    pub fn from_entries<'a>(entries: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Self {
        let mut configs = Self {
            max_message_bytes: Self::MAX_MESSAGE_BYTES,
            is_log_append_time: false,
            is_compacted: false,
        };
        for (name, value) in entries {
            match (name, value) {
                ("max.message.bytes", Some(value)) => {
                    configs.max_message_bytes = value.parse().unwrap_or(Self::MAX_MESSAGE_BYTES);
                }
                ("message.timestamp.type", Some(value)) => configs.is_log_append_time = value == "LogAppendTime",
                ("cleanup.policy", Some(value)) => configs.is_compacted = value.contains("compact"),
                _ => {}
            }
        }
        configs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_the_cluster_stays_there() {
        assert!(is_copied("cleanup.policy") && is_copied("max.message.bytes") && is_copied("message.timestamp.type"));
        assert!(!is_copied("min.insync.replicas") && !is_copied("leader.replication.throttled.replicas"));
    }

    #[test]
    fn configs_that_a_broker_does_not_name_have_their_defaults() {
        assert_eq!(
            BatchConfigs::from_entries([
                ("message.timestamp.type", Some("LogAppendTime")),
                ("cleanup.policy", Some("compact,delete")),
                ("retention.ms", None)
            ]),
            BatchConfigs {
                max_message_bytes: 1_048_588,
                is_log_append_time: true,
                is_compacted: true
            }
        );
    }
}
