//! What an operator is told of a partition that goes on, in words.

use crate::replication::partition::Incident;

pub(super) fn announce(topic: &str, partition: i32, incident: &Incident) {
    match incident {
        Incident::Gap(from, to) => tracing::error!(
            %topic, partition,
            "source offsets {from} to {to} (exclusive) were gone before they were copied; the copy goes on without them"
        ),
        Incident::Truncated(from, to) => tracing::error!(
            %topic, partition,
            "the source has lost offsets {from} to {to} (exclusive), which the target holds; the copy goes on at {from}"
        ),
        Incident::Parted { at, records } => tracing::error!(
            %topic, partition,
            "the source has lost records from offset {at} on of which the target holds {records} (more); the copy goes on \
             at {at}"
        ),
        Incident::Shortened(from, to) => tracing::error!(
            %topic, partition,
            "the source has lost offsets {from} to {to} (exclusive) before they were copied"
        ),
        Incident::Recreated(to) => tracing::error!(
            %topic, partition,
            "the source's topic was deleted and created anew; the target holds the old one up to offset {to}, the copy \
             goes on with the new one"
        ),
        Incident::PerhapsRepeated(from, to) => {
            tracing::error!(
                %topic, partition,
                "source offsets {from} to {to} (exclusive) may be on the target twice: the target has records of ours \
                 that could not be found at the source again"
            );
        }
        Incident::ForeignRecords(from, to) => tracing::warn!(
            %topic, partition,
            "somebody else has written to the target: offsets {from} to {to} (exclusive) are not ours"
        ),
        Incident::Found { records, position } => tracing::info!(
            %topic, partition, records,
            "records were found on the target that the checkpoint did not know; the copy goes on at {position}"
        ),
    }
}
