//! `kferry verify`: compares source and target, record by record.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use indicatif::MultiProgress;
use serde::Serialize;

use super::clusters::{FlowFile, FlowName, cluster_config};
use super::output::{OutputFormat, print_json};
use super::{EXIT_DONE, EXIT_FAILED, EXIT_USAGE, progress};
use crate::cluster::Side;
use crate::config::Patterns;
use crate::service::progress::Progress;
use crate::service::verify::compare::{Difference, Field, Kind};
use crate::service::verify::{VerifiedPartition, VerifyRequest, verify};

/// Compares source and target, record by record, through the offset map
///
/// Key, value, headers in order and timestamp of each committed record have to be on the target at the offset that the
/// map says, and nothing else in the flow's range: no aborted record, and nobody else's. What lies past the flow's last
/// checkpoint is not judged, nor what retention or compaction has taken on either side since; both are counted.
///
/// Example: kferry verify --from old:9092 --to new:9092 --flow A->B
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// An mm2.properties, in place of --from and --to
    file: Option<PathBuf>,

    /// Brokers of the source
    #[arg(
        long,
        value_name = "HOST:PORT[,…]",
        value_delimiter = ',',
        required_unless_present = "file",
        conflicts_with = "file"
    )]
    from: Vec<String>,

    /// Brokers of the target
    #[arg(
        long,
        value_name = "HOST:PORT[,…]",
        value_delimiter = ',',
        required_unless_present = "file",
        conflicts_with = "file"
    )]
    to: Vec<String>,

    /// Java client properties for the source
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    from_config: Option<PathBuf>,

    /// Java client properties for the target
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    to_config: Option<PathBuf>,

    /// The flow whose work is compared
    #[arg(long, value_name = "A->B", default_value = "source->target")]
    flow: FlowName,

    /// Topics to compare, by their names at the source; all of the flow's if none are given
    #[arg(long, value_name = "PATTERN[,…]", allow_hyphen_values = true)]
    topics: Option<Patterns>,

    /// Compares so many stretches of 1000 offsets of each partition, chosen by chance, in place of all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    sample: Option<u32>,
}

#[derive(Debug, Serialize)]
struct Report {
    flow: String,
    equal: bool,
    compared: u64,
    compacted: u64,
    expired: u64,
    missing: u64,
    extra: u64,
    different: u64,
    sampled: bool,
    partitions: Vec<PartitionReport>,
}

#[derive(Debug, Serialize)]
struct PartitionReport {
    topic: String,
    partition: i32,
    target_topic: String,
    compared: u64,
    /// On one side only; the cleaner has taken the other.
    compacted: u64,
    /// On one side only; retention has taken the other.
    expired: u64,
    missing: u64,
    extra: u64,
    different: u64,
    /// Timestamps are not compared where the target stamps anew.
    timestamps_compared: bool,
    /// Offsets of the target past the last checkpoint.
    unjudged: i64,
    source_digest: String,
    target_digest: String,
    first_difference: Option<DifferenceReport>,
}

#[derive(Debug, Serialize)]
struct DifferenceReport {
    kind: &'static str,
    offset: Option<i64>,
    target_offset: Option<i64>,
}

fn request(args: &VerifyArgs) -> anyhow::Result<VerifyRequest> {
    let FlowName { source, target } = &args.flow;
    let (from, to) = match &args.file {
        Some(path) => {
            let file = FlowFile::read(path)?;
            (file.cluster(Side::Source, source)?, file.cluster(Side::Target, target)?)
        }
        None => (
            cluster_config(Side::Source, source, &args.from, args.from_config.as_deref())?,
            cluster_config(Side::Target, target, &args.to, args.to_config.as_deref())?,
        ),
    };
    Ok(VerifyRequest {
        source: from,
        target: to,
        source_alias: source.clone(),
        target_alias: target.clone(),
        topics: args.topics.clone(),
        samples: args.sample,
    })
}

pub(super) async fn run(args: VerifyArgs, output: OutputFormat, bars: MultiProgress) -> anyhow::Result<ExitCode> {
    let request = match request(&args) {
        Ok(request) => request,
        Err(error) => {
            eprintln!("error: {error:#}");
            return Ok(ExitCode::from(EXIT_USAGE));
        }
    };
    let numbers = Arc::new(Progress::default());
    let shown = progress::show(args.flow.to_string(), Arc::clone(&numbers), &bars);
    let verified = verify(request, &numbers).await;
    drop(shown);
    let verified = verified?;
    let report = report(&args, &verified);
    match output {
        OutputFormat::Json => print_json(&report)?,
        OutputFormat::Text => print_text(&report),
    }
    for partition in &report.partitions {
        if let Some(first) = &partition.first_difference {
            let offset = |offset: Option<i64>| offset.map_or_else(|| "none".to_owned(), |offset| offset.to_string());
            eprintln!(
                "error: {} partition {}: first difference: {} (source offset {}, offset on the target {})",
                partition.topic,
                partition.partition,
                first.kind,
                offset(first.offset),
                offset(first.target_offset),
            );
        }
    }
    Ok(ExitCode::from(if report.equal { EXIT_DONE } else { EXIT_FAILED }))
}

fn report(args: &VerifyArgs, verified: &[VerifiedPartition]) -> Report {
    let sum = |count: fn(&VerifiedPartition) -> u64| verified.iter().map(count).sum();
    Report {
        flow: args.flow.to_string(),
        equal: verified.iter().all(|partition| partition.findings.is_equal()),
        compared: sum(|partition| partition.findings.compared),
        compacted: sum(|partition| partition.findings.compacted),
        expired: sum(|partition| partition.findings.expired),
        missing: sum(|partition| partition.findings.missing),
        extra: sum(|partition| partition.findings.extra),
        different: sum(|partition| partition.findings.different),
        sampled: args.sample.is_some(),
        partitions: verified.iter().map(partition_report).collect(),
    }
}

fn partition_report(verified: &VerifiedPartition) -> PartitionReport {
    let findings = &verified.findings;
    PartitionReport {
        topic: verified.topic.clone(),
        partition: verified.partition,
        target_topic: verified.target_topic.clone(),
        compared: findings.compared,
        compacted: findings.compacted,
        expired: findings.expired,
        missing: findings.missing,
        extra: findings.extra,
        different: findings.different,
        timestamps_compared: verified.compares_time,
        unjudged: verified.unjudged,
        source_digest: format!("{:016x}", findings.source_digest.0),
        target_digest: format!("{:016x}", findings.target_digest.0),
        first_difference: findings
            .first
            .map(|Difference { kind, source, target }| DifferenceReport {
                kind: name(kind),
                offset: source.map(|offset| offset.0),
                target_offset: target.map(|offset| offset.0),
            }),
    }
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Missing => "missing on the target",
        Kind::NotCommitted => "on the target, but not committed at the source",
        Kind::Foreign => "on the target, but not written by the flow",
        Kind::Different(Field::Key) => "the keys differ",
        Kind::Different(Field::Value) => "the values differ",
        Kind::Different(Field::Headers) => "the headers differ",
        Kind::Different(Field::Timestamp) => "the timestamps differ",
    }
}

fn print_text(report: &Report) {
    println!("TOPIC PARTITION COMPARED COMPACTED EXPIRED MISSING EXTRA DIFFERENT UNJUDGED DIGEST");
    for partition in &report.partitions {
        let digest = match partition.source_digest == partition.target_digest {
            true => partition.source_digest.clone(),
            false => format!("{}/{}", partition.source_digest, partition.target_digest),
        };
        println!(
            "{} {} {} {} {} {} {} {} {} {digest}{}",
            partition.topic,
            partition.partition,
            partition.compared,
            partition.compacted,
            partition.expired,
            partition.missing,
            partition.extra,
            partition.different,
            partition.unjudged,
            if partition.timestamps_compared {
                ""
            } else {
                " (timestamps not compared: the target stamps anew)"
            },
        );
    }
    println!(
        "flow {}: {}: {} records compared{}, {} missing, {} extra, {} different; on one side only: {} taken by the cleaner, {} \
         by retention",
        report.flow,
        if report.equal { "equal" } else { "not equal" },
        report.compared,
        if report.sampled { " (a sample)" } else { "" },
        report.missing,
        report.extra,
        report.different,
        report.compacted,
        report.expired,
    );
}
