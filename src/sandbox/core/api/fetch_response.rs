//! Writes a fetch response, versions 4 to 18, without copying the records: the `kafka-protocol` crate's encoder would.

use std::collections::BTreeMap;

use super::fetch::FIRST_WITH_TOPIC_IDS;
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
