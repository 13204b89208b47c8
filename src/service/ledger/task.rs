//! The tasks that write the ledger: one for each lane, which does what it is told in order.

use tokio::sync::{mpsc, oneshot};

use super::LedgerStoreError;
use super::lane::LaneWriter;
use crate::replication::ledger::{LedgerRecord, OwnerId};

/// Writes that wait for a lane's task.
const MAX_COMMANDS: usize = 16;

/// To write records into a lane.
#[derive(Debug)]
struct Command {
    records: Vec<LedgerRecord>,
    reply: oneshot::Sender<Result<(), LedgerStoreError>>,
}

/// A lane's task. It ends with the last handle.
#[derive(Debug, Clone)]
pub(super) struct LaneTask(mpsc::Sender<Command>);

impl LaneTask {
    pub(super) fn spawn(owner: OwnerId, mut writer: LaneWriter) -> Self {
        let (commands, mut inbox) = mpsc::channel::<Command>(MAX_COMMANDS);
        tokio::spawn(async move {
            while let Some(Command { records, reply }) = inbox.recv().await {
                // Nobody waits for the answer where the flow has ended.
                let _ = reply.send(writer.write_as(owner, &records).await);
            }
        });
        Self(commands)
    }

    /// Gets in line. The answer fails where the task has ended.
    pub(super) async fn write(&self, records: Vec<LedgerRecord>) -> oneshot::Receiver<Result<(), LedgerStoreError>> {
        let (reply, answer) = oneshot::channel();
        let _ = self.0.send(Command { records, reply }).await; // Where it is refused, `reply` is dropped.
        answer
    }
}
