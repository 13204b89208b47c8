//! `kferry demo`: two sandboxes, live traffic, a flow between them, and a check that compares every record.
//!
//! Everything is in this process and ends with it, so a signal needs no clean stop.

mod check;
mod cleaner;
mod comparison;
mod content;
mod generator;
mod producer;
mod reading;
mod report;
mod traffic;
mod view;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use clap::Args;
use indicatif::MultiProgress;
use tokio::sync::watch;

use super::output::{OutputFormat, print_json};
use super::signals::Stop;
use super::{EXIT_DONE, EXIT_FAILED};
use crate::cluster::{Cluster, ClusterConfig, Side};
use crate::config::Patterns;
use crate::reconcile::topics::TopicSelection;
use crate::replication::coalesce::Coalescing;
use crate::replication::partition::Policies;
use crate::sandbox::core::log::Isolation;
use crate::sandbox::core::{self, Settings};
use crate::sandbox::{Sandbox, SandboxOptions};
use crate::service::copy::{CopyRequest, StartFrom, copy};
use crate::service::progress::Progress;
use generator::{Counts, Generator};
use report::Report;
use traffic::{DemoTopic, TOPICS};
use view::View;

/// What the flow logs while all is well would drown the view.
pub(super) const DEFAULT_LOG: &str = "warn,kferry::cli::demo=info";

const SOURCE_BROKERS: usize = 2;
const TARGET_BROKERS: usize = 2;

const FLOW_MEMORY: usize = 64 << 20;

/// How long the flow may take for the rest, once nothing more is written.
const MAX_CATCHING_UP: Duration = Duration::from_secs(6);
const LAG_INTERVAL: Duration = Duration::from_millis(20);

/// Shows a flow between two clusters in memory, with nothing else installed
///
/// Plain, compressed and transactional traffic goes into one cluster, and into a topic that is compacted meanwhile; a flow
/// carries it to the other. Then every record is compared. It ends by itself within 20 seconds: exit code 0, or 1 if
/// anything differs.
///
/// Example: kferry demo
#[derive(Debug, Args)]
pub struct DemoArgs {}

pub(super) async fn run(output: OutputFormat, bars: MultiProgress) -> anyhow::Result<ExitCode> {
    let stop = Stop::listen().context("signals can't be listened to")?;
    let mut asked = stop.asked();
    let report = tokio::select! {
        report = demonstrate(output, &bars) => report,
        _ = asked.wait_for(|asked| *asked) => {
            bars.clear().context("progress can't be cleared")?;
            return Ok(stop.exit_code().unwrap_or_else(|| ExitCode::from(EXIT_FAILED)));
        }
    };
    let report = report.inspect_err(|_| bars.clear().unwrap_or_default())?;
    match output {
        OutputFormat::Json => print_json(&report)?,
        OutputFormat::Text => report.print(),
    }
    report.complain();
    Ok(ExitCode::from(if report.equal { EXIT_DONE } else { EXIT_FAILED }))
}

async fn demonstrate(output: OutputFormat, bars: &MultiProgress) -> anyhow::Result<Report> {
    let (source, target) = tokio::try_join!(
        start("demo-source", SOURCE_BROKERS),
        start("demo-target", TARGET_BROKERS)
    )?;
    if output == OutputFormat::Text {
        report::introduce(&source, &target);
    }
    let (source_config, target_config) = (
        config(Side::Source, "source", &source),
        config(Side::Target, "target", &target),
    );
    let (source_cluster, target_cluster) = tokio::try_join!(
        Cluster::connect(source_config.clone()),
        Cluster::connect(target_config.clone())
    )?;
    let (counts, progress) = (Counts::default(), Arc::new(Progress::default()));
    let generator = Generator::prepare(&source, &source_cluster, &counts)
        .await
        .context("no traffic")?;

    let (end, ended) = watch::channel(false);
    let request = flow(source_config, target_config)?;
    let flow = async { copy(request, &progress, ended).await.context("the flow failed") };
    let traffic = async {
        let cleaner = generator.run().await.context("the traffic failed")?;
        // Whatever is not there in time is missing, which the check will say.
        let _ = tokio::time::timeout(MAX_CATCHING_UP, caught_up(&source, &progress)).await;
        end.send_replace(true);
        Ok(cleaner)
    };
    let view = View {
        source: &source,
        target: &target,
        counts: &counts,
        progress: &progress,
    };
    let began = now();
    let (summary, cleaner) = tokio::select! {
        both = async { tokio::try_join!(flow, traffic) } => both?,
        never = view.show(bars) => match never {},
    };
    let seconds = began.elapsed().as_secs_f64();
    view.finish(bars);

    let written = counts.read();
    let findings = check::check(&source_cluster, &target_cluster, &cleaner, &written)
        .await
        .context("the check failed")?;
    Ok(Report::new(&summary, &written, findings, seconds))
}

async fn start(cluster_id: &str, brokers: usize) -> anyhow::Result<Sandbox> {
    let options = SandboxOptions {
        settings: Settings {
            cluster_id: cluster_id.to_owned(),
            ..Settings::default()
        },
        ..SandboxOptions::brokers(brokers)
    };
    Sandbox::start(options)
        .await
        .with_context(|| format!("{cluster_id} can't be started"))
}

fn config(side: Side, alias: &str, sandbox: &Sandbox) -> ClusterConfig {
    ClusterConfig::new(
        side,
        alias,
        sandbox.addresses().iter().map(ToString::to_string).collect(),
    )
}

fn flow(source: ClusterConfig, target: ClusterConfig) -> anyhow::Result<CopyRequest> {
    let names: Vec<_> = TOPICS.iter().map(|topic| topic.name).collect();
    Ok(CopyRequest {
        source,
        target,
        topics: TopicSelection {
            include: names.join(",").parse()?,
            exclude: Patterns::none(),
            prefix: String::new(),
            same_cluster: false,
        },
        start: StartFrom::Earliest,
        follow: true,
        replication_factor: -1,
        create: true,
        max_rate: None,
        memory: FLOW_MEMORY,
        coalescing: Coalescing::Never, // The report tells what became of each batch.
        policies: Policies::default(),
        groups: None,
        instance: fastrand::u64(..),
    })
}

async fn caught_up(source: &Sandbox, progress: &Progress) {
    while lag(source, progress) > 0 {
        tokio::time::sleep(LAG_INTERVAL).await;
    }
}

/// High watermarks less what the flow has left behind. The source's logs begin at 0, and so does the flow.
fn lag(source: &Sandbox, progress: &Progress) -> u64 {
    let written: u64 = source.with_core(|core| TOPICS.iter().map(|topic| offsets_of(core, topic)).sum());
    written.saturating_sub(progress.read().offsets)
}

/// Offsets given out in a topic. On the target, where a log has no gaps and no markers, this is its number of records.
fn offsets_of(core: &core::Cluster, topic: &DemoTopic) -> u64 {
    let ends =
        (0..topic.partitions).map(|partition| core.end_offset(topic.name, partition, Isolation::ReadUncommitted));
    // Before the flow has created it, a topic has none.
    ends.map(|end| end.map_or(0, |end| end.unsigned_abs())).sum()
}

#[expect(
    clippy::disallowed_methods,
    reason = "an I/O folder; the report says how long it took"
)]
fn now() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "an I/O folder; records have the time when they are written"
)]
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
