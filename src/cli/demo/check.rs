//! The check at the end: reads both clusters, and compares every record.

use std::sync::Arc;

use super::cleaner::Cleaner;
use super::comparison::{Difference, Expected, Found, compare};
use super::generator::Written;
use super::reading::{Reading, read};
use super::traffic::TOPICS;
use crate::cluster::{Cluster, Isolation, OffsetSpec, TopicSelection};

/// What the check has found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Records that are on both sides, the same and in the same order.
    pub(super) equal_records: u64,
    pub(super) differences: Vec<PlacedDifference>,
    /// What is wrong apart from single records.
    pub(super) troubles: Vec<String>,
    pub(super) source: Totals,
    pub(super) target: Totals,
}

#[derive(Debug)]
pub(super) struct PlacedDifference {
    pub(super) topic: &'static str,
    pub(super) partition: i32,
    pub(super) difference: Difference,
}

/// Sums over what was read of one cluster.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) records: u64,
    pub(super) aborted_records: u64,
    pub(super) markers: u64,
    pub(super) batches_with_gaps: u64,
    pub(super) codecs: std::collections::BTreeMap<&'static str, u64>,
}

impl Findings {
    pub(super) fn is_equal(&self) -> bool {
        self.differences.is_empty() && self.troubles.is_empty()
    }

    /// That both sides are equal says little if both are read wrong: the source must have what was written to it.
    fn account(&mut self, written: &Written) {
        let expected = written.records.iter().sum::<u64>() - written.aborted_records - written.removed_records;
        if self.source.records != expected {
            let found = self.source.records;
            self.troubles.push(format!(
                "the source should hold {expected} committed records, and {found} were found"
            ));
        }
        if self.source.aborted_records != written.aborted_records {
            let (expected, found) = (written.aborted_records, self.source.aborted_records);
            self.troubles.push(format!(
                "the source should hold {expected} aborted records, and {found} were found"
            ));
        }
        if self.target.markers + self.target.batches_with_gaps > 0 {
            self.troubles
                .push("the target holds transaction markers or batches with gaps".to_owned());
        }
    }
}

impl Totals {
    fn add(&mut self, reading: &Reading) {
        self.records += reading.committed.len() as u64;
        self.aborted_records += reading.aborted_records;
        self.markers += reading.markers;
        self.batches_with_gaps += reading.batches_with_gaps;
        for (codec, batches) in &reading.codecs {
            *self.codecs.entry(codec).or_default() += batches;
        }
    }
}

/// Compares all partitions. `cleaner` knows what was once on the source and is no longer there.
pub(super) async fn check(
    source: &Cluster,
    target: &Cluster,
    cleaner: &Cleaner,
    written: &Written,
) -> anyhow::Result<Findings> {
    let mut findings = Findings::default();
    let names: Vec<String> = TOPICS.iter().map(|topic| topic.name.to_owned()).collect();
    for cluster in [source, target] {
        cluster.refresh_metadata(TopicSelection::Names(names.clone())).await?;
    }
    for (number, topic) in TOPICS.iter().enumerate() {
        for partition in 0..topic.partitions {
            let here = read(source, topic.name, partition, end(source, topic.name, partition).await?).await?;
            let there = read(target, topic.name, partition, end(target, topic.name, partition).await?).await?;
            findings.source.add(&here);
            findings.target.add(&there);

            let kept = here.committed.into_iter().map(|(offset, content)| Expected {
                offset,
                content,
                may_be_missing: false,
            });
            let removed = cleaner.removed(number, partition).map(|(offset, content)| Expected {
                offset,
                content: content.clone(),
                may_be_missing: true,
            });
            let mut expected: Vec<_> = kept.chain(removed).collect();
            expected.sort_by_key(|record| record.offset);
            let found = there
                .committed
                .into_iter()
                .map(|(offset, content)| Found { offset, content });

            let compared = compare(&expected, &found.collect::<Vec<_>>());
            findings.equal_records += compared.equal;
            findings
                .differences
                .extend(compared.differences.into_iter().map(|difference| PlacedDifference {
                    topic: topic.name,
                    partition,
                    difference,
                }));
        }
    }
    findings.account(written);
    Ok(findings)
}

/// The high watermark.
async fn end(cluster: &Cluster, topic: &str, partition: i32) -> anyhow::Result<i64> {
    let asked = vec![(Arc::from(topic), partition)];
    let spec = OffsetSpec::Latest(Isolation::ReadUncommitted);
    let mut end = 0;
    for (_, listed) in cluster.list_offsets(asked, spec).await {
        end = listed?.offset;
    }
    Ok(end)
}
