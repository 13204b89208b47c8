//! What a fetch reads: from which logs, how far, and why not.

use super::response::Read;
use super::{Fetch, Wanted};
use crate::protocol::error_code::ErrorCode;
use crate::sandbox::core::log::{Isolation, PartitionLog};
use crate::sandbox::core::topics::{Partition, Topics};

impl Fetch {
    /// Reads what is wanted, in order, until the response is full.
    pub(super) fn read(&self, topics: &Topics) -> Vec<Read> {
        let mut left = self.max_bytes;
        let mut has_data = false;
        let mut reads = Vec::with_capacity(self.wanted.len());
        for (place, wanted) in self.wanted.iter().enumerate() {
            let refused = self.refused.iter().find(|(refused, _)| *refused == place);
            let read = match (refused, find(topics, wanted)) {
                (Some(&(_, code)), _) | (None, Err(code)) => Read::failed(code),
                (None, Ok(partition)) => match partition.check_leader(self.broker, wanted.current_leader_epoch) {
                    Err(code) => Read {
                        leader: partition.leader.map(|leader| (leader, partition.leader_epoch)),
                        ..Read::failed(code)
                    },
                    // Not even an oversized batch starves the client, but only the first may exceed the limits.
                    Ok(()) => self.read_log(&partition.log, wanted, left, !has_data),
                },
            };
            left = left.saturating_sub(read.slice.bytes);
            has_data |= read.slice.bytes > 0;
            reads.push(read);
        }
        reads
    }

    fn read_log(&self, log: &PartitionLog, wanted: &Wanted, left: usize, at_least_one: bool) -> Read {
        let mut read = Read {
            high_watermark: log.high_watermark(),
            last_stable_offset: log.last_stable_offset(),
            log_start_offset: log.log_start_offset(),
            ..Read::failed(ErrorCode::None)
        };
        if wanted.last_fetched_epoch >= 0 {
            // The client's last record is of an epoch that this log does not know: nothing can be said about it.
            let Some(end) = log.end_of_epoch(wanted.last_fetched_epoch) else {
                return Read::failed(ErrorCode::OffsetOutOfRange);
            };
            if end.epoch < wanted.last_fetched_epoch || end.end_offset < wanted.fetch_offset {
                read.diverging = Some(end);
                return read;
            }
        }
        let max_bytes = wanted.max_bytes.min(left);
        match log.read(wanted.fetch_offset, self.isolation, max_bytes, at_least_one) {
            Err(code) => Read::failed(code),
            Ok(slice) => {
                read.slice = slice;
                if self.isolation == Isolation::ReadCommitted {
                    read.aborted = Some(log.aborted_in(wanted.fetch_offset, slice));
                }
                read
            }
        }
    }
}

pub(super) fn find<'a>(topics: &'a Topics, wanted: &Wanted) -> Result<&'a Partition, ErrorCode> {
    let by_id = !wanted.topic_id.is_nil();
    if by_id && wanted.topic.is_empty() {
        return Err(ErrorCode::UnknownTopicId);
    }
    let topic = topics.get(&wanted.topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if by_id && topic.id != wanted.topic_id {
        // Only a session can still know the name of an id that is gone.
        return Err(ErrorCode::InconsistentTopicId);
    }
    topic
        .partition(wanted.partition)
        .ok_or(ErrorCode::UnknownTopicOrPartition)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{error_of, request_of, sizes};
    use super::*;
    use crate::record::BatchOptions;
    use crate::sandbox::core::testing::{TestClient, batch, batch_with, code, stamped, transactional};

    #[test]
    fn limits_cut_off_the_tail_but_never_the_first_batch() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 2, &[]);
        let size = batch(&["a"]).len();
        for partition in [0, 1] {
            client.produce("t", partition, batch(&["a"]));
            client.produce("t", partition, batch(&["b"]));
        }

        let mut request = request_of(&[0, 0]);
        assert_eq!(sizes(&client.call(12, &request)), [(0, 2 * size), (1, 2 * size)]);
        request.max_bytes = 1;
        assert_eq!(sizes(&client.call(12, &request)), [(0, size), (1, 0)]);
        request.max_bytes = (2 * size + 1) as i32;
        assert_eq!(sizes(&client.call(12, &request)), [(0, 2 * size), (1, 0)]);
        request.max_bytes = (3 * size + 1) as i32;
        assert_eq!(sizes(&client.call(12, &request)), [(0, 2 * size), (1, size + 1)]);
    }

    #[test]
    fn a_client_that_knows_truncated_records_is_told_where_to_go_back_to() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 1, &[]);
        client.produce("t", 0, batch(&["a", "b"]));
        client.produce("t", 0, batch(&["lost"]));
        client.cluster.truncate("t", 0, 2).unwrap();
        client.produce("t", 0, batch(&["c", "d"]));
        let mut fetch = |offset, last_fetched_epoch| {
            let mut request = request_of(&[offset]);
            request.topics[0].partitions[0].last_fetched_epoch = last_fetched_epoch;
            let partition = client.call(12, &request).responses.remove(0).partitions.remove(0);
            let end = (partition.diverging_epoch.epoch, partition.diverging_epoch.end_offset);
            (code(partition.error_code), end)
        };

        assert_eq!(fetch(3, 0), (ErrorCode::None, (0, 2)));
        assert_eq!(
            fetch(2, 0),
            (ErrorCode::None, (-1, -1)),
            "only what is left was fetched"
        );
        assert_eq!(fetch(3, 1), (ErrorCode::None, (-1, -1)));
        assert_eq!(
            fetch(3, 2).0,
            ErrorCode::OffsetOutOfRange,
            "the log knows of no such epoch"
        );
    }

    #[test]
    fn readers_of_committed_records_stop_at_an_open_transaction() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 1, &[]);
        client.produce("t", 0, batch(&["a"]));
        let identity = client.begin("x", "t", 0);
        client.produce_in("x", "t", 0, batch_with(transactional(identity, 0), &["b"]));
        client.produce("t", 0, batch_with(BatchOptions::default(), &["c"]));

        let open = client.fetch("t", 0, 0);
        assert_eq!((open.last_stable_offset, open.high_watermark), (1, 3));
        assert_eq!(open.records.unwrap().len(), batch(&["a"]).len());
        assert_eq!(open.aborted_transactions, Some(vec![]));

        client.end("x", identity, false);
        let ended = client.fetch("t", 0, 0);
        assert_eq!((ended.last_stable_offset, ended.high_watermark), (4, 4));
        let aborted = ended.aborted_transactions.unwrap();
        assert_eq!((aborted[0].producer_id.0, aborted[0].first_offset), (identity.0, 1));
        let uncommitted = client.call(12, &request_of(&[0]).with_isolation_level(0));
        assert_eq!(uncommitted.responses[0].partitions[0].aborted_transactions, None);
        let behind = client.fetch("t", 0, 4);
        assert_eq!(behind.aborted_transactions, Some(vec![]));
    }

    #[test]
    fn another_broker_says_who_leads() {
        let mut client = TestClient::of(2);
        client.create_topic("t", 1, &[]);
        client.cluster.move_leader("t", 0, Some(2)).unwrap();
        let mut request = request_of(&[0]);
        request.topics[0].topic_id = client.cluster.topics().get("t").unwrap().id;

        let response = client.call(16, &request);

        assert_eq!(error_of(&response), ErrorCode::NotLeaderOrFollower);
        let leader = &response.responses[0].partitions[0].current_leader;
        assert_eq!((leader.leader_id.0, leader.leader_epoch), (2, 1));
        assert_eq!(
            (response.node_endpoints[0].node_id.0, response.node_endpoints[0].port),
            (2, 9093)
        );
    }

    #[test]
    fn a_record_of_a_producer_with_an_id_is_plain_data() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 1, &[]);
        client.produce("t", 0, batch_with(stamped(4, 0, 0), &["a"]));

        assert_eq!(client.fetch("t", 0, 0).last_stable_offset, 1);
    }
}
