//! Decodes a produce response (Produce versions 3 to 13).
//!
//! Decoded here and not by the `kafka-protocol` crate because it comes back for every batch, and because the crate
//! reserves memory for any count that the broker claims. What an error means for the batch is left to the caller.

use super::ApiKey;
use super::encoding::{Encoding, LeaderEpoch, TopicRef};
use super::error_code::ErrorCode;
use super::primitives::{Reader, TaggedField, WireError};
use super::versions;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProduceResponse {
    pub partitions: Vec<ProducedPartition>,
    pub throttle_time_ms: i32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducedPartition {
    pub topic: TopicRef,
    pub partition: i32,
    pub error: ErrorCode,
    /// The offset of the batch's first record on the target; -1 on an error.
    pub base_offset: i64,
    /// -1 unless the topic stamps records with the time of their append.
    pub log_append_time_ms: i64,
    /// -1 in versions before 5.
    pub log_start_offset: i64,
    /// The records at fault, by their index in the batch, each with its reason (KIP-467).
    pub record_errors: Vec<(i32, Option<String>)>,
    pub error_message: Option<String>,
    pub current_leader: Option<LeaderEpoch>,
}

/// Decodes the body of a response, which begins after the response header.
pub fn decode(body: &[u8], version: i16) -> Result<ProduceResponse, WireError> {
    versions::check_known(ApiKey::Produce, version)?;
    let decoder = Decoder {
        version,
        encoding: Encoding::new(version >= FIRST_FLEXIBLE),
    };
    decoder.response(&mut Reader::new(body))
}

struct Decoder {
    version: i16,
    encoding: Encoding,
}

impl Decoder {
    fn response(&self, reader: &mut Reader<'_>) -> Result<ProduceResponse, WireError> {
        let mut partitions = Vec::new();
        for _ in 0..self.encoding.array_len(reader, MIN_TOPIC_BYTES)? {
            self.topic(reader, &mut partitions)?;
        }
        let throttle_time_ms = reader.i32()?;
        // Tag 0 has the addresses of the leaders hinted at; metadata is asked for those.
        self.encoding.skip_tagged_fields(reader)?;
        reader.finish()?;
        Ok(ProduceResponse {
            partitions,
            throttle_time_ms,
        })
    }

    fn topic(&self, reader: &mut Reader<'_>, partitions: &mut Vec<ProducedPartition>) -> Result<(), WireError> {
        let topic = TopicRef::decode(reader, self.version, self.encoding)?;
        for _ in 0..self.encoding.array_len(reader, MIN_PARTITION_BYTES)? {
            partitions.push(self.partition(reader, &topic)?);
        }
        self.encoding.skip_tagged_fields(reader)
    }

    fn partition(&self, reader: &mut Reader<'_>, topic: &TopicRef) -> Result<ProducedPartition, WireError> {
        let has_messages = self.version >= 8;
        let mut partition = ProducedPartition {
            topic: topic.clone(),
            partition: reader.i32()?,
            error: ErrorCode::from_wire(reader.i16()?),
            base_offset: reader.i64()?,
            log_append_time_ms: reader.i64()?,
            log_start_offset: if self.version >= 5 { reader.i64()? } else { -1 },
            record_errors: if has_messages {
                self.record_errors(reader)?
            } else {
                Vec::new()
            },
            error_message: if has_messages { self.message(reader)? } else { None },
            current_leader: None,
        };
        self.encoding.tagged_fields(reader, |tag, value| {
            if tag != 0 {
                return Ok(TaggedField::Ignored);
            }
            partition.current_leader = LeaderEpoch::decode(value)?;
            Ok(TaggedField::Read)
        })?;
        Ok(partition)
    }

    fn record_errors(&self, reader: &mut Reader<'_>) -> Result<Vec<(i32, Option<String>)>, WireError> {
        let mut errors = Vec::new();
        for _ in 0..self.encoding.array_len(reader, MIN_RECORD_ERROR_BYTES)? {
            errors.push((reader.i32()?, self.message(reader)?));
            self.encoding.skip_tagged_fields(reader)?;
        }
        Ok(errors)
    }

    fn message(&self, reader: &mut Reader<'_>) -> Result<Option<String>, WireError> {
        Ok(self.encoding.nullable_string(reader)?.map(str::to_owned))
    }
}

const FIRST_FLEXIBLE: i16 = 9;

// The least that an item takes in any version.
const MIN_TOPIC_BYTES: usize = 3;
const MIN_PARTITION_BYTES: usize = 22;
const MIN_RECORD_ERROR_BYTES: usize = 5;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kafka_protocol::messages::produce_response::{
        BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, ProduceResponse as Theirs,
        TopicProduceResponse,
    };
    use kafka_protocol::messages::{BrokerId, TopicName};
    use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
    use uuid::Uuid;

    use super::*;
    use crate::protocol::damage;

    const VERSIONS: std::ops::RangeInclusive<i16> = 3..=13;

    fn text(text: &'static str) -> StrBytes {
        StrBytes::from_static_str(text)
    }

    /// Two topics; one partition with everything that the version has, one with nothing.
    fn populated(version: i16) -> Theirs {
        let mut full = PartitionProduceResponse::default()
            .with_index(3)
            .with_error_code(87)
            .with_base_offset(1 << 40)
            .with_log_append_time_ms(99);
        if version >= 5 {
            full = full.with_log_start_offset(10);
        }
        if version >= 8 {
            let record_error = BatchIndexAndErrorMessage::default().with_batch_index(2);
            full = full
                .with_error_message(Some(text("one or more records")))
                .with_record_errors(vec![
                    record_error
                        .clone()
                        .with_batch_index_error_message(Some(text("no key"))),
                    record_error,
                ]);
        }
        if version >= 9 {
            full = full.with_unknown_tagged_field(7, Bytes::from_static(b"later"));
        }
        if version >= 10 {
            let leader = LeaderIdAndEpoch::default()
                .with_leader_id(BrokerId(5))
                .with_leader_epoch(9);
            full = full.with_current_leader(leader);
        }
        let topic = |partitions, at| {
            let topic = TopicProduceResponse::default().with_partition_responses(partitions);
            if version >= 13 {
                topic.with_topic_id(Uuid::from_u128(at))
            } else {
                topic.with_name(TopicName(text(if at == 1 { "orders" } else { "payments" })))
            }
        };
        let mut response = Theirs::default().with_throttle_time_ms(12).with_responses(vec![
            topic(vec![full, PartitionProduceResponse::default()], 1),
            topic(vec![PartitionProduceResponse::default()], 2),
        ]);
        if version >= 10 {
            let node = NodeEndpoint::default()
                .with_node_id(BrokerId(5))
                .with_host(text("b5"))
                .with_port(9092);
            response = response.with_node_endpoints(vec![node]);
        }
        response
    }

    fn encoded(version: i16) -> Vec<u8> {
        let mut body = Vec::new();
        populated(version).encode(&mut body, version).unwrap();
        body
    }

    /// What the other decoder makes of the same bytes.
    fn expected(body: &[u8], version: i16) -> ProduceResponse {
        let theirs = Theirs::decode(&mut Bytes::copy_from_slice(body), version).unwrap();
        let partitions = theirs.responses.into_iter().flat_map(|topic| {
            let topic_ref = if version >= 13 {
                TopicRef::Id(topic.topic_id)
            } else {
                TopicRef::Name(topic.name.as_str().into())
            };
            topic
                .partition_responses
                .into_iter()
                .map(move |partition| ProducedPartition {
                    topic: topic_ref.clone(),
                    partition: partition.index,
                    error: ErrorCode::from_wire(partition.error_code),
                    base_offset: partition.base_offset,
                    log_append_time_ms: partition.log_append_time_ms,
                    log_start_offset: partition.log_start_offset,
                    record_errors: partition
                        .record_errors
                        .into_iter()
                        .map(|error| {
                            (
                                error.batch_index,
                                error.batch_index_error_message.map(|text| text.to_string()),
                            )
                        })
                        .collect(),
                    error_message: partition.error_message.map(|text| text.to_string()),
                    current_leader: (*partition.current_leader.leader_id >= 0).then_some(LeaderEpoch {
                        leader_id: *partition.current_leader.leader_id,
                        leader_epoch: partition.current_leader.leader_epoch,
                    }),
                })
        });
        ProduceResponse {
            partitions: partitions.collect(),
            throttle_time_ms: theirs.throttle_time_ms,
        }
    }

    #[test]
    fn every_version_decodes_as_the_kafka_protocol_crate_does() {
        for version in VERSIONS {
            let body = encoded(version);
            assert_eq!(
                decode(&body, version),
                Ok(expected(&body, version)),
                "version {version}"
            );
        }
    }

    #[test]
    fn version_8_is_plain() {
        let body = [
            0, 0, 0, 1, // one topic
            0, 1, b't', // its name
            0, 0, 0, 1, // one partition
            0, 0, 0, 2, // its number
            0, 87, // INVALID_RECORD
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, // base offset
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, // log append time
            0, 0, 0, 0, 0, 0, 0, 4, // log start offset
            0, 0, 0, 1, // one record error
            0, 0, 0, 5, // index in the batch
            0, 2, b'n', b'o', // its message
            0xff, 0xff, // error message: null
            0, 0, 0, 1, // throttle time
        ];
        let partition = ProducedPartition {
            topic: TopicRef::Name("t".into()),
            partition: 2,
            error: ErrorCode::InvalidRecord,
            base_offset: -1,
            log_append_time_ms: -1,
            log_start_offset: 4,
            record_errors: vec![(5, Some("no".to_owned()))],
            error_message: None,
            current_leader: None,
        };
        let response = ProduceResponse {
            partitions: vec![partition],
            throttle_time_ms: 1,
        };
        assert_eq!(decode(&body, 8), Ok(response));
    }

    #[test]
    fn version_13_is_flexible() {
        let mut body = vec![2]; // one topic, plus one
        body.extend([0x11; 16]); // its id
        body.extend([
            2, // one partition, plus one
            0, 0, 0, 2, // its number
            0, 6, // NOT_LEADER_OR_FOLLOWER
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, // base offset
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, // log append time
            0, 0, 0, 0, 0, 0, 0, 4, // log start offset
            1, // no record errors
            3, b'n', b'o', // error message
            2,    // tagged fields: two
            3, 1, 0xee, // unknown
            0, 9, 0, 0, 0, 3, 0, 0, 0, 12, 0, // current leader: 3 in epoch 12
            0, // the topic's tagged fields
            0, 0, 0, 1, // throttle time
            0, // the response's tagged fields
        ]);
        let partition = ProducedPartition {
            topic: TopicRef::Id(Uuid::from_bytes([0x11; 16])),
            partition: 2,
            error: ErrorCode::NotLeaderOrFollower,
            base_offset: -1,
            log_append_time_ms: -1,
            log_start_offset: 4,
            record_errors: vec![],
            error_message: Some("no".to_owned()),
            current_leader: Some(LeaderEpoch {
                leader_id: 3,
                leader_epoch: 12,
            }),
        };
        let response = ProduceResponse {
            partitions: vec![partition],
            throttle_time_ms: 1,
        };
        assert_eq!(decode(&body, 13), Ok(response));
    }

    #[test]
    fn no_cut_is_mistaken_for_a_response() {
        for version in VERSIONS {
            for cut in damage::cuts(&encoded(version)) {
                assert!(decode(cut, version).is_err(), "version {version}, {} bytes", cut.len());
            }
        }
    }

    #[test]
    fn bytes_left_over_are_refused() {
        let mut body = encoded(9);
        body.push(0);
        assert_eq!(
            decode(&body, 9),
            Err(WireError::TrailingBytes {
                at: body.len() - 1,
                count: 1
            })
        );
    }

    #[test]
    fn no_damage_makes_more_of_a_response_than_its_bytes_can_hold() {
        for version in VERSIONS {
            for damaged in damage::mutations(&encoded(version)) {
                let Ok(response) = decode(&damaged, version) else {
                    continue;
                };
                let errors = response.partitions.iter().map(|p| p.record_errors.len()).sum::<usize>();
                let least = MIN_PARTITION_BYTES * response.partitions.len() + MIN_RECORD_ERROR_BYTES * errors;
                assert!(least <= damaged.len(), "version {version}");
            }
        }
    }

    #[test]
    fn an_unknown_version_is_refused() {
        for version in [2, 14] {
            let error = WireError::UnknownVersion {
                api: ApiKey::Produce,
                version,
            };
            assert_eq!(decode(&[], version), Err(error));
        }
    }
}
