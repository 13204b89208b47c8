//! Buffers for large frames, used again.
//!
//! A frame is read into one buffer, and everything after that holds slices of it; when the last slice is gone, the
//! buffer comes back here. A fresh buffer costs page faults (with musl's allocator 35 times what it costs with glibc's),
//! so that the pool is what makes reading large frames cheap.
//!
//! What is handed out is not counted: whoever fetches bounds that. What lies here idle is, and the oldest go first.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::locked;

/// Idle buffers, shared by everything that clones it.
#[derive(Debug, Clone)]
pub struct BufferPool(Arc<Mutex<Idle>>);

#[derive(Debug)]
struct Idle {
    /// In the order in which they came back.
    buffers: VecDeque<Vec<u8>>,
    bytes: usize,
    limit: usize,
}

impl BufferPool {
    /// A pool that keeps at most `limit` idle bytes.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Mutex::new(Idle {
            buffers: VecDeque::new(),
            bytes: 0,
            limit,
        })))
    }

    /// An empty buffer with room for `len` bytes, if one lies here that is not much too large for them.
    pub(super) fn take(&self, len: usize) -> Option<Vec<u8>> {
        self.idle(|idle| {
            let fits = |buffer: &Vec<u8>| (len..=len.saturating_mul(MAX_EXCESS)).contains(&buffer.capacity());
            // The one that came back last is the likeliest to be in the processor's cache.
            let index = idle.buffers.iter().rposition(fits)?;
            let buffer = idle.buffers.remove(index)?;
            idle.bytes -= buffer.capacity();
            Some(buffer)
        })
    }

    /// The same, or a new one.
    pub fn take_or_make(&self, len: usize) -> Vec<u8> {
        self.take(len).unwrap_or_else(|| Vec::with_capacity(len))
    }

    /// The buffer's contents, which come back here when the last slice is dropped.
    pub fn lend(&self, buffer: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent {
            buffer,
            pool: self.clone(),
        })
    }

    /// How many bytes lie idle.
    pub fn idle_bytes(&self) -> usize {
        self.idle(|idle| idle.bytes)
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        // Freed outside the lock, which other connections wait for.
        let _surplus = self.idle(|idle| {
            idle.bytes += buffer.capacity();
            idle.buffers.push_back(buffer);
            let mut surplus = Vec::new();
            while idle.bytes > idle.limit
                && let Some(oldest) = idle.buffers.pop_front()
            {
                idle.bytes -= oldest.capacity();
                surplus.push(oldest);
            }
            surplus
        });
    }

    fn idle<T>(&self, act: impl FnOnce(&mut Idle) -> T) -> T {
        act(&mut locked(&self.0))
    }
}

impl Default for BufferPool {
    fn default() -> Self {
        Self::new(DEFAULT_LIMIT)
    }
}

/// A buffer while its contents are in use.
struct Lent {
    buffer: Vec<u8>,
    pool: BufferPool,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.buffer));
    }
}

/// A buffer may be this many times larger than what is read into it: otherwise a small frame would pin a large one.
const MAX_EXCESS: usize = 2;

const DEFAULT_LIMIT: usize = 32 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(len: usize) -> Vec<u8> {
        vec![7; len]
    }

    #[test]
    fn a_buffer_comes_back_when_its_last_slice_is_dropped() {
        let pool = BufferPool::new(1000);
        let frame = pool.lend(filled(100));
        let slice = frame.slice(10..20);
        let address = frame.as_ptr();

        drop(frame);
        assert!(pool.take(100).is_none());
        drop(slice);
        let again = pool.take(100).expect("it is back");

        assert!(again.is_empty());
        assert_eq!(again.as_ptr(), address);
    }

    #[test]
    fn idle_bytes_stay_under_the_limit_and_the_oldest_go_first() {
        let pool = BufferPool::new(250);
        for len in [100, 101, 102] {
            drop(pool.lend(filled(len)));
        }
        assert_eq!(pool.idle_bytes(), 203);
        assert_eq!(pool.take(100).map(|buffer| buffer.capacity()), Some(102));
    }

    #[test]
    fn a_buffer_above_the_limit_is_not_kept() {
        let pool = BufferPool::new(250);
        drop(pool.lend(filled(251)));
        assert_eq!(pool.idle_bytes(), 0);
    }

    #[test]
    fn a_small_frame_does_not_pin_a_large_buffer() {
        let pool = BufferPool::new(10_000);
        drop(pool.lend(filled(1000)));
        assert!(pool.take(499).is_none());
        assert!(pool.take(1001).is_none());
        assert!(pool.take(500).is_some());
    }
}
