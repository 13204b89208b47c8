//! InitProducerId: a new producer id, or the next epoch of a transactional id.

use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use super::{Call, Cluster, fenced_for};
use crate::protocol::error_code::ErrorCode;
use crate::sandbox::core::transactions::Identity;

const FIRST_WITH_FENCED: i16 = 4;

pub(super) fn handle(cluster: &mut Cluster, call: &Call, request: InitProducerIdRequest) -> InitProducerIdResponse {
    match initialize(cluster, call, &request) {
        Ok((producer_id, epoch)) => InitProducerIdResponse::default()
            .with_producer_id(ProducerId(producer_id))
            .with_producer_epoch(epoch),
        Err(code) => InitProducerIdResponse::default()
            .with_error_code(fenced_for(call, FIRST_WITH_FENCED, code).code())
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1),
    }
}

fn initialize(cluster: &mut Cluster, call: &Call, request: &InitProducerIdRequest) -> Result<Identity, ErrorCode> {
    let Some(id) = &request.transactional_id else {
        return match call.refused() {
            Some(code) => Err(code),
            None => Ok((cluster.allocate_producer_id(), 0)),
        };
    };
    cluster.check_coordinator(call, id)?;
    let (expected_id, expected_epoch) = (request.producer_id.0, request.producer_epoch);
    if (expected_id < 0) != (expected_epoch < 0) {
        return Err(ErrorCode::InvalidRequest);
    }
    let ids = &mut cluster.next_producer_id;
    let identity = cluster.transactions.initialize(
        id,
        request.transaction_timeout_ms,
        (expected_id >= 0).then_some((expected_id, expected_epoch)),
        cluster.now_ms,
        || {
            *ids += 1;
            *ids - 1
        },
    );
    // It may have aborted what was open.
    cluster.write_markers();
    identity
}
