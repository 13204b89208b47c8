//! Numbers for whoever watches a flow: written by its runner, read by progress bars and log lines.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since the start, each exact by itself; together they may be a moment apart.
#[derive(Debug, Default)]
pub struct Progress {
    records: AtomicU64,
    bytes: AtomicU64,
    offsets: AtomicU64,
    /// Set once, before the flow runs.
    offsets_total: AtomicU64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProgressNumbers {
    pub records: u64,
    pub bytes: u64,
    /// Source offsets left behind since the start, of copied and of skipped records alike.
    pub offsets: u64,
}

impl Progress {
    pub fn publish(&self, numbers: ProgressNumbers) {
        self.records.store(numbers.records, Ordering::Relaxed);
        self.bytes.store(numbers.bytes, Ordering::Relaxed);
        self.offsets.store(numbers.offsets, Ordering::Relaxed);
    }

    /// Sets how many source offsets lie before the flow's end.
    pub fn set_total(&self, offsets: u64) {
        self.offsets_total.store(offsets, Ordering::Relaxed);
    }

    /// Source offsets between the start and the end; 0 where there is no end.
    pub fn total(&self) -> u64 {
        self.offsets_total.load(Ordering::Relaxed)
    }

    pub fn read(&self) -> ProgressNumbers {
        ProgressNumbers {
            records: self.records.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            offsets: self.offsets.load(Ordering::Relaxed),
        }
    }
}
