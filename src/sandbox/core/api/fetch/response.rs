//! Writes a fetch response, versions 4 to 18, without copying the records: the `kafka-protocol` crate's encoder would.

use std::collections::BTreeMap;

use super::FIRST_WITH_TOPIC_IDS;
use crate::protocol::encoding::Encoding;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::primitives::put_uvarint;
use crate::protocol::produce_request::Segments;
use crate::sandbox::core::BrokerAddress;
use crate::sandbox::core::log::{AbortedTransaction, EpochEnd, Slice};
use crate::sandbox::core::sessions::{Told, Wanted};
use crate::sandbox::core::wire::{FrameWriter, RequestError, RequestHead};

const FIRST_FLEXIBLE: i16 = 12;
/// The first version that says where the leader is (KIP-951).
const FIRST_WITH_LEADERS: i16 = 16;

/// What is read of one partition.
#[derive(Debug)]
pub(super) struct Read {
    pub error: ErrorCode,
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    pub log_start_offset: i64,
    pub diverging: Option<EpochEnd>,
    /// Where the client should go instead: leader and epoch.
    pub leader: Option<(i32, i32)>,
    /// `None` for readers of uncommitted records.
    pub aborted: Option<Vec<AbortedTransaction>>,
    pub slice: Slice,
}

pub(super) type TopicRead<'a> = (&'a Wanted, &'a Read);

/// A response to be written. Partitions of one topic that follow one another share an entry, as from a real broker.
#[derive(Debug)]
pub(super) struct FetchResponse<'a> {
    pub head: &'a RequestHead,
    pub session_id: i32,
    pub brokers: &'a BTreeMap<i32, BrokerAddress>,
    pub partitions: &'a [TopicRead<'a>],
}

impl Read {
    pub(super) fn failed(error: ErrorCode) -> Self {
        Self {
            error,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging: None,
            leader: None,
            aborted: None,
            slice: Slice::default(),
        }
    }

    /// What a session remembers to have said. The last stable offset is not part of it, in Kafka neither.
    pub(super) fn told(&self) -> Option<Told> {
        (self.error == ErrorCode::None).then_some(Told {
            high_watermark: self.high_watermark,
            log_start_offset: self.log_start_offset,
        })
    }
}

impl FetchResponse<'_> {
    /// A response that is an error as a whole.
    pub(super) fn refused(head: &RequestHead, code: ErrorCode) -> Result<Segments, RequestError> {
        head.encode(&kafka_protocol::messages::FetchResponse::default().with_error_code(code.code()))
    }

    /// Writes the response; `records` writes those of one partition, whose size is in its slice.
    pub(super) fn encode(&self, records: impl Fn(&Wanted, &Read, &mut FrameWriter)) -> Segments {
        let version = self.head.version;
        let encoding = Encoding::new(version >= FIRST_FLEXIBLE);
        let mut writer = FrameWriter::new(self.head);
        writer.ours.extend(0_i32.to_be_bytes()); // throttle_time_ms
        if version >= 7 {
            writer.ours.extend(ErrorCode::None.code().to_be_bytes());
            writer.ours.extend(self.session_id.to_be_bytes());
        }
        let topics: Vec<_> = self
            .partitions
            .chunk_by(|(a, _), (b, _)| a.topic == b.topic && a.topic_id == b.topic_id)
            .collect();
        encoding.put_len(&mut writer.ours, topics.len());
        for topic in topics {
            let wanted = topic[0].0;
            if version >= FIRST_WITH_TOPIC_IDS {
                writer.ours.extend(wanted.topic_id.as_bytes());
            } else {
                encoding.put_string(&mut writer.ours, &wanted.topic);
            }
            encoding.put_len(&mut writer.ours, topic.len());
            for (wanted, read) in topic {
                read.encode(wanted, version, encoding, &mut writer);
                encoding.put_len(&mut writer.ours, read.slice.bytes);
                records(wanted, read, &mut writer);
                read.encode_tagged(version, encoding, &mut writer.ours);
            }
            encoding.put_no_tagged_fields(&mut writer.ours);
        }
        self.encode_endpoints(version, encoding, &mut writer.ours);
        writer.finish()
    }

    /// The addresses of the leaders that partitions hint at.
    fn encode_endpoints(&self, version: i16, encoding: Encoding, out: &mut Vec<u8>) {
        let mut leaders: Vec<i32> = self
            .partitions
            .iter()
            .filter_map(|(_, read)| Some(read.leader?.0))
            .collect();
        leaders.sort_unstable();
        leaders.dedup();
        if version < FIRST_WITH_LEADERS || leaders.is_empty() {
            return encoding.put_no_tagged_fields(out);
        }
        let mut endpoints = Vec::new();
        let known: Vec<_> = leaders
            .iter()
            .filter_map(|id| Some((id, self.brokers.get(id)?)))
            .collect();
        encoding.put_len(&mut endpoints, known.len());
        for (id, address) in known {
            endpoints.extend(id.to_be_bytes());
            encoding.put_string(&mut endpoints, &address.host);
            endpoints.extend(i32::from(address.port).to_be_bytes());
            encoding.put_null_string(&mut endpoints);
            encoding.put_no_tagged_fields(&mut endpoints);
        }
        put_tagged(out, &[(0, endpoints)]);
    }
}

impl Read {
    /// The fields before the records.
    fn encode(&self, wanted: &Wanted, version: i16, encoding: Encoding, writer: &mut FrameWriter) {
        let out = &mut writer.ours;
        out.extend(wanted.partition.to_be_bytes());
        out.extend(self.error.code().to_be_bytes());
        out.extend(self.high_watermark.to_be_bytes());
        out.extend(self.last_stable_offset.to_be_bytes());
        if version >= 5 {
            out.extend(self.log_start_offset.to_be_bytes());
        }
        match &self.aborted {
            None if encoding == Encoding::Flexible => put_uvarint(out, 0),
            None => out.extend((-1_i32).to_be_bytes()),
            Some(aborted) => {
                encoding.put_len(out, aborted.len());
                for transaction in aborted {
                    out.extend(transaction.producer_id.to_be_bytes());
                    out.extend(transaction.first_offset.to_be_bytes());
                    encoding.put_no_tagged_fields(out);
                }
            }
        }
        if version >= 11 {
            out.extend((-1_i32).to_be_bytes()); // preferred_read_replica
        }
    }

    fn encode_tagged(&self, version: i16, encoding: Encoding, out: &mut Vec<u8>) {
        if encoding == Encoding::Plain {
            return;
        }
        let mut fields = Vec::new();
        if let Some(diverging) = self.diverging {
            let mut field = diverging.epoch.to_be_bytes().to_vec();
            field.extend(diverging.end_offset.to_be_bytes());
            encoding.put_no_tagged_fields(&mut field);
            fields.push((0, field));
        }
        if let Some((leader, epoch)) = self.leader.filter(|_| version >= FIRST_WITH_LEADERS) {
            let mut field = leader.to_be_bytes().to_vec();
            field.extend(epoch.to_be_bytes());
            encoding.put_no_tagged_fields(&mut field);
            fields.push((1, field));
        }
        put_tagged(out, &fields);
    }
}

fn put_tagged(out: &mut Vec<u8>, fields: &[(u32, Vec<u8>)]) {
    put_uvarint(out, fields.len() as u32);
    for (tag, field) in fields {
        put_uvarint(out, *tag);
        put_uvarint(out, field.len() as u32);
        out.extend(field);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kafka_protocol::messages::fetch_response::{
        AbortedTransaction as WireAborted, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint,
        PartitionData,
    };
    use kafka_protocol::messages::{BrokerId, FetchResponse as WireResponse, ProducerId};
    use uuid::Uuid;

    use super::*;
    use crate::protocol::ApiKey;
    use crate::sandbox::core::topics::topic_name;
    use crate::sandbox::core::wire::body_of;

    fn wanted(topic: &str, id: u128, partition: i32) -> Wanted {
        Wanted {
            topic: topic_name(topic),
            topic_id: Uuid::from_u128(id),
            partition,
            fetch_offset: 0,
            current_leader_epoch: -1,
            last_fetched_epoch: -1,
            max_bytes: 0,
        }
    }

    /// One partition with data, one that has diverged, one that is led elsewhere; of two topics.
    fn reads() -> Vec<(Wanted, Read)> {
        let mut with_data = Read {
            high_watermark: 9,
            last_stable_offset: 8,
            log_start_offset: 7,
            aborted: Some(vec![AbortedTransaction {
                producer_id: 5,
                first_offset: 6,
                last_offset: 7,
            }]),
            ..Read::failed(ErrorCode::None)
        };
        with_data.slice.bytes = 2000;
        let diverged = Read {
            diverging: Some(EpochEnd {
                epoch: 1,
                end_offset: 15,
            }),
            ..Read::failed(ErrorCode::None)
        };
        let elsewhere = Read {
            leader: Some((2, 3)),
            ..Read::failed(ErrorCode::NotLeaderOrFollower)
        };
        vec![
            (wanted("a", 1, 0), with_data),
            (wanted("a", 1, 1), diverged),
            (wanted("b", 2, 0), elsewhere),
        ]
    }

    /// The same as the crate has it.
    fn wire_response(reads: &[(Wanted, Read)], version: i16, records: &Bytes) -> WireResponse {
        let partition = |(wanted, read): &(Wanted, Read)| {
            let mut data = PartitionData::default()
                .with_partition_index(wanted.partition)
                .with_error_code(read.error.code())
                .with_high_watermark(read.high_watermark)
                .with_last_stable_offset(read.last_stable_offset)
                .with_log_start_offset(if version >= 5 { read.log_start_offset } else { -1 })
                .with_aborted_transactions(read.aborted.as_ref().map(|aborted| {
                    let each = aborted.iter().map(|aborted| {
                        WireAborted::default()
                            .with_producer_id(ProducerId(aborted.producer_id))
                            .with_first_offset(aborted.first_offset)
                    });
                    each.collect()
                }))
                .with_records(Some(records.slice(..read.slice.bytes)));
            if let Some(end) = read.diverging.filter(|_| version >= FIRST_FLEXIBLE) {
                let end = EpochEndOffset::default()
                    .with_epoch(end.epoch)
                    .with_end_offset(end.end_offset);
                data = data.with_diverging_epoch(end);
            }
            if let Some((leader, epoch)) = read.leader.filter(|_| version >= FIRST_WITH_LEADERS) {
                let leader = LeaderIdAndEpoch::default()
                    .with_leader_id(BrokerId(leader))
                    .with_leader_epoch(epoch);
                data = data.with_current_leader(leader);
            }
            data
        };
        let topics = reads.chunk_by(|(a, _), (b, _)| a.topic == b.topic).map(|reads| {
            let topic = FetchableTopicResponse::default().with_partitions(reads.iter().map(partition).collect());
            match version >= FIRST_WITH_TOPIC_IDS {
                true => topic.with_topic_id(reads[0].0.topic_id),
                false => topic.with_topic(reads[0].0.topic.clone()),
            }
        });
        let endpoint = NodeEndpoint::default()
            .with_node_id(BrokerId(2))
            .with_host("two".to_owned().into())
            .with_port(9092);
        WireResponse::default()
            .with_session_id(if version >= 7 { 77 } else { 0 })
            .with_responses(topics.collect())
            .with_node_endpoints(match version >= FIRST_WITH_LEADERS {
                true => vec![endpoint],
                false => Vec::new(),
            })
    }

    #[test]
    fn every_version_is_what_the_kafka_protocol_crate_writes() {
        let records = Bytes::from_iter((0..2000).map(|byte| byte as u8));
        let reads = reads();
        let partitions: Vec<_> = reads.iter().map(|(wanted, read)| (wanted, read)).collect();
        let brokers = BTreeMap::from([(
            2,
            BrokerAddress {
                host: "two".to_owned(),
                port: 9092,
            },
        )]);
        for version in 4..=18 {
            let head = RequestHead {
                api: ApiKey::Fetch,
                version,
                correlation_id: 7,
                client_id: String::new(),
            };
            let ours = FetchResponse {
                head: &head,
                session_id: 77,
                brokers: &brokers,
                partitions: &partitions,
            }
            .encode(|_, read, writer| writer.payload(records.slice(..read.slice.bytes)));
            let theirs = head.encode(&wire_response(&reads, version, &records)).unwrap();

            assert_eq!(body_of(&ours), body_of(&theirs), "version {version}");
        }
    }
}
