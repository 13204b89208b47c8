//! Scans a fetch response in place (Fetch versions 4 to 18).
//!
//! The records of each partition stay what they are, a slice of the frame that they came in: whether they are good
//! batches is for `record` to find out. Memory grows only with what has been read, never with a count that the broker
//! claims; a broker may not be well, and a fetch response is the largest thing that it sends.

use bytes::Bytes;

use super::ApiKey;
use super::encoding::{Encoding, LeaderEpoch, TopicRef};
use super::error_code::ErrorCode;
use super::primitives::{Reader, TaggedField, WireError};
use super::versions;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchResponse {
    pub throttle_time_ms: i32,
    /// An error of the whole request, as of its session.
    pub error: ErrorCode,
    /// 0 when the broker keeps no session.
    pub session_id: i32,
    /// In an incremental session (KIP-227): only partitions that have something to say.
    pub partitions: Vec<FetchedPartition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedPartition {
    pub topic: TopicRef,
    pub partition: i32,
    pub error: ErrorCode,
    /// -1 when the broker does not know it; so with the next two.
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    /// Not in version 4.
    pub log_start_offset: i64,
    /// In the broker's order, which is none: see KIP-98 on how a reader uses it. Empty when uncommitted data is read.
    pub aborted: Vec<AbortedTransaction>,
    /// The replica to fetch from instead, or -1 (KIP-392).
    pub preferred_read_replica: i32,
    /// The log was truncated: where it parted from the epoch that the request said it had last fetched (KIP-595).
    pub diverging_epoch: Option<EpochEnd>,
    pub current_leader: Option<LeaderEpoch>,
    /// Empty when null.
    pub records: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    pub producer_id: i64,
    pub first_offset: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    pub epoch: i32,
    pub end_offset: i64,
}

impl FetchedPartition {
    /// Whatever lies at this offset or above is not replicated so far; `i64::MAX` where the broker does not know the high
    /// watermark.
    pub fn replicated_end(&self) -> i64 {
        match self.high_watermark {
            ..0 => i64::MAX,
            known => known,
        }
    }
}

/// Scans the body of a response, which begins after the response header.
pub fn scan(body: Bytes, version: i16) -> Result<FetchResponse, WireError> {
    versions::check_known(ApiKey::Fetch, version)?;
    let scanner = Scanner {
        version,
        encoding: Encoding::new(version >= FIRST_FLEXIBLE),
        body: &body,
    };
    scanner.response(&mut Reader::new(&body))
}

struct Scanner<'a> {
    version: i16,
    encoding: Encoding,
    body: &'a Bytes,
}

impl Scanner<'_> {
    fn response(&self, reader: &mut Reader<'_>) -> Result<FetchResponse, WireError> {
        let throttle_time_ms = reader.i32()?;
        let has_session = self.version >= 7;
        let error = if has_session {
            ErrorCode::from_wire(reader.i16()?)
        } else {
            ErrorCode::None
        };
        let session_id = if has_session { reader.i32()? } else { 0 };
        let mut partitions = Vec::new();
        for _ in 0..self.encoding.array_len(reader, MIN_TOPIC_BYTES)? {
            self.topic(reader, &mut partitions)?;
        }
        // Tag 0 has the addresses of the leaders hinted at; metadata is asked for those.
        self.encoding.skip_tagged_fields(reader)?;
        reader.finish()?;
        Ok(FetchResponse {
            throttle_time_ms,
            error,
            session_id,
            partitions,
        })
    }

    fn topic(&self, reader: &mut Reader<'_>, partitions: &mut Vec<FetchedPartition>) -> Result<(), WireError> {
        let topic = TopicRef::decode(reader, self.version, self.encoding)?;
        for _ in 0..self.encoding.array_len(reader, MIN_PARTITION_BYTES)? {
            partitions.push(self.partition(reader, &topic)?);
        }
        self.encoding.skip_tagged_fields(reader)
    }

    fn partition(&self, reader: &mut Reader<'_>, topic: &TopicRef) -> Result<FetchedPartition, WireError> {
        let mut partition = FetchedPartition {
            topic: topic.clone(),
            partition: reader.i32()?,
            error: ErrorCode::from_wire(reader.i16()?),
            high_watermark: reader.i64()?,
            last_stable_offset: reader.i64()?,
            log_start_offset: if self.version >= 5 { reader.i64()? } else { -1 },
            aborted: self.aborted(reader)?,
            preferred_read_replica: if self.version >= 11 { reader.i32()? } else { -1 },
            diverging_epoch: None,
            current_leader: None,
            records: self.records(reader)?,
        };
        self.encoding.tagged_fields(reader, |tag, value| {
            match tag {
                0 => partition.diverging_epoch = EpochEnd::decode(value)?,
                1 => partition.current_leader = LeaderEpoch::decode(value)?,
                // Tag 2 is a snapshot id, which only the brokers' own metadata log has.
                _ => return Ok(TaggedField::Ignored),
            }
            Ok(TaggedField::Read)
        })?;
        Ok(partition)
    }

    fn aborted(&self, reader: &mut Reader<'_>) -> Result<Vec<AbortedTransaction>, WireError> {
        let count = self
            .encoding
            .nullable_array_len(reader, MIN_ABORTED_BYTES)?
            .unwrap_or(0);
        let mut aborted = Vec::new();
        for _ in 0..count {
            aborted.push(AbortedTransaction {
                producer_id: reader.i64()?,
                first_offset: reader.i64()?,
            });
            self.encoding.skip_tagged_fields(reader)?;
        }
        Ok(aborted)
    }

    fn records(&self, reader: &mut Reader<'_>) -> Result<Bytes, WireError> {
        let length = self.encoding.nullable_bytes_len(reader)?.unwrap_or(0);
        reader.take_range(length).map(|range| self.body.slice(range))
    }
}

impl EpochEnd {
    /// Reads a tagged field. Epoch -1 is Kafka's way to say that there is none.
    fn decode(reader: &mut Reader<'_>) -> Result<Option<Self>, WireError> {
        let end = Self {
            epoch: reader.i32()?,
            end_offset: reader.i64()?,
        };
        reader.skip_tagged_fields()?;
        Ok((end.epoch >= 0).then_some(end))
    }
}

const FIRST_FLEXIBLE: i16 = 12;

// The least that an item takes in any version.
const MIN_TOPIC_BYTES: usize = 3;
const MIN_PARTITION_BYTES: usize = 30;
const MIN_ABORTED_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::fetch_response::{
        AbortedTransaction as TheirAborted, EpochEndOffset, FetchResponse as Theirs, FetchableTopicResponse,
        LeaderIdAndEpoch, NodeEndpoint, PartitionData, SnapshotId,
    };
    use kafka_protocol::messages::{BrokerId, ProducerId, TopicName};
    use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
    use uuid::Uuid;

    use super::*;
    use crate::protocol::damage;

    const VERSIONS: std::ops::RangeInclusive<i16> = 4..=18;

    fn name(name: &'static str) -> StrBytes {
        StrBytes::from_static_str(name)
    }

    /// Two topics; one partition with everything that the version has, one with nothing.
    fn populated(version: i16) -> Theirs {
        let mut full = PartitionData::default()
            .with_partition_index(3)
            .with_error_code(6)
            .with_high_watermark(1000)
            .with_last_stable_offset(900)
            .with_aborted_transactions(Some(vec![
                TheirAborted::default()
                    .with_producer_id(ProducerId(7))
                    .with_first_offset(800),
                TheirAborted::default()
                    .with_producer_id(ProducerId(8))
                    .with_first_offset(750),
            ]))
            .with_records(Some(Bytes::from_static(b"these are records")));
        if version >= 5 {
            full = full.with_log_start_offset(10);
        }
        if version >= 11 {
            full = full.with_preferred_read_replica(BrokerId(2));
        }
        if version >= 12 {
            full = full
                .with_diverging_epoch(EpochEndOffset::default().with_epoch(4).with_end_offset(777))
                .with_current_leader(
                    LeaderIdAndEpoch::default()
                        .with_leader_id(BrokerId(5))
                        .with_leader_epoch(9)
                        .with_unknown_tagged_field(1, Bytes::from_static(b"inner")),
                )
                .with_snapshot_id(SnapshotId::default().with_end_offset(5).with_epoch(6))
                .with_unknown_tagged_field(77, Bytes::from_static(b"from the future"));
        }
        let empty = PartitionData::default().with_partition_index(4).with_records(None);
        let topic = |partitions, at| {
            let topic = FetchableTopicResponse::default().with_partitions(partitions);
            if version >= 13 {
                topic.with_topic_id(Uuid::from_u128(at))
            } else {
                topic.with_topic(TopicName(name(if at == 1 { "orders" } else { "payments" })))
            }
        };
        let mut response = Theirs::default().with_throttle_time_ms(12).with_responses(vec![
            topic(vec![full, empty], 1),
            topic(vec![], 2),
            topic(vec![PartitionData::default()], 3),
        ]);
        if version >= 7 {
            response = response.with_error_code(70).with_session_id(1234);
        }
        if version >= 12 {
            response = response.with_unknown_tagged_field(9, Bytes::from_static(b"later"));
        }
        if version >= 16 {
            let node = NodeEndpoint::default()
                .with_node_id(BrokerId(5))
                .with_host(name("b5"))
                .with_port(9092);
            response = response.with_node_endpoints(vec![node]);
        }
        response
    }

    fn encoded(version: i16) -> Bytes {
        let mut body = Vec::new();
        populated(version).encode(&mut body, version).unwrap();
        body.into()
    }

    /// What the other decoder makes of the same bytes.
    fn expected(mut body: Bytes, version: i16) -> FetchResponse {
        let theirs = Theirs::decode(&mut body, version).unwrap();
        let partitions = theirs.responses.into_iter().flat_map(|topic| {
            let topic_ref = if version >= 13 {
                TopicRef::Id(topic.topic_id)
            } else {
                TopicRef::Name(topic.topic.as_str().into())
            };
            topic.partitions.into_iter().map(move |partition| FetchedPartition {
                topic: topic_ref.clone(),
                partition: partition.partition_index,
                error: ErrorCode::from_wire(partition.error_code),
                high_watermark: partition.high_watermark,
                last_stable_offset: partition.last_stable_offset,
                log_start_offset: partition.log_start_offset,
                aborted: partition
                    .aborted_transactions
                    .unwrap_or_default()
                    .into_iter()
                    .map(|a| AbortedTransaction {
                        producer_id: *a.producer_id,
                        first_offset: a.first_offset,
                    })
                    .collect(),
                preferred_read_replica: *partition.preferred_read_replica,
                diverging_epoch: (partition.diverging_epoch.epoch >= 0).then_some(EpochEnd {
                    epoch: partition.diverging_epoch.epoch,
                    end_offset: partition.diverging_epoch.end_offset,
                }),
                current_leader: (*partition.current_leader.leader_id >= 0).then_some(LeaderEpoch {
                    leader_id: *partition.current_leader.leader_id,
                    leader_epoch: partition.current_leader.leader_epoch,
                }),
                records: partition.records.unwrap_or_default(),
            })
        });
        FetchResponse {
            throttle_time_ms: theirs.throttle_time_ms,
            error: ErrorCode::from_wire(theirs.error_code),
            session_id: theirs.session_id,
            partitions: partitions.collect(),
        }
    }

    #[test]
    fn every_version_scans_to_what_the_kafka_protocol_crate_decodes() {
        for version in VERSIONS {
            let body = encoded(version);
            let scanned = scan(body.clone(), version).unwrap();
            assert_eq!(scanned, expected(body, version), "version {version}");
            assert_eq!(scanned.partitions.len(), 3);
        }
    }

    #[test]
    fn records_are_a_slice_of_the_frame() {
        for version in VERSIONS {
            let body = encoded(version);
            let scanned = scan(body.clone(), version).unwrap();
            let records = &scanned.partitions[0].records;
            assert!(body.as_ptr_range().contains(&records.as_ptr()), "version {version}");
        }
    }

    #[test]
    fn version_4_is_plain() {
        let body = [
            0, 0, 0, 0, // throttle time
            0, 0, 0, 1, // one topic
            0, 1, b't', // its name
            0, 0, 0, 1, // one partition
            0, 0, 0, 2, // its number
            0, 0, // no error
            0, 0, 0, 0, 0, 0, 0, 9, // high watermark
            0, 0, 0, 0, 0, 0, 0, 8, // last stable offset
            0xff, 0xff, 0xff, 0xff, // aborted transactions: null
            0, 0, 0, 2, 0xaa, 0xbb, // records
        ];
        let scanned = scan(Bytes::copy_from_slice(&body), 4).unwrap();
        let partition = FetchedPartition {
            topic: TopicRef::Name("t".into()),
            partition: 2,
            error: ErrorCode::None,
            high_watermark: 9,
            last_stable_offset: 8,
            log_start_offset: -1,
            aborted: Vec::new(),
            preferred_read_replica: -1,
            diverging_epoch: None,
            current_leader: None,
            records: Bytes::from_static(&[0xaa, 0xbb]),
        };
        let response = FetchResponse {
            throttle_time_ms: 0,
            error: ErrorCode::None,
            session_id: 0,
            partitions: vec![partition],
        };
        assert_eq!(scanned, response);
    }

    #[test]
    fn version_16_is_flexible_and_its_tagged_fields_come_in_any_order() {
        let mut body = vec![
            0, 0, 0, 5, // throttle time
            0, 0, // no error
            0, 0, 0, 6, // session
            2, // one topic, plus one
        ];
        body.extend([0x11; 16]); // its id
        body.extend([
            2, // one partition, plus one
            0, 0, 0, 2, // its number
            0, 6, // NOT_LEADER_OR_FOLLOWER
            0, 0, 0, 0, 0, 0, 0, 9, // high watermark
            0, 0, 0, 0, 0, 0, 0, 8, // last stable offset
            0, 0, 0, 0, 0, 0, 0, 1, // log start offset
            2, // one aborted transaction, plus one
            0, 0, 0, 0, 0, 0, 0, 7, // its producer
            0, 0, 0, 0, 0, 0, 0, 4, // its first offset
            0, // its tagged fields
            0xff, 0xff, 0xff, 0xff, // preferred read replica: none
            0,    // records: null
            4,    // tagged fields: four
            9, 1, 0xee, // unknown
            2, 13, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, // snapshot id
            1, 9, 0, 0, 0, 3, 0, 0, 0, 12, 0, // current leader: 3 in epoch 12
            0, 13, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 7, 0, // diverging epoch: 4 ended at 7
            0, // the topic's tagged fields
            1, 0, 2, 1, 0, // the response's: node endpoints, here an empty array and a stray byte
        ]);
        let scanned = scan(body.into(), 16).unwrap();
        let partition = FetchedPartition {
            topic: TopicRef::Id(Uuid::from_bytes([0x11; 16])),
            partition: 2,
            error: ErrorCode::NotLeaderOrFollower,
            high_watermark: 9,
            last_stable_offset: 8,
            log_start_offset: 1,
            aborted: vec![AbortedTransaction {
                producer_id: 7,
                first_offset: 4,
            }],
            preferred_read_replica: -1,
            diverging_epoch: Some(EpochEnd {
                epoch: 4,
                end_offset: 7,
            }),
            current_leader: Some(LeaderEpoch {
                leader_id: 3,
                leader_epoch: 12,
            }),
            records: Bytes::new(),
        };
        let response = FetchResponse {
            throttle_time_ms: 5,
            error: ErrorCode::None,
            session_id: 6,
            partitions: vec![partition],
        };
        assert_eq!(scanned, response);
    }

    #[test]
    fn no_cut_is_mistaken_for_a_response() {
        for version in VERSIONS {
            let body = encoded(version);
            for cut in damage::cuts(&body) {
                assert!(
                    scan(body.slice_ref(cut), version).is_err(),
                    "version {version}, {} bytes",
                    cut.len()
                );
            }
        }
    }

    #[test]
    fn bytes_left_over_are_refused() {
        let mut body = encoded(12).to_vec();
        let at = body.len();
        body.push(0);
        assert_eq!(scan(body.into(), 12), Err(WireError::TrailingBytes { at, count: 1 }));
    }

    #[test]
    fn no_damage_makes_more_of_a_response_than_its_bytes_can_hold() {
        for version in VERSIONS {
            for damaged in damage::mutations(&encoded(version)) {
                let len = damaged.len();
                let Ok(response) = scan(damaged.into(), version) else {
                    continue;
                };
                let partition_bytes =
                    |p: &FetchedPartition| MIN_PARTITION_BYTES + p.records.len() + 16 * p.aborted.len();
                assert!(
                    response.partitions.iter().map(partition_bytes).sum::<usize>() <= len,
                    "version {version}"
                );
            }
        }
    }

    #[test]
    fn an_unknown_version_is_refused() {
        for version in [-1, 3, 19] {
            let error = WireError::UnknownVersion {
                api: ApiKey::Fetch,
                version,
            };
            assert_eq!(scan(Bytes::new(), version), Err(error));
        }
    }
}
