//! Produce: appends one batch to each partition named.

use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{BrokerId, ProduceResponse};

use super::{Call, Cluster, Outcome, text};
use crate::protocol::error_code::ErrorCode;
use crate::sandbox::core::log::{Appended, ClientBatch, Invalid};
use crate::sandbox::core::produce_request::{ProduceRequest, ProduceTopic};
use crate::sandbox::core::topics::Topic;
use crate::sandbox::core::transactions::{Identity, Transactions};
use crate::sandbox::core::wire::RequestError;

const FIRST_WITH_TOPIC_IDS: i16 = 13;
/// The first version that says where the leader is (KIP-951).
const FIRST_WITH_LEADERS: i16 = 10;
const FIRST_WITH_ABORTABLE: i16 = 11;
/// From here on a produce request makes its partitions part of the transaction by itself.
const FIRST_THAT_ADDS_PARTITIONS: i16 = 12;

pub(super) fn handle(cluster: &mut Cluster, call: &Call, request: ProduceRequest) -> Result<Outcome, RequestError> {
    let refused = refuse_all(&request);
    let mut leaders = Vec::new();
    let mut responses = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.batches.len());
        for (&index, batch) in &topic.batches {
            let appended = match refused {
                Some(code) => Err(code.into()),
                None => append(cluster, call, topic, index, batch, &request),
            };
            let mut response = respond(index, appended);
            if let Some(leader) = leader_hint(cluster, call, topic, &response) {
                leaders.push(leader.leader_id);
                response.current_leader = leader;
            }
            partitions.push(response);
        }
        responses.push(
            TopicProduceResponse::default()
                .with_name(topic.name.clone())
                .with_topic_id(topic.id)
                .with_partition_responses(partitions),
        );
    }
    if request.acks == 0 {
        return Ok(Outcome::Silence);
    }
    let response = ProduceResponse::default()
        .with_responses(responses)
        .with_node_endpoints(endpoints(cluster, leaders));
    call.head.encode(&response).map(Outcome::Answer)
}

pub(super) fn partitions_of(cluster: &Cluster, request: &ProduceRequest) -> Vec<(String, i32)> {
    let topics = request
        .topics
        .iter()
        .filter_map(|topic| Some((find(cluster, topic).ok()?, topic)));
    topics
        .flat_map(|(known, topic)| topic.batches.keys().map(|&index| (known.name.to_string(), index)))
        .collect()
}

/// What makes a broker refuse the request as a whole.
fn refuse_all(request: &ProduceRequest) -> Option<ErrorCode> {
    let producers = request.transactional_producers();
    if !matches!(request.acks, -1..=1) {
        Some(ErrorCode::InvalidRequiredAcks)
    } else if !producers.is_empty() && request.transactional_id.is_none() {
        Some(ErrorCode::TransactionalIdAuthorizationFailed)
    } else if producers.len() > 1 {
        Some(ErrorCode::InvalidProducerIdMapping)
    } else {
        None
    }
}

fn find<'a>(cluster: &'a Cluster, topic: &ProduceTopic) -> Result<&'a Topic, ErrorCode> {
    if topic.id.is_nil() {
        cluster
            .topics
            .get(&topic.name)
            .ok_or(ErrorCode::UnknownTopicOrPartition)
    } else {
        let name = cluster.topics.name_of(topic.id).ok_or(ErrorCode::UnknownTopicId)?;
        cluster.topics.get(name).ok_or(ErrorCode::UnknownTopicId)
    }
}

/// What has become of a batch, and where the log began then.
fn append(
    cluster: &mut Cluster,
    call: &Call,
    topic: &ProduceTopic,
    index: i32,
    batch: &Result<ClientBatch, Invalid>,
    request: &ProduceRequest,
) -> Result<(Appended, i64), Invalid> {
    let name = match call.head.version {
        FIRST_WITH_TOPIC_IDS.. => cluster
            .topics
            .name_of(topic.id)
            .ok_or(ErrorCode::UnknownTopicId)?
            .clone(),
        _ => topic.name.clone(),
    };
    call.check_refusal(&name, index)?;
    let topic = cluster
        .topics
        .get_mut(&name)
        .ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let Topic {
        id, config, partitions, ..
    } = topic;
    let partition = usize::try_from(index)
        .ok()
        .and_then(|place| partitions.get_mut(place))
        .ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let batch = batch.as_ref().map_err(Clone::clone)?;
    partition.check_leader(call.broker, -1)?;
    if request.acks == -1 && partition.replicas.len() < config.min_insync_replicas {
        return Err(ErrorCode::NotEnoughReplicas.into());
    }
    let valid = batch.validate(config, cluster.now_ms)?;
    if let (Some(identity), Some(id)) = (batch.transactional_producer(), &request.transactional_id)
        && !partition.log.has_open_transaction(identity.0, identity.1)
        && !partition.log.has(&valid)
    {
        join_transaction(
            &mut cluster.transactions,
            call,
            id,
            identity,
            (&name, index),
            cluster.now_ms,
        )?;
    }
    let appended = partition.log.append(valid, partition.leader_epoch)?;
    cluster.touched.insert((*id, index));
    Ok((appended, partition.log.log_start_offset()))
}

/// The first batch of a transaction in a partition: the coordinator has to know of it, or is told (KIP-890).
fn join_transaction(
    transactions: &mut Transactions,
    call: &Call,
    id: &str,
    identity: Identity,
    (topic, partition): (&str, i32),
    now_ms: i64,
) -> Result<(), Invalid> {
    let joined = match call.head.version {
        FIRST_THAT_ADDS_PARTITIONS.. => transactions.add(id, identity, [(topic.to_owned(), partition)], None, now_ms),
        _ => transactions.verify(id, identity, topic, partition),
    };
    joined.map_err(|code| match code {
        ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch.into(),
        // A producer tries that again, and not the other one.
        ErrorCode::ConcurrentTransactions if call.head.version < FIRST_THAT_ADDS_PARTITIONS => {
            ErrorCode::NotEnoughReplicas.into()
        }
        ErrorCode::InvalidTxnState => Invalid {
            message: Some("The record was not part of an ongoing transaction"),
            ..match call.head.version {
                FIRST_WITH_ABORTABLE.. => ErrorCode::TransactionAbortable.into(),
                _ => code.into(),
            }
        },
        code => code.into(),
    })
}

fn respond(index: i32, appended: Result<(Appended, i64), Invalid>) -> PartitionProduceResponse {
    let response = PartitionProduceResponse::default().with_index(index);
    match appended {
        Ok((appended, log_start_offset)) => response
            .with_base_offset(appended.base_offset)
            .with_log_append_time_ms(appended.log_append_time_ms)
            .with_log_start_offset(log_start_offset),
        Err(invalid) => response
            .with_error_code(invalid.code.code())
            .with_base_offset(-1)
            .with_log_append_time_ms(-1)
            .with_log_start_offset(-1)
            .with_error_message(invalid.message.map(text))
            .with_record_errors(
                invalid
                    .record_errors
                    .iter()
                    .map(|&(index, message)| {
                        BatchIndexAndErrorMessage::default()
                            .with_batch_index(index)
                            .with_batch_index_error_message(Some(text(message)))
                    })
                    .collect(),
            ),
    }
}

fn leader_hint(
    cluster: &Cluster,
    call: &Call,
    topic: &ProduceTopic,
    response: &PartitionProduceResponse,
) -> Option<LeaderIdAndEpoch> {
    if call.head.version < FIRST_WITH_LEADERS || response.error_code != ErrorCode::NotLeaderOrFollower.code() {
        return None;
    }
    let partition = find(cluster, topic).ok()?.partition(response.index)?;
    Some(
        LeaderIdAndEpoch::default()
            .with_leader_id(BrokerId(partition.leader?))
            .with_leader_epoch(partition.leader_epoch),
    )
}

fn endpoints(cluster: &Cluster, mut leaders: Vec<BrokerId>) -> Vec<NodeEndpoint> {
    leaders.sort_unstable();
    leaders.dedup();
    let known = leaders
        .into_iter()
        .filter_map(|id| Some((id, cluster.brokers.get(&id.0)?)));
    known
        .map(|(id, address)| {
            NodeEndpoint::default()
                .with_node_id(id)
                .with_host(text(&address.host))
                .with_port(address.port.into())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Codec, Scanned, scan};
    use crate::sandbox::core::testing::{TestClient, batch, batch_with, code, stamped};

    fn error(response: &PartitionProduceResponse) -> ErrorCode {
        code(response.error_code)
    }

    #[test]
    fn what_is_produced_is_fetched_at_the_offsets_told() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 1, &[]);

        assert_eq!(client.produce("t", 0, batch(&["a", "b"])).base_offset, 0);
        assert_eq!(client.produce("t", 0, batch(&["c"])).base_offset, 2);

        let fetched = client.fetch("t", 0, 0);
        assert_eq!((fetched.high_watermark, fetched.last_stable_offset), (3, 3));
        let batches: Vec<_> = scan(fetched.records.unwrap()).map(Result::unwrap).collect();
        let offsets = batches.iter().map(|scanned| match scanned {
            Scanned::Batch(batch) => {
                batch.verify_crc().unwrap();
                batch.header.base_offset()
            }
            Scanned::Legacy(_) => panic!("magic 2"),
        });
        assert_eq!(offsets.collect::<Vec<_>>(), [0, 2]);
    }

    #[test]
    fn a_repeated_batch_gets_its_first_offset() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 1, &[]);
        client.produce("t", 0, batch(&["x"]));
        let first = client.produce("t", 0, batch_with(stamped(9, 0, 0), &["a"]));
        client.produce("t", 0, batch_with(stamped(9, 0, 1), &["b"]));

        let again = client.produce("t", 0, batch_with(stamped(9, 0, 0), &["a"]));

        assert_eq!((error(&first), first.log_append_time_ms), (ErrorCode::None, -1));
        assert_eq!((error(&again), again.base_offset), (ErrorCode::None, 1));
        assert_eq!(again.log_append_time_ms, 1_700_000_000_000);
        assert_eq!(client.fetch("t", 0, 0).high_watermark, 3);
    }

    #[test]
    fn a_gap_in_the_sequence_and_an_old_epoch_are_refused() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 1, &[]);
        client.produce("t", 0, batch_with(stamped(9, 3, 0), &["a"]));

        for (options, expected) in [
            (stamped(9, 3, 2), ErrorCode::OutOfOrderSequenceNumber),
            (stamped(9, 2, 0), ErrorCode::InvalidProducerEpoch),
            (stamped(9, 4, 1), ErrorCode::OutOfOrderSequenceNumber),
        ] {
            let response = client.produce("t", 0, batch_with(options, &["b"]));
            assert_eq!((error(&response), response.base_offset), (expected, -1));
        }
    }

    #[test]
    fn every_codec_is_taken_as_it_is() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 1, &[]);
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let options = crate::record::BatchOptions {
                codec,
                ..Default::default()
            };
            let response = client.produce("t", 0, batch_with(options, &["a", "b"]));
            assert_eq!(error(&response), ErrorCode::None, "{codec}");
        }
        assert_eq!(client.fetch("t", 0, 0).high_watermark, 8);
    }
}
