//! Which batches' producers a leader may forget.
//!
//! Brokers forget a producer when its last batch is older than `producer.id.expiration.ms`, a day by default, by the
//! *records'* time; they look every ten minutes and when they start. Who copies old records therefore writes to leaders
//! that may at any moment take any sequence number, from anybody.

use std::time::{Duration, Instant};

/// Well below a day, for brokers that are set to forget earlier.
const FORGETTABLE_AFTER: Duration = Duration::from_secs(3600);

/// The time of day, as good as it need be to tell old records from new ones.
#[derive(Debug, Clone, Copy)]
pub struct WallClock {
    at: Instant,
    unix_ms: i64,
}

impl WallClock {
    /// It is `unix_ms` milliseconds after 1970 at `at`.
    pub fn new(at: Instant, unix_ms: i64) -> Self {
        Self { at, unix_ms }
    }

    /// Whether a leader may forget a producer whose last batch has this time, in milliseconds after 1970.
    pub fn is_forgettable(&self, now: Instant, timestamp_ms: i64) -> bool {
        let since = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let unix_ms = self
            .unix_ms
            .saturating_add(since(now.saturating_duration_since(self.at)));
        timestamp_ms < unix_ms.saturating_sub(since(FORGETTABLE_AFTER))
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
    fn records_of_an_hour_ago_are_old() {
        const HOUR_MS: i64 = 3_600_000;
        let start = Instant::now();
        let clock = WallClock::new(start, 10 * HOUR_MS);
        assert!(!clock.is_forgettable(start, 9 * HOUR_MS));
        assert!(clock.is_forgettable(start, 9 * HOUR_MS - 1));
        assert!(clock.is_forgettable(start + Duration::from_secs(1), 9 * HOUR_MS));
        assert!(clock.is_forgettable(start, -1) && clock.is_forgettable(start, i64::MIN));
    }
}
