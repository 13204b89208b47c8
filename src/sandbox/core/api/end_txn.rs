//! EndTxn: decides a transaction. It is answered before the markers are written.

use kafka_protocol::messages::{EndTxnRequest, EndTxnResponse};

use super::{Call, Cluster, code_of, fenced_for};

const FIRST_WITH_FENCED: i16 = 2;

pub(super) fn handle(cluster: &mut Cluster, call: &Call, request: EndTxnRequest) -> EndTxnResponse {
    let id = &request.transactional_id;
    let identity = (request.producer_id.0, request.producer_epoch);
    let ended = cluster.check_coordinator(call, id).and_then(|()| {
        cluster
            .transactions
            .end(id, identity, request.committed, cluster.now_ms)
    });
    cluster.write_markers();
    let ended = ended.map_err(|code| fenced_for(call, FIRST_WITH_FENCED, code));
    EndTxnResponse::default().with_error_code(code_of(ended))
}
