//! Writes the inputs from which fuzzing starts, into a folder for each target in the folder that `SEEDS` names.
//!
//! They are made here rather than kept as files, so that they follow the code: well-formed messages of every version,
//! and batches in every codec. What a run finds on top is kept beside them.
//!
//! A target itself, though with nothing to fuzz: all that is built here counts its coverage with libFuzzer's runtime.
#![no_main]

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, PartitionData,
};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Encodable, StrBytes};
use kferry::offsets::{OffsetPair, Run, Segment, SourceOffset, TargetOffset};
use kferry::protocol::{ApiKey, frame};
use kferry::record::{BatchBuilder, BatchOptions, Codec, ControlType, HEADER_LEN, control_batch};
use kferry::replication::epochs::{BatchMark, EpochHistory, EpochStart};
use kferry::replication::ledger::{Checkpoint, FlowRecord, LedgerRecord, OwnerId, OwnerRecord};
use kferry_fuzz::{WALKED, choice};
use libfuzzer_sys::fuzz_target;
use uuid::Uuid;

fuzz_target!(init: write_all().expect("the folder can be written to"), |_data: &[u8]| {});

fn write_all() -> io::Result<()> {
    let folder = PathBuf::from(env::var_os("SEEDS").expect("SEEDS names the folder to write to"));
    write(&folder.join("frame"), frames())?;
    write(&folder.join("fetch_response"), fetch_responses())?;
    write(&folder.join("produce_response"), produce_responses())?;
    write(&folder.join("bounded_decode"), bodies())?;
    write(&folder.join("batch_scan"), records_of_partitions())?;
    write(&folder.join("records"), payloads(&[]))?;
    write(&folder.join("reencode"), payloads(&[6]))?;
    write(&folder.join("coalesce"), pairs_of_payloads())?;
    write(&folder.join("legacy"), message_sets())?;
    write(&folder.join("ledger"), ledger_records())?;
    write(&folder.join("sandbox"), requests())
}

fn write(folder: &Path, seeds: impl IntoIterator<Item = Vec<u8>>) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for (number, seed) in seeds.into_iter().enumerate() {
        fs::write(folder.join(format!("seed-{number:03}")), seed)?;
    }
    Ok(())
}

fn frames() -> Vec<Vec<u8>> {
    let fetch = ApiKey::Fetch as u8;
    let correlation_id = [0, 0, 0, 7];
    let tagged_field = [1, 0, 2, 9, 9];
    vec![
        [
            &[fetch, choice(ApiKey::Fetch, 11)][..],
            &[0, 0, 0, 8],
            &correlation_id,
            b"body",
        ]
        .concat(),
        [
            &[fetch, choice(ApiKey::Fetch, 12)][..],
            &[0, 0, 0, 13],
            &correlation_id,
            &tagged_field,
            b"body",
        ]
        .concat(),
    ]
}

fn fetch_responses() -> Vec<Vec<u8>> {
    let partition = |version| {
        let partition = PartitionData::default()
            .with_high_watermark(10)
            .with_aborted_transactions(Some(vec![AbortedTransaction::default(); 2]))
            .with_records(Some(batch(Codec::None)));
        if version < 12 {
            return partition;
        }
        partition
            .with_diverging_epoch(EpochEndOffset::default().with_epoch(4).with_end_offset(7))
            .with_current_leader(
                LeaderIdAndEpoch::default()
                    .with_leader_id(BrokerId(1))
                    .with_leader_epoch(2),
            )
            .with_unknown_tagged_field(9, Bytes::from_static(b"x"))
    };
    let response = |version| {
        let topic =
            FetchableTopicResponse::default().with_partitions(vec![partition(version), PartitionData::default()]);
        let topic = if version < 13 {
            topic.with_topic(TopicName(text("t")))
        } else {
            topic
        };
        FetchResponse::default().with_responses(vec![topic])
    };
    each_version(ApiKey::Fetch, response)
}

fn produce_responses() -> Vec<Vec<u8>> {
    let response = |version| {
        let mut partition = PartitionProduceResponse::default().with_base_offset(5);
        if version >= 8 {
            let record_error = BatchIndexAndErrorMessage::default().with_batch_index_error_message(Some(text("no")));
            partition = partition
                .with_record_errors(vec![record_error])
                .with_error_message(Some(text("no")));
        }
        let topic = TopicProduceResponse::default().with_partition_responses(vec![partition]);
        let topic = if version < 13 {
            topic.with_name(TopicName(text("t")))
        } else {
            topic
        };
        ProduceResponse::default().with_responses(vec![topic])
    };
    each_version(ApiKey::Produce, response)
}

/// An empty body for each API, and one with something in each array for those that matter most.
fn bodies() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (index, &api) in WALKED.iter().enumerate() {
        // All zeroes is well-formed in most plain versions: no error, no items.
        let empty = (0..3).map(|version| [&[index as u8, version][..], &[0; 40][..10 + 2 * version as usize]].concat());
        let full = match api {
            ApiKey::Metadata => each_version(api, metadata),
            ApiKey::DescribeConfigs => each_version(api, |_| configs()),
            ApiKey::CreateTopics => each_version(api, created),
            ApiKey::ListOffsets => each_version(api, |_| offsets()),
            ApiKey::ApiVersions => each_version(api, |_| api_versions()),
            _ => Vec::new(),
        };
        seeds.extend(empty);
        seeds.extend(full.into_iter().map(|body| [&[index as u8], &body[..]].concat()));
    }
    seeds
}

fn metadata(version: i16) -> MetadataResponse {
    let broker = MetadataResponseBroker::default().with_host(text("b")).with_port(9092);
    let partition = MetadataResponsePartition::default()
        .with_replica_nodes(vec![BrokerId(1); 3])
        .with_isr_nodes(vec![BrokerId(1)]);
    let topic = MetadataResponseTopic::default()
        .with_name(Some(TopicName(text("t"))))
        .with_partitions(vec![partition; 2]);
    let response = MetadataResponse::default()
        .with_brokers(vec![broker; 2])
        .with_topics(vec![topic; 2]);
    if version < 2 {
        response
    } else {
        response.with_cluster_id(Some(text("c")))
    }
}

fn configs() -> DescribeConfigsResponse {
    let synonym = DescribeConfigsSynonym::default().with_name(text("s"));
    let config = DescribeConfigsResourceResult::default()
        .with_name(text("k"))
        .with_synonyms(vec![synonym]);
    let result = DescribeConfigsResult::default()
        .with_resource_name(text("t"))
        .with_configs(vec![config; 2]);
    DescribeConfigsResponse::default().with_results(vec![result])
}

fn created(version: i16) -> CreateTopicsResponse {
    let mut topic = CreatableTopicResult::default().with_name(TopicName(text("t")));
    if version >= 5 {
        topic = topic
            .with_topic_config_error_code(3)
            .with_configs(Some(vec![CreatableTopicConfigs::default()]));
    }
    CreateTopicsResponse::default().with_topics(vec![topic])
}

fn offsets() -> ListOffsetsResponse {
    let topic = ListOffsetsTopicResponse::default()
        .with_name(TopicName(text("t")))
        .with_partitions(vec![ListOffsetsPartitionResponse::default(); 2]);
    ListOffsetsResponse::default().with_topics(vec![topic])
}

fn api_versions() -> ApiVersionsResponse {
    ApiVersionsResponse::default().with_api_keys(vec![api_versions_response::ApiVersion::default(); 2])
}

/// Records as a fetch response has them: batches one after the other, the last one cut off.
fn records_of_partitions() -> Vec<Vec<u8>> {
    let marker = control_batch(9, 1, 2, ControlType::Commit, 3, 1_700_000_000_000);
    let plain = batch(Codec::None);
    let mut seeds: Vec<_> = CODECS.iter().map(|codec| batch(*codec).to_vec()).collect();
    seeds.push([&plain[..], &marker, &plain[..70]].concat());
    seeds
}

/// For each codec: attributes, what else a target chooses, last offset delta, count, and the payload.
fn payloads(choices: &[u8]) -> Vec<Vec<u8>> {
    let payload = |codec: &Codec| {
        let attributes = [codec.attributes() as u8];
        [&attributes, choices, &[1, 2], &batch(*codec)[HEADER_LEN..]].concat()
    };
    CODECS.iter().map(payload).collect()
}

/// The same payload twice, parted in the middle.
fn pairs_of_payloads() -> Vec<Vec<u8>> {
    let pair = |codec: &Codec| {
        let (batch, choices) = (batch(*codec), [codec.attributes() as u8, 10, 2, 2, 128]);
        [&choices[..], &batch[HEADER_LEN..], &batch[HEADER_LEN..]].concat()
    };
    CODECS.iter().map(pair).collect()
}

/// Two messages of each older format, by themselves and for each codec that they may be wrapped with.
fn message_sets() -> Vec<Vec<u8>> {
    let message = |magic, offset: i64| {
        let timestamp = if magic == 0 {
            &[][..]
        } else {
            &[0, 0, 1, 0x8b, 0xcf, 0xe5, 0x68, 0]
        };
        let message = [
            &[0, 0, 0, 0, magic, 0],
            timestamp,
            &[0, 0, 0, 1, b'k', 0, 0, 0, 2, b'v', b'v'],
        ]
        .concat();
        [
            &offset.to_be_bytes()[..],
            &(message.len() as i32).to_be_bytes(),
            &message,
        ]
        .concat()
    };
    let set = |codec, magic| [&[codec][..], &message(magic, 3), &message(magic, 4)].concat();
    (0..4).flat_map(|codec| [set(codec, 0), set(codec, 1)]).collect()
}

/// A record of each kind: the length of its key, key and value.
fn ledger_records() -> Vec<Vec<u8>> {
    let run = |source, target| Run {
        source_start: SourceOffset(source),
        target_start: TargetOffset(target),
        count: 5,
    };
    let mut segment = Segment::default();
    segment.push(run(10, 0));
    segment.push(run(16, 5));
    let (topic, partition) = ("t".to_owned(), 1);
    let owner = OwnerId {
        generation: 1,
        instance: 7,
    };
    let mut source_epochs = EpochHistory::default();
    source_epochs.take(EpochStart {
        epoch: 3,
        start: SourceOffset(0),
    });
    let checkpoint = Checkpoint {
        target_topic: topic.clone(),
        source_topic_id: Uuid::from_u128(1),
        target_topic_id: Uuid::from_u128(2),
        start: OffsetPair {
            source: SourceOffset(10),
            target: TargetOffset(0),
        },
        source_position: SourceOffset(21),
        source_leader_epoch: 3,
        source_mark: Some(BatchMark {
            base_offset: SourceOffset(3),
            crc: 7,
        }),
        source_epochs,
        target_next: TargetOffset(10),
        producer_id: 1000,
        producer_epoch: 4,
        next_sequence: 10,
        cuts: Vec::new(),
    };
    let flow = FlowRecord {
        source_cluster_id: "s".to_owned(),
        target_cluster_id: "t".to_owned(),
        lanes: 8,
    };
    let records = [
        LedgerRecord::Flow(flow),
        LedgerRecord::Checkpoint {
            topic: topic.clone(),
            partition,
            owner,
            checkpoint,
        },
        LedgerRecord::Segment {
            topic,
            partition,
            owner,
            segment,
        },
        LedgerRecord::Owner(OwnerRecord { owner, released: true }),
    ];
    let seed = |record: &LedgerRecord| {
        let (key, value) = record.encode();
        [&[key.len() as u8][..], &key, &value.unwrap_or_default()].concat()
    };
    records.iter().map(seed).collect()
}

/// A topic is created, produced to and fetched from; and each request that the sandbox takes, by itself and empty.
fn requests() -> Vec<Vec<u8>> {
    let name = || TopicName(text("t"));
    let topic = CreatableTopic::default()
        .with_name(name())
        .with_num_partitions(1)
        .with_replication_factor(1);
    let create = CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(1000);
    let partition = PartitionProduceData::default().with_records(Some(batch(Codec::None)));
    let topic = TopicProduceData::default()
        .with_name(name())
        .with_partition_data(vec![partition]);
    let produce = ProduceRequest::default().with_acks(-1).with_topic_data(vec![topic]);
    let topic = FetchTopic::default()
        .with_topic(name())
        .with_partitions(vec![FetchPartition::default().with_partition_max_bytes(1 << 20)]);
    let fetch = FetchRequest::default().with_max_bytes(1 << 20).with_topics(vec![topic]);
    let copy = [
        request(ApiKey::CreateTopics, 5, &create),
        request(ApiKey::Produce, 9, &produce),
        request(ApiKey::Fetch, 12, &fetch),
        request(ApiKey::Fetch, 11, &fetch),
    ];
    vec![
        copy.concat(),
        request(ApiKey::Metadata, 9, &MetadataRequest::default().with_topics(None)),
        request(ApiKey::ApiVersions, 3, &ApiVersionsRequest::default()),
        request(
            ApiKey::InitProducerId,
            4,
            &InitProducerIdRequest::default().with_transactional_id(None),
        ),
        request(
            ApiKey::FindCoordinator,
            3,
            &FindCoordinatorRequest::default().with_key(text("g")),
        ),
        request(
            ApiKey::JoinGroup,
            7,
            &JoinGroupRequest::default().with_group_id(GroupId(text("g"))),
        ),
        request(ApiKey::ListOffsets, 6, &ListOffsetsRequest::default()),
        request(ApiKey::DescribeConfigs, 4, &DescribeConfigsRequest::default()),
    ]
}

/// A frame after its length in two bytes.
fn request(api: ApiKey, version: i16, body: &impl Encodable) -> Vec<u8> {
    let mut frame = Vec::new();
    frame::put_request_header(&mut frame, api, version, 7, "fuzz");
    body.encode(&mut frame, version).expect("a request of this version");
    [&(frame.len() as u16).to_be_bytes()[..], &frame].concat()
}

const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

/// A batch of two records, of which one is large enough to be worth compressing.
fn batch(codec: Codec) -> Bytes {
    let mut batch = BatchBuilder::new(BatchOptions {
        codec,
        ..BatchOptions::default()
    });
    batch.push(
        1_700_000_000_000,
        Some(b"key"),
        Some(b"value ".repeat(30).as_slice()),
        &[(b"h", None), (b"h", Some(b"x"))],
    );
    batch.push(1_700_000_000_001, None, None, &[]);
    batch.build().expect("two records make a batch")
}

/// A seed for each version: the byte that chooses it, and the body.
fn each_version<R: Encodable>(api: ApiKey, response: impl Fn(i16) -> R) -> Vec<Vec<u8>> {
    let versions = api.valid_versions();
    let seed = |version| {
        let mut body = BytesMut::new();
        response(version)
            .encode(&mut body, version)
            .expect("a response of this version");
        [&[choice(api, version)], &body[..]].concat()
    };
    (versions.min..=versions.max).map(seed).collect()
}

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}
