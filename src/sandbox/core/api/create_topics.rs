//! CreateTopics.

use std::collections::BTreeMap;

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse, TopicName};
use uuid::Uuid;

use super::{Call, Cluster, text};
use crate::protocol::error_code::ErrorCode;
use crate::sandbox::core::config::{DEFINITIONS, TopicConfig};
use crate::sandbox::core::topics::{Partition, Topic, check_name, collide, topic_name};

/// Partitions of a whole cluster: a misspelt count must not take all memory.
const MAX_PARTITIONS: usize = 100_000;

/// Where a configuration comes from, as the protocol numbers it.
pub(super) const DYNAMIC_TOPIC_CONFIG: i8 = 1;
pub(super) const DEFAULT_CONFIG: i8 = 5;

/// An error for one topic, with its text.
pub(super) type Refused = (ErrorCode, String);

pub(super) fn handle(cluster: &mut Cluster, call: &Call, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let mut counts: BTreeMap<TopicName, usize> = BTreeMap::new();
    for topic in &request.topics {
        *counts.entry(topic.name.clone()).or_default() += 1;
    }
    let mut results = Vec::with_capacity(counts.len());
    for topic in request.topics {
        // A name that comes more than once gets one answer.
        let Some(count) = counts.remove(&topic.name) else {
            continue;
        };
        let name = topic.name.clone();
        let planned = match call.check_refusal(&name, 0) {
            Err(code) => Err((code, "refused by a fault".to_owned())),
            Ok(()) if count > 1 => Err((ErrorCode::InvalidRequest, "Duplicate topic name.".to_owned())),
            Ok(()) => plan(cluster, &topic),
        };
        results.push(match planned {
            Err(refused) => failed(name, refused),
            Ok((replicas, config)) => {
                let result = created(name.clone(), &replicas, &config);
                let id = match request.validate_only {
                    true => Uuid::nil(),
                    false => create(cluster, name, replicas, config),
                };
                result.with_topic_id(id)
            }
        });
    }
    CreateTopicsResponse::default().with_topics(results)
}

/// Checks what is wanted, and decides which replicas each partition gets.
fn plan(cluster: &Cluster, topic: &CreatableTopic) -> Result<(Vec<Vec<i32>>, TopicConfig), Refused> {
    check_name(&topic.name).map_err(|message| (ErrorCode::InvalidTopicException, message))?;
    if cluster.topics.get(&topic.name).is_some() {
        let message = format!("Topic '{}' already exists.", topic.name.as_str());
        return Err((ErrorCode::TopicAlreadyExists, message));
    }
    let replicas = if topic.assignments.is_empty() {
        spread(cluster, topic.num_partitions, topic.replication_factor)?
    } else {
        assigned(cluster, topic)?
    };
    if let Some(other) = cluster.topics.iter().find(|other| collide(&other.name, &topic.name)) {
        let (name, other) = (topic.name.as_str(), other.name.as_str());
        let message = format!("Topic '{name}' collides with existing topics: {other}");
        return Err((ErrorCode::InvalidTopicException, message));
    }
    let mut overrides = BTreeMap::new();
    for entry in &topic.configs {
        let name = entry.name.to_string();
        let value = entry.value.as_ref().ok_or_else(|| {
            let message = format!("Null value not supported for topic configs: {name}");
            (ErrorCode::InvalidConfig, message)
        })?;
        overrides.insert(name, value.to_string());
    }
    let config = TopicConfig::new(overrides).map_err(|error| (ErrorCode::InvalidConfig, error.to_string()))?;
    Ok((replicas, config))
}

fn spread(cluster: &Cluster, partitions: i32, replication_factor: i16) -> Result<Vec<Vec<i32>>, Refused> {
    let count = match partitions {
        -1 => cluster.settings.default_partitions,
        count => count,
    };
    if count < 1 {
        let message = "Number of partitions was set to an invalid non-positive value.";
        return Err((ErrorCode::InvalidPartitions, message.to_owned()));
    }
    cluster.check_room(count as usize)?;
    let factor = match replication_factor {
        -1 => 1,
        factor => factor,
    };
    if factor < 1 || factor as usize > cluster.brokers.len() {
        let message = format!(
            "Unable to replicate the partition {factor} time(s): only {} broker(s) are registered.",
            cluster.brokers.len()
        );
        return Err((ErrorCode::InvalidReplicationFactor, message));
    }
    Ok((0..count)
        .map(|index| cluster.replicas_for(index, factor as usize))
        .collect())
}

/// The replicas that the request itself names: partitions without a gap, brokers that exist, each once.
fn assigned(cluster: &Cluster, topic: &CreatableTopic) -> Result<Vec<Vec<i32>>, Refused> {
    let refused = |message: &str| (ErrorCode::InvalidReplicaAssignment, message.to_owned());
    if topic.num_partitions != -1 || topic.replication_factor != -1 {
        let message = "A manual partition assignment goes without a number of partitions and a replication factor.";
        return Err((ErrorCode::InvalidRequest, message.to_owned()));
    }
    let mut replicas = BTreeMap::new();
    for assignment in &topic.assignments {
        let brokers: Vec<i32> = assignment.broker_ids.iter().map(|id| id.0).collect();
        cluster.check_assignment(&brokers).map_err(refused)?;
        if replicas.insert(assignment.partition_index, brokers).is_some() {
            return Err(refused("Found multiple manual assignments for one partition."));
        }
    }
    if replicas.keys().copied().ne(0..replicas.len() as i32) {
        return Err(refused("partitions should be a consecutive 0-based integer sequence"));
    }
    Ok(replicas.into_values().collect())
}

pub(super) fn create(cluster: &mut Cluster, name: TopicName, replicas: Vec<Vec<i32>>, config: TopicConfig) -> Uuid {
    let id = cluster.random.topic_id();
    cluster.topics.insert(Topic {
        id,
        // A copy, which does not hold on to the frame that the name came in.
        name: topic_name(&name),
        config,
        partitions: replicas.into_iter().map(Partition::new).collect(),
    });
    id
}

fn failed(name: TopicName, (code, message): Refused) -> CreatableTopicResult {
    CreatableTopicResult::default()
        .with_name(name)
        .with_error_code(code.code())
        .with_error_message(Some(text(message)))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
}

fn created(name: TopicName, replicas: &[Vec<i32>], config: &TopicConfig) -> CreatableTopicResult {
    let configs = DEFINITIONS.iter().map(|definition| {
        let (value, is_set) = config.value(definition);
        CreatableTopicConfigs::default()
            .with_name(text(definition.name))
            .with_value(Some(text(value)))
            .with_config_source(if is_set { DYNAMIC_TOPIC_CONFIG } else { DEFAULT_CONFIG })
    });
    CreatableTopicResult::default()
        .with_name(name)
        .with_num_partitions(replicas.len() as i32)
        .with_replication_factor(replicas.first().map_or(0, Vec::len) as i16)
        .with_configs(Some(configs.collect()))
}

impl Cluster {
    /// Leaders go round the brokers, followers are the next ones.
    pub(super) fn replicas_for(&self, partition: i32, factor: usize) -> Vec<i32> {
        let start = usize::try_from(partition).unwrap_or(0);
        self.brokers
            .keys()
            .copied()
            .cycle()
            .skip(start % self.brokers.len().max(1))
            .take(factor)
            .collect()
    }

    /// Whether so many more partitions may be made.
    pub(super) fn check_room(&self, more: usize) -> Result<(), Refused> {
        let present: usize = self.topics.iter().map(|topic| topic.partitions.len()).sum();
        if present + more <= MAX_PARTITIONS {
            return Ok(());
        }
        let message = format!("The sandbox has room for {MAX_PARTITIONS} partitions in all.");
        Err((ErrorCode::InvalidPartitions, message))
    }

    pub(super) fn check_assignment(&self, brokers: &[i32]) -> Result<(), &'static str> {
        let is_repeated = |(index, id)| brokers[..index].contains(id);
        if brokers.is_empty() {
            Err("The manual partition assignment includes an empty replica list.")
        } else if brokers.iter().any(|id| !self.brokers.contains_key(id)) {
            Err("The manual partition assignment includes a broker that is not registered.")
        } else if brokers.iter().enumerate().any(is_repeated) {
            Err("The manual partition assignment includes a broker more than once.")
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::BrokerId;
    use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopicConfig};

    use super::*;
    use crate::sandbox::core::testing::{TestClient, code};

    fn topic(name: &str) -> CreatableTopic {
        CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(1)
            .with_replication_factor(1)
    }

    fn create(client: &mut TestClient, topics: Vec<CreatableTopic>) -> Vec<ErrorCode> {
        let request = CreateTopicsRequest::default().with_topics(topics);
        let response = client.call(7, &request);
        response.topics.iter().map(|topic| code(topic.error_code)).collect()
    }

    #[test]
    fn leaders_go_round_the_brokers() {
        let mut client = TestClient::of(3);
        let wanted = topic("t").with_num_partitions(4).with_replication_factor(2);
        assert_eq!(create(&mut client, vec![wanted]), [ErrorCode::None]);

        let topic = client.cluster.topics().get("t").unwrap();
        let replicas: Vec<_> = topic
            .partitions
            .iter()
            .map(|partition| partition.replicas.clone())
            .collect();
        assert_eq!(replicas, [[1, 2], [2, 3], [3, 1], [1, 2]]);
    }

    #[test]
    fn what_cannot_be_created_is_refused_by_itself() {
        let mut client = TestClient::of(1);
        create(&mut client, vec![topic("a.b")]);
        let null = CreatableTopicConfig::default().with_name("retention.ms".to_owned().into());
        let refused = create(
            &mut client,
            vec![
                topic("a.b"),
                topic("a_b"),
                topic("no/path"),
                topic("many").with_replication_factor(2),
                topic("none").with_num_partitions(0),
                topic("all").with_num_partitions(i32::MAX),
                topic("null").with_configs(vec![null]),
                topic("twice"),
                topic("twice"),
                topic("fine"),
            ],
        );

        assert_eq!(
            refused,
            [
                ErrorCode::TopicAlreadyExists,
                ErrorCode::InvalidTopicException,
                ErrorCode::InvalidTopicException,
                ErrorCode::InvalidReplicationFactor,
                ErrorCode::InvalidPartitions,
                ErrorCode::InvalidPartitions,
                ErrorCode::InvalidConfig,
                ErrorCode::InvalidRequest,
                ErrorCode::None,
            ]
        );
    }

    #[test]
    fn assignments_are_taken_as_they_are_or_not_at_all() {
        let mut client = TestClient::of(2);
        let assigned = |assignments: &[(i32, &[i32])]| {
            let assignments = assignments.iter().map(|(index, brokers)| {
                CreatableReplicaAssignment::default()
                    .with_partition_index(*index)
                    .with_broker_ids(brokers.iter().copied().map(BrokerId).collect())
            });
            topic("t")
                .with_num_partitions(-1)
                .with_replication_factor(-1)
                .with_assignments(assignments.collect())
        };
        let wrong: [&[(i32, &[i32])]; 4] = [&[(1, &[1])], &[(0, &[3])], &[(0, &[1, 1])], &[(0, &[])]];
        for wrong in wrong {
            let refused = create(&mut client, vec![assigned(wrong)]);
            assert_eq!(refused, [ErrorCode::InvalidReplicaAssignment], "{wrong:?}");
        }

        assert_eq!(
            create(&mut client, vec![assigned(&[(0, &[2, 1]), (1, &[1])])]),
            [ErrorCode::None]
        );
        assert_eq!(client.cluster.partition("t", 0).unwrap().leader, Some(2));
    }

    #[test]
    fn a_trial_creates_nothing() {
        let mut client = TestClient::of(1);
        let request = CreateTopicsRequest::default()
            .with_topics(vec![topic("t")])
            .with_validate_only(true);

        assert_eq!(code(client.call(7, &request).topics[0].error_code), ErrorCode::None);
        assert!(client.cluster.topics().get("t").is_none());
    }
}
