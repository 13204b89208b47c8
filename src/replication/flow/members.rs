//! The partitions of a flow, by index.

use std::ops::{Index, IndexMut};
#[cfg(test)]
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Member;

/// Tests count how often one is looked at: what a flow does for a partition must not depend on how many others there are.
#[derive(Debug)]
pub(super) struct Members {
    all: Vec<Member>,
    #[cfg(test)]
    looks: AtomicUsize,
}

impl Members {
    pub(super) fn new(all: Vec<Member>) -> Self {
        Self {
            all,
            #[cfg(test)]
            looks: AtomicUsize::new(0),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.all.iter().inspect(|_| self.note_look())
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        (0..self.len()).for_each(|_| self.note_look());
        self.all.iter_mut()
    }

    #[cfg(test)]
    fn note_look(&self) {
        self.looks.fetch_add(1, Ordering::Relaxed);
    }

    #[cfg(not(test))]
    fn note_look(&self) {}

    /// How often a partition was looked at since this was asked last.
    #[cfg(test)]
    pub(super) fn take_looks(&self) -> usize {
        self.looks.swap(0, Ordering::Relaxed)
    }
}

impl Index<usize> for Members {
    type Output = Member;

    fn index(&self, index: usize) -> &Member {
        self.note_look();
        &self.all[index]
    }
}

impl IndexMut<usize> for Members {
    fn index_mut(&mut self, index: usize) -> &mut Member {
        self.note_look();
        &mut self.all[index]
    }
}
