//! `kferry copy`: bulk migration, with no file.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use clap::{Args, ValueEnum};
use indicatif::MultiProgress;
use serde::Serialize;

use super::clusters::{FlowName, cluster_config};
use super::groups::GroupReport;
use super::output::{OutputFormat, bytes, print_json};
use super::signals::Stop;
use super::{EXIT_DONE, EXIT_FAILED, EXIT_USAGE, progress};
use crate::cluster::Side;
use crate::config::{Patterns, size};
use crate::reconcile::topics::TopicSelection;
use crate::replication::coalesce::Coalescing;
use crate::replication::partition::{OnChange, Policies};
use crate::replication::stopped::Stopped;
use crate::service::copy::{CopyError, CopyRequest, CopySummary, StartFrom, copy};
use crate::service::progress::Progress;

/// What MirrorMaker 2 leaves out as well (`topics.exclude`).
const DEFAULT_EXCLUDE: &str = r".*[\-\.]internal,.*\.replica,__.*";

/// The least that `--memory` may be: a batch on its way in and one on its way out, at the default size.
const MIN_MEMORY: u64 = 8 << 20;

const EXACTLY_ONCE_REASON: &str = "the target's leaders take each record under the next sequence number only, and what was \
     in doubt was asked about";

/// Copies topics up to the ends seen at the start, then stops
///
/// Running it again goes on where it stopped: what was done is kept on the target, in the topic
/// kferry-ledger.A.B.internal for a flow A->B.
///
/// Example: kferry copy --from old:9092 --to new:9092 --topics 'orders.*,payments'
#[derive(Debug, Args)]
pub struct CopyArgs {
    /// Brokers of the source
    #[arg(long, value_name = "HOST:PORT[,…]", value_delimiter = ',', required = true)]
    from: Vec<String>,

    /// Brokers of the target
    #[arg(long, value_name = "HOST:PORT[,…]", value_delimiter = ',', required = true)]
    to: Vec<String>,

    /// Topics to copy: regular expressions that match whole names
    #[arg(long, value_name = "PATTERN[,…]", allow_hyphen_values = true)]
    topics: Patterns,

    /// Topics not to copy
    #[arg(long, value_name = "PATTERN[,…]", default_value = DEFAULT_EXCLUDE, allow_hyphen_values = true)]
    exclude: Patterns,

    /// Java client properties for the source, as the Kafka tools' --command-config
    #[arg(long, value_name = "FILE")]
    from_config: Option<PathBuf>,

    /// Java client properties for the target
    #[arg(long, value_name = "FILE")]
    to_config: Option<PathBuf>,

    /// The clusters' aliases, and the name of the ledger
    #[arg(long, value_name = "A->B", default_value = "source->target")]
    flow: FlowName,

    /// Put before each topic's name on the target, as it is
    #[arg(long, value_name = "P", default_value = "", allow_hyphen_values = true)]
    prefix: String,

    /// Afterwards write these consumer groups' offsets, translated, where the group is absent or empty on the target
    #[arg(long, value_name = "PATTERN[,…]", allow_hyphen_values = true)]
    groups: Option<Patterns>,

    /// Go on at the ends, until a signal comes
    #[arg(long)]
    follow: bool,

    /// Where to begin where there is no ledger yet: earliest, latest, or a time in RFC 3339
    #[arg(long, value_name = "WHERE", default_value = "earliest")]
    start: Start,

    /// Replicas of topics that are created; the target's default where it is not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,

    /// Create no topics and no partitions on the target
    #[arg(long)]
    no_create: bool,

    /// Bytes a second at most, such as 100MB
    #[arg(long, value_name = "SIZE", value_parser = positive_size)]
    max_rate: Option<u64>,

    /// Bytes for everything that was fetched and is not acknowledged
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = memory_size)]
    memory: u64,

    /// auto: put small batches together where a backlog of them has built up; never: carry each as it is
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Coalesce::Auto)]
    coalesce: Coalesce,

    /// best: the strongest that can be had; exactly-once: refuse to start where that cannot be had
    #[arg(long, value_enum, default_value_t = Guarantee::Best)]
    guarantee: Guarantee,

    /// Where the source no longer has what is to be copied next: stop the partition, or continue loudly
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = Change::Stop)]
    on_gap: Change,

    /// Where the source has lost what was copied
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = Change::Stop)]
    on_truncation: Change,

    /// Where the source's topic was deleted and created anew
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = Change::Stop)]
    on_recreation: Change,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Guarantee {
    Best,
    ExactlyOnce,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Coalesce {
    Auto,
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Change {
    Stop,
    Continue,
}

impl From<Change> for OnChange {
    fn from(change: Change) -> Self {
        match change {
            Change::Stop => Self::Stop,
            Change::Continue => Self::Continue,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Start(StartFrom);

impl std::str::FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "earliest" => Ok(Self(StartFrom::Earliest)),
            "latest" => Ok(Self(StartFrom::Latest)),
            time => time
                .parse::<jiff::Timestamp>()
                .map(|time| Self(StartFrom::Timestamp(time.as_millisecond())))
                .map_err(|_| "write earliest, latest, or a time such as 2026-01-31T08:00:00Z".to_owned()),
        }
    }
}

fn positive_size(text: &str) -> Result<u64, String> {
    match size::parse(text) {
        Ok(0) => Err("must be more than nothing".to_owned()),
        parsed => parsed.map_err(|error| error.to_string()),
    }
}

fn memory_size(text: &str) -> Result<u64, String> {
    match size::parse(text) {
        Ok(bytes) if bytes < MIN_MEMORY => Err("must be at least 8MiB".to_owned()),
        parsed => parsed.map_err(|error| error.to_string()),
    }
}

/// The JSON document; the text says the same.
#[derive(Debug, Serialize)]
struct Report {
    flow: String,
    topics: usize,
    partitions: usize,
    records: u64,
    bytes: u64,
    seconds: f64,
    batches: Batches,
    guarantee: &'static str,
    guarantee_reason: String,
    groups: Vec<GroupReport>,
    stopped: Vec<StoppedReport>,
}

#[derive(Debug, Serialize)]
struct Batches {
    patched: u64,
    reencoded: u64,
    coalesced: u64,
    skipped: u64,
}

#[derive(Debug, Serialize)]
struct StoppedReport {
    topic: String,
    partition: i32,
    reason: String,
}

pub(super) async fn run(args: CopyArgs, output: OutputFormat, bars: MultiProgress) -> anyhow::Result<ExitCode> {
    let request = match request(&args) {
        Ok(request) => request,
        Err(error) => {
            eprintln!("error: {error:#}");
            return Ok(ExitCode::from(EXIT_USAGE));
        }
    };
    let stop = Stop::listen().context("signals can't be listened to")?;
    let numbers = Arc::new(Progress::default());
    let shown = progress::show(args.flow.to_string(), Arc::clone(&numbers), &bars);
    let started = now();
    let result = copy(request, &numbers, stop.asked()).await;
    drop(shown);
    bars.clear().context("progress can't be cleared")?;
    let summary = match result {
        Ok(summary) => summary,
        Err(CopyError::Interrupted) => return Ok(stop.exit_code().unwrap_or_else(|| ExitCode::from(EXIT_FAILED))),
        Err(error) => {
            let code = if error.is_usage() { EXIT_USAGE } else { EXIT_FAILED };
            eprintln!("error: {:#}", anyhow::Error::from(error));
            return Ok(ExitCode::from(code));
        }
    };
    let report = report(&args.flow, &summary, started.elapsed().as_secs_f64());
    match output {
        OutputFormat::Json => print_json(&report)?,
        OutputFormat::Text => {
            report.groups.iter().for_each(GroupReport::print);
            print_text(&report);
        }
    }
    for stopped in &summary.outcome.stopped {
        match &stopped.reason {
            Stopped::Superseded { .. } => {
                eprintln!("error: {}", stopped.reason);
                break; // It is the same for all.
            }
            reason => eprintln!("error: {} partition {}: {reason}", stopped.topic, stopped.partition),
        }
    }
    Ok(match stop.exit_code() {
        _ if !report.stopped.is_empty() => ExitCode::from(EXIT_FAILED),
        Some(signalled) if summary.outcome.interrupted => signalled,
        _ => ExitCode::from(EXIT_DONE),
    })
}

/// What the arguments mean. An error here is one of usage.
fn request(args: &CopyArgs) -> anyhow::Result<CopyRequest> {
    Ok(CopyRequest {
        source: cluster_config(Side::Source, &args.flow.source, &args.from, args.from_config.as_deref())?,
        target: cluster_config(Side::Target, &args.flow.target, &args.to, args.to_config.as_deref())?,
        topics: TopicSelection {
            include: args.topics.clone(),
            exclude: args.exclude.clone(),
            prefix: args.prefix.clone(),
            same_cluster: false,
        },
        start: args.start.0,
        follow: args.follow,
        replication_factor: args.replication_factor.unwrap_or(-1),
        create: !args.no_create,
        max_rate: args.max_rate,
        memory: usize::try_from(args.memory).context("--memory")?,
        coalescing: match args.coalesce {
            Coalesce::Auto => Coalescing::Auto,
            Coalesce::Never => Coalescing::Never,
        },
        policies: Policies {
            gap: args.on_gap.into(),
            truncation: args.on_truncation.into(),
            recreation: args.on_recreation.into(),
            exactly_once: args.guarantee == Guarantee::ExactlyOnce,
        },
        groups: args.groups.clone(),
        instance: fastrand::u64(..),
    })
}

fn report(flow: &FlowName, summary: &CopySummary, seconds: f64) -> Report {
    let totals = summary.outcome.totals;
    Report {
        flow: flow.to_string(),
        topics: summary.topics,
        partitions: summary.partitions,
        records: totals.records,
        bytes: totals.bytes,
        seconds: (seconds * 1000.0).round() / 1000.0,
        batches: Batches {
            patched: totals.patched,
            reencoded: totals.reencoded,
            coalesced: totals.coalesced,
            skipped: totals.skipped,
        },
        guarantee: match summary.weakness {
            None => "exactly-once",
            Some(_) => "at-least-once",
        },
        guarantee_reason: summary
            .weakness
            .clone()
            .unwrap_or_else(|| EXACTLY_ONCE_REASON.to_owned()),
        groups: summary.groups.iter().map(GroupReport::new).collect(),
        stopped: summary
            .outcome
            .stopped
            .iter()
            .map(|stopped| StoppedReport {
                topic: stopped.topic.to_string(),
                partition: stopped.partition,
                reason: stopped.reason.to_string(),
            })
            .collect(),
    }
}

fn print_text(report: &Report) {
    let rate = bytes((report.bytes as f64 / report.seconds.max(0.001)) as u64);
    println!(
        "flow {}: {} topics, {} partitions, {} records, {} in {:.1} s ({rate}/s); batches: {} patched, {} re-encoded, \
         {} coalesced, {} skipped; guarantee: {} ({})",
        report.flow,
        report.topics,
        report.partitions,
        report.records,
        bytes(report.bytes),
        report.seconds,
        report.batches.patched,
        report.batches.reencoded,
        report.batches.coalesced,
        report.batches.skipped,
        report.guarantee,
        report.guarantee_reason,
    );
}

#[expect(
    clippy::disallowed_methods,
    reason = "an I/O folder; the summary says how long it took"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_a_word_or_a_time() {
        let start = |text: &str| text.parse::<Start>().map(|start| start.0);
        assert_eq!(start("latest"), Ok(StartFrom::Latest));
        assert_eq!(start("1970-01-01T00:00:01.5Z"), Ok(StartFrom::Timestamp(1500)));
        assert!(start("yesterday").is_err());
    }
}
