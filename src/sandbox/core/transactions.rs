//! The transaction coordinator: what each transactional id is doing, after Kafka's `TransactionCoordinator`.
//!
//! Only states and epochs live here. Markers are written by the cluster, some time after a transaction is told to end:
//! until then the id answers CONCURRENT_TRANSACTIONS, as it does with real brokers. The protocol is that of transaction
//! version 1: no epoch is bumped at the end of a transaction.

use std::collections::{BTreeMap, BTreeSet};

use crate::protocol::error_code::ErrorCode;

/// The epoch with which the markers of this coordinator are written. It never fails over, so it stays the first.
pub(super) const COORDINATOR_EPOCH: i32 = 0;

/// Kafka's `transaction.max.timeout.ms`.
const MAX_TIMEOUT_MS: i32 = 15 * 60 * 1000;

/// An epoch from which the next step is a new producer id.
const LAST_EPOCH: i16 = i16::MAX - 1;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    pub producer_id: i64,
    /// -1 before the first InitProducerId has been answered.
    pub epoch: i16,
    /// The one before, with which a repeated InitProducerId is recognised.
    previous_epoch: i16,
    pub timeout_ms: i32,
    pub state: State,
    /// Topic and partition, as long as they have not got their markers.
    pub partitions: BTreeSet<(String, i32)>,
    /// Groups whose offsets are part of it.
    pub groups: BTreeSet<String>,
    /// Markers have been tried for, and some partition has not taken its own: time alone will not help.
    pub(super) is_stuck: bool,
    started_ms: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Empty,
    Ongoing,
    /// Decided, and not yet marked everywhere.
    Preparing {
        commit: bool,
        marked_from_ms: i64,
    },
    Complete {
        commit: bool,
    },
}

/// Producer id and epoch, as a request names them.
pub(super) type Identity = (i64, i16);

/// All transactional ids of a cluster.
#[derive(Debug, Clone, Default)]
pub struct Transactions {
    by_id: BTreeMap<String, Transaction>,
    /// How long markers take.
    marker_delay_ms: i64,
}

impl Transactions {
    pub(super) fn new(marker_delay_ms: i64) -> Self {
        Self {
            by_id: BTreeMap::new(),
            marker_delay_ms,
        }
    }

    pub fn get(&self, id: &str) -> Option<&Transaction> {
        self.by_id.get(id)
    }

    /// Begins anew with a transactional id: whatever its former producer does from now on is fenced. `expected` is what
    /// a producer that goes on believes to be, `new_id` hands out producer ids.
    pub(super) fn initialize(
        &mut self,
        id: &str,
        timeout_ms: i32,
        expected: Option<Identity>,
        now_ms: i64,
        mut new_id: impl FnMut() -> i64,
    ) -> Result<Identity, ErrorCode> {
        if id.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        if timeout_ms <= 0 || timeout_ms > MAX_TIMEOUT_MS {
            return Err(ErrorCode::InvalidTransactionTimeout);
        }
        let delay = self.marker_delay_ms;
        let transaction = self.by_id.entry(id.to_owned()).or_insert_with(|| Transaction {
            producer_id: new_id(),
            epoch: -1,
            previous_epoch: -1,
            timeout_ms,
            state: State::Empty,
            partitions: BTreeSet::new(),
            groups: BTreeSet::new(),
            is_stuck: false,
            started_ms: now_ms,
        });
        if let Some((producer_id, _)) = expected
            && transaction.epoch >= 0
            && transaction.producer_id != producer_id
        {
            return Err(ErrorCode::ProducerFenced);
        }
        match transaction.state {
            State::Preparing { .. } => return Err(ErrorCode::ConcurrentTransactions),
            State::Ongoing => {
                if let Some((_, epoch)) = expected
                    && epoch != transaction.epoch
                {
                    return Err(ErrorCode::ProducerFenced);
                }
                transaction.abort_and_fence(now_ms.saturating_add(delay));
                return Err(ErrorCode::ConcurrentTransactions);
            }
            State::Empty | State::Complete { .. } => {}
        }
        match expected {
            Some((_, epoch)) if epoch == transaction.previous_epoch && epoch != transaction.epoch && epoch >= 0 => {}
            Some((_, epoch)) if transaction.epoch >= 0 && epoch != transaction.epoch => {
                return Err(ErrorCode::ProducerFenced);
            }
            _ if transaction.epoch >= LAST_EPOCH => {
                transaction.producer_id = new_id();
                transaction.epoch = 0;
                transaction.previous_epoch = -1;
            }
            _ => {
                transaction.previous_epoch = transaction.epoch;
                transaction.epoch += 1;
            }
        }
        transaction.timeout_ms = timeout_ms;
        transaction.state = State::Empty;
        Ok((transaction.producer_id, transaction.epoch))
    }

    /// Makes partitions, and the offsets of a group, part of the transaction, which begins with the first of them.
    pub(super) fn add(
        &mut self,
        id: &str,
        identity: Identity,
        partitions: impl IntoIterator<Item = (String, i32)>,
        group: Option<&str>,
        now_ms: i64,
    ) -> Result<(), ErrorCode> {
        let transaction = self.owned(id, identity)?;
        match transaction.state {
            State::Preparing { .. } => return Err(ErrorCode::ConcurrentTransactions),
            State::Ongoing => {}
            State::Empty | State::Complete { .. } => {
                transaction.state = State::Ongoing;
                transaction.started_ms = now_ms;
            }
        }
        transaction.partitions.extend(partitions);
        transaction.groups.extend(group.map(str::to_owned));
        Ok(())
    }

    /// Whether a partition is part of the producer's present transaction.
    pub(super) fn verify(
        &mut self,
        id: &str,
        identity: Identity,
        topic: &str,
        partition: i32,
    ) -> Result<(), ErrorCode> {
        let transaction = self.owned(id, identity)?;
        match transaction.state {
            State::Preparing { .. } => Err(ErrorCode::ConcurrentTransactions),
            State::Ongoing if transaction.partitions.contains(&(topic.to_owned(), partition)) => Ok(()),
            _ => Err(ErrorCode::InvalidTxnState),
        }
    }

    /// Whether the offsets of a group are part of the producer's present transaction.
    pub(super) fn verify_group(&mut self, id: &str, identity: Identity, group: &str) -> Result<(), ErrorCode> {
        let transaction = self.owned(id, identity)?;
        match transaction.state {
            State::Preparing { .. } => Err(ErrorCode::ConcurrentTransactions),
            State::Ongoing if transaction.groups.contains(group) => Ok(()),
            _ => Err(ErrorCode::InvalidTxnState),
        }
    }

    pub(super) fn end(&mut self, id: &str, identity: Identity, commit: bool, now_ms: i64) -> Result<(), ErrorCode> {
        let marked_from_ms = now_ms.saturating_add(self.marker_delay_ms);
        let transaction = self.owned(id, identity)?;
        match transaction.state {
            State::Ongoing => {
                transaction.state = State::Preparing { commit, marked_from_ms };
                Ok(())
            }
            State::Complete { commit: done } if done == commit => Ok(()),
            State::Preparing { commit: begun, .. } if begun == commit => Err(ErrorCode::ConcurrentTransactions),
            _ => Err(ErrorCode::InvalidTxnState),
        }
    }

    /// Aborts what has been open for too long, with a higher epoch, so that the slow producer notices.
    pub(super) fn abort_overdue(&mut self, now_ms: i64) {
        for transaction in self.by_id.values_mut() {
            if transaction.overdue_from().is_some_and(|overdue| overdue <= now_ms) {
                transaction.abort_and_fence(now_ms);
            }
        }
    }

    /// The transactions whose markers may be written by now.
    pub(super) fn due_for_markers(&mut self, now_ms: i64) -> impl Iterator<Item = (bool, &mut Transaction)> {
        self.by_id
            .values_mut()
            .filter_map(move |transaction| match transaction.state {
                State::Preparing { commit, marked_from_ms } if marked_from_ms <= now_ms => Some((commit, transaction)),
                _ => None,
            })
    }

    /// When a transaction is overdue, or its markers become due.
    pub(super) fn next_deadline(&self) -> Option<i64> {
        let deadlines = self.by_id.values().filter_map(|transaction| match transaction.state {
            State::Preparing { marked_from_ms, .. } => (!transaction.is_stuck).then_some(marked_from_ms),
            _ => transaction.overdue_from(),
        });
        deadlines.min()
    }

    /// The transaction, if `identity` is its present producer.
    fn owned(&mut self, id: &str, (producer_id, epoch): Identity) -> Result<&mut Transaction, ErrorCode> {
        if id.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        match self.by_id.get_mut(id) {
            Some(known) if known.producer_id != producer_id => Err(ErrorCode::InvalidProducerIdMapping),
            Some(known) if known.epoch != epoch => Err(ErrorCode::ProducerFenced),
            Some(known) => Ok(known),
            None => Err(ErrorCode::InvalidProducerIdMapping),
        }
    }
}

impl Transaction {
    fn abort_and_fence(&mut self, marked_from_ms: i64) {
        self.previous_epoch = -1;
        self.epoch = self.epoch.saturating_add(1);
        self.state = State::Preparing {
            commit: false,
            marked_from_ms,
        };
    }

    fn overdue_from(&self) -> Option<i64> {
        (self.state == State::Ongoing).then(|| self.started_ms.saturating_add(self.timeout_ms.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn initialize(transactions: &mut Transactions, expected: Option<Identity>) -> Result<Identity, ErrorCode> {
        transactions.initialize("x", 60_000, expected, 0, || 7)
    }

    fn begin(transactions: &mut Transactions, identity: Identity) -> Result<(), ErrorCode> {
        transactions.add("x", identity, [("t".to_owned(), 0)], None, 0)
    }

    fn mark(transactions: &mut Transactions, now_ms: i64) {
        for (commit, transaction) in transactions.due_for_markers(now_ms) {
            transaction.partitions.clear();
            transaction.state = State::Complete { commit };
        }
    }

    #[test]
    fn an_id_that_begins_anew_has_the_next_epoch_and_fences_the_old_one() {
        let mut transactions = Transactions::default();
        assert_eq!(initialize(&mut transactions, None), Ok((7, 0)));
        assert_eq!(initialize(&mut transactions, None), Ok((7, 1)));

        assert_eq!(begin(&mut transactions, (7, 0)), Err(ErrorCode::ProducerFenced));
        assert_eq!(
            begin(&mut transactions, (8, 1)),
            Err(ErrorCode::InvalidProducerIdMapping)
        );
        assert_eq!(begin(&mut transactions, (7, 1)), Ok(()));
    }

    #[test]
    fn an_ended_transaction_is_concurrent_until_it_is_marked() {
        let mut transactions = Transactions::new(5);
        let producer = initialize(&mut transactions, None).unwrap();
        begin(&mut transactions, producer).unwrap();

        assert_eq!(transactions.end("x", producer, true, 0), Ok(()));
        assert_eq!(transactions.next_deadline(), Some(5));
        assert_eq!(
            transactions.end("x", producer, true, 1),
            Err(ErrorCode::ConcurrentTransactions)
        );
        assert_eq!(
            transactions.end("x", producer, false, 1),
            Err(ErrorCode::InvalidTxnState)
        );
        assert_eq!(
            begin(&mut transactions, producer),
            Err(ErrorCode::ConcurrentTransactions)
        );
        assert_eq!(
            initialize(&mut transactions, None),
            Err(ErrorCode::ConcurrentTransactions)
        );

        mark(&mut transactions, 5);
        assert_eq!(transactions.end("x", producer, true, 6), Ok(()));
        assert_eq!(
            transactions.end("x", producer, false, 6),
            Err(ErrorCode::InvalidTxnState)
        );
    }

    #[test]
    fn ending_nothing_is_an_invalid_state() {
        let mut transactions = Transactions::default();
        let producer = initialize(&mut transactions, None).unwrap();

        assert_eq!(
            transactions.end("x", producer, true, 0),
            Err(ErrorCode::InvalidTxnState)
        );
    }

    #[test]
    fn beginning_anew_aborts_what_is_open() {
        let mut transactions = Transactions::default();
        let producer = initialize(&mut transactions, None).unwrap();
        begin(&mut transactions, producer).unwrap();

        assert_eq!(
            initialize(&mut transactions, None),
            Err(ErrorCode::ConcurrentTransactions)
        );
        let aborted: Vec<_> = transactions
            .due_for_markers(0)
            .map(|(commit, t)| (commit, t.epoch))
            .collect();
        assert_eq!(aborted, [(false, 1)]);
        mark(&mut transactions, 0);
        assert_eq!(initialize(&mut transactions, None), Ok((7, 2)));
    }

    #[test]
    fn a_producer_that_goes_on_gets_the_next_epoch_once() {
        let mut transactions = Transactions::default();
        let first = initialize(&mut transactions, None).unwrap();

        let second = initialize(&mut transactions, Some(first));
        assert_eq!(second, Ok((7, 1)));
        assert_eq!(
            initialize(&mut transactions, Some(first)),
            second,
            "the answer was lost"
        );
        initialize(&mut transactions, None).unwrap();
        assert_eq!(
            initialize(&mut transactions, Some(first)),
            Err(ErrorCode::ProducerFenced)
        );
    }

    #[test]
    fn an_open_transaction_is_aborted_when_its_time_is_up() {
        let mut transactions = Transactions::default();
        let producer = initialize(&mut transactions, None).unwrap();
        begin(&mut transactions, producer).unwrap();
        assert_eq!(transactions.next_deadline(), Some(60_000));

        transactions.abort_overdue(59_999);
        assert_eq!(transactions.due_for_markers(i64::MAX).count(), 0);
        transactions.abort_overdue(60_000);
        assert_eq!(transactions.due_for_markers(60_000).count(), 1);
        assert_eq!(
            transactions.end("x", producer, true, 60_000),
            Err(ErrorCode::ProducerFenced)
        );
    }

    #[test]
    fn an_id_without_epochs_left_gets_a_new_producer_id() {
        let mut transactions = Transactions::default();
        let mut ids = 0..;
        let mut next =
            |transactions: &mut Transactions| transactions.initialize("x", 1, None, 0, || ids.next().unwrap());
        next(&mut transactions).unwrap();
        transactions.by_id.get_mut("x").unwrap().epoch = LAST_EPOCH;

        assert_eq!(next(&mut transactions), Ok((1, 0)));
    }
}
