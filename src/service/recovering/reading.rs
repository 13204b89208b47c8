//! What recovery reads: the source from the checkpoint on, the end of the target's log.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Case, Recovering, later};
use crate::cluster::{Cluster, Isolation};
use crate::offsets::{Run, SourceOffset, TargetOffset};
use crate::protocol::error_code::ErrorCode;
use crate::replication::budget::Reservation;
use crate::replication::epochs::{BatchMark, EpochStart, Truncation};
use crate::replication::fate::FateContext;
use crate::replication::flow::RecoveryFailure;
use crate::replication::prepare::{FetchedRecords, PrepareError, Prepared, prepare};
use crate::replication::recovery::matching::{Match, Matching, Missing};
use crate::replication::recovery::tail::{TargetTail, WithTime};
use crate::replication::recovery::walk::{SourceWalk, Stretch};
use crate::replication::recovery::{Known, Recovered};
use crate::replication::stopped::Stopped;
use crate::service::reader::{PartitionReader, ReadError};

/// How often nothing may come where something has to.
const MAX_EMPTY: u32 = 50;

/// Between looks at a high watermark that lags behind what the leader has.
const WATERMARK_WAIT: Duration = Duration::from_millis(100);

impl Recovering {
    /// The leader has so many records more than the checkpoint knows: the copy goes on behind them. `None` where the source
    /// may have others now than those that were sent.
    pub(super) async fn count(&self, case: &Case, written: i32) -> Result<Option<Recovered>, RecoveryFailure> {
        let Case {
            index,
            known,
            situation,
        } = case;
        // Where the target has grown by just that many, they lie side by side.
        let stretches = match situation.high_watermark.0 - known.target_next.0 == i64::from(written) {
            true => vec![Stretch {
                before: 0,
                target_start: known.target_next,
                count: written.into(),
            }],
            false => self.stretches(*index, known, written).await?,
        };
        let mut walk = SourceWalk::new(known.position, known.before, written);
        let mut source = self.source_reader(case);
        let (mut empty, mut epoch, mut epochs) = (0, known.before.epoch, Vec::new());
        while !walk.is_done() {
            let read = source.next(walk.position(), epoch, known).await?;
            epoch = read.last_leader_epoch().unwrap_or(epoch);
            walk.take(&read.batches);
            walk.skip_to(read.next_position);
            empty = if read.is_empty() { empty + 1 } else { 0 };
            if empty == MAX_EMPTY || walk.is_newer() {
                return Ok(None);
            }
            epochs.extend(read.epochs);
        }
        if let Some((from, to)) = walk.missing(&stretches)
            && !known.is_cleaned
            && self.target_start(*index).await? <= known.target_next
        {
            return Err(RecoveryFailure::Stop(Stopped::TargetIncomplete { from, to }));
        }
        let target_next = stretches
            .last()
            .map_or(known.target_next, |last| TargetOffset(last.target_start.0 + last.count));
        Ok(Some(Recovered {
            position: walk.position(),
            before: walk.before(),
            target_next,
            next_sequence: known.next_sequence.wrapping_add(written) & i32::MAX,
            runs: walk.runs(&stretches),
            epochs,
            ..Recovered::as_known(known, true)
        }))
    }

    /// Where on the target the records of the mapping are that were written since the checkpoint. All of them have to be
    /// below the high watermark: what is not, can still be lost.
    async fn stretches(&self, index: usize, known: &Known, written: i32) -> Result<Vec<Stretch>, RecoveryFailure> {
        let last = known.next_sequence.wrapping_add(written - 1) & i32::MAX;
        let mut tail = TargetTail::new(known.target_next, BTreeSet::from([known.producer_id]), None);
        for _ in 0..MAX_EMPTY {
            self.read_tail(index, &mut tail, self.target_end(index).await?).await?;
            if tail.last_sequence(known.producer_id, known.producer_epoch) == Some(last) {
                return Ok(tail.stretches(known.producer_id, known.producer_epoch, known.next_sequence));
            }
            tokio::time::sleep(WATERMARK_WAIT).await;
        }
        Err(RecoveryFailure::Later(
            "what the leader has appended is not replicated so far".to_owned(),
        ))
    }

    /// What a leader that offers no DescribeProducers has of the mapping: from its log.
    pub(super) async fn last_in_log(
        &self,
        index: usize,
        known: &Known,
        high_watermark: TargetOffset,
    ) -> Result<Option<(i16, i32)>, RecoveryFailure> {
        let mut tail = TargetTail::new(known.target_next, BTreeSet::from([known.producer_id]), None);
        self.read_tail(index, &mut tail, high_watermark).await?;
        let at_checkpoint = (known.next_sequence > 0).then(|| (known.producer_epoch, known.next_sequence - 1));
        Ok(tail.newest(known.producer_id).or(at_checkpoint))
    }

    /// How many records of ours the target has between the checkpoint and `end`.
    pub(super) async fn own_records(&self, case: &Case, end: TargetOffset) -> Result<u64, RecoveryFailure> {
        let Case { index, known, .. } = case;
        let mut tail = TargetTail::new(known.target_next, BTreeSet::from([known.producer_id]), None);
        self.read_tail(*index, &mut tail, end).await?;
        Ok(tail.own_records())
    }

    /// Finds our records between the checkpoint and `end` at the source again.
    pub(super) async fn match_tail(
        &self,
        case: &Case,
        end: TargetOffset,
        present_producer: i64,
    ) -> Result<FoundAgain, RecoveryFailure> {
        let Case {
            index,
            known,
            situation,
        } = case;
        let with_time = WithTime(known.keeps_time);
        let producers = BTreeSet::from([known.producer_id, present_producer]);
        let mut tail = TargetTail::new(known.target_next, producers, Some(with_time));
        self.read_tail(*index, &mut tail, end).await?;
        let sent = tail.sent(known.producer_id, known.producer_epoch, known.next_sequence);
        let missing = match known.is_cleaned {
            true => Missing::Anywhere,
            false if situation.source_log_start > known.position => Missing::AtHead,
            false => Missing::None,
        };
        let mut matching = Matching::new(tail.records(), sent, missing, with_time);
        let (mut position, mut epoch) = (known.position.max(situation.source_log_start), known.before.epoch);
        let mut source = self.source_reader(case);
        let (mut empty, mut epochs) = (0, Vec::new());
        // A source that has less than was sent shows it by having no more.
        while !matching.is_done() && empty < MAX_EMPTY {
            let read = source.next(position, epoch, known).await?;
            matching.take(&read.batches).map_err(|error| later(&error))?;
            (position, epoch) = (read.next_position, read.last_leader_epoch().unwrap_or(epoch));
            empty = if read.is_empty() { empty + 1 } else { 0 };
            epochs.extend(read.epochs);
        }
        // Within an epoch a log only grows: what is not there any more made room for another, or for nothing.
        let is_another = epoch > known.before.epoch || empty == MAX_EMPTY;
        let (runs, found) = matching.finish(known.position, known.before);
        // What is gone as a whole may have been taken by a cleaner, or by retention.
        let may_be_cleaned = match missing {
            Missing::None => false,
            Missing::AtHead => runs.is_empty(),
            Missing::Anywhere => true,
        };
        Ok(FoundAgain {
            runs,
            found,
            is_cut_back: is_another && !may_be_cleaned,
            epochs,
        })
    }

    async fn read_tail(&self, index: usize, tail: &mut TargetTail, end: TargetOffset) -> Result<(), RecoveryFailure> {
        let route = self.routes.route(index);
        let mut reader = PartitionReader::new(
            self.target.clone(),
            Arc::clone(&route.target_topic),
            route.partition,
            Isolation::ReadUncommitted,
        );
        let mut empty = 0;
        while tail.next() < end && empty < MAX_EMPTY {
            let before = tail.next();
            let fetched = reader.fetch(before.0, -1).await.map_err(|error| later(&error))?;
            tail.take(fetched.records, end).map_err(|error| later(&error))?;
            empty = if tail.next() == before { empty + 1 } else { 0 };
        }
        Ok(())
    }

    fn source_reader(&self, case: &Case) -> SourceReader {
        let route = self.routes.route(case.index);
        let log_start = case.situation.source_log_start;
        let (topic, partition) = (Arc::clone(&route.topic), route.partition);
        SourceReader {
            source: self.source.clone(),
            topic: Arc::clone(&topic),
            partition,
            reader: PartitionReader::new(self.source.clone(), topic, partition, Isolation::ReadCommitted),
            before: case.known.before.mark.filter(|mark| mark.base_offset >= log_start),
            has_begun: false,
        }
    }
}

/// What became of our records on the target.
pub(super) struct FoundAgain {
    pub(super) runs: Vec<Run>,
    pub(super) found: Match,
    /// Where some were not found: the source has lost them.
    pub(super) is_cut_back: bool,
    pub(super) epochs: Vec<EpochStart>,
}

/// Reads committed records as the copy would.
struct SourceReader {
    source: Cluster,
    topic: Arc<str>,
    partition: i32,
    reader: PartitionReader,
    /// The batch before the checkpoint, where retention has left it.
    before: Option<BatchMark>,
    /// Something was read, so that the log is the one that was copied.
    has_begun: bool,
}

impl SourceReader {
    async fn next(
        &mut self,
        position: SourceOffset,
        leader_epoch: i32,
        known: &Known,
    ) -> Result<Prepared, RecoveryFailure> {
        let before = self.before.filter(|_| !self.has_begun);
        let from = before.map_or(position, |before| before.base_offset);
        let fetched = match self.reader.fetch(from.0, leader_epoch).await {
            Ok(fetched) => fetched,
            Err(error) if self.has_begun => return Err(later(&error)),
            Err(ReadError::Diverged { end, leader_epoch, .. }) => {
                return Err(RecoveryFailure::Truncated(Truncation::told(end, leader_epoch)));
            }
            Err(ReadError::Refused {
                code: ErrorCode::OffsetOutOfRange,
                ..
            }) => return Err(self.out_of_range(position).await),
            Err(error) => return Err(later(&error)),
        };
        let high_watermark = fetched.replicated_end();
        let records = FetchedRecords {
            records: fetched.records,
            aborted: fetched.aborted,
            high_watermark,
            before,
        };
        let context = FateContext {
            start_offset: position.0,
            max_batch_bytes: usize::MAX,
            keep_append_time: known.keeps_time,
        };
        let mut prepared = prepare(records, context, &Arc::new(Reservation::none()));
        self.has_begun |= before.is_none() || prepared.is_verified;
        match prepared.damage.take() {
            Some(PrepareError::Altered { base_offset }) => Err(RecoveryFailure::Stop(Stopped::SourceAltered {
                at: SourceOffset(base_offset),
                position,
            })),
            Some(damage) => Err(later(&damage)),
            None => Ok(prepared),
        }
    }

    /// Either retention was faster, or the log was cut back below what was copied.
    async fn out_of_range(&self, position: SourceOffset) -> RecoveryFailure {
        let partition = (Arc::clone(&self.topic), self.partition);
        match crate::service::runner::source_range(&self.source, partition).await {
            Ok((_, log_end)) if position > log_end => RecoveryFailure::Truncated(Truncation::LogEnds(log_end)),
            Ok(_) => RecoveryFailure::Later("the source's log began to end elsewhere".to_owned()),
            Err(error) => later(&error),
        }
    }
}
