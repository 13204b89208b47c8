//! The task that writes the ledger: one command after the other, the lanes of one side by side.

use std::collections::BTreeMap;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::LaneResults;
use super::lane::LaneWriter;
use crate::replication::ledger::{LedgerRecord, OwnerId};

/// To write records, each lane's in its own partition.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) lanes: BTreeMap<i32, Vec<LedgerRecord>>,
    pub(super) reply: oneshot::Sender<LaneResults>,
}

pub(super) struct LedgerTask {
    owner: OwnerId,
    /// Each of them, but while it writes.
    writers: BTreeMap<i32, LaneWriter>,
}

impl LedgerTask {
    pub(super) fn new(owner: OwnerId, writers: Vec<LaneWriter>) -> Self {
        Self {
            owner,
            writers: writers.into_iter().map(|writer| (writer.lane(), writer)).collect(),
        }
    }

    /// Ends when nobody is left to command it.
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Command>) {
        while let Some(command) = inbox.recv().await {
            // Nobody waits for the answer where the flow has ended.
            let _ = command.reply.send(self.write(command.lanes).await);
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
}
