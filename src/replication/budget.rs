//! Bytes held between fetch and ack, bounded by one number for the whole process (`--memory`).
//!
//! Before a fetch goes out, the bytes that it may bring are reserved; the reservation shrinks to what came, is shared by
//! the batches cut from that answer, and ends with the last of them. When nothing is left, no fetch goes out: that is
//! all the back-pressure there is, and all that is needed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A number of bytes, shared by whoever holds fetched data.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Account>);

#[derive(Debug)]
struct Account {
    used: AtomicUsize,
    limit: usize,
    /// What is taken here is taken there as well.
    whole: Option<Budget>,
}

impl Budget {
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Account {
            used: AtomicUsize::new(0),
            limit,
            whole: None,
        }))
    }

    /// A budget of its own limit whose bytes also count here, so that one user can't take all.
    pub fn part(&self, limit: usize) -> Self {
        Self(Arc::new(Account {
            used: AtomicUsize::new(0),
            limit,
            whole: Some(self.clone()),
        }))
    }

    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// Takes `bytes` if they are free.
    pub fn try_reserve(&self, bytes: usize) -> Option<Reservation> {
        let within = |used: usize| used.checked_add(bytes).filter(|after| *after <= self.0.limit);
        self.0
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, within)
            .ok()?;
        let mut reservation = Reservation {
            budget: self.clone(),
            bytes: AtomicUsize::new(bytes),
            of_whole: None,
        };
        if let Some(whole) = &self.0.whole {
            reservation.of_whole = Some(Box::new(whole.try_reserve(bytes)?));
        }
        Some(reservation)
    }
}

/// Bytes taken from a [`Budget`], given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Budget,
    bytes: AtomicUsize,
    of_whole: Option<Box<Self>>,
}

impl Reservation {
    /// Nothing, of nobody's budget.
    pub fn none() -> Self {
        Self {
            budget: Budget::new(0),
            bytes: AtomicUsize::new(0),
            of_whole: None,
        }
    }

    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Makes the reservation what is really held. It may grow past the limit: a broker answers with one whole batch
    /// however small the request's limit was (KIP-74), and what has arrived has to be counted.
    pub fn resize(&self, bytes: usize) {
        let used = &self.budget.0.used;
        let before = self.bytes.swap(bytes, Ordering::Relaxed);
        if bytes >= before {
            used.fetch_add(bytes - before, Ordering::Relaxed);
        } else {
            used.fetch_sub(before - bytes, Ordering::Relaxed);
        }
        if let Some(of_whole) = &self.of_whole {
            of_whole.resize(bytes);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.0.used.fetch_sub(self.bytes(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spent_budget_refuses_until_something_is_given_back() {
        let budget = Budget::new(100);
        let first = budget.try_reserve(60).expect("free");
        assert!(budget.try_reserve(41).is_none());
        drop(first);
        assert_eq!(budget.used(), 0);
        assert!(budget.try_reserve(100).is_some());
    }

    #[test]
    fn what_really_came_counts() {
        let budget = Budget::new(100);
        let reservation = budget.try_reserve(60).expect("free");
        reservation.resize(10);
        assert_eq!(budget.used(), 10);
        reservation.resize(300); // One batch larger than the limit.
        assert_eq!(budget.used(), 300);
        assert!(budget.try_reserve(1).is_none());
        drop(reservation);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_part_counts_in_the_whole_and_has_its_own_limit() {
        let whole = Budget::new(100);
        let (one, other) = (whole.part(80), whole.part(80));
        let held = one.try_reserve(70).expect("free");
        assert_eq!(whole.used(), 70);
        assert!(one.try_reserve(20).is_none(), "the part's limit");
        assert!(other.try_reserve(40).is_none(), "the whole's limit");
        assert_eq!(other.used(), 0, "what the whole refused was given back");
        drop(held);
        assert_eq!((whole.used(), one.used()), (0, 0));
    }
}
