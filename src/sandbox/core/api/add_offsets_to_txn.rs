//! AddOffsetsToTxn: the offsets of a group become part of the transaction.

use kafka_protocol::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};

use super::{Call, Cluster, code_of, fenced_for};

const FIRST_WITH_FENCED: i16 = 2;

pub(super) fn handle(cluster: &mut Cluster, call: &Call, request: AddOffsetsToTxnRequest) -> AddOffsetsToTxnResponse {
    let id = &request.transactional_id;
    let identity = (request.producer_id.0, request.producer_epoch);
    let added = cluster.check_coordinator(call, id).and_then(|()| {
        let group = Some(request.group_id.as_str());
        cluster.transactions.add(id, identity, [], group, cluster.now_ms)
    });
    let added = added.map_err(|code| fenced_for(call, FIRST_WITH_FENCED, code));
    AddOffsetsToTxnResponse::default().with_error_code(code_of(added))
}
