//! The world as one incarnation of the replicator sees it: sockets on the simulated network, its own clock.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use kferry::cluster::World;
use kferry::cluster::error::ConnectFailure;
use kferry::cluster::metadata::BrokerAddress;
use kferry::cluster::world::{Dialling, Socket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::network::{End, LinkId, Network};
use crate::seed::Random;

/// The time of day at the beginning.
pub(crate) const EPOCH_MS: i64 = 1_700_000_000_000;

pub(crate) type SharedNetwork = Arc<Mutex<Network>>;

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An incarnation's clock: that of its runtime, which stands still while the process does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    origin: Instant,
    began: i64,
}

impl Clock {
    /// Inside of a runtime: begins there, at so many milliseconds of the simulation.
    #[expect(clippy::disallowed_methods, reason = "the clock of a paused runtime")]
    pub(crate) fn start(began: i64) -> Self {
        Self {
            origin: Instant::now(),
            began,
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the clock of a paused runtime")]
    pub(crate) fn now(&self) -> i64 {
        let elapsed = Instant::now().duration_since(self.origin).as_millis();
        self.began + i64::try_from(elapsed).expect("a short time")
    }

    pub(crate) fn at(&self, time: i64) -> Instant {
        self.origin + Duration::from_millis(u64::try_from(time - self.began).unwrap_or(0))
    }
}

/// Shared by everything that belongs to one incarnation.
#[derive(Debug)]
pub(crate) struct Inhabitant {
    pub(crate) incarnation: usize,
    pub(crate) network: SharedNetwork,
    pub(crate) clock: Clock,
    /// Something was written.
    pub(crate) wrote: Notify,
    pub(crate) random: Mutex<Random>,
}

/// One cluster's world.
#[derive(Debug)]
pub(crate) struct SimulatedWorld {
    pub(crate) inhabitant: Arc<Inhabitant>,
    pub(crate) end: End,
}

impl World for SimulatedWorld {
    fn dial<'a>(&'a self, address: &'a BrokerAddress, within: Duration) -> Dialling<'a> {
        let (inhabitant, end) = (&self.inhabitant, self.end);
        let broker = i32::from(address.port) - i32::from(FIRST_PORT) + 1;
        Box::pin(async move {
            let (delay, is_up) = locked(&inhabitant.network).dial(inhabitant.incarnation, end, broker);
            let delay = Duration::from_millis(u64::try_from(delay).unwrap_or(0));
            tokio::time::sleep(delay.min(within)).await;
            let refused = match (delay > within, is_up) {
                (true, _) => io::ErrorKind::TimedOut,
                (false, false) => io::ErrorKind::ConnectionRefused,
                (false, true) => {
                    let link = locked(&inhabitant.network).open(inhabitant.incarnation, end, broker);
                    return Ok(socket(Arc::clone(inhabitant), link));
                }
            };
            Err(ConnectFailure::Resolve(Arc::new(refused.into())))
        })
    }

    fn time_ms(&self) -> i64 {
        EPOCH_MS + self.inhabitant.clock.now()
    }

    fn random(&self) -> u64 {
        locked(&self.inhabitant.random).number()
    }
}

/// Brokers of a cluster are numbered from 1, and so are their ports from here on.
pub(crate) const FIRST_PORT: u16 = 9092;

fn socket(inhabitant: Arc<Inhabitant>, link: LinkId) -> Socket {
    let client = Arc::new(Client { inhabitant, link });
    Socket {
        reader: Box::new(Reader(Arc::clone(&client))),
        writer: Box::new(Writer(client)),
    }
}

/// The client's end of a link.
struct Client {
    inhabitant: Arc<Inhabitant>,
    link: LinkId,
}

impl Drop for Client {
    fn drop(&mut self) {
        locked(&self.inhabitant.network).hang_up(self.link);
        self.inhabitant.wrote.notify_one();
    }
}

struct Reader(Arc<Client>);
struct Writer(Arc<Client>);

impl AsyncRead for Reader {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let client = &self.0;
        let read = locked(&client.inhabitant.network).read(client.link, buffer.remaining(), cx.waker());
        match read {
            Some(bytes) => {
                buffer.put_slice(&bytes);
                Poll::Ready(Ok(()))
            }
            None => Poll::Pending,
        }
    }
}

impl AsyncWrite for Writer {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Client { inhabitant, link } = &*self.0;
        let now = inhabitant.clock.now();
        let mut network = locked(&inhabitant.network);
        for slice in slices {
            if !network.write(*link, slice, now) {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
        }
        inhabitant.wrote.notify_one();
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
