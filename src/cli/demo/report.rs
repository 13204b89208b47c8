//! What the demo says in the end, in words and as a JSON document.

use std::collections::BTreeMap;

use indicatif::HumanCount;
use serde::Serialize;

use super::check::Findings;
use super::comparison::MAX_DIFFERENCES;
use super::generator::Written;
use super::traffic::{PROFILES, TOPICS};
use crate::cli::output::bytes;
use crate::sandbox::Sandbox;
use crate::service::copy::CopySummary;

/// The JSON document; the text says the same.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) equal: bool,
    topics: usize,
    partitions: usize,
    /// As the flow counts them.
    records: u64,
    /// As the check finds them, the same on both sides.
    equal_records: u64,
    bytes: u64,
    seconds: f64,
    batches: Batches,
    /// Batches on the target, by codec.
    codecs: BTreeMap<&'static str, u64>,
    transactions: Transactions,
    compaction: Compaction,
    differences: Vec<FoundDifference>,
}

#[derive(Debug, Serialize)]
struct Batches {
    patched: u64,
    reencoded: u64,
    skipped: u64,
}

#[derive(Debug, Serialize)]
struct Transactions {
    committed: u64,
    aborted: u64,
    /// Left on the source.
    aborted_records: u64,
    /// Left on the source.
    markers: u64,
}

#[derive(Debug, Serialize)]
struct Compaction {
    runs: u64,
    removed_records: u64,
    /// Of those, the ones that had been carried before they were removed.
    removed_after_copy: u64,
    /// Batches on the source that have lost some of their records.
    batches_with_gaps: u64,
}

/// Apart from a single partition, topic and partition are null.
#[derive(Debug, Serialize)]
struct FoundDifference {
    topic: Option<String>,
    partition: Option<i32>,
    what: String,
}

impl Report {
    pub(super) fn new(summary: &CopySummary, written: &Written, findings: Findings, seconds: f64) -> Self {
        let totals = summary.outcome.totals;
        let stopped = summary.outcome.stopped.iter().map(|stopped| FoundDifference {
            topic: Some(stopped.topic.to_string()),
            partition: Some(stopped.partition),
            what: format!("stopped: {}", stopped.reason),
        });
        let of_records = findings.differences.iter().map(|placed| FoundDifference {
            topic: Some(placed.topic.to_owned()),
            partition: Some(placed.partition),
            what: placed.difference.to_string(),
        });
        let troubles = findings.troubles.iter().map(|what| FoundDifference {
            topic: None,
            partition: None,
            what: what.clone(),
        });
        Self {
            equal: findings.is_equal() && summary.outcome.stopped.is_empty(),
            topics: summary.topics,
            partitions: summary.partitions,
            records: totals.records,
            equal_records: findings.equal_records,
            bytes: totals.bytes,
            seconds: (seconds * 1000.0).round() / 1000.0,
            batches: Batches {
                patched: totals.patched,
                reencoded: totals.reencoded,
                skipped: totals.skipped,
            },
            transactions: Transactions {
                committed: written.transactions_committed,
                aborted: written.transactions_aborted,
                aborted_records: findings.source.aborted_records,
                markers: findings.source.markers,
            },
            compaction: Compaction {
                runs: written.cleaner_runs,
                removed_records: written.removed_records,
                removed_after_copy: findings.target.records.saturating_sub(findings.source.records),
                batches_with_gaps: findings.source.batches_with_gaps,
            },
            differences: stopped.chain(of_records).chain(troubles).collect(),
            codecs: findings.target.codecs,
        }
    }

    pub(super) fn print(&self) {
        if self.equal {
            println!(
                "\nEqual: {} records arrived as they were committed, and nothing else did.",
                count(self.equal_records)
            );
        } else {
            println!(
                "\nNOT equal: see below. {} records at least arrived as they were committed.",
                count(self.equal_records)
            );
        }
        print_wrapped(
            "",
            "Compared were key, value, headers in their order, timestamp, and the order in each partition. The check has \
             read both logs whole, and by another way than the flow's: it went by the transaction markers in the logs, \
             while the flow goes by what brokers list as aborted.",
        );
        println!("\nWhat was shown");
        for (name, what) in self.shown() {
            print_wrapped(name, &what);
        }
        println!("\nNext");
        println!("  kferry copy --from old:9092 --to new:9092 --topics 'orders.*,payments'");
        print_wrapped(
            INDENT,
            "copies between two clusters of yours, up to the ends seen at the start; run again, it goes on from there. \
             With --follow it goes on until it is stopped, as the flow here did",
        );
        println!("  kferry sandbox --listen 127.0.0.1:9092");
        print_wrapped(INDENT, "is a cluster like these two, to try it with");
    }

    fn shown(&self) -> [(&'static str, String); 5] {
        let Self {
            batches,
            transactions,
            compaction,
            ..
        } = self;
        let codecs = self.codecs.iter().map(|(codec, batches)| match *codec {
            "none" => format!("{} not compressed", count(*batches)),
            codec => format!("{} {codec}", count(*batches)),
        });
        [
            (
                "live",
                format!(
                    "{} records in {} partitions of {} topics, {}, were carried in {:.1} s, while they were written",
                    count(self.records),
                    self.partitions,
                    self.topics,
                    bytes(self.bytes),
                    self.seconds
                ),
            ),
            (
                "untouched",
                format!(
                    "{} batches went on as they were, but for their headers of 61 bytes: neither decompressed nor \
                     copied. {} were encoded anew, since the cleaner had left gaps in them, which brokers do not take \
                     from clients",
                    count(batches.patched),
                    count(batches.reencoded)
                ),
            ),
            (
                "codecs",
                format!("batches on the target: {}", codecs.collect::<Vec<_>>().join(", ")),
            ),
            (
                "transactions",
                format!(
                    "{} committed, {} aborted, two open at a time; the {} aborted records and the {} markers stayed on \
                     the source",
                    count(transactions.committed),
                    count(transactions.aborted),
                    count(transactions.aborted_records),
                    count(transactions.markers)
                ),
            ),
            (
                "compaction",
                format!(
                    "in {} runs the cleaner removed {} records of {} from the source; {} of them had been carried before",
                    compaction.runs,
                    count(compaction.removed_records),
                    TOPICS[PROFILES].name,
                    count(compaction.removed_after_copy)
                ),
            ),
        ]
    }

    /// Says on stderr what differs.
    pub(super) fn complain(&self) {
        for FoundDifference { topic, partition, what } in &self.differences {
            match (topic, partition) {
                (Some(topic), Some(partition)) => eprintln!("error: {topic} partition {partition}: {what}"),
                _ => eprintln!("error: {what}"),
            }
        }
        if !self.equal {
            eprintln!(
                "error: source and target differ; of each partition the first {MAX_DIFFERENCES} differences are listed. \
                 Unless somebody else has written to these clusters, please report this as a bug"
            );
        }
    }
}

/// Says what has been started.
pub(super) fn introduce(source: &Sandbox, target: &Sandbox) {
    println!("Two Kafka clusters run in this process, in memory: the sandbox.");
    for (name, sandbox) in [("source", source), ("target", target)] {
        println!(
            "  {name}    {} brokers at {}",
            sandbox.addresses().len(),
            sandbox.bootstrap()
        );
    }
    println!("Traffic goes into the source, and a flow carries it to the target meanwhile.");
}

/// What a terminal has at least.
const WIDTH: usize = 80;

/// A label that is not there.
const INDENT: &str = " ";

/// Prints a text with its label before it, if there is one, in lines that fit.
fn print_wrapped(label: &str, text: &str) {
    let indent = if label.is_empty() { 2 } else { 17 };
    let mut line = format!("  {label:0$}", indent - 2);
    let mut is_empty = true;
    for word in text.split_whitespace() {
        if !is_empty && line.len() + 1 + word.len() > WIDTH {
            println!("{line}");
            line = " ".repeat(indent);
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    println!("{line}");
}

fn count(number: u64) -> HumanCount {
    HumanCount(number)
}
