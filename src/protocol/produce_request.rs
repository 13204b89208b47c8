//! Writes a produce request (Produce versions 3 to 13) without copying what it carries.
//!
//! A payload is on its way from one socket to the other; all that is ours are the bytes around it. So a request is a
//! list of segments: our bytes, all from one small buffer, and between them the payloads, shared. A vectored write
//! sends it. Always `acks=all` and never a transactional id: see "exactly once" in ARCHITECTURE.md.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::ApiKey;
use super::encoding::Encoding;
use super::frame;
use super::versions;

/// A batch's header as `record` writes it: the fields before the records.
const BATCH_HEADER_LEN: usize = 61;

/// The part of the header that the batch's own length does not count: base offset and length.
const LOG_OVERHEAD: usize = 12;

#[derive(Debug, Clone)]
pub struct ProduceRequest {
    pub timeout_ms: i32,
    pub topics: Vec<ProduceTopic>,
}

/// A topic by both its names: which of them is sent depends on the version.
#[derive(Debug, Clone)]
pub struct ProduceTopic {
    pub name: Arc<str>,
    pub id: Uuid,
    pub partitions: Vec<ProducePartition>,
}

/// One batch for one partition; brokers refuse more than one in a request.
#[derive(Debug, Clone)]
pub struct ProducePartition {
    pub partition: i32,
    pub header: [u8; BATCH_HEADER_LEN],
    pub payload: Bytes,
}

/// A whole frame, with its length prefix, in the order in which to send it.
#[derive(Debug, Clone)]
pub struct Segments(pub Vec<Bytes>);

impl Segments {
    pub fn total_len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }
}

impl From<Bytes> for Segments {
    fn from(frame: Bytes) -> Self {
        Self(vec![frame])
    }
}

/// Encodes a request as a frame.
///
/// # Panics
///
/// If the version is not known, or if a batch's header does not have the length of its payload: both are mistakes of
/// ours, and the second would make the broker read one batch as another.
pub fn encode(version: i16, correlation_id: i32, client_id: &str, request: &ProduceRequest) -> Segments {
    assert!(
        versions::check_known(ApiKey::Produce, version).is_ok(),
        "Produce version {version} is not known"
    );
    let encoding = Encoding::new(version >= FIRST_FLEXIBLE);
    let mut writer = Writer::new(request);
    let out = &mut writer.ours;
    out.extend([0; frame::LENGTH_PREFIX]);
    frame::put_request_header(out, ApiKey::Produce, version, correlation_id, client_id);
    encoding.put_null_string(out);
    out.extend(ACKS_ALL.to_be_bytes());
    out.extend(request.timeout_ms.to_be_bytes());
    encoding.put_len(out, request.topics.len());
    for topic in &request.topics {
        writer.put_topic(topic, version, encoding);
    }
    encoding.put_no_tagged_fields(&mut writer.ours);
    writer.finish()
}

/// Our own bytes, and where among them which payload belongs.
struct Writer {
    ours: Vec<u8>,
    payloads: Vec<(usize, Bytes)>,
}

impl Writer {
    fn new(request: &ProduceRequest) -> Self {
        let batches = request.topics.iter().map(|topic| topic.partitions.len()).sum();
        let names: usize = request
            .topics
            .iter()
            .map(|topic| topic.name.len() + TOPIC_OVERHEAD)
            .sum();
        let ours = Vec::with_capacity(REQUEST_OVERHEAD + names + batches * (BATCH_HEADER_LEN + PARTITION_OVERHEAD));
        Self {
            ours,
            payloads: Vec::with_capacity(batches),
        }
    }

    fn put_topic(&mut self, topic: &ProduceTopic, version: i16, encoding: Encoding) {
        if version >= 13 {
            self.ours.extend(topic.id.as_bytes());
        } else {
            encoding.put_string(&mut self.ours, &topic.name);
        }
        encoding.put_len(&mut self.ours, topic.partitions.len());
        for partition in &topic.partitions {
            self.put_partition(partition, encoding);
        }
        encoding.put_no_tagged_fields(&mut self.ours);
    }

    fn put_partition(&mut self, partition: &ProducePartition, encoding: Encoding) {
        let batch_len = BATCH_HEADER_LEN + partition.payload.len();
        assert_eq!(
            partition.length_field() + LOG_OVERHEAD,
            batch_len,
            "a batch's header has its payload's length"
        );
        self.ours.extend(partition.partition.to_be_bytes());
        encoding.put_len(&mut self.ours, batch_len);
        self.ours.extend(partition.header);
        self.payloads.push((self.ours.len(), partition.payload.clone()));
        encoding.put_no_tagged_fields(&mut self.ours);
    }

    fn finish(mut self) -> Segments {
        let payloads: usize = self.payloads.iter().map(|(_, payload)| payload.len()).sum();
        let len = self.ours.len() + payloads - frame::LENGTH_PREFIX;
        let len = i32::try_from(len).expect("a request that we send is smaller than 2 GiB");
        self.ours[..frame::LENGTH_PREFIX].copy_from_slice(&len.to_be_bytes());

        let ours = Bytes::from(self.ours);
        let mut segments = Vec::with_capacity(2 * self.payloads.len() + 1);
        let mut start = 0;
        for (end, payload) in self.payloads {
            segments.extend([ours.slice(start..end), payload]);
            start = end;
        }
        segments.push(ours.slice(start..));
        segments.retain(|segment| !segment.is_empty());
        Segments(segments)
    }
}

impl ProducePartition {
    fn length_field(&self) -> usize {
        let [.., a, b, c, d] = *self.header.first_chunk::<LOG_OVERHEAD>().expect("a header is longer");
        u32::from_be_bytes([a, b, c, d]) as usize
    }
}

const FIRST_FLEXIBLE: i16 = 9;
const ACKS_ALL: i16 = -1;

// Roughly what there is besides names and batches, for one allocation to be enough.
const REQUEST_OVERHEAD: usize = 128;
const TOPIC_OVERHEAD: usize = 24;
const PARTITION_OVERHEAD: usize = 12;

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest as Theirs, TopicProduceData};
    use kafka_protocol::messages::{RequestHeader, TopicName};
    use kafka_protocol::protocol::{Encodable, StrBytes};
    use proptest::prelude::*;

    use super::*;

    const VERSIONS: std::ops::RangeInclusive<i16> = 3..=13;

    fn partition(partition: i32, payload: Bytes) -> ProducePartition {
        let mut header = [0xee; BATCH_HEADER_LEN];
        let length = (BATCH_HEADER_LEN - LOG_OVERHEAD + payload.len()) as u32;
        header[8..12].copy_from_slice(&length.to_be_bytes());
        ProducePartition {
            partition,
            header,
            payload,
        }
    }

    fn topic(name: &str, partitions: Vec<ProducePartition>) -> ProduceTopic {
        ProduceTopic {
            name: name.into(),
            id: Uuid::from_u128(name.len() as u128),
            partitions,
        }
    }

    /// The frame that the other encoder writes for the same request.
    fn expected(version: i16, request: &ProduceRequest) -> Vec<u8> {
        let partition_data = |partition: &ProducePartition| {
            let records = [&partition.header, &partition.payload[..]].concat();
            PartitionProduceData::default()
                .with_index(partition.partition)
                .with_records(Some(records.into()))
        };
        let topic_data = |topic: &ProduceTopic| {
            let data =
                TopicProduceData::default().with_partition_data(topic.partitions.iter().map(partition_data).collect());
            if version >= 13 {
                data.with_topic_id(topic.id)
            } else {
                data.with_name(TopicName(StrBytes::from_string(topic.name.to_string())))
            }
        };
        let header = RequestHeader::default()
            .with_request_api_version(version)
            .with_correlation_id(42)
            .with_client_id(Some(StrBytes::from_static_str("kferry")));
        let body = Theirs::default()
            .with_acks(-1)
            .with_timeout_ms(request.timeout_ms)
            .with_topic_data(request.topics.iter().map(topic_data).collect());
        let mut frame = vec![0; 4];
        header
            .encode(&mut frame, ApiKey::Produce.request_header_version(version))
            .unwrap();
        body.encode(&mut frame, version).unwrap();
        let len = frame.len() as i32 - 4;
        frame[..4].copy_from_slice(&len.to_be_bytes());
        frame
    }

    #[test]
    fn every_version_is_byte_for_byte_that_of_the_kafka_protocol_crate() {
        let request = ProduceRequest {
            timeout_ms: 30_000,
            topics: vec![
                topic(
                    "orders",
                    vec![
                        partition(0, Bytes::from(vec![7; 300])),
                        partition(5, Bytes::from_static(b"x")),
                    ],
                ),
                topic("payments", vec![partition(1, Bytes::from_static(b"a payload"))]),
                topic("none", vec![]),
            ],
        };
        for version in VERSIONS {
            let segments = encode(version, 42, "kferry", &request);
            assert_eq!(segments.0.concat(), expected(version, &request), "version {version}");
            assert_eq!(segments.total_len(), segments.0.concat().len());
        }
    }

    #[test]
    fn a_plain_and_a_flexible_request() {
        let request = ProduceRequest {
            timeout_ms: 1,
            topics: vec![topic("t", vec![partition(2, Bytes::from_static(b"pp"))])],
        };
        let batch = [&partition(2, Bytes::from_static(b"pp")).header[..], b"pp"].concat();

        let mut plain = vec![
            0, 0, 0, 102, // frame length
            0, 0, // Produce
            0, 3, // version
            0, 0, 0, 9, // correlation id
            0, 2, b'k', b'f', // client id
            0xff, 0xff, // transactional id: null
            0xff, 0xff, // acks: all
            0, 0, 0, 1, // time-out
            0, 0, 0, 1, // one topic
            0, 1, b't', // its name
            0, 0, 0, 1, // one partition
            0, 0, 0, 2, // its number
            0, 0, 0, 63, // length of its records
        ];
        plain.extend(&batch);
        assert_eq!(encode(3, 9, "kf", &request).0.concat(), plain);

        let mut flexible = vec![
            0, 0, 0, 95, // frame length
            0, 0, // Produce
            0, 9, // version
            0, 0, 0, 9, // correlation id
            0, 2, b'k', b'f', // client id: not compact
            0,    // the header's tagged fields
            0,    // transactional id: null
            0xff, 0xff, // acks: all
            0, 0, 0, 1, // time-out
            2, // one topic, plus one
            2, b't', // its name
            2,    // one partition, plus one
            0, 0, 0, 2,  // its number
            64, // length of its records, plus one
        ];
        flexible.extend(&batch);
        flexible.extend([0, 0, 0]); // tagged fields of the partition, the topic and the request
        assert_eq!(encode(9, 9, "kf", &request).0.concat(), flexible);
    }

    #[test]
    fn payloads_are_not_copied() {
        let payload = Bytes::from(vec![1; 1000]);
        let request = ProduceRequest {
            timeout_ms: 1,
            topics: vec![topic("t", vec![partition(0, payload.clone()); 3])],
        };
        for version in VERSIONS {
            let segments = encode(version, 42, "kferry", &request).0;
            assert_eq!(
                segments
                    .iter()
                    .filter(|segment| segment.as_ptr() == payload.as_ptr())
                    .count(),
                3
            );
            assert!(segments.len() <= 7, "only payloads come between our bytes");
        }
    }

    #[test]
    #[should_panic(expected = "a batch's header has its payload's length")]
    fn a_header_of_another_payload_is_our_mistake() {
        let mut batch = partition(0, Bytes::from_static(b"four"));
        batch.payload = Bytes::from_static(b"five!");
        encode(
            9,
            1,
            "kferry",
            &ProduceRequest {
                timeout_ms: 1,
                topics: vec![topic("t", vec![batch])],
            },
        );
    }

    proptest! {
        #[test]
        fn any_request_is_that_of_the_kafka_protocol_crate(
            version in VERSIONS,
            shape in prop::collection::vec(("[a-z]{0,200}", prop::collection::vec(0usize..400, 0..4)), 0..4),
        ) {
            let topics = shape.iter().map(|(name, payloads)| {
                topic(name, payloads.iter().map(|&len| partition(1, vec![9; len].into())).collect())
            });
            let request = ProduceRequest { timeout_ms: 7, topics: topics.collect() };
            prop_assert_eq!(encode(version, 42, "kferry", &request).0.concat(), expected(version, &request));
        }
    }
}
