//! A bound on bytes a second (`--max-rate`), counted in batch bytes as fetched.
//!
//! A debt, not a bucket of credit: a fetch may go out while nothing is owed, what it brings is owed, and time pays it
//! off. No credit is saved up while idle beyond [`BURST`], so the rate over any ten seconds stays within 5 %.

use std::time::{Duration, Instant};

/// How much may come at once after a pause, as time at the full rate.
const BURST: Duration = Duration::from_millis(100);

/// The largest part of a second's bytes that one fetch may bring. Small, so that a debt is short.
const FETCHES_PER_SECOND: u64 = 10;

#[derive(Debug, Clone)]
pub struct RateLimit {
    bytes_per_second: u64,
    /// When all that was taken so far is paid off. In the past while there is credit.
    paid_at: Option<Instant>,
}

impl RateLimit {
    /// # Panics
    /// On a rate of 0, which the command line refuses.
    pub fn new(bytes_per_second: u64) -> Self {
        assert!(bytes_per_second > 0, "a rate of nothing");
        Self {
            bytes_per_second,
            paid_at: None,
        }
    }

    /// When the next fetch may go out; `None` for at once.
    pub fn wait_until(&self, now: Instant) -> Option<Instant> {
        self.paid_at.filter(|paid_at| *paid_at > now)
    }

    /// Bytes that one fetch should ask for at most, of so many that may be under way at a time: what they bring is owed only
    /// when it is there.
    pub fn fetch_bytes(&self, fetches: usize) -> usize {
        usize::try_from(self.bytes_per_second / FETCHES_PER_SECOND / fetches.max(1) as u64)
            .unwrap_or(usize::MAX)
            .max(1)
    }

    /// Counts what a fetch brought.
    pub fn take(&mut self, now: Instant, bytes: usize) {
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let from = self.paid_at.map_or(now, |paid_at| paid_at.max(earliest));
        self.paid_at = Some(from + cost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant has no other beginning; nothing depends on it"
    )]
    fn over_ten_seconds_the_rate_is_kept_within_five_per_cent() {
        let start = Instant::now();
        let mut limit = RateLimit::new(1_000_000);
        let (mut now, mut total) = (start, 0);
        while now < start + Duration::from_secs(10) {
            match limit.wait_until(now) {
                Some(until) => now = until,
                None => {
                    limit.take(now, 73_000);
                    total += 73_000;
                    now += Duration::from_millis(1);
                }
            }
        }
        assert!((9_500_000..10_500_000).contains(&total), "{total}");
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant has no other beginning; nothing depends on it"
    )]
    fn idleness_saves_up_next_to_nothing() {
        let start = Instant::now();
        let mut limit = RateLimit::new(1_000);
        limit.take(start, 1);
        let later = start + Duration::from_secs(3600);
        limit.take(later, 2_000);
        assert!(limit.wait_until(later).expect("in debt") > later + Duration::from_millis(1_800));
    }
}
