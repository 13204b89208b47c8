//! What a judge saw in a topic, and the comparison of two topics.

use std::fmt;
use std::path::Path;

/// How a judge reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isolation {
    ReadCommitted,
    ReadUncommitted,
}

impl Isolation {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ReadCommitted => "read_committed",
            Self::ReadUncommitted => "read_uncommitted",
        }
    }
}

/// One record as a judge saw it. Key, value and headers are in the judge's notation: equal text is equal data.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Record {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    /// `CreateTime`, `LogAppendTime` or `NoTimestampType`.
    pub(crate) timestamp_type: String,
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) headers: String,
}

impl Record {
    fn parse(line: &str) -> Self {
        let mut fields = line.split('\t');
        let mut field = || {
            fields
                .next()
                .unwrap_or_else(|| panic!("a record in seven fields: {line}"))
        };
        let number = |text: &str| text.parse::<i64>().unwrap_or_else(|e| panic!("a number: {text}: {e}"));
        Self {
            partition: number(field()).try_into().expect("a partition"),
            offset: number(field()),
            timestamp: number(field()),
            timestamp_type: field().to_owned(),
            key: field().to_owned(),
            value: field().to_owned(),
            headers: field().to_owned(),
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            partition,
            offset,
            timestamp,
            timestamp_type,
            key,
            value,
            headers,
        } = self;
        write!(
            f,
            "{partition}@{offset} {timestamp_type} {timestamp} key {key} value {value} headers [{headers}]"
        )
    }
}

/// Every record of a topic, by partition and then in order of offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dump(pub(crate) Vec<Record>);

impl Dump {
    pub(crate) fn read(file: &Path) -> Self {
        let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("no dump {}: {e}", file.display()));
        let mut records: Vec<Record> = text.lines().map(Record::parse).collect();
        // Partitions come as the judge polled them. The sort is stable, so a judge's disorder within one stays seen.
        records.sort_by_key(|record| record.partition);
        Self(records)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Only the records that `keep` says.
    pub(crate) fn filter(mut self, keep: impl Fn(&Record) -> bool) -> Self {
        self.0.retain(keep);
        self
    }
}

/// Whether timestamps belong to the claim. They do not where the target's topic stamps anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timestamps {
    Equal,
    StampedAnew,
}

/// The claim of every copy: the same records, in the same partitions, in the same order, and nothing else. Offsets,
/// batch bounds and codecs may differ. The first difference is shown and named by its kind.
#[track_caller]
pub(crate) fn assert_same(source: &Dump, target: &Dump, timestamps: Timestamps) {
    let identity = |record: &Record| {
        let stamp = (timestamps == Timestamps::Equal).then_some(record.timestamp);
        (
            record.partition,
            stamp,
            record.key.clone(),
            record.value.clone(),
            record.headers.clone(),
        )
    };
    let (wanted, found) = (&source.0, &target.0);
    let first_difference =
        (0..wanted.len().max(found.len())).find(|&i| wanted.get(i).map(identity) != found.get(i).map(identity));
    let Some(at) = first_difference else { return };
    let show = |record: Option<&Record>| record.map_or_else(|| "nothing".to_owned(), Record::to_string);
    let occurs = |record: Option<&Record>, within: &[Record]| {
        record.is_some_and(|record| within.iter().any(|other| identity(other) == identity(record)))
    };
    let kind = match (
        occurs(wanted.get(at), &found[at..]),
        occurs(found.get(at), &wanted[at..]),
    ) {
        _ if occurs(found.get(at), &found[..at]) && !occurs(found.get(at), &wanted[at..]) => "duplicated on the target",
        (true, true) => "another order",
        (true, false) => "invented on the target",
        (false, true) => "lost",
        (false, false) if wanted.get(at).is_none() => "invented on the target",
        (false, false) if found.get(at).is_none() => "lost",
        (false, false) => "altered",
    };
    panic!(
        "the target differs from the source at record {at}: {kind}\n source: {}\n target: {}\n\
         the source has {} records, the target {}",
        show(wanted.get(at)),
        show(found.get(at)),
        wanted.len(),
        found.len()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: i64) -> Record {
        Record {
            partition: 0,
            offset: number,
            timestamp: number,
            timestamp_type: "CreateTime".to_owned(),
            key: format!("x{number:02x}"),
            value: "null".to_owned(),
            headers: String::new(),
        }
    }

    fn dump(numbers: &[i64]) -> Dump {
        Dump(numbers.iter().copied().map(record).collect())
    }

    #[track_caller]
    fn assert_difference(target: &Dump, kind: &str) {
        let source = dump(&[1, 2, 3]);
        let panic = std::panic::catch_unwind(|| assert_same(&source, target, Timestamps::Equal)).unwrap_err();
        let text = panic.downcast_ref::<String>().expect("a formatted message");
        assert!(text.contains(kind), "{text}");
    }

    #[test]
    fn each_kind_of_difference_has_its_name() {
        assert_difference(&dump(&[1, 3]), "lost");
        assert_difference(&dump(&[1, 2]), "lost");
        assert_difference(&dump(&[1, 2, 2, 3]), "duplicated");
        assert_difference(&dump(&[1, 2, 3, 1]), "duplicated");
        assert_difference(&dump(&[1, 3, 2]), "another order");
        assert_difference(&dump(&[1, 9, 2, 3]), "invented");
        assert_difference(&dump(&[1, 2, 3, 9]), "invented");
        assert_difference(&dump(&[1, 9, 3]), "altered");
    }

    #[test]
    fn offsets_do_not_matter_and_timestamps_do_when_asked() {
        let source = dump(&[1, 2]);
        let mut target = dump(&[1, 2]);
        target.0[0].offset = 100;
        assert_same(&source, &target, Timestamps::Equal);

        target.0[0].timestamp += 1;
        assert_same(&source, &target, Timestamps::StampedAnew);
        assert!(std::panic::catch_unwind(|| assert_same(&source, &target, Timestamps::Equal)).is_err());
    }
}
