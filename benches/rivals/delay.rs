//! A long way: passes TCP connections on, each byte some milliseconds late.
//!
//! `delay LISTEN TO MILLISECONDS [WINDOW]`: half of the milliseconds in each direction. WINDOW is how many bytes of a connection may
//! be under way in one direction, as socket buffers bound it; 4 MiB where it is not given.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep_until};

const DEFAULT_WINDOW: usize = 4 << 20;

/// What is read at a time.
const CHUNK: usize = 64 << 10;

/// Bytes on their way, which arrive at a time and leave room for others then.
struct UnderWay {
    arrives: Instant,
    bytes: Bytes,
    room: OwnedSemaphorePermit,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [listen, to, milliseconds, window @ ..] = &args[..] else {
        eprintln!("usage: delay LISTEN TO MILLISECONDS [WINDOW]");
        return ExitCode::from(2);
    };
    let milliseconds: u64 = milliseconds.parse().expect("milliseconds");
    let window = window
        .first()
        .map_or(DEFAULT_WINDOW, |window| window.parse().expect("bytes"));
    let one_way = Duration::from_micros(milliseconds * 500);
    let listener = TcpListener::bind(listen).await.expect("an address to listen on");
    loop {
        let (near, _) = listener.accept().await.expect("a connection");
        let to = to.clone();
        tokio::spawn(async move {
            let Ok(far) = TcpStream::connect(to).await else { return };
            for socket in [&near, &far] {
                let _ = socket.set_nodelay(true); // A connection that has ended is noticed when it is read.
            }
            let (near_reader, near_writer) = near.into_split();
            let (far_reader, far_writer) = far.into_split();
            tokio::spawn(carry(near_reader, far_writer, one_way, window));
            carry(far_reader, near_writer, one_way, window).await;
        });
    }
}

/// Ends with either side.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, one_way: Duration, window: usize) {
    let room = Arc::new(Semaphore::new(window));
    let (sender, mut under_way) = mpsc::unbounded_channel::<UnderWay>(); // The window bounds it.
    let arrive = async move {
        while let Some(UnderWay { arrives, bytes, room }) = under_way.recv().await {
            sleep_until(arrives).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
            // The sender hears of it as much later.
            tokio::spawn(async move {
                sleep_until(arrives + one_way).await;
                drop(room);
            });
        }
        let _ = to.shutdown().await; // It may be closed already.
    };
    let leave = async move {
        loop {
            let mut bytes = BytesMut::with_capacity(CHUNK.min(window));
            let Ok(1..) = from.read_buf(&mut bytes).await else {
                return;
            };
            let taken = Arc::clone(&room).acquire_many_owned(bytes.len() as u32).await;
            let passed_on = sender.send(UnderWay {
                arrives: now() + one_way,
                bytes: bytes.freeze(),
                room: taken.expect("it is never closed"),
            });
            if passed_on.is_err() {
                return;
            }
        }
    };
    tokio::join!(arrive, leave);
}

#[expect(clippy::disallowed_methods, reason = "time is what this is about")]
fn now() -> Instant {
    Instant::now()
}
