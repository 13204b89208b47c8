//! InitProducerId.

use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use super::{Call, Cluster};
use crate::protocol::error_code::ErrorCode;

pub(super) fn handle(cluster: &mut Cluster, call: &Call, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let result = match (call.refused(), &request.transactional_id) {
        (Some(code), _) => Err(code),
        (None, None) => Ok((cluster.allocate_producer_id(), 0)),
        (None, Some(_)) => Err(ErrorCode::CoordinatorNotAvailable),
    };
    match result {
        Ok((producer_id, epoch)) => InitProducerIdResponse::default()
            .with_producer_id(ProducerId(producer_id))
            .with_producer_epoch(epoch),
        Err(code) => InitProducerIdResponse::default()
            .with_error_code(code.code())
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1),
    }
}
