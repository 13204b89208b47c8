//! What lies outside of the process, as far as a cluster's client needs it: the network, the time of day, randomness.
//!
//! Timers are tokio's, which can be stopped and wound by hand. With those, and another world, a whole replicator runs in
//! one thread, and the same seed gives the same run.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::dial;
use super::error::ConnectFailure;
use super::metadata::BrokerAddress;

/// See the module.
pub trait World: fmt::Debug + Send + Sync {
    /// Connects to a broker within a time for all of it.
    fn dial<'a>(&'a self, broker: &'a BrokerAddress, within: Duration) -> Dialling<'a>;

    /// Milliseconds since 1970. Records are stamped with it, and old ones told from new ones; nothing else is decided by it.
    fn time_ms(&self) -> i64;

    fn random(&self) -> u64;
}

pub type Dialling<'a> = Pin<Box<dyn Future<Output = Result<Socket, ConnectFailure>> + Send + 'a>>;

/// A connected socket, in its two directions.
pub struct Socket {
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    /// Should write many slices at once where it can.
    pub writer: Box<dyn AsyncWrite + Send + Unpin>,
}

/// The world that we live in: TCP, the system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealWorld;

impl World for RealWorld {
    fn dial<'a>(&'a self, broker: &'a BrokerAddress, within: Duration) -> Dialling<'a> {
        Box::pin(async move {
            let (reader, writer) = dial::connect(broker, within).await?.into_split();
            Ok(Socket {
                reader: Box::new(reader),
                writer: Box::new(writer),
            })
        })
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "an I/O folder; records are stamped when they are written"
    )]
    fn time_ms(&self) -> i64 {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since_epoch.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn random(&self) -> u64 {
        fastrand::u64(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_socket_takes_many_slices_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let broker = BrokerAddress {
            host: "127.0.0.1".to_owned(),
            port: listener.local_addr().unwrap().port(),
        };
        let socket = RealWorld.dial(&broker, Duration::from_secs(5)).await.unwrap();
        assert!(socket.writer.is_write_vectored());
    }
}
