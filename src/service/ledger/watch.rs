//! Looks out for another owner, beside whatever is being written.
//!
//! Whoever takes a flow over begins when its owner record is in every lane. Any one lane without it therefore tells that
//! the flow was still ours: a broker that is away or hangs holds nobody up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::super::now;
use super::super::topics::all;
use super::LedgerStoreError;
use super::lane::LaneWriter;
use crate::cluster::{Cluster, Isolation, OffsetSpec};
use crate::replication::ledger::OwnerId;

/// How long a lane may take before the next one is asked.
const LANE_PATIENCE: Duration = Duration::from_secs(1);

/// Reads the lanes from where their owner records are.
#[derive(Debug)]
pub(super) struct Watch {
    target: Cluster,
    topic: Arc<str>,
    owner: OwnerId,
    /// They only read.
    lanes: Vec<LaneWriter>,
    /// The lane that answered last.
    at: usize,
    /// When the last confirmation began that succeeded.
    confirmed_at: Option<Instant>,
}

impl Watch {
    /// Beside the writers of the lanes.
    pub(super) fn beside(writers: &[LaneWriter], target: Cluster, topic: Arc<str>, owner: OwnerId) -> Self {
        Self {
            lanes: writers.iter().map(LaneWriter::reader).collect(),
            target,
            topic,
            owner,
            at: 0,
            confirmed_at: None,
        }
    }

    /// Makes sure that nobody else had taken the flow over by `asked`. Of several who wait, one asks for all.
    pub(super) async fn confirm(&mut self, asked: Instant) -> Result<(), LedgerStoreError> {
        if self.confirmed_at.is_some_and(|began| began > asked) {
            return Ok(());
        }
        let began = now();
        let mut last = LedgerStoreError::Ended;
        for step in 0..self.lanes.len() {
            let index = (self.at + step) % self.lanes.len();
            last = match timeout(LANE_PATIENCE, self.confirm_by(index)).await {
                Ok(Ok(())) => {
                    self.at = index;
                    self.confirmed_at = Some(began);
                    return Ok(());
                }
                Ok(Err(error @ LedgerStoreError::Superseded { .. })) => return Err(error),
                Ok(Err(error)) => error,
                Err(_) => LedgerStoreError::Silent {
                    topic: Arc::clone(&self.topic),
                    lane: self.lanes[index].lane(),
                    after: LANE_PATIENCE,
                },
            };
        }
        Err(last)
    }

    async fn confirm_by(&mut self, index: usize) -> Result<(), LedgerStoreError> {
        let lane = &mut self.lanes[index];
        let partition = (Arc::clone(&self.topic), lane.lane());
        let latest = OffsetSpec::Latest(Isolation::ReadUncommitted);
        let ends = all(self.target.list_offsets(vec![partition.clone()], latest).await)?;
        lane.confirm(self.owner, ends[&partition].offset).await
    }
}
