//! For tests: a peer on a real socket that answers each request as a function says, or says something else.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use kafka_protocol::messages::api_versions_response::{ApiVersion, ApiVersionsResponse};
use kafka_protocol::messages::metadata_response::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, RequestHeader};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::call::topic_name;
use super::client::Cluster;
use super::config::ClusterConfig;
use super::error::Side;
use super::locked;
use crate::protocol::{ApiKey, versions};

/// Lives until it is dropped, with all its connections.
pub(super) struct ScriptedBroker {
    pub(super) port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

/// A request as it came in.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// Counts the connections.
    pub(super) connection: usize,
    pub(super) api: ApiKey,
    pub(super) version: i16,
    pub(super) correlation_id: i32,
    pub(super) body: Bytes,
}

/// What to say to a request.
#[derive(Debug, Clone)]
pub(super) enum Say {
    /// The body of a proper answer.
    Answer(Vec<u8>),
    /// Anything at all.
    Bytes(Vec<u8>),
    BytesAndClose(Vec<u8>),
    Nothing,
    Close,
}

impl ScriptedBroker {
    pub(super) async fn start(script: impl Fn(&Asked) -> Say + Send + Sync + 'static) -> Self {
        Self::at(listener().await, script)
    }

    pub(super) fn at(listener: TcpListener, script: impl Fn(&Asked) -> Say + Send + Sync + 'static) -> Self {
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let script = Arc::new(script);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            for connection in 0.. {
                let (socket, _) = listener.accept().await.unwrap();
                let (script, log) = (Arc::clone(&script), Arc::clone(&log));
                connections.spawn(async move { serve(socket, connection, &*script, &log).await });
            }
        });
        Self { port, asked, task }
    }

    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What has been asked so far of this API.
    pub(super) fn asked(&self, api: ApiKey) -> Vec<Asked> {
        let asked = locked(&self.asked);
        asked.iter().filter(|asked| asked.api == api).cloned().collect()
    }
}

impl Drop for ScriptedBroker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A healthy broker with id 1, alone in its cluster, as long as `odd` has nothing else to say.
pub(super) async fn broker(odd: impl Fn(&Asked) -> Option<Say> + Send + Sync + 'static) -> ScriptedBroker {
    let listener = listener().await;
    let port = listener.local_addr().unwrap().port();
    ScriptedBroker::at(listener, move |asked| {
        odd(asked).unwrap_or_else(|| asked.healthy(&[(1, port)], &[]))
    })
}

/// A cluster of that one broker with a topic `t` of one partition. `say` gets the requests other than those for metadata,
/// with their number.
pub(super) async fn cluster(say: impl Fn(&Asked, usize) -> Say + Send + Sync + 'static) -> (ScriptedBroker, Cluster) {
    cluster_offering(all_versions(), say).await
}

pub(super) async fn cluster_offering(
    versions: ApiVersionsResponse,
    say: impl Fn(&Asked, usize) -> Say + Send + Sync + 'static,
) -> (ScriptedBroker, Cluster) {
    let listener = listener().await;
    let port = listener.local_addr().unwrap().port();
    let count = AtomicUsize::new(0);
    let partition = MetadataResponsePartition::default().with_leader_id(BrokerId(1));
    let topic = MetadataResponseTopic::default()
        .with_name(Some(topic_name("t")))
        .with_partitions(vec![partition]);
    let broker = ScriptedBroker::at(listener, move |asked| match asked.api {
        ApiKey::ApiVersions => asked.answer(&versions),
        ApiKey::Metadata => asked.healthy(&[(1, port)], std::slice::from_ref(&topic)),
        _ => say(asked, count.fetch_add(1, Ordering::SeqCst)),
    });
    let cluster = Cluster::connect(config(vec![broker.address()])).await.unwrap();
    (broker, cluster)
}

pub(super) async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

async fn serve(
    mut socket: TcpStream,
    connection: usize,
    script: &(impl Fn(&Asked) -> Say + Send + Sync),
    log: &Mutex<Vec<Asked>>,
) -> std::io::Result<()> {
    loop {
        let mut frame = vec![0; socket.read_i32().await? as usize];
        socket.read_exact(&mut frame).await?;
        let asked = parse(connection, frame.into());
        locked(log).push(asked.clone());
        match script(&asked) {
            Say::Answer(body) => socket.write_all(&asked.frame(&body)).await?,
            Say::Bytes(bytes) => socket.write_all(&bytes).await?,
            Say::BytesAndClose(bytes) => return socket.write_all(&bytes).await,
            Say::Nothing => {}
            Say::Close => return Ok(()),
        }
    }
}

fn parse(connection: usize, mut frame: Bytes) -> Asked {
    let api = ApiKey::try_from(i16::from_be_bytes([frame[0], frame[1]])).unwrap();
    let version = i16::from_be_bytes([frame[2], frame[3]]);
    let header = RequestHeader::decode(&mut frame, api.request_header_version(version)).unwrap();
    Asked {
        connection,
        api,
        version,
        correlation_id: header.correlation_id,
        body: frame,
    }
}

impl Asked {
    pub(super) fn request<R: Decodable>(&self) -> R {
        R::decode(&mut self.body.clone(), self.version).unwrap()
    }

    /// A proper answer as bytes, to be spoilt.
    pub(super) fn frame(&self, body: &[u8]) -> Vec<u8> {
        let mut answer = self.correlation_id.to_be_bytes().to_vec();
        if self.api.response_header_version(self.version) >= 1 {
            answer.push(0);
        }
        answer.extend(body);
        let mut frame = (answer.len() as i32).to_be_bytes().to_vec();
        frame.extend(answer);
        frame
    }

    pub(super) fn answer(&self, response: &impl Encodable) -> Say {
        self.answer_in(response, self.version)
    }

    pub(super) fn answer_in(&self, response: &impl Encodable, version: i16) -> Say {
        Say::Answer(encoded(response, version))
    }

    pub(super) fn answer_and_close(&self, response: &impl Encodable) -> Say {
        Say::BytesAndClose(self.frame(&encoded(response, self.version)))
    }

    /// What a healthy broker says to the handshake and about the cluster.
    pub(super) fn healthy(&self, brokers: &[(i32, u16)], topics: &[MetadataResponseTopic]) -> Say {
        match self.api {
            ApiKey::ApiVersions => self.answer(&all_versions()),
            ApiKey::Metadata => self.answer(&metadata("c1", brokers, topics)),
            _ => Say::Nothing,
        }
    }
}

pub(super) fn encoded(response: &impl Encodable, version: i16) -> Vec<u8> {
    let mut body = Vec::new();
    response.encode(&mut body, version).unwrap();
    body
}

pub(super) fn all_versions() -> ApiVersionsResponse {
    let offered = ApiKey::iter().filter_map(|api| {
        let (min, max) = versions::spoken(api)?;
        Some(
            ApiVersion::default()
                .with_api_key(api as i16)
                .with_min_version(min)
                .with_max_version(max),
        )
    });
    ApiVersionsResponse::default().with_api_keys(offered.collect())
}

/// As an older broker that knows `api` up to version `max`.
pub(super) fn versions_up_to(api: ApiKey, max: i16) -> ApiVersionsResponse {
    let mut offered = all_versions();
    for known in &mut offered.api_keys {
        if known.api_key == api as i16 {
            known.max_version = max;
        }
    }
    offered
}

pub(super) fn metadata(cluster_id: &str, brokers: &[(i32, u16)], topics: &[MetadataResponseTopic]) -> MetadataResponse {
    let broker = |&(id, port): &(i32, u16)| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(id))
            .with_host(StrBytes::from_static_str("127.0.0.1"))
            .with_port(port.into())
    };
    MetadataResponse::default()
        .with_cluster_id(Some(StrBytes::from_string(cluster_id.to_owned())))
        .with_controller_id(BrokerId(brokers.first().map_or(-1, |&(id, _)| id)))
        .with_brokers(brokers.iter().map(broker).collect())
        .with_topics(topics.to_vec())
}

/// A config with short time-outs.
pub(super) fn config(bootstrap: Vec<String>) -> ClusterConfig {
    let short = std::time::Duration::from_millis(600);
    ClusterConfig {
        connect_timeout: short,
        request_timeout: short,
        reach_timeout: short,
        admin_timeout: 3 * short,
        ..ClusterConfig::new(Side::Source, "A", bootstrap)
    }
}
