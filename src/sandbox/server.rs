//! The sandbox on TCP: listeners and timers around one [`Cluster`].
//!
//! All connections share the cluster behind one lock, which is held for one request at a time and never while waiting.
//! What takes time, reading the produced batches through and all I/O, happens outside of it.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use super::connection;
use super::core::wire::{Request, RequestError};
use super::core::{Action, BrokerAddress, Cluster, ConnectionId, Settings};
use crate::protocol::produce_request::Segments;

/// What a sandbox is started with.
#[derive(Debug, Clone)]
pub struct SandboxOptions {
    /// One broker for each address, numbered from 1. Port 0 takes any that is free.
    pub listen: Vec<SocketAddr>,
    /// What metadata says instead of the address that is listened on, with the same ports.
    pub advertised_host: Option<String>,
    pub settings: Settings,
}

impl Default for SandboxOptions {
    /// One broker on the loopback.
    fn default() -> Self {
        Self::brokers(1)
    }
}

impl SandboxOptions {
    /// So many brokers on the loopback, as a cluster that is like no other.
    pub fn brokers(count: usize) -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 0)); count],
            advertised_host: None,
            settings: Settings::seeded(fastrand::u64(..)),
        }
    }
}

/// A running sandbox. It ends when this is dropped.
#[derive(Debug)]
pub struct Sandbox {
    addresses: Vec<SocketAddr>,
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

/// What the tasks of a sandbox share.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Something has become due sooner than the timer knows.
    sooner: Notify,
}

#[derive(Debug)]
struct State {
    cluster: Cluster,
    /// When the timer will look again; `i64::MAX` stands for never.
    timer_ms: i64,
    connections: HashMap<ConnectionId, mpsc::UnboundedSender<Answer>>,
}

/// What a connection has to do. A connection is served one request at a time, so there is hardly ever more than one.
#[derive(Debug)]
pub(super) enum Answer {
    Send(Segments),
    Close,
}

impl Sandbox {
    /// Listens on every address before it returns.
    pub async fn start(options: SandboxOptions) -> io::Result<Self> {
        let mut listeners = Vec::with_capacity(options.listen.len());
        let mut addresses = Vec::with_capacity(options.listen.len());
        for address in options.listen {
            let listener = TcpListener::bind(address).await?;
            addresses.push(listener.local_addr()?);
            listeners.push(listener);
        }
        let brokers = addresses.iter().map(|address| BrokerAddress {
            host: match &options.advertised_host {
                Some(host) => host.clone(),
                // Nobody can connect to the address that stands for all of them.
                None if address.ip().is_unspecified() => "localhost".to_owned(),
                None => address.ip().to_string(),
            },
            port: address.port(),
        });
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                cluster: Cluster::new(options.settings, brokers),
                timer_ms: i64::MAX,
                connections: HashMap::new(),
            }),
            sooner: Notify::new(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(keep_time(shared.clone()));
        for (broker, listener) in (1..).zip(listeners) {
            tasks.spawn(accept(shared.clone(), broker, listener));
        }
        Ok(Self {
            addresses,
            shared,
            tasks,
        })
    }

    /// Of each broker.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// As clients want it: `host:port,host:port`.
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<String> = self.addresses.iter().map(SocketAddr::to_string).collect();
        addresses.join(",")
    }

    /// Looks into the cluster, or changes it; clients that wait for the change get their answers.
    pub fn with_core<T>(&self, f: impl FnOnce(&mut Cluster) -> T) -> T {
        let mut state = self.shared.lock();
        let result = f(&mut state.cluster);
        let actions = state.cluster.poll(now_ms());
        self.shared.dispatch(state, actions);
        result
    }

    /// Closes everything.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

impl Shared {
    pub(super) fn connect(&self, broker: i32) -> (ConnectionId, mpsc::UnboundedReceiver<Answer>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = self.lock();
        let id = state.cluster.connect(broker);
        state.connections.insert(id, sender);
        (id, receiver)
    }

    pub(super) fn disconnect(&self, id: ConnectionId) {
        let mut state = self.lock();
        state.cluster.disconnect(id);
        state.connections.remove(&id);
    }

    pub(super) fn handle(&self, id: ConnectionId, request: Result<Request, RequestError>) {
        let mut state = self.lock();
        let actions = state.cluster.handle_request(id, request, now_ms());
        self.dispatch(state, actions);
    }

    fn dispatch(&self, mut state: MutexGuard<'_, State>, actions: Vec<Action>) {
        for action in actions {
            let (id, answer) = match action {
                Action::Send(id, segments) => (id, Answer::Send(segments)),
                Action::Silence(id) => (id, Answer::Send(Segments(Vec::new()))),
                Action::Close(id, reason) => {
                    tracing::debug!(error = &reason as &dyn std::error::Error, "closing a connection");
                    (id, Answer::Close)
                }
            };
            let is_close = matches!(answer, Answer::Close);
            if let Some(connection) = state.connections.get(&id) {
                // A receiver that is gone has hung up by itself.
                let _ = connection.send(answer);
            }
            if is_close {
                state.connections.remove(&id);
            }
        }
        let deadline_ms = state.cluster.next_deadline().unwrap_or(i64::MAX);
        if deadline_ms < state.timer_ms {
            state.timer_ms = deadline_ms;
            self.sooner.notify_one();
        }
    }

    /// A panic in the core is a mistake of ours, and not made better by a second one in every other task.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(shared: Arc<Shared>, broker: i32, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    connections.spawn(connection::serve(shared.clone(), broker, socket));
                }
                // Out of file descriptors, most likely: connections that close give some back.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Lets the cluster know when something is due.
async fn keep_time(shared: Arc<Shared>) {
    loop {
        let wait = {
            let mut state = shared.lock();
            let actions = state.cluster.poll(now_ms());
            state.timer_ms = state.cluster.next_deadline().unwrap_or(i64::MAX);
            let wait = u64::try_from(state.timer_ms.saturating_sub(now_ms())).unwrap_or(0);
            shared.dispatch(state, actions);
            Duration::from_millis(wait)
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shared.sooner.notified() => {}
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the cluster's clock, read here only")]
fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::{ApiVersionsRequest, FetchRequest};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::protocol::ApiKey;
    use crate::sandbox::core::testing::{batch, create_request, fetch_request, frame_of, produce_request};
    use crate::sandbox::core::{Effect, Fault};

    async fn start(brokers: usize) -> (Sandbox, TcpStream) {
        let sandbox = Sandbox::start(SandboxOptions::brokers(brokers)).await.unwrap();
        let socket = TcpStream::connect(sandbox.addresses()[0]).await.unwrap();
        (sandbox, socket)
    }

    async fn send(socket: &mut TcpStream, frame: &[u8]) {
        let length = (frame.len() as u32).to_be_bytes();
        socket.write_all(&[&length, frame].concat()).await.unwrap();
    }

    async fn receive(socket: &mut TcpStream) -> Vec<u8> {
        let length = socket.read_u32().await.unwrap();
        let mut frame = vec![0; length as usize];
        socket.read_exact(&mut frame).await.unwrap();
        frame
    }

    #[tokio::test]
    async fn pipelined_requests_are_answered_in_order() {
        let (sandbox, mut socket) = start(1).await;
        let mut frames = Vec::new();
        for correlation_id in 0..100_i32 {
            let mut frame = frame_of(0, &ApiVersionsRequest::default()).to_vec();
            frame[4..8].copy_from_slice(&correlation_id.to_be_bytes());
            frames.extend((frame.len() as u32).to_be_bytes());
            frames.extend(frame);
        }
        socket.write_all(&frames).await.unwrap();

        for correlation_id in 0..100_i32 {
            assert_eq!(receive(&mut socket).await[..4], correlation_id.to_be_bytes());
        }
        sandbox.stop().await;
    }

    #[tokio::test]
    async fn payloads_of_any_size_come_back() {
        let (_sandbox, mut socket) = start(1).await;
        send(&mut socket, &frame_of(5, &create_request("t", 1, &[]))).await;
        receive(&mut socket).await;
        let mut expected = 0;
        for size in [1, 5_000, 900_000] {
            let records = batch(&[&"x".repeat(size / 2)]);
            expected += records.len();
            send(&mut socket, &frame_of(9, &produce_request("t", 0, records))).await;
            receive(&mut socket).await;
        }

        send(&mut socket, &frame_of::<FetchRequest>(12, &fetch_request("t", 0, 0))).await;

        assert!(receive(&mut socket).await.len() > expected);
    }

    #[tokio::test]
    async fn a_change_made_directly_wakes_whoever_waits_for_it() {
        let (sandbox, mut socket) = start(1).await;
        send(&mut socket, &frame_of(5, &create_request("t", 1, &[]))).await;
        receive(&mut socket).await;
        let request = fetch_request("t", 0, 0).with_max_wait_ms(600_000);
        send(&mut socket, &frame_of(12, &request)).await;

        // Either finds the other there.
        assert!(sandbox.with_core(|cluster| cluster.delete_topic("t")));

        receive(&mut socket).await;
    }

    #[tokio::test]
    async fn a_fault_closes_the_socket() {
        let (sandbox, mut socket) = start(1).await;
        sandbox.with_core(|cluster| cluster.arm(Fault::new(ApiKey::ApiVersions, Effect::DropBefore)));
        send(&mut socket, &frame_of(0, &ApiVersionsRequest::default())).await;

        assert_eq!(socket.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn what_is_not_kafka_is_hung_up_on() {
        let (_sandbox, mut socket) = start(1).await;
        socket.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();

        assert!(matches!(socket.read(&mut [0]).await, Ok(0) | Err(_)));
    }

    #[tokio::test]
    async fn a_stopped_sandbox_is_gone() {
        let (sandbox, mut socket) = start(2).await;
        let addresses = sandbox.addresses().to_vec();
        sandbox.stop().await;

        assert!(matches!(socket.read(&mut [0]).await, Ok(0) | Err(_)));
        assert!(TcpStream::connect(addresses[1]).await.is_err());
    }
}
