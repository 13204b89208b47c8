//! Where all chance comes from: one number.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::str::FromStr;

/// The same seed gives the same run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Seed(pub(crate) u64);

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Seed {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.trim().parse().map(Self)
    }
}

/// A stream of chance. Each purpose has its own, so that one more draw for one of them leaves the others as they were.
#[derive(Debug, Clone)]
pub(crate) struct Random(fastrand::Rng);

impl Random {
    pub(crate) fn new(seed: Seed, purpose: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        (seed, purpose).hash(&mut hasher);
        Self(fastrand::Rng::with_seed(hasher.finish()))
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0.u64(..)
    }

    pub(crate) fn within(&mut self, range: Range<i64>) -> i64 {
        self.0.i64(range)
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        self.0.usize(..len)
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.0.f64() < probability
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())]
    }

    /// As likely between 1 and 10 as between 100 and 1000. Both ends are at least 1.
    pub(crate) fn scale(&mut self, range: Range<i64>) -> i64 {
        let (low, high) = ((range.start as f64).ln(), (range.end as f64).ln());
        let drawn = (low + self.0.f64() * (high - low)).exp() as i64;
        drawn.clamp(range.start, range.end - 1)
    }
}
