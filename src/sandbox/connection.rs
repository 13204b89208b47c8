//! One client's connection: frames in, answers out, one request at a time as a broker does it.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::UnboundedReceiver;

use super::core::ConnectionId;
use super::core::wire::Request;
use super::server::{Answer, Shared};
use crate::protocol::frame::{LENGTH_PREFIX, frame_len};

/// How much is asked of the socket at a time, unless a frame is known to be larger.
const READ_SIZE: usize = 64 * 1024;

/// The most that is set aside for a frame beyond what has come of it.
const MAX_READ_AHEAD: usize = 16 * 1024 * 1024;

/// Pieces handed to the socket at once.
const MAX_SLICES: usize = 64;

pub(super) async fn serve(shared: Arc<Shared>, broker: i32, socket: TcpStream) {
    // Without it the socket would work as well, only slower.
    let _ = socket.set_nodelay(true);
    let (id, answers) = shared.connect(broker);
    let connected = Connected { shared, id };
    let (reader, writer) = socket.into_split();
    // However it ends, the client sees a closed connection, which is what brokers do about all errors here.
    let _ = connected.serve(reader, writer, answers).await;
}

/// Tells the core when the connection is gone, also where the task is cancelled.
struct Connected {
    shared: Arc<Shared>,
    id: ConnectionId,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.shared.disconnect(self.id);
    }
}

impl Connected {
    async fn serve(
        &self,
        mut reader: OwnedReadHalf,
        mut writer: OwnedWriteHalf,
        mut answers: UnboundedReceiver<Answer>,
    ) -> io::Result<()> {
        let mut buffer = BytesMut::new();
        let mut in_service = false;
        loop {
            // The next request is read while one is served, but not handed in: this is the connection's back-pressure.
            let has_frame = has_frame(&buffer)?;
            if has_frame && !in_service {
                in_service = true;
                self.shared.handle(self.id, Request::parse(take_frame(&mut buffer)));
                continue;
            }
            tokio::select! {
                biased;
                answer = answers.recv() => match answer {
                    Some(Answer::Send(segments)) => {
                        write_all(&mut writer, segments.0).await?;
                        in_service = false;
                    }
                    Some(Answer::Close) | None => return Ok(()),
                },
                read = read_some(&mut reader, &mut buffer), if !has_frame => {
                    if read? == 0 {
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// Whether the front of the buffer is a whole frame.
fn has_frame(buffer: &[u8]) -> io::Result<bool> {
    Ok(missing(buffer)? == Some(0))
}

/// How much of the frame at the front is still to come; `None` while its length is not known.
fn missing(buffer: &[u8]) -> io::Result<Option<usize>> {
    let Some(prefix) = buffer.first_chunk::<LENGTH_PREFIX>() else {
        return Ok(None);
    };
    let length = frame_len(*prefix).map_err(io::Error::other)?;
    Ok(Some((LENGTH_PREFIX + length).saturating_sub(buffer.len())))
}

/// The frame at the front, without its length.
fn take_frame(buffer: &mut BytesMut) -> Bytes {
    let length = buffer.get_u32() as usize;
    buffer.split_to(length).freeze()
}

async fn read_some(reader: &mut OwnedReadHalf, buffer: &mut BytesMut) -> io::Result<usize> {
    let wanted = missing(buffer)?.map_or(READ_SIZE, |missing| missing.clamp(READ_SIZE, MAX_READ_AHEAD));
    buffer.reserve(wanted);
    reader.read_buf(buffer).await
}

/// Writes the pieces one after the other, as many at once as there are.
async fn write_all(writer: &mut OwnedWriteHalf, pieces: Vec<Bytes>) -> io::Result<()> {
    let mut pieces = VecDeque::from(pieces);
    while !pieces.is_empty() {
        let slices: Vec<IoSlice<'_>> = pieces
            .iter()
            .take(MAX_SLICES)
            .map(|piece| IoSlice::new(piece))
            .collect();
        let mut written = writer.write_vectored(&slices).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while let Some(piece) = pieces.front_mut().filter(|piece| piece.len() <= written) {
            written -= piece.len();
            pieces.pop_front();
        }
        if let Some(piece) = pieces.front_mut() {
            piece.advance(written);
        }
    }
    Ok(())
}
