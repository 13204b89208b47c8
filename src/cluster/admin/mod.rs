//! Administration: what the cluster is asked about, or asked to change, apart from records.
//!
//! Calls go to the controller where brokers want that, and to the leaders where they know. Each goes on until every item
//! has its answer, until that cannot be had, or for `admin_timeout`; large requests are cut into several.
//!
//! A change whose outcome is unknown is asked for again. If the answer then is that it has been made, that counts as
//! success, since it was most likely made by us; whoever must be certain looks.

mod cluster;
mod configs;
mod coordinator;
mod groups;
mod leaders;
mod offsets;
mod producer_id;
mod producers;
mod rounds;
mod topics;
mod transactions;

pub use cluster::ClusterDescription;
pub use configs::{ConfigEntry, ConfigSource};
pub use coordinator::CoordinatorKind;
pub use groups::{GroupOffset, ListedGroup};
pub use offsets::{ListedOffset, OffsetSpec};
pub use producers::ActiveProducer;
pub use topics::{MOST_PARTITIONS_AT_ONCE, NewTopic};

use super::client::Cluster;
use super::connection::Connection;
use super::connections::Purpose;
use super::error::ClusterError;
use crate::protocol::ApiKey;
use crate::protocol::error_code::ErrorCode;

impl Cluster {
    /// The broker that changes topics. With KRaft any broker passes requests on, and each one calls some broker the
    /// controller.
    async fn controller(&self) -> Result<Connection, ClusterError> {
        match self.metadata().controller_id {
            Some(controller) => self.connection(controller, Purpose::Admin).await,
            None => self.any_broker().await,
        }
    }

    async fn any_broker(&self) -> Result<Connection, ClusterError> {
        let brokers = self.brokers_by_preference();
        self.connection(brokers.first().copied().unwrap_or(-1), Purpose::Admin)
            .await
    }
}

/// Turns an error code in an answer about `subject` into a result.
fn outcome(
    connection: &Connection,
    api: ApiKey,
    subject: impl FnOnce() -> String,
    code: i16,
    message: Option<&str>,
) -> Result<(), ClusterError> {
    match ErrorCode::from_wire(code) {
        ErrorCode::None => Ok(()),
        code => Err(ClusterError::Refused {
            peer: connection.peer().clone(),
            api,
            subject: subject(),
            code,
            message: message.map(str::to_owned),
        }),
    }
}

fn topic(name: &str) -> String {
    format!("topic {name}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fetch::Isolation;

    /// Never runs: that it compiles is the claim.
    #[expect(dead_code, reason = "checked by the compiler")]
    fn every_call_can_be_spawned(cluster: &Cluster) {
        fn assert_send(_: impl Send) {}
        assert_send(cluster.list_topics());
        assert_send(cluster.describe_topics(Vec::new()));
        assert_send(cluster.await_leaders(Vec::new()));
        assert_send(cluster.create_topics(Vec::new()));
        assert_send(cluster.create_partitions("t", 2));
        assert_send(cluster.delete_topics(Vec::new()));
        assert_send(cluster.topic_configs(Vec::new()));
        assert_send(cluster.describe_cluster());
        assert_send(cluster.list_offsets(Vec::new(), OffsetSpec::Latest(Isolation::ReadCommitted)));
        assert_send(cluster.init_producer_id());
        assert_send(cluster.describe_producers(Vec::new()));
        assert_send(cluster.list_groups());
        assert_send(cluster.fetch_group_offsets("g"));
        assert_send(cluster.commit_group_offsets("g", &[]));
    }
}
