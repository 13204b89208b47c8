//! The task of one source slot: fetches what it is told to, prepares what comes, reports.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::mpsc;
use tokio::task::block_in_place;

use super::routes::{Route, Routes};
use crate::cluster::{
    BufferPool, Cluster, ClusterError, Connection, FetchOptions, FetchPartition, FetchSession, Isolation, Purpose,
    fetch,
};
use crate::offsets::SourceOffset;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::fetch_response::FetchedPartition;
use crate::replication::budget::Reservation;
use crate::replication::coalesce::{self, CoalesceOptions, coalesce};
use crate::replication::epochs::Truncation;
use crate::replication::flow::{Event, FetchJob, FetchedPart, PartitionFetch, Slot, WantedPartition};
use crate::replication::partition::SourceLog;
use crate::replication::prepare::{Copied, FetchedRecords, PreparedBatch, prepare};
use crate::replication::stopped::chain;

/// What the fetch response holds beside the records of a partition, at the least.
const PARTITION_OVERHEAD: usize = 64;

pub(super) async fn run_slot(
    slot: Slot,
    source: Cluster,
    routes: Arc<Routes>,
    mut jobs: mpsc::Receiver<FetchJob>,
    events: mpsc::Sender<Event>,
) {
    let mut fetches = Fetches::default();
    while let Some(job) = jobs.recv().await {
        let event = match fetches.run_job(&source, &routes, job).await {
            Ok(event) => event,
            Err(error) => {
                fetches.connection = None;
                tracing::warn!(broker = slot.broker, error = %chain(&error), "fetch failed, trying again");
                Event::FetchFailed {
                    slot,
                    cause: chain(&error),
                }
            }
        };
        if events.send(event).await.is_err() {
            return; // The flow has ended.
        }
    }
}

/// What a slot's fetches have in common.
#[derive(Debug, Default)]
struct Fetches {
    connection: Option<Connection>,
    session: FetchSession,
    /// What is fetched from then on, by index.
    wanted: HashMap<usize, WantedPartition>,
}

impl Fetches {
    /// Jobs name what changes, so none may be left out.
    fn take_changes(&mut self, routes: &Routes, job: &FetchJob) {
        for index in &job.unwanted {
            self.wanted.remove(index);
            let route = routes.route(*index);
            self.session.forget(&route.topic, route.partition);
        }
        for wanted in &job.wanted {
            self.wanted.insert(wanted.index, *wanted);
            self.session.want(fetch_partition(routes, wanted));
        }
    }

    async fn run_job(&mut self, source: &Cluster, routes: &Routes, job: FetchJob) -> Result<Event, ClusterError> {
        let slot = job.slot;
        self.take_changes(routes, &job);
        let connection = source
            .connection(slot.broker, Purpose::Fetch(usize::from(slot.connection)))
            .await?;
        let before = self.connection.replace(connection.clone());
        if before.is_some_and(|before| !before.is(&connection)) {
            // The broker was away between two fetches: whoever asks is to know.
            let cause = "the connection was lost, and made again".to_owned();
            return Ok(Event::FetchFailed { slot, cause });
        }
        let options = FetchOptions {
            max_wait_ms: i32::try_from(job.max_wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: 1,
            max_bytes: i32::try_from(job.max_bytes).unwrap_or(i32::MAX),
            isolation: Isolation::ReadCommitted,
        };
        let response = fetch(&connection, &mut self.session, &options).await?;

        let records: usize = response.partitions.iter().map(|(_, part)| part.records.len()).sum();
        let hold = Arc::new(job.hold);
        let answered = response.partitions.into_iter().filter_map(|(topic, fetched)| {
            let index = routes.by_source(&topic, fetched.partition)?;
            Some((self.wanted.get(&index)?, fetched))
        });
        let answered: Vec<(&WantedPartition, FetchedPartition)> = answered.collect();
        let is_light = answered
            .iter()
            .all(|(wanted, fetched)| coalesce::is_light(&fetched.records, &wanted.context, wanted.coalesce_below));
        let prepare_all = || -> Vec<FetchedPart> {
            let parts = answered.into_iter().map(|(wanted, fetched)| FetchedPart {
                index: wanted.index,
                asked: SourceOffset(wanted.context.start_offset),
                fetch: partition_fetch(fetched, wanted, &hold, source.buffers()),
            });
            parts.collect()
        };
        let partitions = if is_light {
            prepare_all()
        } else {
            off_the_io_threads(prepare_all)
        };
        log_refusals(routes, &partitions);
        hold.resize(held(&partitions, records, job.max_bytes));
        Ok(Event::Fetched {
            slot,
            partitions,
            held_back: response.throttle_time_ms > 0,
        })
    }
}

/// One line for each code: a leader that moves may have led thousands.
fn log_refusals(routes: &Routes, partitions: &[FetchedPart]) {
    let mut refused: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for part in partitions {
        if let PartitionFetch::Refused(code) = &part.fetch {
            refused.entry(code.name()).or_insert((part.index, 0)).1 += 1;
        }
    }
    for (code, (first, partitions)) in refused {
        let Route { topic, partition, .. } = routes.route(first);
        tracing::warn!(code, partitions, first = %format_args!("{topic} {partition}"), "fetch refused, trying again");
    }
}

/// Lets other tasks of this thread go on meanwhile. As many slots as there are, so many run at a time. A runtime of one thread
/// has nowhere else to go on.
fn off_the_io_threads<T>(work: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => work(),
        _ => block_in_place(work),
    }
}

/// What an answer keeps in memory until it is acked: the frame where batches lie in it, batches that were written anew, and a
/// little for each batch and partition. Where batches are of one small record, that little is as much again.
fn held(partitions: &[FetchedPart], records: usize, max_bytes: usize) -> usize {
    let prepared = partitions.iter().filter_map(|part| match &part.fetch {
        PartitionFetch::Records { prepared, .. } => Some(prepared),
        _ => None,
    });
    let mut lies_in_frame = false;
    let mut held = 0;
    for prepared in prepared {
        held += PARTITION_OVERHEAD + prepared.batches.len() * size_of::<PreparedBatch>();
        for batch in &prepared.batches {
            match batch.copied {
                Copied::Patched => lies_in_frame = true,
                Copied::Reencoded | Copied::Coalesced(_) => held += batch.payload.len(),
            }
        }
    }
    if lies_in_frame {
        // A buffer that was used before may be twice as large as what lies in it now.
        held += (2 * records).min(max_bytes.max(records));
    }
    held
}

fn fetch_partition(routes: &Routes, wanted: &WantedPartition) -> FetchPartition {
    let route = routes.route(wanted.index);
    FetchPartition {
        topic: Arc::clone(&route.topic),
        topic_id: wanted.topic_id,
        partition: route.partition,
        fetch_offset: wanted
            .before
            .map_or(wanted.context.start_offset, |before| before.base_offset.0),
        current_leader_epoch: wanted.leader_epoch,
        last_fetched_epoch: wanted.last_fetched_epoch,
        max_bytes: i32::try_from(wanted.max_bytes).unwrap_or(i32::MAX),
    }
}

fn partition_fetch(
    fetched: FetchedPartition,
    asked: &WantedPartition,
    hold: &Arc<Reservation>,
    buffers: &BufferPool,
) -> PartitionFetch {
    if let Some(diverging) = fetched.diverging_epoch {
        return PartitionFetch::Truncated(Truncation::told(diverging, asked.leader_epoch));
    }
    if fetched.error != ErrorCode::None {
        return PartitionFetch::Refused(fetched.error);
    }
    let high_watermark = fetched.replicated_end();
    let mut prepared = prepare(
        FetchedRecords {
            records: fetched.records,
            aborted: fetched.aborted,
            high_watermark,
            before: asked.before,
        },
        asked.context,
        hold,
    );
    let options = CoalesceOptions {
        below: asked.coalesce_below,
        max_batch_bytes: asked.context.max_batch_bytes,
    };
    prepared.batches = coalesce(prepared.batches, options, buffers);
    PartitionFetch::Records {
        log: SourceLog {
            last_stable_offset: SourceOffset(fetched.last_stable_offset),
            high_watermark: SourceOffset(high_watermark),
            // -1 where the broker does not say.
            log_start_offset: SourceOffset(fetched.log_start_offset.max(0)),
        },
        prepared,
    }
}
