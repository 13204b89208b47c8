//! `kferry offsets`: questions to the offset map. The target is all that it takes: the map lives there.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::clusters::{FlowFile, FlowName, cluster_config};
use super::groups::GroupReport;
use super::output::{OutputFormat, bytes, print_json};
use super::{EXIT_DONE, EXIT_FAILED, EXIT_USAGE};
use crate::cluster::{Cluster, ClusterConfig, Isolation, OffsetSpec, Side};
use crate::config::Patterns;
use crate::offsets::{SourceOffset, TargetOffset, TranslationState};
use crate::service::flow_map::FlowMap;
use crate::service::groups::{self, Committed};

/// Asks the offset map of a flow
#[derive(Debug, Args)]
pub struct OffsetsArgs {
    #[command(subcommand)]
    question: Question,
}

#[derive(Debug, Subcommand)]
enum Question {
    Translate(TranslateArgs),
    Show(ShowArgs),
    Groups(GroupsArgs),
}

/// Where the ledger is.
#[derive(Debug, Args)]
struct Ledger {
    /// Brokers of the target, where there is no FILE
    #[arg(long, value_name = "HOST:PORT[,…]", value_delimiter = ',')]
    to: Vec<String>,

    /// Java client properties for the target
    #[arg(long, value_name = "FILE", requires = "to")]
    to_config: Option<PathBuf>,

    /// The flow whose map is asked
    #[arg(long, value_name = "A->B", default_value = "source->target")]
    flow: FlowName,
}

/// Says where offsets of the source are on the target, exactly
///
/// Prints a line for each: topic, partition and offset as asked, then those on the other side, and what the answer is worth:
/// exact; pending (not replicated so far, the offset is where it will go); before-start (older than what the flow began
/// with, the offset is the flow's first).
///
/// Example: kferry offsets translate --to new:9092 --flow A->B orders:0:1000 orders:1:990
#[derive(Debug, Args)]
struct TranslateArgs {
    #[command(flatten)]
    ledger: Ledger,

    /// From the target to the source
    #[arg(long)]
    inverse: bool,

    /// An mm2.properties first, unless --to is given; then offsets to translate
    #[arg(value_name = "[FILE] TOPIC:PARTITION:OFFSET", required = true)]
    asked: Vec<String>,
}

/// Shows how far each partition has come, and how large its map is
///
/// Example: kferry offsets show mm2.properties --flow A->B --topic orders
#[derive(Debug, Args)]
struct ShowArgs {
    #[command(flatten)]
    ledger: Ledger,

    /// Only this topic of the source
    #[arg(long)]
    topic: Option<String>,

    /// An mm2.properties, unless --to is given; then the lag is known too
    file: Option<PathBuf>,
}

/// Shows consumer groups: where they stand at the source, what that is on the target, where they stand there, and why it
/// is not written where it is not
///
/// The target alone knows of groups that kferry has moved, with where they stood at the source then. With a file both
/// clusters are asked, about all groups that match.
///
/// Example: kferry offsets groups mm2.properties --flow A->B --group 'billing.*'
#[derive(Debug, Args)]
struct GroupsArgs {
    #[command(flatten)]
    ledger: Ledger,

    /// Only these groups: regular expressions that match whole names
    #[arg(long, value_name = "PATTERN[,…]", default_value = ".*", allow_hyphen_values = true)]
    group: Patterns,

    /// An mm2.properties, unless --to is given
    file: Option<PathBuf>,
}

#[derive(Debug, PartialEq, Eq)]
struct Asked {
    topic: String,
    partition: i32,
    offset: i64,
}

impl std::str::FromStr for Asked {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (rest, offset) = text.rsplit_once(':')?;
            let (topic, partition) = rest.rsplit_once(':')?;
            let (partition, offset) = (partition.parse().ok()?, offset.parse().ok()?);
            (!topic.is_empty() && partition >= 0 && offset >= 0).then(|| Self {
                topic: topic.to_owned(),
                partition,
                offset,
            })
        };
        parse().ok_or_else(|| format!("\"{text}\" is not of the form TOPIC:PARTITION:OFFSET"))
    }
}

/// The clusters that a question goes to; the source where it is known.
struct Clusters {
    source: Option<ClusterConfig>,
    target: ClusterConfig,
}

impl Ledger {
    fn clusters(&self, file: Option<&Path>) -> anyhow::Result<Clusters> {
        let FlowName { source, target } = &self.flow;
        match (file, self.to.is_empty()) {
            (Some(_), false) => anyhow::bail!("give either a file or --to"),
            (None, true) => anyhow::bail!("give an mm2.properties, or the target's brokers with --to"),
            (None, false) => Ok(Clusters {
                source: None,
                target: cluster_config(Side::Target, target, &self.to, self.to_config.as_deref())?,
            }),
            (Some(path), true) => {
                let file = FlowFile::read(path)?;
                Ok(Clusters {
                    source: Some(file.cluster(Side::Source, source)?),
                    target: file.cluster(Side::Target, target)?,
                })
            }
        }
    }
}

pub(super) async fn run(args: OffsetsArgs, output: OutputFormat) -> anyhow::Result<ExitCode> {
    match args.question {
        Question::Translate(args) => translate(args, output).await,
        Question::Show(args) => show(args, output).await,
        Question::Groups(args) => groups(args, output).await,
    }
}

fn usage(error: &anyhow::Error) -> anyhow::Result<ExitCode> {
    eprintln!("error: {error:#}");
    Ok(ExitCode::from(EXIT_USAGE))
}

#[derive(Debug, Serialize)]
struct Translated {
    topic: String,
    partition: i32,
    offset: i64,
    target_topic: String,
    target_offset: i64,
    state: &'static str,
}

/// What the arguments mean: the clusters, and the offsets asked about.
fn translation(args: &TranslateArgs) -> anyhow::Result<(Clusters, Vec<Asked>)> {
    let (file, asked) = match args.ledger.to.is_empty() {
        true => (args.asked.first().map(Path::new), &args.asked[1..]),
        false => (None, &args.asked[..]),
    };
    let asked: Result<Vec<Asked>, String> = asked.iter().map(|text| text.parse()).collect();
    let asked = asked.map_err(anyhow::Error::msg)?;
    anyhow::ensure!(!asked.is_empty(), "give at least one TOPIC:PARTITION:OFFSET");
    Ok((args.ledger.clusters(file)?, asked))
}

async fn translate(args: TranslateArgs, output: OutputFormat) -> anyhow::Result<ExitCode> {
    let (clusters, asked) = match translation(&args) {
        Ok(meant) => meant,
        Err(error) => return usage(&error),
    };
    let flow = load(&clusters, &args.ledger.flow).await?;
    let mut translated = Vec::new();
    for question in asked {
        let answer = match args.inverse {
            false => forward(&flow, question),
            true => backward(&flow, question),
        };
        match answer {
            Ok(answer) => translated.push(answer),
            Err(unknown) => {
                eprintln!("error: {unknown}");
                return Ok(ExitCode::from(EXIT_FAILED));
            }
        }
    }
    match output {
        OutputFormat::Json => print_json(&translated)?,
        OutputFormat::Text => {
            for Translated {
                topic,
                partition,
                offset,
                target_topic,
                target_offset,
                state,
            } in &translated
            {
                println!("{topic} {partition} {offset} -> {target_topic} {partition} {target_offset} {state}");
            }
        }
    }
    Ok(ExitCode::from(EXIT_DONE))
}

fn forward(flow: &FlowMap, asked: Asked) -> Result<Translated, String> {
    let Asked {
        topic,
        partition,
        offset,
    } = asked;
    let known = flow.by_source(&topic, partition).ok_or_else(|| {
        format!(
            "partition {partition} of topic {topic} is not in the ledger {}",
            flow.ledger
        )
    })?;
    let answer = known.map.translate(SourceOffset(offset));
    Ok(Translated {
        topic,
        partition,
        offset,
        target_topic: known.checkpoint.target_topic.clone(),
        target_offset: answer.offset.0,
        state: state(answer.state),
    })
}

fn backward(flow: &FlowMap, asked: Asked) -> Result<Translated, String> {
    let Asked {
        topic,
        partition,
        offset,
    } = asked;
    let (source_topic, known) = flow.by_target(&topic, partition).ok_or_else(|| {
        format!(
            "partition {partition} of the target's topic {topic} is not in the ledger {}",
            flow.ledger
        )
    })?;
    let answer = known.map.inverse(TargetOffset(offset));
    Ok(Translated {
        target_topic: source_topic.to_owned(),
        topic,
        partition,
        offset,
        target_offset: answer.offset.0,
        state: state(answer.state),
    })
}

fn state(state: TranslationState) -> &'static str {
    match state {
        TranslationState::Exact => "exact",
        TranslationState::Pending => "pending",
        TranslationState::BeforeStart => "before-start",
    }
}

async fn load(clusters: &Clusters, flow: &FlowName) -> anyhow::Result<FlowMap> {
    let target = Cluster::connect(clusters.target.clone()).await?;
    let flow_map = FlowMap::load(&target, &flow.source, &flow.target).await;
    flow_map.with_context(|| format!("flow {flow}"))
}

#[derive(Debug, Serialize)]
struct Shown {
    flow: String,
    ledger: String,
    ledger_bytes: u64,
    partitions: Vec<ShownPartition>,
}

#[derive(Debug, Serialize)]
struct ShownPartition {
    topic: String,
    partition: i32,
    target_topic: String,
    /// The first offsets of the map.
    start: i64,
    target_start: i64,
    /// Everything below is on the target, or was skipped for good.
    position: i64,
    target_position: i64,
    runs: usize,
    /// The source's last stable offset less the position; not known without the source.
    lag: Option<i64>,
}

async fn show(args: ShowArgs, output: OutputFormat) -> anyhow::Result<ExitCode> {
    let clusters = match args.ledger.clusters(args.file.as_deref()) {
        Ok(clusters) => clusters,
        Err(error) => return usage(&error),
    };
    let flow = load(&clusters, &args.ledger.flow).await?;
    let mut shown = Shown {
        flow: args.ledger.flow.to_string(),
        ledger: flow.ledger.to_string(),
        ledger_bytes: flow.ledger_bytes,
        partitions: Vec::new(),
    };
    for ((topic, partition), known) in &flow.partitions {
        if args.topic.as_ref().is_none_or(|wanted| wanted == topic) {
            shown.partitions.push(ShownPartition {
                topic: topic.clone(),
                partition: *partition,
                target_topic: known.checkpoint.target_topic.clone(),
                start: known.map.start().source.0,
                target_start: known.map.start().target.0,
                position: known.map.position().source.0,
                target_position: known.map.position().target.0,
                runs: known.map.len(),
                lag: None,
            });
        }
    }
    if let (Some(topic), true) = (&args.topic, shown.partitions.is_empty()) {
        eprintln!("error: topic {topic} is not in the ledger {}", flow.ledger);
        return Ok(ExitCode::from(EXIT_FAILED));
    }
    if let Some(source) = clusters.source {
        measure_lag(source, &mut shown.partitions).await?;
    }
    match output {
        OutputFormat::Json => print_json(&shown)?,
        OutputFormat::Text => print_shown(&shown),
    }
    Ok(ExitCode::from(EXIT_DONE))
}

async fn measure_lag(source: ClusterConfig, partitions: &mut [ShownPartition]) -> anyhow::Result<()> {
    let source = Cluster::connect(source).await?;
    let names: Vec<(Arc<str>, i32)> = partitions
        .iter()
        .map(|shown| (Arc::from(shown.topic.as_str()), shown.partition))
        .collect();
    source
        .describe_topics(names.iter().map(|(topic, _)| topic.to_string()).collect())
        .await?;
    let stable = OffsetSpec::Latest(Isolation::ReadCommitted);
    // One that is gone at the source has no lag.
    for (shown, (_, end)) in partitions.iter_mut().zip(source.list_offsets(names, stable).await) {
        shown.lag = end.ok().map(|end| (end.offset - shown.position).max(0));
    }
    Ok(())
}

fn print_shown(shown: &Shown) {
    println!(
        "flow {}: ledger {}, {}",
        shown.flow,
        shown.ledger,
        bytes(shown.ledger_bytes)
    );
    println!("TOPIC PARTITION TARGET-TOPIC START TARGET-START POSITION TARGET-POSITION RUNS LAG");
    for partition in &shown.partitions {
        println!(
            "{} {} {} {} {} {} {} {} {}",
            partition.topic,
            partition.partition,
            partition.target_topic,
            partition.start,
            partition.target_start,
            partition.position,
            partition.target_position,
            partition.runs,
            partition.lag.map_or_else(|| "-".to_owned(), |lag| lag.to_string()),
        );
    }
}

async fn groups(args: GroupsArgs, output: OutputFormat) -> anyhow::Result<ExitCode> {
    let clusters = match args.ledger.clusters(args.file.as_deref()) {
        Ok(clusters) => clusters,
        Err(error) => return usage(&error),
    };
    let flow = load(&clusters, &args.ledger.flow).await?;
    let committed = match clusters.source {
        Some(source) => groups::committed(&Cluster::connect(source).await?, &args.group).await?,
        None => remembered(&flow, &args.group),
    };
    let target = Cluster::connect(clusters.target).await?;
    let rows = groups::plan(&target, &flow, committed).await?;
    let reports: Vec<GroupReport> = rows.iter().map(GroupReport::planned).collect();
    match output {
        OutputFormat::Json => print_json(&reports)?,
        OutputFormat::Text => reports.iter().for_each(GroupReport::print),
    }
    Ok(ExitCode::from(EXIT_DONE))
}

/// Where groups stood at the source when they were moved.
fn remembered(flow: &FlowMap, wanted: &Patterns) -> Vec<Committed> {
    let groups = flow.groups.iter().filter(|((group, ..), _)| wanted.matches(group));
    let committed = groups.map(|((group, topic, partition), record)| Committed {
        group: group.clone(),
        topic: topic.clone(),
        partition: *partition,
        offset: record.source_offset,
        metadata: None,
    });
    committed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_names_topic_partition_and_offset() {
        assert_eq!(
            "a.b:3:17".parse(),
            Ok(Asked {
                topic: "a.b".into(),
                partition: 3,
                offset: 17
            })
        );
        for refused in ["a", "a:1", "a:1:x", ":1:2", "a:-1:2", "a:1:-2"] {
            assert!(refused.parse::<Asked>().is_err(), "{refused}");
        }
    }
}
