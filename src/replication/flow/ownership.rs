//! Whether the flow is still ours: without an answer from the ledger for too long, by our own clock, nothing is sent.
//!
//! Another instance that takes the flow over writes so into the ledger, and need not wait for us: the sequence numbers
//! keep us from doing harm. But a leader that has forgotten the producer (old records) takes any. So a new owner sends no
//! old records until the last one, if it lives, has noticed.

use std::time::{Duration, Instant};

/// How often the ledger is asked.
const CONFIRM_INTERVAL: Duration = Duration::from_secs(1);

/// After an answer that did not come.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);

/// For how long an answer holds, from when it was asked for.
pub const LEASE: Duration = Duration::from_secs(5);

/// Between the look at the clock and the broker's look at the batch.
const ON_THE_WAY: Duration = Duration::from_millis(500);

/// Since when the flow is ours.
#[derive(Debug, Clone, Copy)]
pub struct Tenure {
    /// At this moment, or later, the ledger said so.
    pub confirmed_at: Instant,
    /// From then on no earlier owner sends anything.
    pub undisputed_at: Instant,
}

impl Tenure {
    /// Of an owner whose record was written between two moments, after an owner that has given the flow up or not.
    pub fn new(began: Instant, written: Instant, was_given_up: bool) -> Self {
        Self {
            confirmed_at: began,
            undisputed_at: match was_given_up {
                true => began,
                false => written + LEASE + ON_THE_WAY,
            },
        }
    }
}

#[derive(Debug)]
pub(super) struct Ownership {
    confirmed_at: Instant,
    undisputed_at: Instant,
    asked_at: Instant,
    is_asking: bool,
    next: Instant,
}

impl Ownership {
    pub(super) fn new(tenure: Tenure) -> Self {
        Self {
            confirmed_at: tenure.confirmed_at,
            undisputed_at: tenure.undisputed_at,
            asked_at: tenure.confirmed_at,
            is_asking: false,
            next: tenure.confirmed_at + CONFIRM_INTERVAL,
        }
    }

    /// Until when something may be sent, if it may now.
    pub(super) fn lease(&self, now: Instant) -> Option<Instant> {
        let until = self.confirmed_at + LEASE;
        (now < until).then_some(until)
    }

    /// From then on no earlier owner sends anything.
    pub(super) fn undisputed_at(&self) -> Instant {
        self.undisputed_at
    }

    /// Whether the flow was still ours at a moment.
    pub(super) fn held_at(&self, then: Instant) -> bool {
        then <= self.confirmed_at
    }

    /// Whether the ledger is to be asked now.
    pub(super) fn poll(&mut self, now: Instant) -> bool {
        let is_due = !self.is_asking && now >= self.next;
        if is_due {
            (self.is_asking, self.asked_at) = (true, now);
        }
        is_due
    }

    /// Something depends on it: the ledger is asked as soon as may be.
    pub(super) fn ask(&mut self, now: Instant) {
        self.next = self.next.min(now);
    }

    pub(super) fn timeouts(&self) -> impl Iterator<Item = Instant> {
        let next = (!self.is_asking).then_some(self.next);
        next.into_iter().chain([self.undisputed_at])
    }

    pub(super) fn handle(&mut self, now: Instant, confirmed: bool) {
        self.is_asking = false;
        if confirmed {
            self.confirmed_at = self.asked_at;
            self.next = self.asked_at + CONFIRM_INTERVAL;
        } else {
            self.next = now + RETRY_INTERVAL;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant has no other beginning; nothing depends on it"
    )]
    fn start_of_time() -> Instant {
        Instant::now()
    }

    fn owned(start: Instant, was_given_up: bool) -> Ownership {
        Ownership::new(Tenure::new(start, start, was_given_up))
    }

    #[test]
    fn an_answer_holds_from_when_it_was_asked_for() {
        let start = start_of_time();
        let mut ownership = owned(start, true);
        let asked = start + CONFIRM_INTERVAL;
        assert!(ownership.poll(asked) && !ownership.poll(asked));
        let answered = asked + Duration::from_secs(3);
        ownership.handle(answered, true);
        assert!(ownership.held_at(asked) && !ownership.held_at(answered));
        assert!(ownership.lease(asked + LEASE - Duration::from_millis(1)).is_some());
        assert_eq!(ownership.lease(asked + LEASE), None);
    }

    #[test]
    fn whoever_was_stopped_asks_before_it_goes_on() {
        let start = start_of_time();
        let mut ownership = owned(start, true);
        let woken = start + Duration::from_secs(20);
        assert_eq!(ownership.lease(woken), None);
        assert!(ownership.poll(woken));
        ownership.handle(woken, false);
        assert_eq!(ownership.lease(woken), None);
        assert!(ownership.timeouts().any(|at| at == woken + RETRY_INTERVAL));
    }

    #[test]
    fn what_depends_on_it_does_not_wait_for_the_next_time() {
        let start = start_of_time();
        let mut ownership = owned(start, true);
        assert!(!ownership.poll(start));
        ownership.ask(start);
        assert!(ownership.poll(start));
    }

    /// However the two overlap: one's first old batch is sent when the other's last batch has arrived.
    #[test]
    fn old_records_have_one_sender_at_a_time() {
        let asked = start_of_time();
        let predecessor = owned(asked, true);
        for late_ms in [0, 1, 700] {
            // The successor's record was not there when the predecessor asked.
            let written = asked + Duration::from_millis(late_ms);
            let first = Ownership::new(Tenure::new(written, written, false)).undisputed_at();
            assert_eq!(predecessor.lease(first - ON_THE_WAY), None);
        }
    }

    #[test]
    fn whoever_comes_after_one_that_has_given_up_need_not_wait() {
        let start = start_of_time();
        assert_eq!(owned(start, true).undisputed_at(), start);
        assert!(owned(start, false).undisputed_at() > start);
    }
}
