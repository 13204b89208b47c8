//! How much a flow does at a time: by its memory, and by how far away the clusters are.
//!
//! A connection has one fetch under way, and a partition five batches at the most, so that over a long way a broker's answers
//! are what is waited for. Then there are more connections, and larger batches.

use std::time::Duration;

use crate::offsets::{MAX_RUNS_PER_SEGMENT, Run};
use crate::replication::coalesce::{Coalescing, FULL, SMALL};
use crate::replication::partition::MAX_UNACKED;

/// What a fetch asks for.
const FETCH_BYTES_MAX: usize = 8 << 20;
const FETCH_BYTES_MIN: usize = 64 << 10;

/// With many connections a fetch may ask for less than that, but not for less than this: fewer, larger answers cost less.
const FETCH_BYTES_FAR: usize = 2 << 20;

/// Connections to one broker, near and at the most.
const CONNECTIONS: usize = 2;
const CONNECTIONS_MAX: usize = 16;

/// One connection more for so much of a round trip. A broker's socket buffers are of 100 KiB by default
/// (`socket.send.buffer.bytes`, `socket.receive.buffer.bytes`), which is all that a connection moves in a round trip.
const CONNECTION_FOR: Duration = Duration::from_millis(5);

/// What a partition should get through, as far as its batches' size has a say in it.
const PARTITION_BYTES_PER_SECOND: f64 = 100e6;

/// For the ends of all partitions' maps, and again for what waits to be written into the ledger.
const MAP_BYTES: usize = 8 << 20;

/// With fewer runs a segment's name takes more room in the ledger than they do.
const SEGMENT_RUNS_MIN: usize = 64;

#[derive(Debug, Clone)]
pub struct FlowLimits {
    pub source_connections: u16,
    pub target_connections: u16,
    /// What one fetch asks for.
    pub fetch_bytes: usize,
    /// What one fetch asks for of one partition, where many want something.
    pub partition_fetch_bytes: usize,
    /// What a partition may have fetched and not sent before it pauses.
    pub partition_bytes: usize,
    /// What a source slot may have fetched and not acked before it pauses.
    pub slot_window_bytes: usize,
    pub checkpoint_interval: Duration,
    /// How long a partition's target may take nothing before the partition stops; `None` to try for ever.
    pub patience: Option<Duration>,
    /// Batches of less than so many bytes are put together where there is a backlog of them: 0 for none.
    pub coalesce_below: usize,
    pub lanes: i32,
    /// Runs of the offset map that a partition adds to one segment. A running copy holds as many of each.
    pub segment_runs: usize,
    /// Full segments, of all partitions, that may wait to be written into the ledger before nothing more is sent.
    pub unsaved_segments: usize,
}

/// What a flow's limits follow from.
#[derive(Debug, Clone, Copy)]
pub struct Conditions {
    /// For everything that is fetched and not acked, in bytes.
    pub memory: usize,
    pub source_brokers: usize,
    pub partitions: usize,
    pub lanes: i32,
    /// To the source's brokers and back.
    pub source_round_trip: Duration,
    pub target_round_trip: Duration,
    pub coalescing: Coalescing,
}

impl FlowLimits {
    pub fn new(conditions: &Conditions) -> Self {
        let Conditions {
            memory, source_brokers, ..
        } = *conditions;
        let brokers = source_brokers.max(1);
        let affordable = memory / (4 * brokers * FETCH_BYTES_FAR);
        let source_connections = connections(conditions.source_round_trip).min(affordable.max(CONNECTIONS));
        let slots = brokers * source_connections;
        let segment_runs = MAP_BYTES / size_of::<Run>() / conditions.partitions.max(1);
        let segment_runs = segment_runs.clamp(SEGMENT_RUNS_MIN, MAX_RUNS_PER_SEGMENT);
        let fetch_bytes = (memory / (4 * slots)).clamp(FETCH_BYTES_MIN, FETCH_BYTES_MAX);
        Self {
            source_connections: source_connections as u16,
            target_connections: connections(conditions.target_round_trip) as u16,
            fetch_bytes,
            partition_fetch_bytes: (fetch_bytes / 4).max(FETCH_BYTES_MIN),
            partition_bytes: fetch_bytes / 2,
            slot_window_bytes: 3 * fetch_bytes,
            checkpoint_interval: Duration::from_secs(1),
            patience: None,
            coalesce_below: match conditions.coalescing {
                Coalescing::Auto => coalesce_below(conditions.target_round_trip),
                Coalescing::Never => 0,
            },
            lanes: conditions.lanes,
            segment_runs,
            unsaved_segments: MAP_BYTES / (segment_runs * size_of::<Run>()),
        }
    }
}

fn connections(round_trip: Duration) -> usize {
    let more = round_trip.as_millis() / CONNECTION_FOR.as_millis();
    usize::try_from(more)
        .unwrap_or(CONNECTIONS_MAX)
        .clamp(CONNECTIONS, CONNECTIONS_MAX)
}

/// Near by it is what a batch costs that counts, far away also how many can be under way.
fn coalesce_below(round_trip: Duration) -> usize {
    let under_way = PARTITION_BYTES_PER_SECOND * round_trip.as_secs_f64();
    ((under_way / MAX_UNACKED as f64) as usize).clamp(SMALL, FULL)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(memory: usize, brokers: usize, round_trip_ms: u64) -> FlowLimits {
        FlowLimits::new(&conditions(memory, brokers, round_trip_ms))
    }

    fn conditions(memory: usize, brokers: usize, round_trip_ms: u64) -> Conditions {
        Conditions {
            memory,
            source_brokers: brokers,
            partitions: 1,
            lanes: 8,
            source_round_trip: Duration::from_millis(round_trip_ms),
            target_round_trip: Duration::from_millis(round_trip_ms),
            coalescing: Coalescing::Auto,
        }
    }

    #[test]
    fn near_by_a_few_connections_will_do() {
        let near = limits(256 << 20, 1, 0);
        assert_eq!((near.source_connections, near.target_connections), (2, 2));
        assert_eq!((near.fetch_bytes, near.coalesce_below), (FETCH_BYTES_MAX, SMALL));
    }

    #[test]
    fn far_away_there_are_more_connections_and_larger_batches() {
        let far = limits(256 << 20, 1, 100);
        assert_eq!((far.source_connections, far.target_connections), (16, 16));
        assert_eq!((far.fetch_bytes, far.coalesce_below), (4 << 20, FULL));
        let nearer = limits(256 << 20, 1, 20);
        assert_eq!((nearer.source_connections, nearer.coalesce_below), (4, 400_000));
    }

    #[test]
    fn fetches_of_all_connections_fit_into_the_memory_three_times() {
        for memory in [8 << 20, 64 << 20, 256 << 20, 4 << 30] {
            for brokers in [0, 1, 3, 30] {
                for round_trip_ms in [0, 7, 100, 5_000] {
                    let limits = limits(memory, brokers, round_trip_ms);
                    let fetches = limits.fetch_bytes * usize::from(limits.source_connections) * brokers.max(1);
                    assert!(
                        3 * fetches <= memory || limits.fetch_bytes == FETCH_BYTES_MIN,
                        "{limits:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_ends_of_all_maps_fit_into_their_memory() {
        for (partitions, runs) in [(1, 4096), (80, 4096), (1_000, 349), (10_000, 64)] {
            let limits = FlowLimits::new(&Conditions {
                partitions,
                ..conditions(256 << 20, 1, 0)
            });
            assert_eq!(limits.segment_runs, runs);
            assert!(limits.unsaved_segments >= MAP_BYTES / (MAX_RUNS_PER_SEGMENT * size_of::<Run>()));
        }
    }

    #[test]
    fn nothing_is_put_together_where_that_is_not_wanted() {
        let never = Conditions {
            memory: 1 << 20,
            source_brokers: 1,
            partitions: 1,
            lanes: 1,
            source_round_trip: Duration::ZERO,
            target_round_trip: Duration::from_secs(1),
            coalescing: Coalescing::Never,
        };
        assert_eq!(FlowLimits::new(&never).coalesce_below, 0);
    }
}
