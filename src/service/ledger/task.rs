//! The task that writes the ledger: one command after the other, the lanes of one side by side.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::lane::LaneWriter;
use super::{LaneResults, LedgerStoreError};
use crate::cluster::{Cluster, Isolation, OffsetSpec};
use crate::replication::ledger::{LedgerRecord, OwnerId};
use crate::service::topics::all;

#[derive(Debug)]
pub(super) enum Command {
    Write {
        lanes: BTreeMap<i32, Vec<LedgerRecord>>,
        reply: oneshot::Sender<LaneResults>,
    },
    Confirm {
        reply: oneshot::Sender<Result<(), LedgerStoreError>>,
    },
}

pub(super) struct LedgerTask {
    target: Cluster,
    topic: Arc<str>,
    owner: OwnerId,
    /// Each of them, but while it writes.
    writers: BTreeMap<i32, LaneWriter>,
}

impl LedgerTask {
    pub(super) fn new(target: Cluster, topic: Arc<str>, owner: OwnerId, writers: Vec<LaneWriter>) -> Self {
        Self {
            target,
            topic,
            owner,
            writers: writers.into_iter().map(|writer| (writer.lane(), writer)).collect(),
        }
    }

    /// Ends when nobody is left to command it.
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Command>) {
        while let Some(command) = inbox.recv().await {
            // Nobody waits for the answer where the flow has ended.
            match command {
                Command::Write { lanes, reply } => {
                    let _ = reply.send(self.write(lanes).await);
                }
                Command::Confirm { reply } => {
                    let _ = reply.send(self.confirm().await);
                }
            }
        }
    }

    async fn write(&mut self, lanes: BTreeMap<i32, Vec<LedgerRecord>>) -> LaneResults {
        let mut writing = JoinSet::new();
        for (lane, records) in lanes {
            let mut writer = self.writers.remove(&lane).expect("every lane has a writer");
            let owner = self.owner;
            writing.spawn(async move {
                let result = writer.write_as(owner, &records).await;
                (writer, result)
            });
        }
        let mut results = LaneResults::new();
        while let Some(written) = writing.join_next().await {
            let (writer, result) = written.expect("a writer does not panic");
            results.insert(writer.lane(), result);
            self.writers.insert(writer.lane(), writer);
        }
        results
    }

    async fn confirm(&mut self) -> Result<(), LedgerStoreError> {
        let lanes: Vec<(Arc<str>, i32)> = self
            .writers
            .keys()
            .map(|lane| (Arc::clone(&self.topic), *lane))
            .collect();
        let latest = OffsetSpec::Latest(Isolation::ReadUncommitted);
        let ends = all(self.target.list_offsets(lanes, latest).await)?;
        for (lane, writer) in &mut self.writers {
            let end = ends[&(Arc::clone(&self.topic), *lane)].offset;
            writer.confirm(self.owner, end).await?;
        }
        Ok(())
    }
}
