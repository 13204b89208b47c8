//! Opens sockets.
//!
//! The name is resolved anew each time, and every address that it has is tried: brokers move, and clusters hide behind
//! names that answer with many addresses.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{timeout, timeout_at};

use super::error::ConnectFailure;
use super::metadata::BrokerAddress;
use super::now;

/// Connects to the first address that lets us, within a time for all of it.
pub(super) async fn connect(broker: &BrokerAddress, within: Duration) -> Result<TcpStream, ConnectFailure> {
    let deadline = now() + within;
    let resolved = timeout(within, lookup_host((broker.host.as_str(), broker.port))).await;
    let addresses: Vec<_> = match resolved {
        Ok(Ok(addresses)) => addresses.take(MOST_ADDRESSES).collect(),
        Ok(Err(cause)) => return Err(ConnectFailure::Resolve(Arc::new(cause))),
        Err(_) => return Err(ConnectFailure::ResolveTimedOut(within)),
    };
    let mut failures = Vec::new();
    for (index, &address) in addresses.iter().enumerate() {
        // One that drops packets leaves its share of the time to the others.
        let left = deadline.saturating_duration_since(now());
        let share = left / u32::try_from(addresses.len() - index).unwrap_or(1);
        match timeout_at(now() + share, open(address)).await {
            Ok(Ok(socket)) => return Ok(socket),
            Ok(Err(cause)) => failures.push((address, Arc::new(cause))),
            Err(_) => failures.push((address, Arc::new(silent(share)))),
        }
    }
    Err(if failures.is_empty() {
        ConnectFailure::NoAddress
    } else {
        ConnectFailure::Addresses(failures)
    })
}

async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(address).await?;
    if socket.local_addr()? == socket.peer_addr()? {
        // Dialling a port that nobody listens on can meet itself, if the system picks that port for our end.
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    socket.set_nodelay(true)?;
    // For connections that are idle; a request's own time-out is shorter.
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_INTERVAL);
    SockRef::from(&socket).set_tcp_keepalive(&keepalive)?;
    Ok(socket)
}

fn silent(share: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {share:?}"))
}

/// No name needs more.
const MOST_ADDRESSES: usize = 32;

/// Firewalls forget connections after some minutes of silence.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn listener() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    fn broker(host: &str, port: u16) -> BrokerAddress {
        BrokerAddress {
            host: host.to_owned(),
            port,
        }
    }

    #[tokio::test]
    async fn all_addresses_of_a_name_are_tried() {
        // Where localhost is ::1 too, nobody listens there.
        let (_listener, port) = listener().await;
        let socket = connect(&broker("localhost", port), Duration::from_secs(5))
            .await
            .unwrap();
        assert!(socket.nodelay().unwrap());
        assert!(SockRef::from(&socket).keepalive().unwrap());
    }

    #[tokio::test]
    async fn a_failure_names_each_address() {
        let (listener, port) = listener().await;
        drop(listener);
        let failure = connect(&broker("127.0.0.1", port), Duration::from_secs(5))
            .await
            .unwrap_err();
        let text = failure.to_string();
        assert!(text.starts_with(&format!("127.0.0.1:{port}: ")), "{text}");
        assert!(text.contains("refused"), "{text}");
    }

    #[tokio::test]
    async fn a_name_that_does_not_exist_is_an_error() {
        let failure = connect(&broker("not a name", 9092), Duration::from_secs(20))
            .await
            .unwrap_err();
        assert!(matches!(failure, ConnectFailure::Resolve(_)), "{failure}");
    }
}
