//! Reads response frames, each into one buffer.
//!
//! The length is checked, and the correlation id compared, before anything is allocated for the rest. A buffer grows
//! only as bytes arrive, so that a claimed length costs nothing; once the pool has buffers as large as the frames that
//! come, each frame is read straight into one, and no byte of it is moved again.

use std::sync::Arc;

use bytes::{BufMut, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::buffer_pool::BufferPool;
use super::error::{ConnectionFailure, Malformed};
use crate::protocol::frame;

#[derive(Debug)]
pub(super) struct FrameReader<R> {
    socket: R,
    buffers: BufferPool,
    start: [u8; START_LEN],
    /// How much of `start` has been read. Kept here so that waiting for it can be given up and taken up again.
    have: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(socket: R, buffers: BufferPool) -> Self {
        Self {
            socket,
            buffers,
            start: [0; START_LEN],
            have: 0,
        }
    }

    /// Waits for the next frame to begin. Nothing is lost when the wait is given up.
    pub(super) async fn begun(&mut self) -> Result<(), ConnectionFailure> {
        while self.have < START_LEN {
            match self
                .socket
                .read(&mut self.start[self.have..])
                .await
                .map_err(io_failure)?
            {
                0 if self.have == 0 => return Err(ConnectionFailure::ClosedByPeer),
                0 => return Err(closed_after(self.have, START_LEN)),
                read => self.have += read,
            }
        }
        Ok(())
    }

    /// Reads the next frame, which has to carry this correlation id. What is returned begins with that.
    pub(super) async fn frame(&mut self, correlation_id: i32) -> Result<Bytes, ConnectionFailure> {
        self.begun().await?;
        self.have = 0;
        let [a, b, c, d, e, f, g, h] = self.start;
        let len = frame::frame_len([a, b, c, d]).map_err(malformed)?;
        let found = i32::from_be_bytes([e, f, g, h]);
        if found != correlation_id {
            return Err(malformed(Malformed::CorrelationId {
                expected: correlation_id,
                found,
            }));
        }
        if len < POOLED_FROM {
            Ok(self.fill(Vec::with_capacity(len), len, len).await?.into())
        } else {
            let room = len.next_multiple_of(POOLED_FROM);
            let buffer = self.buffers.take(len);
            let buffer = buffer.unwrap_or_else(|| Vec::with_capacity(room.min(FIRST_STEP)));
            let filled = self.fill(buffer, len, room).await?;
            Ok(self.buffers.lend(filled))
        }
    }

    /// Reads until the buffer holds `len` bytes. When it is too small it doubles, up to `room`.
    async fn fill(&mut self, mut buffer: Vec<u8>, len: usize, room: usize) -> Result<Vec<u8>, ConnectionFailure> {
        buffer.extend_from_slice(&self.start[frame::LENGTH_PREFIX..]);
        while buffer.len() < len {
            let have = buffer.len();
            if have == buffer.capacity() {
                buffer.reserve_exact(have.min(room - have));
            }
            let free = buffer.capacity().min(len) - have;
            let read = self
                .socket
                .read_buf(&mut (&mut buffer).limit(free))
                .await
                .map_err(io_failure)?;
            if read == 0 {
                return Err(closed_after(have, len));
            }
        }
        Ok(buffer)
    }
}

pub(super) fn io_failure(cause: std::io::Error) -> ConnectionFailure {
    ConnectionFailure::Io(Arc::new(cause))
}

fn malformed(cause: impl Into<Malformed>) -> ConnectionFailure {
    ConnectionFailure::Malformed(cause.into())
}

fn closed_after(have: usize, need: usize) -> ConnectionFailure {
    ConnectionFailure::ClosedMidFrame { have, need }
}

/// The frame's length, and the correlation id that every response header begins with.
const START_LEN: usize = frame::LENGTH_PREFIX + 4;

/// Smaller frames get a buffer of their own: the allocator is good at those.
const POOLED_FROM: usize = 64 << 10;

/// How much is allocated for a large frame before any of it has arrived.
const FIRST_STEP: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::primitives::WireError;

    fn frame(correlation_id: i32, body_len: usize) -> Vec<u8> {
        let mut frame = ((4 + body_len) as i32).to_be_bytes().to_vec();
        frame.extend(correlation_id.to_be_bytes());
        frame.extend((0..body_len).map(|i| i as u8));
        frame
    }

    fn reader(bytes: &[u8]) -> FrameReader<&[u8]> {
        FrameReader::new(bytes, BufferPool::new(64 << 20))
    }

    #[tokio::test]
    async fn frames_of_every_size_come_out_as_they_went_in() {
        let sizes = [
            0,
            1,
            POOLED_FROM - 5,
            POOLED_FROM,
            FIRST_STEP - 4,
            FIRST_STEP,
            3 * FIRST_STEP + 7,
        ];
        let stream: Vec<u8> = sizes
            .iter()
            .enumerate()
            .flat_map(|(id, &size)| frame(id as i32, size))
            .collect();
        let mut reader = reader(&stream);
        for (id, &size) in sizes.iter().enumerate() {
            let read = reader.frame(id as i32).await.unwrap();
            assert_eq!(read, frame(id as i32, size)[4..], "{size}");
        }
        assert!(matches!(reader.begun().await, Err(ConnectionFailure::ClosedByPeer)));
    }

    #[tokio::test]
    async fn bytes_that_trickle_in_make_the_same_frame() {
        let bytes = frame(7, POOLED_FROM);
        let (mut here, there) = tokio::io::duplex(3);
        let expected = bytes[4..].to_vec();
        let write = tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut here, &bytes).await });
        let mut reader = FrameReader::new(there, BufferPool::default());
        assert_eq!(reader.frame(7).await.unwrap(), expected);
        write.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_pooled_buffer_is_read_into_again() {
        let stream = [frame(1, 3 * FIRST_STEP), frame(2, 3 * FIRST_STEP - 100)].concat();
        let mut reader = reader(&stream);
        let first = reader.frame(1).await.unwrap();
        let address = first.as_ptr();
        drop(first);
        assert_eq!(reader.frame(2).await.unwrap().as_ptr(), address);
    }

    #[tokio::test]
    async fn a_claimed_length_allocates_little_before_bytes_arrive() {
        let mut claim = (frame::MAX_FRAME as i32).to_be_bytes().to_vec();
        claim.extend([0, 0, 0, 1, 9, 9]);
        let buffers = BufferPool::new(usize::MAX);
        let mut reader = FrameReader::new(claim.as_slice(), buffers.clone());
        let failure = reader.frame(1).await.unwrap_err();
        let need = frame::MAX_FRAME;
        assert!(
            matches!(failure, ConnectionFailure::ClosedMidFrame { have: 6, need: n } if n == need),
            "{failure}"
        );
        assert!(buffers.idle_bytes() <= FIRST_STEP);
    }

    #[tokio::test]
    async fn absurd_lengths_and_foreign_correlation_ids_are_refused() {
        for length in [-1, 0, 3, i32::MAX] {
            let mut bytes = i32::to_be_bytes(length).to_vec();
            bytes.extend([0; 4]);
            let failure = reader(&bytes).frame(0).await.unwrap_err();
            let ConnectionFailure::Malformed(Malformed::Wire(cause)) = failure else {
                panic!("{failure}")
            };
            assert_eq!(cause, WireError::FrameLength { length });
        }
        let failure = reader(&frame(8, 0)).frame(7).await.unwrap_err();
        let ConnectionFailure::Malformed(cause) = failure else {
            panic!("{failure}")
        };
        assert_eq!(cause, Malformed::CorrelationId { expected: 7, found: 8 });
    }

    #[tokio::test]
    async fn a_frame_cut_anywhere_is_an_error() {
        let whole = frame(1, 20);
        for len in 1..whole.len() {
            let failure = reader(&whole[..len]).frame(1).await.unwrap_err();
            assert!(
                matches!(failure, ConnectionFailure::ClosedMidFrame { .. }),
                "{len}: {failure}"
            );
        }
    }
}
