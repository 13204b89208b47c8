//! What the ledger is told of a partition: its position, its mapping, and what its map has grown by.

use super::{PartitionCheckpoint, PartitionReplicator, Phase};
use crate::replication::ledger::{Checkpoint, SegmentName};
use crate::replication::recovery::Beginning;

impl PartitionReplicator {
    /// What the ledger should say now, if that is not what it says.
    pub fn poll_checkpoint(&mut self) -> Option<PartitionCheckpoint> {
        match &mut self.phase {
            Phase::AwaitingLedger { writing } => *writing = true,
            _ if self.checkpointed == Some(self.acked_position) => return None,
            // A mapping is put down as a whole, when the recovery is done.
            Phase::Recovering { .. } if self.beginning != Beginning::Remembered => return None,
            _ => {}
        }
        self.drop_segments_below_log_start();
        let mut segments = std::mem::take(&mut self.full_segments);
        if !self.open_segment.is_empty() {
            segments.push(self.open_segment.clone());
        }
        self.checkpointed = Some(self.acked_position);
        Some(PartitionCheckpoint {
            checkpoint: Checkpoint {
                target_topic: self.start.target_topic.to_string(),
                source_topic_id: self.start.source_topic_id,
                target_topic_id: self.start.target_topic_id,
                start: self.start.flow_start,
                source_position: self.acked_position,
                source_leader_epoch: self.acked.epoch,
                source_mark: self.acked.mark,
                source_epochs: self.epochs.below(self.acked_position),
                target_next: self.target_next,
                producer_id: self.producer.0,
                producer_epoch: self.producer.1,
                next_sequence: self.acked_sequence,
                cuts: self.start.cuts.clone(),
            },
            segments,
            gone: std::mem::take(&mut self.gone),
        })
    }

    /// The newest checkpoint is in the ledger.
    pub fn handle_checkpointed(&mut self) {
        if self.phase == (Phase::AwaitingLedger { writing: true }) {
            self.phase = Phase::Streaming;
            self.beginning = Beginning::Remembered;
        }
    }

    /// The ledger did not take it: the next checkpoint writes it again.
    pub fn handle_checkpoint_failed(&mut self, mut written: PartitionCheckpoint) {
        written
            .segments
            .retain(|segment| segment.start() != self.open_segment.start());
        written.segments.append(&mut self.full_segments);
        self.full_segments = written.segments;
        written.gone.append(&mut self.gone);
        self.gone = written.gone;
        self.checkpointed = None;
        if let Phase::AwaitingLedger { writing } = &mut self.phase {
            *writing = false;
        }
    }

    /// What the source no longer has needs no translation.
    fn drop_segments_below_log_start(&mut self) {
        while let Some(name) = self.closed_segments.front() {
            if name.end > self.source_log_start {
                return;
            }
            self.gone.push(name.key(&self.start.topic, self.start.partition));
            self.closed_segments.pop_front();
        }
    }

    /// Nothing is added to the open segment any more.
    pub(super) fn close_segment(&mut self) {
        let segment = std::mem::take(&mut self.open_segment);
        if let (Some(start), Some(end)) = (segment.start(), segment.end()) {
            let owner = self.start.owner;
            self.closed_segments.push_back(SegmentName { start, owner, end });
            self.full_segments.push(segment);
        }
    }
}
