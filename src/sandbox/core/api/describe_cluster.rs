//! DescribeCluster.

use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};

use super::{Call, Cluster, text};
use crate::protocol::error_code::ErrorCode;

pub(super) fn handle(cluster: &mut Cluster, call: &Call, request: DescribeClusterRequest) -> DescribeClusterResponse {
    let brokers = cluster.brokers.iter().map(|(&id, address)| {
        DescribeClusterBroker::default()
            .with_broker_id(BrokerId(id))
            .with_host(text(&address.host))
            .with_port(address.port.into())
    });
    // The other kind of endpoint is the controllers', whose address brokers do not know.
    let is_for_brokers = call.head.version == 0 || request.endpoint_type == 1;
    let code = match call.refused() {
        Some(code) => code,
        None if is_for_brokers => ErrorCode::None,
        None => ErrorCode::MismatchedEndpointType,
    };
    DescribeClusterResponse::default()
        .with_error_code(code.code())
        .with_endpoint_type(request.endpoint_type)
        .with_cluster_id(text(&cluster.settings.cluster_id))
        .with_controller_id(BrokerId(cluster.controller()))
        .with_brokers(brokers.collect())
}
