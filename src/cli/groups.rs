//! How rows about consumer groups are printed.

use serde::Serialize;

use crate::service::groups::{GroupRow, GroupState};

/// What became of a group in one partition of the target.
#[derive(Debug, Serialize)]
pub(super) struct GroupReport {
    group: String,
    topic: String,
    partition: i32,
    /// Where the group stands on the target; -1 if nowhere.
    offset: i64,
    state: &'static str,
    reason: String,
    /// Where it stands at the source, and what that is on the target.
    source_offset: i64,
    translated: i64,
}

impl GroupReport {
    pub(super) fn new(row: &GroupRow) -> Self {
        Self {
            group: row.group.clone(),
            topic: row.topic.clone(),
            partition: row.partition,
            offset: row.offset,
            state: row.state.name(),
            reason: row.reason.clone(),
            source_offset: row.source_offset,
            translated: row.translated,
        }
    }

    /// Of what is only looked at: nothing is written.
    pub(super) fn planned(row: &GroupRow) -> Self {
        let state = match row.state {
            GroupState::Written => "to-be-written",
            state => state.name(),
        };
        Self {
            state,
            ..Self::new(row)
        }
    }

    pub(super) fn print(&self) {
        let reason = match self.reason.is_empty() {
            true => String::new(),
            false => format!(" ({})", self.reason),
        };
        println!(
            "group {}: {} {} {}: source {} -> {}{reason}",
            self.group, self.topic, self.partition, self.state, self.source_offset, self.offset
        );
    }
}
