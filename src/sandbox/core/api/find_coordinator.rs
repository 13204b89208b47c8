//! FindCoordinator: the broker that keeps a group or a transactional id.

use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Call, Cluster, text};
use crate::protocol::error_code::ErrorCode;
use crate::sandbox::core::BrokerAddress;

const FIRST_WITH_SEVERAL_KEYS: i16 = 4;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

pub(super) fn handle(cluster: &mut Cluster, call: &Call, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let find = |key: &StrBytes| match (call.refused(), request.key_type) {
        (Some(code), _) => Err(code),
        // Share groups have coordinators of their own, which are not served.
        (None, GROUP | TRANSACTION) => {
            let id = cluster.coordinator_of(key).ok_or(ErrorCode::CoordinatorNotAvailable)?;
            let address = cluster.brokers.get(&id).ok_or(ErrorCode::CoordinatorNotAvailable)?;
            Ok((id, address))
        }
        (None, _) => Err(ErrorCode::InvalidRequest),
    };
    if call.head.version >= FIRST_WITH_SEVERAL_KEYS {
        let coordinators = request.coordinator_keys.iter().map(|key| coordinator(key, find(key)));
        return FindCoordinatorResponse::default().with_coordinators(coordinators.collect());
    }
    let found = coordinator(&request.key, find(&request.key));
    FindCoordinatorResponse::default()
        .with_error_code(found.error_code)
        .with_error_message(found.error_message)
        .with_node_id(found.node_id)
        .with_host(found.host)
        .with_port(found.port)
}

fn coordinator(key: &StrBytes, found: Result<(i32, &BrokerAddress), ErrorCode>) -> Coordinator {
    let answer = Coordinator::default().with_key(key.clone());
    match found {
        Ok((id, address)) => answer
            .with_node_id(BrokerId(id))
            .with_host(text(&address.host))
            .with_port(address.port.into()),
        Err(code) => answer
            .with_node_id(BrokerId(-1))
            .with_port(-1)
            .with_error_code(code.code())
            .with_error_message(Some(text(code.name()))),
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::{GroupId, HeartbeatRequest};

    use super::*;
    use crate::sandbox::core::testing::{TestClient, code};

    #[test]
    fn only_the_coordinator_found_serves_the_group() {
        let mut client = TestClient::of(3);
        let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("group")]);
        let found = client.call(4, &request).coordinators.remove(0);
        let heartbeat = HeartbeatRequest::default().with_group_id(GroupId(text("group")));

        for broker in 1..=3 {
            client.connection = client.cluster.connect(broker);
            let expected = match broker == found.node_id.0 {
                true => ErrorCode::UnknownMemberId,
                false => ErrorCode::NotCoordinator,
            };
            assert_eq!(code(client.call(4, &heartbeat).error_code), expected);
        }
    }

    #[test]
    fn old_versions_ask_for_one_key() {
        let mut client = TestClient::of(1);
        let found = client.call(2, &FindCoordinatorRequest::default().with_key(text("group")));

        assert_eq!((found.node_id.0, found.port), (1, 9092));
    }
}
