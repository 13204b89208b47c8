//! How clusters are named on the command line, or in a file with the settings of both.

use std::path::Path;

use anyhow::Context;

use crate::cluster::{ClusterConfig, Side};
use crate::config::ClientProperties;
use crate::config::properties::{self, Property};

/// A flow by its clusters' aliases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FlowName {
    pub(super) source: String,
    pub(super) target: String,
}

impl std::str::FromStr for FlowName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The aliases become part of a topic's name.
        let fits = |alias: &str| {
            (1..=100).contains(&alias.len())
                && alias
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
        };
        match text.split_once("->") {
            Some((source, target)) if fits(source) && fits(target) && source != target => Ok(Self {
                source: source.to_owned(),
                target: target.to_owned(),
            }),
            _ => Err("write two different aliases as A->B, of letters, digits, '.', '_' and '-'".to_owned()),
        }
    }
}

impl std::fmt::Display for FlowName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}->{}", self.source, self.target)
    }
}

/// A cluster by the addresses of some brokers, and a file of client properties.
pub(super) fn cluster_config(
    side: Side,
    alias: &str,
    bootstrap: &[String],
    properties: Option<&Path>,
) -> anyhow::Result<ClusterConfig> {
    let Some(path) = properties else {
        return Ok(ClusterConfig::new(side, alias, bootstrap.to_vec()));
    };
    let text = std::fs::read_to_string(path).with_context(|| format!("{} can't be read", path.display()))?;
    let client = ClientProperties::parse(&text).with_context(|| path.display().to_string())?;
    for key in &client.ignored {
        tracing::warn!(file = %path.display(), "{key} has no meaning for kferry and is ignored");
    }
    Ok(with_properties(side, alias, bootstrap.to_vec(), client))
}

fn with_properties(side: Side, alias: &str, bootstrap: Vec<String>, client: ClientProperties) -> ClusterConfig {
    let mut config = ClusterConfig::new(side, alias, bootstrap);
    if let Some(client_id) = client.client_id {
        config.client_id = client_id;
    }
    config.request_timeout = client.request_timeout.unwrap_or(config.request_timeout);
    config.connect_timeout = client.connect_timeout.unwrap_or(config.connect_timeout);
    config.metadata_max_age = client.metadata_max_age.unwrap_or(config.metadata_max_age);
    config
}

/// MirrorMaker 2's properties, of which this takes how clusters are reached.
#[derive(Debug)]
pub(super) struct FlowFile {
    name: String,
    properties: Vec<Property>,
}

impl FlowFile {
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).with_context(|| format!("{name} can't be read"))?;
        let properties = properties::parse(&text).with_context(|| name.clone())?;
        Ok(Self { name, properties })
    }

    /// The cluster of that alias: its `bootstrap.servers`, and its client settings where kferry has the like. A setting for
    /// admin clients goes before one for all.
    pub(super) fn cluster(&self, side: Side, alias: &str) -> anyhow::Result<ClusterConfig> {
        let of_cluster = |scope: &str| -> Vec<Property> {
            let own = self.properties.iter().filter_map(|property| {
                let key = property
                    .key
                    .strip_prefix(alias)?
                    .strip_prefix('.')?
                    .strip_prefix(scope)?;
                is_client_setting(key).then(|| Property {
                    key: key.to_owned(),
                    ..property.clone()
                })
            });
            own.collect()
        };
        let bootstrap_key = format!("{alias}.bootstrap.servers");
        let bootstrap = self
            .properties
            .iter()
            .rev()
            .find(|property| property.key == bootstrap_key);
        let bootstrap = bootstrap.with_context(|| format!("{}: {bootstrap_key} is missing", self.name))?;
        let servers = bootstrap.value.split(',').map(|server| server.trim().to_owned());
        let settings = [of_cluster(""), of_cluster("admin.")].concat();
        let client = ClientProperties::from_properties(settings).with_context(|| self.name.clone())?;
        Ok(with_properties(side, alias, servers.collect(), client))
    }
}

/// Settings of connections; the others are of the flows, and no business of whoever only asks.
fn is_client_setting(key: &str) -> bool {
    matches!(
        key,
        "client.id"
            | "request.timeout.ms"
            | "socket.connection.setup.timeout.ms"
            | "metadata.max.age.ms"
            | "security.protocol"
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flow_has_two_names_that_fit_into_a_topic() {
        assert_eq!(
            "A->B".parse(),
            Ok(FlowName {
                source: "A".into(),
                target: "B".into()
            })
        );
        for refused in ["A", "A->", "->B", "A->A", "A->b c", "A->B->C"] {
            assert!(refused.parse::<FlowName>().is_err(), "{refused}");
        }
    }

    #[test]
    fn a_file_says_how_its_clusters_are_reached() {
        let text = "clusters = A, B\nA.bootstrap.servers = a1:9092, a2:9092\nA.request.timeout.ms = 1000\n\
                    A.admin.request.timeout.ms = 2000\nA->B.enabled = true\n";
        let file = FlowFile {
            name: "mm2.properties".into(),
            properties: properties::parse(text).unwrap(),
        };
        let config = file.cluster(Side::Source, "A").unwrap();
        assert_eq!(config.bootstrap, ["a1:9092", "a2:9092"]);
        assert_eq!(config.request_timeout, Duration::from_secs(2));
        let error = file.cluster(Side::Target, "B").unwrap_err();
        assert_eq!(error.to_string(), "mm2.properties: B.bootstrap.servers is missing");
    }
}
