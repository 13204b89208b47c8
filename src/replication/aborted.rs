//! Which data a fetch response's aborted transactions make void.
//!
//! A broker answers a read_committed fetch with every batch up to the last stable offset, aborted ones included, and
//! a list of `(producer id, first offset)`. A transaction on that list runs from its first offset to the producer's
//! next ABORT marker. The list is not always sorted (Redpanda), and it belongs to one partition of one response.

use std::collections::HashSet;

use crate::protocol::fetch_response::AbortedTransaction;
use crate::record::BatchHeader;

/// The state of the walk through one response's batches, in offset order.
#[derive(Debug, Default)]
pub struct AbortedTransactions {
    /// Not begun so far, the next one last.
    ahead: Vec<AbortedTransaction>,
    /// Producers whose current transaction will abort.
    open: HashSet<i64>,
}

impl AbortedTransactions {
    pub fn new(mut listed: Vec<AbortedTransaction>) -> Self {
        listed.sort_unstable_by_key(|transaction| std::cmp::Reverse(transaction.first_offset));
        Self {
            ahead: listed,
            open: HashSet::new(),
        }
    }

    /// Opens the transactions that begin in or before this batch. Called once for each batch, in order.
    pub fn advance_to(&mut self, header: &BatchHeader) {
        while let Some(next) = self.ahead.pop_if(|next| next.first_offset <= header.last_offset()) {
            self.open.insert(next.producer_id);
        }
    }

    /// Whether the batch is data of a transaction that was aborted.
    pub fn contains(&self, header: &BatchHeader) -> bool {
        header.is_transactional() && self.open.contains(&header.producer_id())
    }

    /// The producer's ABORT marker was met: what it writes from here on belongs to another transaction.
    pub fn end(&mut self, producer_id: i64) {
        self.open.remove(&producer_id);
    }
}
