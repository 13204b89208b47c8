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
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, PartitionData,
};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Encodable, StrBytes};
use kferry::protocol::ApiKey;
use kferry::record::{BatchBuilder, BatchOptions, Codec, ControlType, HEADER_LEN, control_batch};
use kferry_fuzz::{WALKED, choice};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: write_all().expect("the folder can be written to"), |_data: &[u8]| {});

fn write_all() -> io::Result<()> {
    let folder = PathBuf::from(env::var_os("SEEDS").expect("SEEDS names the folder to write to"));
    write(&folder.join("frame"), frames())?;
    write(&folder.join("fetch_response"), fetch_responses())?;
    write(&folder.join("produce_response"), produce_responses())?;
    write(&folder.join("bounded_decode"), bodies())?;
    write(&folder.join("batch_scan"), records_of_partitions())?;
    write(&folder.join("records"), payloads())
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

fn payloads() -> Vec<Vec<u8>> {
    let payload = |codec: &Codec| {
        let choice = [codec.attributes() as u8, 1, 2];
        [&choice, &batch(*codec)[HEADER_LEN..]].concat()
    };
    CODECS.iter().map(payload).collect()
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
