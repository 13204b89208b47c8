//! Whether the flow is still ours: without an answer from the ledger for too long, by our own clock, nothing is sent.
//!
//! Another instance that takes the flow over writes so into the ledger, and need not wait for us: the sequence numbers
//! keep us from doing harm. But a leader that has forgotten the producer (old records) takes any, so whoever was stopped
//! or cut off for a while has to ask before it goes on.

use std::time::{Duration, Instant};

/// How often the ledger is asked.
const CONFIRM_INTERVAL: Duration = Duration::from_secs(2);

/// After an answer that did not come.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// For how long an answer holds, from when it was asked for.
pub const LEASE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Ownership {
    confirmed_at: Instant,
    asked_at: Instant,
    is_asking: bool,
    next: Instant,
}

impl Ownership {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            confirmed_at: now,
            asked_at: now,
            is_asking: false,
            next: now + CONFIRM_INTERVAL,
        }
    }

    /// Whether anything may be sent.
    pub(super) fn holds(&self, now: Instant) -> bool {
        now < self.confirmed_at + LEASE
    }

    /// Whether the ledger is to be asked now.
    pub(super) fn poll(&mut self, now: Instant) -> bool {
        let is_due = !self.is_asking && now >= self.next;
        if is_due {
            (self.is_asking, self.asked_at) = (true, now);
        }
        is_due
    }

    pub(super) fn timeout(&self) -> Option<Instant> {
        (!self.is_asking).then_some(self.next)
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

    #[test]
    fn an_answer_holds_from_when_it_was_asked_for() {
        let start = start_of_time();
        let mut ownership = Ownership::new(start);
        let asked = start + CONFIRM_INTERVAL;
        assert!(ownership.poll(asked) && !ownership.poll(asked));
        ownership.handle(asked + Duration::from_secs(5), true);
        assert!(ownership.holds(asked + LEASE - Duration::from_millis(1)));
        assert!(!ownership.holds(asked + LEASE));
    }

    #[test]
    fn whoever_was_stopped_asks_before_it_goes_on() {
        let start = start_of_time();
        let mut ownership = Ownership::new(start);
        let woken = start + Duration::from_secs(20);
        assert!(!ownership.holds(woken));
        assert!(ownership.poll(woken));
        ownership.handle(woken, false);
        assert!(!ownership.holds(woken));
        assert_eq!(ownership.timeout(), Some(woken + RETRY_INTERVAL));
    }
}
