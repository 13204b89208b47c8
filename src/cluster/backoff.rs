//! How long to wait before trying again: exponential, capped, jittered.
//!
//! The jitter keeps many clients that lost one broker at the same moment from coming back at the same moment.

use std::time::Duration;

/// The first wait and the longest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffRange {
    pub first: Duration,
    pub longest: Duration,
}

impl Default for BackoffRange {
    /// Kafka's `reconnect.backoff.ms` and `reconnect.backoff.max.ms`.
    fn default() -> Self {
        Self {
            first: Duration::from_millis(50),
            longest: Duration::from_secs(1),
        }
    }
}

/// Counts failures in a row and says how long to wait after each.
#[derive(Debug, Clone)]
pub struct Backoff {
    range: BackoffRange,
    failures: u32,
    random: fastrand::Rng,
}

impl Backoff {
    /// The seed is the jitter's.
    pub fn new(range: BackoffRange, seed: u64) -> Self {
        Self {
            range,
            failures: 0,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Counts one more failure. The wait is between half and all of what the doubling gives.
    pub fn next_wait(&mut self) -> Duration {
        let doubled = self.range.first.saturating_mul(2u32.saturating_pow(self.failures));
        self.failures = self.failures.saturating_add(1);
        doubled.min(self.range.longest).mul_f64(0.5 + 0.5 * self.random.f64())
    }

    /// After a success the next failure is a first one again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: BackoffRange = BackoffRange {
        first: Duration::from_millis(100),
        longest: Duration::from_secs(2),
    };

    #[test]
    fn waits_double_up_to_the_longest_and_stay_there() {
        for seed in 0..100 {
            let mut backoff = Backoff::new(RANGE, seed);
            for expected in [100, 200, 400, 800, 1600, 2000, 2000] {
                let wait = backoff.next_wait().as_millis();
                assert!(
                    (expected / 2..=expected).contains(&wait),
                    "seed {seed}: {wait} for {expected}"
                );
            }
        }
    }

    #[test]
    fn a_thousand_failures_do_not_overflow() {
        let mut backoff = Backoff::new(RANGE, 1);
        let longest = (0..1000).map(|_| backoff.next_wait()).max();
        assert!(longest <= Some(RANGE.longest));
    }

    #[test]
    fn two_clients_do_not_wait_alike() {
        let (mut one, mut other) = (Backoff::new(RANGE, 1), Backoff::new(RANGE, 2));
        assert_ne!(one.next_wait(), other.next_wait());
    }

    #[test]
    fn a_success_starts_again_at_the_first_wait() {
        let mut backoff = Backoff::new(RANGE, 3);
        for _ in 0..10 {
            backoff.next_wait();
        }
        backoff.reset();
        assert!(backoff.next_wait() <= RANGE.first);
    }
}
