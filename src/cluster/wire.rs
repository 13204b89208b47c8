//! One socket: requests in order out, responses in the same order in.
//!
//! One task owns both directions. Requests are queued, which fixes their order, and answered one after the other, as a
//! broker does; each answer has to carry the correlation id of the request whose turn it is. At the first thing that is
//! not as it should be (a time-out, a closed socket, a byte too many) the connection is over and everything on it fails:
//! after that, no answer could be told from another. What a request means, and its version, is not known here.

use std::pin::pin;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use super::buffer_pool::BufferPool;
use super::error::{ClusterError, ConnectionFailure, Malformed, Peer};
use super::frame_reader::{FrameReader, io_failure};
use super::now;
use super::outgoing::Outgoing;
use super::throttle::{Throttle, leading_throttle_time_ms};
use crate::protocol::ApiKey;
use crate::protocol::frame;
use crate::protocol::produce_request::Segments;

/// The sending end of a connection. The connection lasts until the last clone is gone and the last answer is in.
#[derive(Debug, Clone)]
pub(super) struct Wire(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    peer: Peer,
    queue: mpsc::Sender<Request>,
    next_correlation_id: AtomicI32,
    state: Arc<State>,
}

/// The answer to a request that was queued. Keeps the connection open.
#[derive(Debug)]
pub struct Answer {
    api: ApiKey,
    answer: Result<oneshot::Receiver<Result<Bytes, ClusterError>>, ClusterError>,
    wire: Wire,
}

impl Answer {
    /// Waits for it, and returns what follows the response header.
    pub async fn body(self) -> Result<Bytes, ClusterError> {
        self.answer?
            .await
            .unwrap_or_else(|_| Err(self.wire.lost(self.api, true)))
    }
}

/// What the task and the sending end share.
#[derive(Debug, Default)]
struct State {
    throttle: Throttle,
    /// Set once, when the connection is over.
    failure: OnceLock<ConnectionFailure>,
    close: Notify,
}

#[derive(Debug)]
struct Request {
    expected: Expected,
    segments: Segments,
    send_before: Option<Instant>,
}

/// An answer that is waited for.
#[derive(Debug)]
struct Expected {
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    timeout: Duration,
    reply: oneshot::Sender<Result<Bytes, ClusterError>>,
}

impl Wire {
    /// Takes over a connected socket.
    pub(super) fn start<R, W>(reader: R, writer: W, peer: Peer, buffers: BufferPool) -> Self
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let (queue, queued) = mpsc::channel(QUEUE_LIMIT);
        let (sent, in_flight) = mpsc::channel(IN_FLIGHT_LIMIT);
        let state = Arc::new(State::default());
        let task = Task {
            peer: peer.clone(),
            state: Arc::clone(&state),
            requests: Requests {
                socket: writer,
                queued,
                held: None,
            },
            answers: Answers {
                frames: FrameReader::new(reader, buffers),
                in_flight,
                current: None,
            },
        };
        tokio::spawn(task.run(sent));
        Self(Arc::new(Inner {
            peer,
            queue,
            next_correlation_id: AtomicI32::new(0),
            state,
        }))
    }

    /// Queues a request, which `encode` writes around the correlation id that it is given. It is in the queue, in the
    /// order of the calls, when this returns. `timeout` runs from when the request is the oldest one unanswered. What the
    /// queue still holds at `send_before` is not sent.
    pub(super) fn send(
        &self,
        api: ApiKey,
        version: i16,
        timeout: Duration,
        send_before: Option<Instant>,
        encode: impl FnOnce(i32) -> Segments,
    ) -> Answer {
        let correlation_id = self.0.next_correlation_id.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        let request = Request {
            segments: encode(correlation_id),
            send_before,
            expected: Expected {
                api,
                version,
                correlation_id,
                timeout,
                reply,
            },
        };
        let queued = self.0.queue.try_send(request);
        Answer {
            api,
            answer: queued
                .map(|()| answer)
                .map_err(|refused| self.not_queued(api, &refused)),
            wire: self.clone(),
        }
    }

    pub(super) fn peer(&self) -> &Peer {
        &self.0.peer
    }

    pub(super) fn is_alive(&self) -> bool {
        self.0.state.failure.get().is_none()
    }

    /// Ends the connection. What is on it fails.
    pub(super) fn close(&self, reason: &'static str) {
        // First come, first served: the task reports whichever failure is there.
        if self.0.state.failure.set(ConnectionFailure::Closed(reason)).is_ok() {
            self.0.state.close.notify_one();
        }
    }

    /// Holds back what is not sent yet.
    pub(super) fn throttle(&self, throttle_time_ms: i32) {
        extend_throttle(&self.0.state.throttle, &self.0.peer, throttle_time_ms);
    }

    fn not_queued(&self, api: ApiKey, refused: &mpsc::error::TrySendError<Request>) -> ClusterError {
        match refused {
            mpsc::error::TrySendError::Full(_) => ClusterError::QueueFull {
                peer: self.0.peer.clone(),
                api,
                limit: QUEUE_LIMIT,
            },
            mpsc::error::TrySendError::Closed(_) => self.lost(api, false),
        }
    }

    fn lost(&self, api: ApiKey, sent: bool) -> ClusterError {
        // Without a failure the task was dropped with its runtime.
        let failure = self.0.state.failure.get();
        ClusterError::Disconnected {
            peer: self.0.peer.clone(),
            api,
            sent,
            cause: failure
                .cloned()
                .unwrap_or(ConnectionFailure::Closed("the process stops")),
        }
    }
}

/// Owns the socket.
struct Task<R, W> {
    peer: Peer,
    state: Arc<State>,
    requests: Requests<W>,
    answers: Answers<R>,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Task<R, W> {
    async fn run(mut self, sent: mpsc::Sender<Expected>) {
        let failure = tokio::select! {
            biased;
            failure = self.requests.write(&self.state, &self.peer, &sent) => failure,
            failure = self.answers.read(&self.state, &self.peer) => failure,
            () = self.state.close.notified() => ConnectionFailure::Closed("it is no longer used"),
        };
        drop(sent);
        self.fail(failure).await;
    }

    /// Answers everything that waits.
    async fn fail(mut self, failure: ConnectionFailure) {
        let failure = self.state.failure.get_or_init(|| failure).clone();
        tracing::debug!(peer = %self.peer, cause = %failure, "connection ended");
        if let Some(culprit) = self.answers.current.take() {
            let error = blame(&culprit, &self.peer, failure.clone());
            culprit.answer(Err(error));
        }
        while let Some(expected) = self.answers.in_flight.recv().await {
            expected.lose(&self.peer, true, &failure);
        }
        self.requests.queued.close();
        if let Some(request) = self.requests.held.take() {
            request.expected.lose(&self.peer, false, &failure);
        }
        while let Some(request) = self.requests.queued.recv().await {
            request.expected.lose(&self.peer, false, &failure);
        }
    }
}

/// The error of the request during whose turn the connection failed.
fn blame(culprit: &Expected, peer: &Peer, failure: ConnectionFailure) -> ClusterError {
    let (peer, api) = (peer.clone(), culprit.api);
    match failure {
        ConnectionFailure::TimedOut { after, .. } => ClusterError::TimedOut { peer, api, after },
        ConnectionFailure::Malformed(cause) => ClusterError::Malformed { peer, api, cause },
        cause => ClusterError::Disconnected {
            peer,
            api,
            sent: true,
            cause,
        },
    }
}

impl Expected {
    fn answer(self, answer: Result<Bytes, ClusterError>) {
        // Whoever asked may have lost interest.
        let _ = self.reply.send(answer);
    }

    fn miss(self, peer: &Peer) {
        let (peer, api) = (peer.clone(), self.api);
        self.answer(Err(ClusterError::TooLate { peer, api }));
    }

    fn lose(self, peer: &Peer, sent: bool, failure: &ConnectionFailure) {
        let error = ClusterError::Disconnected {
            peer: peer.clone(),
            api: self.api,
            sent,
            cause: failure.clone(),
        };
        self.answer(Err(error));
    }
}

/// The direction to the broker.
struct Requests<W> {
    socket: W,
    queued: mpsc::Receiver<Request>,
    /// Taken from the queue, and not begun to be written.
    held: Option<Request>,
}

impl<W: AsyncWrite + Unpin> Requests<W> {
    async fn write(&mut self, state: &State, peer: &Peer, sent: &mpsc::Sender<Expected>) -> ConnectionFailure {
        let mut outgoing = Outgoing::default();
        loop {
            self.held = self.queued.recv().await;
            if self.held.is_none() {
                return ConnectionFailure::Closed("it is no longer used");
            }
            state.throttle.over().await;
            let Ok(mut room) = sent.reserve().await else {
                return ConnectionFailure::Closed("it is no longer used");
            };
            // What else waits goes out in the same write.
            while let Some(request) = self.held.take().or_else(|| self.queued.try_recv().ok()) {
                if request.send_before.is_some_and(|at| now() >= at) {
                    request.expected.miss(peer);
                    continue;
                }
                // Before any byte of it leaves: an answer never comes unexpected.
                room.send(request.expected);
                outgoing.push(request.segments);
                if outgoing.len() >= WRITE_TOGETHER {
                    break;
                }
                let Ok(more) = sent.try_reserve() else { break };
                room = more;
            }
            if let Err(cause) = outgoing.write_to(&mut self.socket).await {
                return io_failure(cause);
            }
        }
    }
}

/// The direction from the broker.
struct Answers<R> {
    frames: FrameReader<R>,
    /// Sent, in order. No time-out runs for these: a broker answers one request after the other.
    in_flight: mpsc::Receiver<Expected>,
    /// Whose turn it is.
    current: Option<Expected>,
}

impl<R: AsyncRead + Unpin> Answers<R> {
    async fn read(&mut self, state: &State, peer: &Peer) -> ConnectionFailure {
        loop {
            // A broker that closes an idle connection is noticed here, before the next request is lost on it.
            let current = tokio::select! {
                biased;
                Some(current) = self.in_flight.recv() => self.current.insert(current),
                begun = self.frames.begun() => match begun {
                    Ok(()) => return unasked(peer),
                    Err(failure) => return failure,
                },
            };
            let (api, version, after) = (current.api, current.version, current.timeout);
            let answer = pin!(self.frames.frame(current.correlation_id));
            let frame = match tokio::time::timeout(after, answer).await {
                Ok(Ok(frame)) => frame,
                Ok(Err(failure)) => return failure,
                Err(_) => return ConnectionFailure::TimedOut { api, after },
            };
            let body = match frame::split_response(frame, api, version) {
                Ok((_, body)) => body,
                Err(cause) => return ConnectionFailure::Malformed(cause.into()),
            };
            extend_throttle(&state.throttle, peer, leading_throttle_time_ms(api, version, &body));
            if let Some(current) = self.current.take() {
                current.answer(Ok(body));
            }
        }
    }
}

fn unasked(peer: &Peer) -> ConnectionFailure {
    // Nobody is there to be told.
    tracing::warn!(%peer, "closed a connection on which the broker sent what nobody had asked for");
    ConnectionFailure::Malformed(Malformed::Unasked)
}

fn extend_throttle(throttle: &Throttle, peer: &Peer, throttle_time_ms: i32) {
    if let Some(wait) = throttle.extend(throttle_time_ms) {
        tracing::info!(%peer, throttle_time_ms, ?wait, "throttled by a quota");
    }
}

/// Callers keep few requests in flight; more than this is a mistake of theirs.
const QUEUE_LIMIT: usize = 1024;

/// How many requests may be unanswered. The rest waits here instead of in the broker's socket buffers.
const IN_FLIGHT_LIMIT: usize = 64;

/// From here on the next request waits for the next write.
const WRITE_TOGETHER: usize = 1 << 20;
