//! A connection to one broker, with the versions that both sides speak.
//!
//! It exists only after the handshake: ApiVersions, and the question which cluster this is. Below it, `wire` moves
//! frames; above it, callers deal in messages.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::{MetadataRequest, MetadataResponse};
use kafka_protocol::protocol::Request;
use tokio::time::Instant;

use super::api_versions::{self, ApiVersions};
use super::call::{Caller, api_key};
use super::error::{ClusterError, Peer, VersionRange};
use super::wire::Answer;
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
    /// of the calls, whenever the answer is waited for. `held` is for how long the broker may hold the answer back. What could not
    /// be sent before `send_before` is not sent: [`ClusterError::TooLate`].
    pub fn send(
        &self,
        api: ApiKey,
        version: i16,
        held: Duration,
        send_before: Option<Instant>,
        encode: impl FnOnce(i32, &str) -> Segments,
    ) -> Answer {
        self.0.caller.send(api, version, held, send_before, encode)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::client::Cluster;
    use crate::cluster::connections::Purpose;
    use crate::cluster::error::{ConnectionFailure, Malformed, with_causes};
    use crate::cluster::scripted_broker::{Asked, Say, ScriptedBroker, all_versions, broker, config, encoded};
    use crate::protocol::primitives::WireError;
    use kafka_protocol::messages::{
        ApiVersionsRequest, ApiVersionsResponse, DescribeClusterRequest, DescribeClusterResponse,
    };

    /// A connection to a broker that is healthy, but for its answers to DescribeCluster.
    async fn connected(say: impl Fn(&Asked) -> Say + Send + Sync + 'static) -> (ScriptedBroker, Connection) {
        let broker = broker(move |asked| (asked.api == ApiKey::DescribeCluster).then(|| say(asked))).await;
        let cluster = Cluster::connect(config(vec![broker.address()])).await.unwrap();
        let connection = cluster.connection(1, Purpose::Admin).await.unwrap();
        (broker, connection)
    }

    async fn ask(connection: &Connection) -> ClusterError {
        let request = DescribeClusterRequest::default();
        let begin = crate::cluster::now();
        let error = connection.call(request).await.unwrap_err();
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
        let text = error.to_string();
        assert!(text.contains("source cluster A, broker 1 at 127.0.0.1:"), "{text}");
        assert!(text.contains("DescribeCluster"), "{text}");
        assert!(!connection.is_alive());
        error
    }

    /// What comes of such an answer.
    async fn ask_and_hear(say: impl Fn(&Asked) -> Say + Send + Sync + 'static) -> ClusterError {
        let (_broker, connection) = connected(say).await;
        ask(&connection).await
    }

    #[tokio::test]
    async fn silence_is_a_time_out() {
        let error = ask_and_hear(|_| Say::Nothing).await;
        assert!(matches!(error, ClusterError::TimedOut { .. }), "{error}");
    }

    #[tokio::test]
    async fn half_a_frame_and_silence_is_a_time_out() {
        let error = ask_and_hear(|asked| Say::Bytes(asked.frame(&[0; 100])[..50].to_vec())).await;
        assert!(matches!(error, ClusterError::TimedOut { .. }), "{error}");
    }

    #[tokio::test]
    async fn closing_in_mid_frame_is_a_lost_connection() {
        let error = ask_and_hear(|asked| Say::BytesAndClose(asked.frame(&[0; 100])[..50].to_vec())).await;
        let ClusterError::Disconnected { cause, sent: true, .. } = error else {
            panic!("{error}")
        };
        assert!(
            matches!(cause, ConnectionFailure::ClosedMidFrame { have: 46, .. }),
            "{cause}"
        );
    }

    #[tokio::test]
    async fn closing_without_an_answer_is_a_lost_connection() {
        let error = ask_and_hear(|_| Say::Close).await;
        assert!(
            matches!(error, ClusterError::Disconnected { sent: true, .. }),
            "{error}"
        );
    }

    #[tokio::test]
    async fn garbage_is_refused() {
        for bytes in [
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            vec![0xff; 64],
            vec![0; 64],
        ] {
            let error = ask_and_hear(move |_| Say::Bytes(bytes.clone())).await;
            assert!(matches!(error, ClusterError::Malformed { .. }), "{error}");
        }
    }

    #[tokio::test]
    async fn an_absurd_length_is_refused() {
        let error = ask_and_hear(|asked| {
            let mut frame = asked.frame(&[]);
            frame[..4].copy_from_slice(&i32::MAX.to_be_bytes());
            Say::Bytes(frame)
        });
        let ClusterError::Malformed { cause, .. } = error.await else {
            panic!()
        };
        assert_eq!(cause, Malformed::Wire(WireError::FrameLength { length: i32::MAX }));
    }

    #[tokio::test]
    async fn another_correlation_id_is_refused() {
        let error = ask_and_hear(|asked| {
            let mut frame = asked.frame(&[]);
            frame[7] ^= 1;
            Say::Bytes(frame)
        });
        let ClusterError::Malformed { cause, .. } = error.await else {
            panic!()
        };
        assert!(matches!(cause, Malformed::CorrelationId { .. }), "{cause}");
    }

    #[tokio::test]
    async fn a_body_that_claims_absurd_counts_is_refused_and_the_connection_goes_on() {
        let (_broker, connection) = connected(|asked| Say::Answer(vec![0xff; asked.version as usize + 40])).await;
        let error = connection.call(DescribeClusterRequest::default()).await.unwrap_err();
        assert!(matches!(error, ClusterError::Malformed { .. }), "{error}");
        assert!(connection.is_alive(), "frames are still told apart");
    }

    #[tokio::test]
    async fn bytes_after_the_body_are_refused() {
        let (_broker, connection) = connected(|asked| {
            let mut body = encoded(&DescribeClusterResponse::default(), asked.version);
            body.push(0);
            Say::Answer(body)
        })
        .await;
        let error = connection.call(DescribeClusterRequest::default()).await.unwrap_err();
        assert!(with_causes(&error).contains("left over"), "{}", with_causes(&error));
    }

    #[tokio::test]
    async fn a_second_answer_ends_the_connection() {
        let (_broker, connection) = connected(|asked| {
            let body = encoded(&DescribeClusterResponse::default(), asked.version);
            Say::Bytes([asked.frame(&body), asked.frame(&body)].concat())
        })
        .await;
        connection.call(DescribeClusterRequest::default()).await.unwrap();
        while connection.is_alive() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_has_to_wait_for_too_long_is_not_sent() {
        let (broker, connection) = connected(|_| Say::Nothing).await;
        let api = ApiKey::DescribeCluster;
        connection.throttle(100);
        let before = crate::cluster::now() + Duration::from_millis(50);
        let answer = connection.send(api, 0, Duration::ZERO, Some(before), |id, client| {
            crate::cluster::call::whole_frame(api, 0, id, client, &[0, 0])
        });
        let error = answer.body().await.unwrap_err();
        assert!(matches!(error, ClusterError::TooLate { .. }), "{error}");
        assert!(broker.asked(api).is_empty() && connection.is_alive());
    }

    #[tokio::test]
    async fn requests_behind_one_that_is_not_answered_fail_with_it() {
        let (_broker, connection) = connected(|_| Say::Nothing).await;
        let api = ApiKey::DescribeCluster;
        let send = || {
            connection.send(api, 0, Duration::ZERO, None, |id, client| {
                crate::cluster::call::whole_frame(api, 0, id, client, &[0, 0])
            })
        };
        let (first, second) = (send(), send());
        let (first, second) = tokio::join!(first.body(), second.body());
        assert!(matches!(first, Err(ClusterError::TimedOut { .. })), "{first:?}");
        let Err(ClusterError::Disconnected { cause, sent: true, .. }) = second else {
            panic!("{second:?}")
        };
        assert!(matches!(cause, ConnectionFailure::TimedOut { .. }), "{cause}");
        let Err(ClusterError::Disconnected { sent: false, .. }) = send().body().await else {
            panic!("it is over")
        };
    }

    #[tokio::test]
    async fn a_broker_that_knows_only_version_0_of_api_versions_is_asked_in_that() {
        let broker = broker(|asked| match (asked.api, asked.version) {
            (ApiKey::ApiVersions, 0) => None,
            (ApiKey::ApiVersions, _) => Some(asked.answer_in(&ApiVersionsResponse::default().with_error_code(35), 0)),
            _ => None,
        });
        let broker = broker.await;
        let cluster = Cluster::connect(config(vec![broker.address()])).await.unwrap();
        assert_eq!(cluster.cluster_id(), "c1");
        let versions: Vec<_> = broker
            .asked(ApiKey::ApiVersions)
            .iter()
            .map(|asked| asked.version)
            .collect();
        assert_eq!(versions, [3, 0]);
    }

    #[tokio::test]
    async fn a_broker_that_says_which_versions_of_api_versions_it_knows_is_asked_in_the_newest() {
        let broker = broker(|asked| {
            let mut known = all_versions();
            known.api_keys.retain(|entry| entry.api_key == ApiVersionsRequest::KEY);
            known.api_keys[0].max_version = 2;
            let is_too_new = (asked.api, asked.version) == (ApiKey::ApiVersions, 3);
            is_too_new.then(|| asked.answer_in(&known.with_error_code(35), 0))
        });
        let broker = broker.await;
        Cluster::connect(config(vec![broker.address()])).await.unwrap();
        assert_eq!(broker.asked(ApiKey::ApiVersions)[1].version, 2);
    }

    #[tokio::test]
    async fn a_broker_that_refuses_every_version_of_api_versions_is_given_up() {
        let broker =
            broker(|asked| Some(asked.answer_in(&ApiVersionsResponse::default().with_error_code(35), 0))).await;
        let error = Cluster::connect(config(vec![broker.address()])).await.unwrap_err();
        assert!(
            error.to_string().contains("refused ApiVersions: UNSUPPORTED_VERSION"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn an_api_that_the_broker_lacks_is_an_error_that_says_so() {
        let broker = broker(|asked| {
            let mut some = all_versions();
            some.api_keys.retain(|entry| entry.api_key == ApiKey::Metadata as i16);
            (asked.api == ApiKey::ApiVersions).then(|| asked.answer(&some))
        });
        let broker = broker.await;
        let cluster = Cluster::connect(config(vec![broker.address()])).await.unwrap();
        let connection = cluster.connection(1, Purpose::Admin).await.unwrap();
        let error = connection.call(DescribeClusterRequest::default()).await.unwrap_err();
        assert!(error.to_string().contains("speaks no DescribeCluster"), "{error}");
    }
}
