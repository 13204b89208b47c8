//! AlterConfigs, which replaces everything that is set on a topic, and IncrementalAlterConfigs, which does not.

use std::collections::BTreeMap;

use kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
    alter_configs_response, incremental_alter_configs_response,
};

use super::create_topics::Refused;
use super::describe_configs::TOPIC;
use super::{Call, Cluster, text};
use crate::protocol::error_code::ErrorCode;
use crate::sandbox::core::config::{Kind, TopicConfig, definition};

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

type Overrides = BTreeMap<String, String>;

pub(super) fn handle(cluster: &mut Cluster, call: &Call, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let responses = request.resources.iter().map(|resource| {
        let replaced = |_: &Overrides| {
            let entries = resource.configs.iter().map(|config| {
                let value = config.value.as_ref().ok_or_else(|| null_value(&config.name))?;
                Ok((config.name.to_string(), value.to_string()))
            });
            entries.collect()
        };
        let (name, is_trial) = (&resource.resource_name, request.validate_only);
        let (code, message) = match alter(cluster, call, resource.resource_type, name, is_trial, replaced) {
            Ok(()) => (ErrorCode::None, None),
            Err((code, message)) => (code, Some(text(message))),
        };
        alter_configs_response::AlterConfigsResourceResponse::default()
            .with_error_code(code.code())
            .with_error_message(message)
            .with_resource_type(resource.resource_type)
            .with_resource_name(name.clone())
    });
    AlterConfigsResponse::default().with_responses(responses.collect())
}

pub(super) fn handle_incremental(
    cluster: &mut Cluster,
    call: &Call,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let responses = request.resources.iter().map(|resource| {
        let changed = |present: &Overrides| {
            let mut overrides = present.clone();
            for change in &resource.configs {
                apply(&mut overrides, change)?;
            }
            Ok(overrides)
        };
        let (name, is_trial) = (&resource.resource_name, request.validate_only);
        let (code, message) = match alter(cluster, call, resource.resource_type, name, is_trial, changed) {
            Ok(()) => (ErrorCode::None, None),
            Err((code, message)) => (code, Some(text(message))),
        };
        incremental_alter_configs_response::AlterConfigsResourceResponse::default()
            .with_error_code(code.code())
            .with_error_message(message)
            .with_resource_type(resource.resource_type)
            .with_resource_name(name.clone())
    });
    IncrementalAlterConfigsResponse::default().with_responses(responses.collect())
}

/// All of a resource's changes are made, or none.
fn alter(
    cluster: &mut Cluster,
    call: &Call,
    resource_type: i8,
    name: &str,
    is_trial: bool,
    change: impl FnOnce(&Overrides) -> Result<Overrides, Refused>,
) -> Result<(), Refused> {
    call.check_refusal(name, 0)
        .map_err(|code| (code, "refused by a fault".to_owned()))?;
    if resource_type != TOPIC {
        let message = "only the configurations of topics can be changed".to_owned();
        return Err((ErrorCode::InvalidRequest, message));
    }
    let topic = cluster.topics.get_mut(name).ok_or_else(|| {
        let message = format!("The topic '{name}' does not exist.");
        (ErrorCode::UnknownTopicOrPartition, message)
    })?;
    let config = TopicConfig::new(change(topic.config.overrides())?)
        .map_err(|error| (ErrorCode::InvalidConfig, error.to_string()))?;
    if !is_trial {
        topic.config = config;
    }
    Ok(())
}

fn apply(overrides: &mut Overrides, change: &AlterableConfig) -> Result<(), Refused> {
    let name = change.name.to_string();
    if change.config_operation == DELETE {
        overrides.remove(&name);
        return Ok(());
    }
    let value = change.value.as_ref().ok_or_else(|| null_value(&name))?.to_string();
    if change.config_operation == SET {
        overrides.insert(name, value);
        return Ok(());
    }
    let definition = definition(&name).filter(|known| matches!(known.kind, Kind::ListOf(_) | Kind::AnyList));
    let Some(definition) = definition else {
        let message = format!("Can't append or subtract: {name} is not a list.");
        return Err((ErrorCode::InvalidConfig, message));
    };
    let present = overrides.get(&name).map_or(definition.default, String::as_str);
    let mut items: Vec<&str> = present.split(',').filter(|item| !item.is_empty()).collect();
    match change.config_operation {
        APPEND => {
            let new = value
                .split(',')
                .filter(|item| !present.split(',').any(|known| known == *item));
            items.extend(new);
        }
        SUBTRACT => items.retain(|item| !value.split(',').any(|removed| removed == *item)),
        other => return Err((ErrorCode::InvalidRequest, format!("Unknown operation {other}."))),
    }
    let items = items.join(",");
    overrides.insert(name, items);
    Ok(())
}

fn null_value(name: &str) -> Refused {
    let message = format!("Null value not supported for topic configs: {name}");
    (ErrorCode::InvalidConfig, message)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::{alter_configs_request, incremental_alter_configs_request};

    use super::*;
    use crate::sandbox::core::testing::{TestClient, code};

    fn change(client: &mut TestClient, changes: &[(i8, &str, &str)]) -> ErrorCode {
        let configs = changes.iter().map(|&(operation, name, value)| {
            AlterableConfig::default()
                .with_config_operation(operation)
                .with_name(text(name))
                .with_value(Some(text(value)))
        });
        let resource = incremental_alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text("t"))
            .with_configs(configs.collect());
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        code(client.call(1, &request).responses[0].error_code)
    }

    fn set_on(client: &TestClient) -> Vec<(String, String)> {
        let overrides = client.cluster.topics().get("t").unwrap().config.overrides();
        overrides.clone().into_iter().collect()
    }

    #[test]
    fn changes_leave_the_rest_alone() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 1, &[("retention.ms", "1"), ("flush.ms", "2")]);

        let changed = change(
            &mut client,
            &[(SET, "retention.ms", "3"), (APPEND, "cleanup.policy", "compact")],
        );
        assert_eq!(changed, ErrorCode::None);
        assert_eq!(change(&mut client, &[(DELETE, "flush.ms", "")]), ErrorCode::None);
        assert_eq!(
            change(&mut client, &[(SUBTRACT, "cleanup.policy", "delete")]),
            ErrorCode::None
        );

        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            set_on(&client),
            [pair("cleanup.policy", "compact"), pair("retention.ms", "3")]
        );
        assert!(client.cluster.topics().get("t").unwrap().config.is_compacted);
    }

    #[test]
    fn one_wrong_change_undoes_the_others() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 1, &[]);

        for wrong in [
            (SET, "retention.ms", "soon"),
            (SET, "unheard.of", "1"),
            (APPEND, "retention.ms", "1"),
        ] {
            let refused = change(&mut client, &[(SET, "flush.ms", "2"), wrong]);
            assert_eq!(refused, ErrorCode::InvalidConfig, "{wrong:?}");
        }
        assert_eq!(set_on(&client), []);
    }

    #[test]
    fn altering_replaces_everything() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 1, &[("retention.ms", "1")]);
        let config = alter_configs_request::AlterableConfig::default()
            .with_name(text("flush.ms"))
            .with_value(Some(text("2")));
        let resource = alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text("t"))
            .with_configs(vec![config]);
        client.call(2, &AlterConfigsRequest::default().with_resources(vec![resource]));

        assert_eq!(set_on(&client), [("flush.ms".to_owned(), "2".to_owned())]);
    }
}
