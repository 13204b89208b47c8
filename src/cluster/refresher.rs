//! Keeps a cluster's metadata fresh.
//!
//! One task does, on demand and on a timer. Demands that come while an answer is on its way are too late for it, and
//! share the next one. It asks one broker after the other until one answers.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use kafka_protocol::messages::MetadataRequest;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::brokers::Brokers;
use super::call::topic_name;
use super::connection::check_cluster_id;
use super::connections::Purpose;
use super::error::{ClusterError, with_causes};
use super::metadata::{BrokerAddress, Metadata, TopicSelection};
use super::now;
use crate::protocol::ApiKey;
use crate::protocol::error_code::{ErrorCode, Recovery};

/// Somebody wants fresh metadata.
#[derive(Debug)]
pub(super) struct Demand {
    pub(super) topics: TopicSelection,
    pub(super) reply: oneshot::Sender<Result<Arc<Metadata>, ClusterError>>,
}

/// Runs until the cluster is dropped.
pub(super) async fn run(brokers: Weak<Brokers>, mut demands: mpsc::Receiver<Demand>, max_age: Duration) {
    // What the timer asks about: everything that was ever asked about.
    let mut interest = TopicSelection::Names(Vec::new());
    let mut due = now() + max_age;
    let mut next = saved_up(now());
    loop {
        let first = tokio::select! {
            biased;
            demand = demands.recv() => match demand {
                Some(demand) => Some(demand),
                None => return,
            },
            () = sleep_until(due) => None,
        };
        // Whoever finds no leader asks again at once; the brokers are spared that. A few questions in a row are a start.
        sleep_until(next).await;
        next = next.max(saved_up(now())) + DISTANCE;
        let mut waiting: Vec<Demand> = first.into_iter().collect();
        while let Ok(demand) = demands.try_recv() {
            waiting.push(demand);
        }
        let topics = if waiting.is_empty() {
            interest.clone()
        } else {
            joined(&waiting)
        };
        interest.join(topics.clone());

        let Some(brokers) = brokers.upgrade() else { return };
        let answer = brokers.refresh(&topics).await;
        drop(brokers);
        // An answer to a demand leaves the topics that it is not about as old as they were.
        if waiting.is_empty() {
            due = now() + max_age;
            if let Err(error) = &answer {
                tracing::warn!(%error, "metadata are out of date; trying again");
                due = now() + SOON.min(max_age);
            }
        }
        for demand in waiting {
            // Whoever asked may have lost interest.
            let _ = demand.reply.send(answer.clone());
        }
    }
}

fn joined(demands: &[Demand]) -> TopicSelection {
    let mut topics = TopicSelection::Names(Vec::new());
    for demand in demands {
        topics.join(demand.topics.clone());
    }
    topics
}

impl Brokers {
    /// Asks brokers until one answers, and takes the answer in.
    pub(super) async fn refresh(&self, topics: &TopicSelection) -> Result<Arc<Metadata>, ClusterError> {
        let metadata = Arc::new(self.ask_brokers(topics).await?);
        self.cluster_id.get_or_init(|| Arc::clone(&metadata.cluster_id));
        self.connections.follow(&metadata.brokers);
        self.metadata.send_replace(Arc::clone(&metadata));
        Ok(metadata)
    }

    async fn ask_brokers(&self, topics: &TopicSelection) -> Result<Metadata, ClusterError> {
        let deadline = now() + self.config.reach_timeout;
        let mut backoff = self.backoff();
        let mut failures = BTreeMap::new();
        loop {
            let mut hope = false;
            let candidates = self.candidates();
            for (index, candidate) in candidates.iter().enumerate() {
                let share = share_of(deadline, candidates.len() - index);
                let error = match timeout(share, self.ask(candidate, topics)).await {
                    Ok(Ok(metadata)) => return Ok(metadata),
                    Ok(Err(error)) => error,
                    Err(_) => self.silent(candidate, share),
                };
                hope |= error.recovery() != Recovery::Stop;
                // The first failure of an address says more than those under time pressure.
                failures
                    .entry(candidate.address.to_string().into())
                    .or_insert_with_key(|address: &Arc<str>| {
                        tracing::warn!(side = %self.config.side, %address, error = with_causes(&error), "no metadata");
                        error
                    });
            }
            let wait = backoff.next_wait();
            if !hope || now() + wait >= deadline {
                return Err(self.unreachable(failures));
            }
            sleep(wait).await;
        }
    }

    /// Known brokers, then the bootstrap addresses that are not theirs.
    fn candidates(&self) -> Vec<Candidate> {
        let metadata = Arc::clone(&self.metadata.borrow());
        let known = |broker_id| Candidate {
            broker_id: Some(broker_id),
            address: metadata.brokers[&broker_id].clone(),
        };
        let mut candidates: Vec<_> = self.by_preference(&metadata).into_iter().map(known).collect();
        for address in &self.bootstrap {
            if candidates.iter().all(|candidate| candidate.address != *address) {
                candidates.push(Candidate {
                    broker_id: None,
                    address: address.clone(),
                });
            }
        }
        candidates
    }

    async fn ask(&self, candidate: &Candidate, topics: &TopicSelection) -> Result<Metadata, ClusterError> {
        let connection = match candidate.broker_id {
            Some(broker_id) => self.connection(broker_id, Purpose::Admin).await?,
            None => self.dial(None, &candidate.address).await?,
        };
        let answer = connection.call(metadata_request(topics)).await?;
        if let Some(expected) = self.cluster_id.get() {
            check_cluster_id(connection.peer(), &answer, expected)?;
        }
        let code = ErrorCode::from_wire(answer.error_code);
        if code != ErrorCode::None {
            return Err(connection.peer().refused(ApiKey::Metadata, "", code));
        }
        let known = Arc::clone(&self.metadata.borrow());
        known
            .updated(answer, topics)
            .map_err(|cause| connection.peer().malformed(ApiKey::Metadata, cause))
    }

    fn silent(&self, candidate: &Candidate, after: Duration) -> ClusterError {
        ClusterError::TimedOut {
            peer: self.peer(candidate.broker_id, &candidate.address),
            api: ApiKey::Metadata,
            after,
        }
    }
}

/// Who might have metadata.
#[derive(Debug)]
struct Candidate {
    /// Not known of a bootstrap address.
    broker_id: Option<i32>,
    address: BrokerAddress,
}

fn metadata_request(topics: &TopicSelection) -> MetadataRequest {
    let topic = |name: &String| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
    let topics = match topics {
        TopicSelection::All => None,
        TopicSelection::Names(names) => Some(names.iter().map(topic).collect()),
    };
    MetadataRequest::default()
        .with_topics(topics)
        .with_allow_auto_topic_creation(false)
}

/// A fair share of the time that is left.
fn share_of(deadline: Instant, among: usize) -> Duration {
    let left = deadline.saturating_duration_since(now());
    left / u32::try_from(among).unwrap_or(u32::MAX).max(1)
}

/// Between two refreshes in the long run: Kafka's `retry.backoff.ms`.
const DISTANCE: Duration = Duration::from_millis(100);

/// What may be saved up of that: ten refreshes in a row.
const CREDIT: Duration = Duration::from_secs(1);

fn saved_up(now: Instant) -> Instant {
    now.checked_sub(CREDIT).unwrap_or(now)
}

/// When to try again after the timer's attempt failed, which took long enough.
const SOON: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::client::Cluster;
    use crate::cluster::error::Side;
    use crate::cluster::scripted_broker::{Say, ScriptedBroker, broker, config, listener};
    use tokio::task::JoinSet;

    async fn port() -> u16 {
        listener().await.local_addr().unwrap().port()
    }

    #[tokio::test]
    async fn a_cluster_out_of_reach_is_an_error_that_names_every_address_and_cause() {
        let silent = ScriptedBroker::start(|_| Say::Nothing).await;
        let foreign = ScriptedBroker::start(|_| Say::Bytes(b"SSH-2.0-OpenSSH_9.2p1\r\n".to_vec())).await;
        let closed = format!("127.0.0.1:{}", port().await);
        let bootstrap = vec![silent.address(), foreign.address(), closed.clone()];
        let error = Cluster::connect(config(bootstrap)).await.unwrap_err();
        let text = error.to_string();
        for (address, cause) in [
            (silent.address(), "within"),
            (foreign.address(), "SSH"),
            (closed, "refused"),
        ] {
            let of_address = text.split("; ").find(|part| part.starts_with(&address));
            assert!(
                of_address.is_some_and(|part| part.contains(cause)),
                "{address}, {cause}: {text}"
            );
        }
    }

    #[tokio::test]
    async fn the_first_broker_that_answers_will_do() {
        let silent = ScriptedBroker::start(|_| Say::Nothing).await;
        let healthy = broker(|_| None).await;
        let closed = format!("127.0.0.1:{}", port().await);
        let cluster = Cluster::connect(config(vec![closed, silent.address(), healthy.address()]))
            .await
            .unwrap();
        assert_eq!(
            (cluster.cluster_id(), cluster.side(), cluster.alias()),
            ("c1", Side::Source, "A")
        );
    }

    #[tokio::test]
    async fn a_broker_that_is_not_up_yet_is_waited_for() {
        let port = port().await;
        let connecting = tokio::spawn(Cluster::connect(config(vec![format!("127.0.0.1:{port}")])));
        tokio::task::yield_now().await;
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let _broker = ScriptedBroker::at(listener, move |asked| asked.healthy(&[(1, port)], &[]));
        connecting.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn addresses_that_are_none_are_refused_before_anything_is_tried() {
        for bootstrap in [vec![], vec!["nowhere".to_owned()]] {
            let error = Cluster::connect(config(bootstrap)).await.unwrap_err();
            assert!(matches!(error, ClusterError::BadAddress { .. }), "{error}");
            assert_eq!(error.recovery(), Recovery::Stop);
        }
    }

    #[tokio::test]
    async fn refreshes_that_are_asked_for_together_are_one() {
        let broker = broker(|_| None).await;
        let cluster = Cluster::connect(config(vec![broker.address()])).await.unwrap();
        cluster.connection(1, Purpose::Admin).await.unwrap();
        let before = broker.asked(ApiKey::Metadata).len();
        let mut asking = JoinSet::new();
        for index in 0..20 {
            let cluster = cluster.clone();
            let topics = TopicSelection::Names(vec![format!("t{index}")]);
            asking.spawn(async move { cluster.refresh_metadata(topics).await.unwrap().generation });
        }
        asking.join_all().await;
        let requests: Vec<_> = broker.asked(ApiKey::Metadata).split_off(before);
        assert!(requests.len() <= 2, "{}", requests.len());
        let topics: usize = requests
            .iter()
            .filter_map(|asked| asked.request::<MetadataRequest>().topics)
            .map(|t| t.len())
            .sum();
        assert_eq!(topics, 20);
    }

    #[tokio::test]
    async fn metadata_that_grows_old_is_asked_for_again() {
        let broker = broker(|_| None).await;
        let mut config = config(vec![broker.address()]);
        config.metadata_max_age = Duration::from_millis(1);
        let cluster = Cluster::connect(config).await.unwrap();
        let mut changes = cluster.metadata_changes();
        for _ in 0..3 {
            changes.changed().await.unwrap();
        }
        assert!(cluster.metadata().generation > 3);
    }
}
