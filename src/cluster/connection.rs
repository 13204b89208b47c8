//! A connection to one broker, with the versions that both sides speak.
//!
//! It exists only after the handshake: ApiVersions, and the question which cluster this is. Below it, `wire` moves
//! frames; above it, callers deal in messages.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::{MetadataRequest, MetadataResponse};
use kafka_protocol::protocol::Request;

use super::api_versions::{self, ApiVersions};
use super::call::{Caller, api_key};
use super::error::{ClusterError, Malformed, Peer, VersionRange};
use super::wire::Answer;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::produce_request::Segments;
use crate::protocol::{ApiKey, versions};

/// An open connection. Requests are answered in the order in which they are sent; the
/// first that goes unanswered ends it.
#[derive(Debug, Clone)]
pub struct Connection(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    caller: Caller,
    offered: ApiVersions,
}

impl Connection {
    /// Asks which versions the broker speaks.
    pub(super) async fn open(caller: Caller) -> Result<Self, ClusterError> {
        let offered = api_versions::ask(&caller).await?;
        Ok(Self(Arc::new(Inner { caller, offered })))
    }

    /// Makes sure that the broker belongs to this cluster: its address may by now be another's.
    pub(super) async fn check_cluster(&self, cluster_id: &str) -> Result<(), ClusterError> {
        // No topics: only brokers and the cluster's id are answered.
        let request = MetadataRequest::default().with_topics(Some(Vec::new()));
        let answer = self.call(request.with_allow_auto_topic_creation(false)).await?;
        check_cluster_id(self.peer(), &answer, cluster_id)
    }

    pub fn peer(&self) -> &Peer {
        self.0.caller.wire().peer()
    }

    /// The version to use of this API: the greatest that both sides speak.
    pub fn version(&self, api: ApiKey) -> Result<i16, ClusterError> {
        let theirs = self.0.offered.range(api);
        let version = theirs.and_then(|range| versions::negotiate(api, range.min, range.max));
        version.ok_or_else(|| {
            let (min, max) = versions::spoken(api).unwrap_or((0, -1));
            ClusterError::UnsupportedVersion {
                peer: self.peer().clone(),
                api,
                ours: VersionRange { min, max },
                theirs,
            }
        })
    }

    pub fn is_alive(&self) -> bool {
        self.0.caller.wire().is_alive()
    }

    /// Whether both are the same connection.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Sends a request and decodes its answer.
    pub async fn call<Req: Request>(&self, request: Req) -> Result<Req::Response, ClusterError> {
        self.call_held(request, Duration::ZERO).await
    }

    /// The same for a request that the broker may hold back for so long before it answers.
    pub async fn call_held<Req: Request>(&self, request: Req, held: Duration) -> Result<Req::Response, ClusterError> {
        let version = self.version(api_key::<Req>())?;
        let body = self.exchange(version, &request, held).await?;
        self.0.caller.decode::<Req>(version, body)
    }

    /// Sends a request in a version of the caller's choice, for an answer that the caller decodes.
    pub(super) async fn exchange<Req: Request>(
        &self,
        version: i16,
        request: &Req,
        held: Duration,
    ) -> Result<Bytes, ClusterError> {
        self.0.caller.exchange(version, request, held).await
    }

    /// Queues a request that `encode` writes, given a correlation id and the client id. Its place is that in the order
    /// of the calls, whenever the answer is waited for. `held` is for how long the broker may hold the answer back.
    pub fn send(
        &self,
        api: ApiKey,
        version: i16,
        held: Duration,
        encode: impl FnOnce(i32, &str) -> Segments,
    ) -> Answer {
        self.0.caller.send(api, version, held, encode)
    }

    /// An answer that cannot be what was asked for.
    pub fn malformed(&self, api: ApiKey, cause: impl Into<Malformed>) -> ClusterError {
        ClusterError::Malformed {
            peer: self.peer().clone(),
            api,
            cause: cause.into(),
        }
    }

    /// An error code in an answer, about `subject` (`topic orders`), or about the whole request if that is empty.
    pub fn refused(&self, api: ApiKey, subject: impl Into<String>, code: ErrorCode) -> ClusterError {
        ClusterError::Refused {
            peer: self.peer().clone(),
            api,
            subject: subject.into(),
            code,
            message: None,
        }
    }

    /// Holds back what is not sent yet, as an answer demanded that the connection could not see by itself.
    pub(super) fn throttle(&self, throttle_time_ms: i32) {
        self.0.caller.wire().throttle(throttle_time_ms);
    }

    pub(super) fn close(&self, reason: &'static str) {
        self.0.caller.wire().close(reason);
    }
}

/// An answer about another cluster than this one is an error.
pub(super) fn check_cluster_id(peer: &Peer, answer: &MetadataResponse, expected: &str) -> Result<(), ClusterError> {
    match answer.cluster_id.as_deref() {
        Some(found) if found != expected => Err(ClusterError::WrongCluster {
            peer: peer.clone(),
            expected: expected.to_owned(),
            found: found.to_owned(),
        }),
        _ => Ok(()),
    }
}
