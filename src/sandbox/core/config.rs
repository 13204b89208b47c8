//! Topic configurations: what may be set, the defaults of Kafka 4.1, and the values that the sandbox acts on.

use std::collections::BTreeMap;

use crate::record::{Codec, TimestampType};

/// The configuration of one topic: only what was set on it, with what follows from that read out once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicConfig {
    overrides: BTreeMap<String, String>,
    pub max_message_bytes: usize,
    pub is_compacted: bool,
    /// Old records may be deleted, by age, by size and on request.
    pub is_deleted: bool,
    pub timestamp_type: TimestampType,
    pub timestamp_before_max_ms: i64,
    pub timestamp_after_max_ms: i64,
    /// `None` leaves batches as the producer has compressed them.
    pub codec: Option<Codec>,
    pub min_insync_replicas: usize,
    pub retention_ms: i64,
    pub retention_bytes: i64,
    pub delete_retention_ms: i64,
}

/// Why a configuration is refused: text for the client, as in `INVALID_CONFIG`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("Unknown topic config name: {0}")]
    Unknown(String),
    #[error("Invalid value {value} for configuration {name}: {expected}")]
    Invalid {
        name: String,
        value: String,
        expected: &'static str,
    },
    #[error("Null value not supported for topic configs: {0}")]
    Null(String),
}

/// A setting that a topic may have.
#[derive(Debug, Clone, Copy)]
pub struct Definition {
    pub name: &'static str,
    pub default: &'static str,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Bool,
    /// With the least value.
    Int(i32),
    Long(i64),
    /// Between 0 and 1.
    Ratio,
    OneOf(&'static [&'static str]),
    ListOf(&'static [&'static str]),
    AnyList,
}

impl Kind {
    /// As DescribeConfigs numbers them.
    pub fn code(self) -> i8 {
        match self {
            Self::Bool => 1,
            Self::OneOf(_) => 2,
            Self::Int(_) => 3,
            Self::Long(_) => 5,
            Self::Ratio => 6,
            Self::ListOf(_) | Self::AnyList => 7,
        }
    }

    fn check(self, value: &str) -> Result<(), &'static str> {
        let is_valid = match self {
            Self::Bool => value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false"),
            Self::Int(min) => value.parse().is_ok_and(|value: i32| value >= min),
            Self::Long(min) => value.parse().is_ok_and(|value: i64| value >= min),
            Self::Ratio => value.parse().is_ok_and(|value: f64| (0.0..=1.0).contains(&value)),
            Self::OneOf(values) => values.contains(&value),
            Self::ListOf(values) => value.split(',').all(|item| values.contains(&item.trim())),
            Self::AnyList => true,
        };
        if is_valid { Ok(()) } else { Err(self.expected()) }
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Bool => "Expected value to be either true or false",
            Self::Int(_) | Self::Long(_) => "Not a number of the right size",
            Self::Ratio => "Value must be between 0 and 1",
            Self::OneOf(_) => "String must be one of the known values",
            Self::ListOf(_) | Self::AnyList => "Only known values may be in the list",
        }
    }
}

impl TopicConfig {
    /// Reads out what `overrides` say; everything else has its default.
    pub fn new(overrides: BTreeMap<String, String>) -> Result<Self, ConfigError> {
        for (name, value) in &overrides {
            let definition = definition(name).ok_or_else(|| ConfigError::Unknown(name.clone()))?;
            definition
                .kind
                .check(value.trim())
                .map_err(|expected| ConfigError::Invalid {
                    name: name.clone(),
                    value: value.clone(),
                    expected,
                })?;
        }
        let value = |name: &str| {
            overrides
                .get(name)
                .map_or_else(|| default_of(name), |value| value.trim())
        };
        let number = |name: &str| value(name).parse::<i64>().unwrap_or(-1);
        let cleanup = value("cleanup.policy");
        Ok(Self {
            max_message_bytes: usize::try_from(number("max.message.bytes")).unwrap_or(0),
            is_compacted: cleanup.contains("compact"),
            is_deleted: cleanup.contains("delete"),
            timestamp_type: match value("message.timestamp.type") {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            timestamp_before_max_ms: number("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: number("message.timestamp.after.max.ms"),
            codec: codec_of(value("compression.type")),
            min_insync_replicas: usize::try_from(number("min.insync.replicas")).unwrap_or(1),
            retention_ms: number("retention.ms"),
            retention_bytes: number("retention.bytes"),
            delete_retention_ms: number("delete.retention.ms"),
            overrides,
        })
    }

    pub fn overrides(&self) -> &BTreeMap<String, String> {
        &self.overrides
    }

    /// The value in force, and whether it was set on the topic.
    pub fn value(&self, definition: &Definition) -> (&str, bool) {
        match self.overrides.get(definition.name) {
            Some(value) => (value, true),
            None => (definition.default, false),
        }
    }
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self::new(BTreeMap::new()).unwrap_or_else(|error| unreachable!("nothing is set that could be wrong: {error}"))
    }
}

pub fn definition(name: &str) -> Option<&'static Definition> {
    DEFINITIONS.iter().find(|definition| definition.name == name)
}

fn default_of(name: &str) -> &'static str {
    definition(name).map_or("", |definition| definition.default)
}

fn codec_of(compression_type: &str) -> Option<Codec> {
    match compression_type {
        "uncompressed" => Some(Codec::None),
        "gzip" => Some(Codec::Gzip),
        "snappy" => Some(Codec::Snappy),
        "lz4" => Some(Codec::Lz4),
        "zstd" => Some(Codec::Zstd),
        _ => None,
    }
}

const MAX_LONG: &str = "9223372036854775807";
const DAY_MS: &str = "86400000";
const WEEK_MS: &str = "604800000";
const CODECS: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];

const fn define(name: &'static str, default: &'static str, kind: Kind) -> Definition {
    Definition { name, default, kind }
}

/// All of Kafka 4.1's, in the order of their names.
pub const DEFINITIONS: &[Definition] = &[
    define("cleanup.policy", "delete", Kind::ListOf(&["compact", "delete"])),
    define("compression.gzip.level", "-1", Kind::Int(-1)),
    define("compression.lz4.level", "9", Kind::Int(1)),
    define("compression.type", "producer", Kind::OneOf(CODECS)),
    define("compression.zstd.level", "3", Kind::Int(-131_072)),
    define("delete.retention.ms", DAY_MS, Kind::Long(0)),
    define("file.delete.delay.ms", "60000", Kind::Long(0)),
    define("flush.messages", MAX_LONG, Kind::Long(1)),
    define("flush.ms", MAX_LONG, Kind::Long(0)),
    define("follower.replication.throttled.replicas", "", Kind::AnyList),
    define("index.interval.bytes", "4096", Kind::Int(0)),
    define("leader.replication.throttled.replicas", "", Kind::AnyList),
    define("local.retention.bytes", "-2", Kind::Long(-2)),
    define("local.retention.ms", "-2", Kind::Long(-2)),
    define("max.compaction.lag.ms", MAX_LONG, Kind::Long(1)),
    define("max.message.bytes", "1048588", Kind::Int(0)),
    define("message.timestamp.after.max.ms", "3600000", Kind::Long(0)),
    define("message.timestamp.before.max.ms", MAX_LONG, Kind::Long(0)),
    define(
        "message.timestamp.type",
        "CreateTime",
        Kind::OneOf(&["CreateTime", "LogAppendTime"]),
    ),
    define("min.cleanable.dirty.ratio", "0.5", Kind::Ratio),
    define("min.compaction.lag.ms", "0", Kind::Long(0)),
    define("min.insync.replicas", "1", Kind::Int(1)),
    define("preallocate", "false", Kind::Bool),
    define("remote.log.copy.disable", "false", Kind::Bool),
    define("remote.log.delete.on.disable", "false", Kind::Bool),
    define("remote.storage.enable", "false", Kind::Bool),
    define("retention.bytes", "-1", Kind::Long(i64::MIN)),
    define("retention.ms", WEEK_MS, Kind::Long(-1)),
    define("segment.bytes", "1073741824", Kind::Int(1024 * 1024)),
    define("segment.index.bytes", "10485760", Kind::Int(4)),
    define("segment.jitter.ms", "0", Kind::Long(0)),
    define("segment.ms", WEEK_MS, Kind::Long(1)),
    define("unclean.leader.election.enable", "false", Kind::Bool),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn config(overrides: &[(&str, &str)]) -> Result<TopicConfig, ConfigError> {
        TopicConfig::new(
            overrides
                .iter()
                .map(|&(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        )
    }

    #[test]
    fn every_default_is_a_value_that_may_be_set() {
        for definition in DEFINITIONS {
            assert_eq!(definition.kind.check(definition.default), Ok(()), "{}", definition.name);
        }
    }

    #[test]
    fn what_is_set_is_read_out() {
        let config = config(&[
            ("cleanup.policy", "compact,delete"),
            ("compression.type", "zstd"),
            ("message.timestamp.type", "LogAppendTime"),
            ("max.message.bytes", "2000"),
        ])
        .unwrap();

        assert!(config.is_compacted && config.is_deleted);
        assert_eq!(config.codec, Some(Codec::Zstd));
        assert_eq!(config.timestamp_type, TimestampType::LogAppendTime);
        assert_eq!(config.max_message_bytes, 2000);
    }

    #[test]
    fn unknown_names_and_wrong_values_are_refused() {
        assert!(matches!(config(&[("retention.m", "1")]), Err(ConfigError::Unknown(_))));
        for (name, value) in [
            ("segment.bytes", "1024"), // 4.x wants a MiB.
            ("cleanup.policy", "shred"),
            ("retention.ms", "-2"),
            ("min.cleanable.dirty.ratio", "2"),
            ("preallocate", "yes"),
        ] {
            assert!(
                matches!(config(&[(name, value)]), Err(ConfigError::Invalid { .. })),
                "{name}={value}"
            );
        }
    }
}
