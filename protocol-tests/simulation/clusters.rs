//! The two clusters: the sandbox's core behind the simulated network.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::{CreateTopicsRequest, TopicName};
use kafka_protocol::protocol::{Decodable, Request, StrBytes};
use kferry::protocol::{ApiKey, frame};
use kferry::sandbox::core::wire::body_of;
use kferry::sandbox::core::{Action, BrokerAddress, Cluster, ConnectionId, Settings};

use crate::network::{Arrival, End, LinkId, Network};
use crate::world::{EPOCH_MS, FIRST_PORT};

/// One cluster and the links to it.
pub(crate) struct SimulatedCluster {
    pub(crate) core: Cluster,
    links: BTreeMap<ConnectionId, LinkId>,
    /// When the core was last looked after: a deadline that it still names is not due again at once.
    polled_at: i64,
}

impl SimulatedCluster {
    pub(crate) fn new(end: End, settings: Settings, brokers: i32) -> Self {
        let name = end.name();
        let address = |broker: i32| BrokerAddress {
            host: name.to_owned(),
            port: FIRST_PORT + u16::try_from(broker).expect("few brokers"),
        };
        Self {
            core: Cluster::new(settings, (0..brokers).map(address)),
            links: BTreeMap::new(),
            polled_at: -1,
        }
    }

    pub(crate) fn brokers(&self) -> i32 {
        i32::try_from(self.core.brokers().len()).expect("few brokers")
    }

    /// When something happens by itself.
    pub(crate) fn next_deadline(&self) -> Option<i64> {
        let due = self.core.next_deadline()? - EPOCH_MS;
        Some(due.max(self.polled_at + 1))
    }

    pub(crate) fn poll(&mut self, network: &mut Network) {
        self.polled_at = network.now();
        let actions = self.core.poll(EPOCH_MS + network.now());
        self.carry_out(actions, network);
    }

    /// Takes what has arrived at a broker.
    pub(crate) fn handle(&mut self, id: LinkId, arrival: Arrival, network: &mut Network) {
        let Some(link) = network.link(id) else { return };
        match arrival {
            Arrival::Request(request) => {
                let connection = *link.connection.get_or_insert_with(|| self.core.connect(link.broker));
                self.links.insert(connection, id);
                let actions = self.core.handle(connection, request, EPOCH_MS + network.now());
                self.carry_out(actions, network);
            }
            Arrival::Hangup => {
                if let Some(connection) = link.connection {
                    self.core.disconnect(connection);
                    self.links.remove(&connection);
                }
                network.hung_up(id);
            }
        }
    }

    fn carry_out(&mut self, actions: Vec<Action>, network: &mut Network) {
        for action in actions {
            match action {
                Action::Send(connection, segments) => {
                    if let Some(id) = self.links.get(&connection) {
                        network.answer(*id, segments.0.concat().into());
                    }
                }
                Action::Silence(_) => {}
                Action::Close(connection, _) => {
                    if let Some(id) = self.links.remove(&connection) {
                        network.close(id);
                    }
                }
            }
        }
    }

    /// Asks a broker something, past the network. `None` if it hangs up or does not answer at once.
    pub(crate) fn call<Q: Request>(
        &mut self,
        broker: i32,
        version: i16,
        request: &Q,
        network: &mut Network,
    ) -> Option<Q::Response> {
        let api = ApiKey::try_from(Q::KEY).expect("an API");
        let mut bytes = Vec::new();
        frame::put_request_header(&mut bytes, api, version, 0, "writer");
        request
            .encode(&mut bytes, version)
            .expect("a request that can be written");
        let connection = self.core.connect(broker);
        let mut actions = self
            .core
            .handle(connection, Bytes::from(bytes), EPOCH_MS + network.now());
        self.core.disconnect(connection);
        let ours = |action: &Action| matches!(action, Action::Send(to, _) if *to == connection);
        let answer = actions.iter().position(ours).map(|index| actions.remove(index));
        self.carry_out(actions, network);
        let Some(Action::Send(_, segments)) = answer else {
            return None;
        };
        let (_, mut body) = frame::split_response(body_of(&segments), api, version).expect("a response");
        Some(Q::Response::decode(&mut body, version).expect("a response"))
    }
}

impl SimulatedCluster {
    pub(crate) fn create_topic(
        &mut self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
        network: &mut Network,
    ) {
        let text = |text: &str| StrBytes::from_string(text.to_owned());
        let configs = configs.iter().map(|(name, value)| {
            CreatableTopicConfig::default()
                .with_name(text(name))
                .with_value(Some(text(value)))
        });
        let topic = CreatableTopic::default()
            .with_name(TopicName(text(name)))
            .with_num_partitions(partitions)
            .with_replication_factor(-1)
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default().with_topics(vec![topic]);
        let answer = self.call(1, 5, &request, network).expect("an answer");
        assert_eq!(answer.topics[0].error_code, 0, "{answer:?}");
    }
}
