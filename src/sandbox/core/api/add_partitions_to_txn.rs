//! AddPartitionsToTxn: all of the partitions become part of the transaction, or none.

use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};

use super::{Call, Cluster, fenced_for};
use crate::protocol::error_code::ErrorCode;

const FIRST_WITH_FENCED: i16 = 2;

pub(super) fn handle(
    cluster: &mut Cluster,
    call: &Call,
    request: AddPartitionsToTxnRequest,
) -> AddPartitionsToTxnResponse {
    let topics = &request.v3_and_below_topics;
    let all_known = topics.iter().all(|topic| {
        topic
            .partitions
            .iter()
            .all(|&index| cluster.topics.has(&topic.name, index))
    });
    let id = &request.v3_and_below_transactional_id;
    let outcome = if all_known {
        let partitions = topics.iter().flat_map(|topic| {
            let name = topic.name.to_string();
            topic.partitions.iter().map(move |&index| (name.clone(), index))
        });
        cluster.check_coordinator(call, id).and_then(|()| {
            let identity = (request.v3_and_below_producer_id.0, request.v3_and_below_producer_epoch);
            cluster.transactions.add(id, identity, partitions, None, cluster.now_ms)
        })
    } else {
        Err(ErrorCode::OperationNotAttempted)
    };
    let results = topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|&index| {
            let code = match outcome {
                _ if !cluster.topics.has(&topic.name, index) => ErrorCode::UnknownTopicOrPartition,
                Ok(()) => ErrorCode::None,
                Err(code) => fenced_for(call, FIRST_WITH_FENCED, code),
            };
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(index)
                .with_partition_error_code(code.code())
        });
        AddPartitionsToTxnTopicResult::default()
            .with_name(topic.name.clone())
            .with_results_by_partition(partitions.collect())
    });
    AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(results.collect())
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
    use kafka_protocol::messages::{ProducerId, TransactionalId};

    use super::*;
    use crate::sandbox::core::testing::{TestClient, code};
    use crate::sandbox::core::topics::topic_name;

    #[test]
    fn one_unknown_topic_keeps_all_out() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 1, &[]);
        client.create_topic("first", 1, &[]);
        let identity = client.begin("x", "first", 0);
        client.end("x", identity, true);
        let topics = ["t", "unknown"].map(|name| {
            AddPartitionsToTxnTopic::default()
                .with_name(topic_name(name))
                .with_partitions(vec![0])
        });
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(TransactionalId("x".to_owned().into()))
            .with_v3_and_below_producer_id(ProducerId(identity.0))
            .with_v3_and_below_producer_epoch(identity.1)
            .with_v3_and_below_topics(topics.to_vec());

        let response = client.call(2, &request);

        let codes: Vec<_> = response
            .results_by_topic_v3_and_below
            .iter()
            .map(|topic| code(topic.results_by_partition[0].partition_error_code))
            .collect();
        assert_eq!(
            codes,
            [ErrorCode::OperationNotAttempted, ErrorCode::UnknownTopicOrPartition]
        );
    }

    #[test]
    fn a_fenced_producer_is_told_so() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 1, &[]);
        let old = client.begin("x", "t", 0);
        client.end("x", old, true);
        client.begin("x", "t", 0);

        assert_eq!(client.add("x", old, "t", 0), ErrorCode::ProducerFenced);
    }
}
