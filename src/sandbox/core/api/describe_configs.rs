//! DescribeConfigs, of topics and of brokers.

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};

use super::create_topics::{DEFAULT_CONFIG, DYNAMIC_TOPIC_CONFIG, Refused};
use super::{Call, Cluster, text};
use crate::protocol::error_code::ErrorCode;
use crate::sandbox::core::config::{DEFINITIONS, Definition};

pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;

const STRING: i8 = 2;
const STATIC_BROKER_CONFIG: i8 = 4;

pub(super) fn handle(cluster: &mut Cluster, call: &Call, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let results = request.resources.iter().map(|resource| {
        let described = match call.check_refusal(&resource.resource_name, 0) {
            Err(code) => Err((code, "refused by a fault".to_owned())),
            Ok(()) => describe(cluster, resource),
        };
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match described {
            Err((code, message)) => result
                .with_error_code(code.code())
                .with_error_message(Some(text(message))),
            Ok(entries) => {
                let entries = entries.into_iter().filter(|entry| is_asked_for(resource, &entry.name));
                result.with_configs(
                    entries
                        .map(|entry| without_synonyms(entry, request.include_synonyms))
                        .collect(),
                )
            }
        }
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

fn describe(
    cluster: &Cluster,
    resource: &DescribeConfigsResource,
) -> Result<Vec<DescribeConfigsResourceResult>, Refused> {
    match resource.resource_type {
        TOPIC => {
            let topic = cluster
                .topics
                .get(&resource.resource_name)
                .ok_or((ErrorCode::UnknownTopicOrPartition, String::new()))?;
            Ok(DEFINITIONS
                .iter()
                .map(|definition| topic_entry(definition, topic.config.value(definition)))
                .collect())
        }
        BROKER => broker_entries(cluster, &resource.resource_name),
        other => Err((
            ErrorCode::InvalidRequest,
            format!("configurations of resource type {other} are not kept"),
        )),
    }
}

fn is_asked_for(resource: &DescribeConfigsResource, name: &str) -> bool {
    resource
        .configuration_keys
        .as_ref()
        .is_none_or(|keys| keys.iter().any(|key| key.as_str() == name))
}

fn without_synonyms(entry: DescribeConfigsResourceResult, are_wanted: bool) -> DescribeConfigsResourceResult {
    if are_wanted {
        entry
    } else {
        entry.with_synonyms(Vec::new())
    }
}

fn topic_entry(definition: &Definition, (value, is_set): (&str, bool)) -> DescribeConfigsResourceResult {
    let synonym = |value: &str, source| {
        DescribeConfigsSynonym::default()
            .with_name(text(definition.name))
            .with_value(Some(text(value)))
            .with_source(source)
    };
    let mut synonyms = vec![synonym(definition.default, DEFAULT_CONFIG)];
    if is_set {
        synonyms.insert(0, synonym(value, DYNAMIC_TOPIC_CONFIG));
    }
    DescribeConfigsResourceResult::default()
        .with_name(text(definition.name))
        .with_value(Some(text(value)))
        .with_config_source(if is_set { DYNAMIC_TOPIC_CONFIG } else { DEFAULT_CONFIG })
        .with_config_type(definition.kind.code())
        .with_synonyms(synonyms)
}

/// The few settings of a broker that clients look at.
fn broker_entries(cluster: &Cluster, id: &str) -> Result<Vec<DescribeConfigsResourceResult>, Refused> {
    let id: i32 = id.parse().map_err(|_| {
        let message = format!("Broker id must be an integer, but it is: {id}");
        (ErrorCode::InvalidRequest, message)
    })?;
    if !cluster.brokers.contains_key(&id) {
        return Err((ErrorCode::InvalidRequest, format!("Unexpected broker id {id}")));
    }
    let settings = &cluster.settings;
    let entries = [
        ("auto.create.topics.enable", settings.auto_create_topics.to_string()),
        ("broker.id", id.to_string()),
        ("default.replication.factor", "1".to_owned()),
        ("num.partitions", settings.default_partitions.to_string()),
    ];
    Ok(entries
        .into_iter()
        .map(|(name, value)| {
            DescribeConfigsResourceResult::default()
                .with_name(text(name))
                .with_value(Some(text(value)))
                .with_read_only(true)
                .with_config_source(STATIC_BROKER_CONFIG)
                .with_config_type(STRING)
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::core::testing::{TestClient, code};

    fn ask(client: &mut TestClient, resource: DescribeConfigsResource) -> DescribeConfigsResult {
        let request = DescribeConfigsRequest::default()
            .with_resources(vec![resource])
            .with_include_synonyms(true);
        client.call(3, &request).results.remove(0)
    }

    fn resource(resource_type: i8, name: &str) -> DescribeConfigsResource {
        DescribeConfigsResource::default()
            .with_resource_type(resource_type)
            .with_resource_name(text(name))
            .with_configuration_keys(None)
    }

    #[test]
    fn every_setting_says_where_it_comes_from() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 1, &[("retention.ms", "1000")]);

        let described = ask(&mut client, resource(TOPIC, "t"));

        assert_eq!(described.configs.len(), DEFINITIONS.len());
        for entry in described.configs {
            let is_set = entry.name.as_str() == "retention.ms";
            let source = if is_set { DYNAMIC_TOPIC_CONFIG } else { DEFAULT_CONFIG };
            assert_eq!(entry.config_source, source, "{}", entry.name);
            assert_eq!(entry.synonyms.len(), if is_set { 2 } else { 1 });
        }
    }

    #[test]
    fn only_what_is_asked_for_is_told() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 1, &[]);
        let keys = vec![text("flush.ms"), text("unheard.of")];

        let described = ask(&mut client, resource(TOPIC, "t").with_configuration_keys(Some(keys)));

        let names: Vec<_> = described.configs.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["flush.ms"]);
    }

    #[test]
    fn what_does_not_exist_has_no_configuration() {
        let mut client = TestClient::of(1);
        for (resource_type, name, expected) in [
            (TOPIC, "t", ErrorCode::UnknownTopicOrPartition),
            (BROKER, "7", ErrorCode::InvalidRequest),
            (BROKER, "one", ErrorCode::InvalidRequest),
            (99, "x", ErrorCode::InvalidRequest),
            (BROKER, "1", ErrorCode::None),
        ] {
            let described = ask(&mut client, resource(resource_type, name));
            assert_eq!(code(described.error_code), expected, "{resource_type} {name}");
        }
    }
}
