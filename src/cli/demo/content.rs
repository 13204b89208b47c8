//! A record as readers see it, apart from where it lies.

use crate::record::{Decoded, Record, RecordError};

/// Everything of a record that has to arrive as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) timestamp: i64,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    /// In their order; a key may come twice, and null is not empty.
    pub(super) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Content {
    pub(super) fn of(record: &Record<'_>, batch: &Decoded) -> Result<Self, RecordError> {
        let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
        let headers = record.headers.clone();
        Ok(Self {
            timestamp: batch.timestamp(record)?,
            key: owned(record.key),
            value: owned(record.value),
            headers: headers.map(|(key, value)| (key.to_vec(), owned(value))).collect(),
        })
    }

    /// Names what differs, in Kafka's words.
    pub(super) fn differences(&self, other: &Self) -> Vec<&'static str> {
        let fields = [
            ("key", self.key != other.key),
            ("value", self.value != other.value),
            ("headers", self.headers != other.headers),
            ("timestamp", self.timestamp != other.timestamp),
        ];
        fields
            .iter()
            .filter(|(_, differs)| *differs)
            .map(|(name, _)| *name)
            .collect()
    }
}
