//! Compares what a partition of the source holds with what arrived of it, record by record.

use std::fmt;

use super::content::Content;

/// Differences of one partition that are looked for. More are not worth anybody's reading.
pub(super) const MAX_DIFFERENCES: usize = 10;

/// A record that the target should have, by its offset on the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) offset: i64,
    pub(super) content: Content,
    /// The cleaner removed it while the flow ran: whether before it was fetched, nobody knows.
    pub(super) may_be_missing: bool,
}

/// A record that the target has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) offset: i64,
    pub(super) content: Content,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Comparison {
    /// Records that are the same, in the same order.
    pub(super) equal: u64,
    /// The first of them, in no order.
    pub(super) differences: Vec<Difference>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Difference {
    Lost {
        source: i64,
    },
    Twice {
        target: i64,
    },
    OutOfOrder {
        source: i64,
        target: i64,
    },
    Altered {
        source: i64,
        target: i64,
        fields: Vec<&'static str>,
    },
    Foreign {
        target: i64,
    },
}

/// Goes through both in their order. Where they part, the nearest record that both have is where they meet again.
pub(super) fn compare(expected: &[Expected], found: &[Found]) -> Comparison {
    let mut comparison = Comparison::default();
    let (mut missing, mut surplus) = (Vec::new(), Vec::new());
    let (mut left, mut right) = (expected, found);
    while comparison.differences.len() + missing.len() + surplus.len() < MAX_DIFFERENCES {
        match (left, right) {
            ([], []) => break,
            ([wanted, ..], [record, ..]) if wanted.content == record.content => {
                comparison.equal += 1;
                (left, right) = (&left[1..], &right[1..]);
            }
            ([wanted, ..], _) if wanted.may_be_missing => left = &left[1..],
            ([], [record, ..]) => {
                surplus.push(record);
                right = &right[1..];
            }
            ([wanted, ..], []) => {
                missing.push(wanted);
                left = &left[1..];
            }
            ([wanted, ..], [record, ..]) => {
                let wanted_later = left.iter().position(|later| later.content == record.content);
                let found_later = right.iter().position(|later| later.content == wanted.content);
                match (wanted_later, found_later) {
                    (Some(skipped), later) if later.is_none_or(|later| skipped <= later) => {
                        missing.extend(left[..skipped].iter().filter(|wanted| !wanted.may_be_missing));
                        left = &left[skipped..];
                    }
                    (_, Some(skipped)) => {
                        surplus.extend(&right[..skipped]);
                        right = &right[skipped..];
                    }
                    (_, None) => {
                        comparison.differences.extend(tell_apart(wanted, record));
                        (left, right) = (&left[1..], &right[1..]);
                    }
                }
            }
        }
    }
    name(missing, surplus, expected, &mut comparison.differences);
    comparison.differences.truncate(MAX_DIFFERENCES);
    comparison
}

/// Two records in the same place, each without its like on the other side.
fn tell_apart(wanted: &Expected, record: &Found) -> Vec<Difference> {
    let (source, target) = (wanted.offset, record.offset);
    let fields = wanted.content.differences(&record.content);
    if ["key", "value", "timestamp"].iter().all(|field| fields.contains(field)) {
        return vec![Difference::Lost { source }, Difference::Foreign { target }];
    }
    vec![Difference::Altered { source, target, fields }]
}

/// A record that is missing here and too much there is one that has moved.
fn name(mut missing: Vec<&Expected>, surplus: Vec<&Found>, expected: &[Expected], differences: &mut Vec<Difference>) {
    for Found {
        offset: target,
        content,
    } in surplus
    {
        let target = *target;
        let moved = missing.iter().position(|wanted| wanted.content == *content);
        differences.push(match moved {
            Some(place) => Difference::OutOfOrder {
                source: missing.remove(place).offset,
                target,
            },
            None if expected.iter().any(|wanted| wanted.content == *content) => Difference::Twice { target },
            None => Difference::Foreign { target },
        });
    }
    differences.extend(missing.iter().map(|wanted| Difference::Lost { source: wanted.offset }));
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { source } => write!(f, "the record at source offset {source} is missing on the target"),
            Self::Twice { target } => write!(f, "the record at target offset {target} is there twice"),
            Self::OutOfOrder { source, target } => {
                write!(
                    f,
                    "the record at source offset {source} is out of order, at target offset {target}"
                )
            }
            Self::Altered { source, target, fields } => write!(
                f,
                "the record at source offset {source} differs at target offset {target}: {}",
                fields.join(", ")
            ),
            Self::Foreign { target } => write!(f, "the record at target offset {target} is not from the source"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(number: i64) -> Content {
        Content {
            timestamp: 1000 + number,
            key: Some(format!("k{number}").into()),
            value: Some(format!("v{number}").into()),
            headers: vec![(b"h".to_vec(), None), (b"h".to_vec(), Some(Vec::new()))],
        }
    }

    /// Ten records, from source offset 100 on.
    fn expected() -> Vec<Expected> {
        let record = |number| Expected {
            offset: 100 + number,
            content: content(number),
            may_be_missing: false,
        };
        (0..10).map(record).collect()
    }

    /// The records of these numbers, from target offset 0 on.
    fn found(numbers: impl IntoIterator<Item = i64>) -> Vec<Found> {
        (0..)
            .zip(numbers)
            .map(|(offset, number)| Found {
                offset,
                content: content(number),
            })
            .collect()
    }

    fn differences(found: &[Found]) -> Vec<Difference> {
        compare(&expected(), found).differences
    }

    #[test]
    fn equal_is_equal() {
        let compared = compare(&expected(), &found(0..10));
        assert_eq!((compared.equal, compared.differences), (10, vec![]));
    }

    #[test]
    fn a_lost_record_is_found_anywhere() {
        for lost in 0..10 {
            let found = found((0..10).filter(|number| *number != lost));
            assert_eq!(differences(&found), [Difference::Lost { source: 100 + lost }]);
        }
    }

    #[test]
    fn a_doubled_record_is_found_anywhere() {
        for doubled in 0..10 {
            let found = found((0..=doubled).chain(doubled..10));
            assert_eq!(differences(&found), [Difference::Twice { target: doubled + 1 }]);
        }
    }

    #[test]
    fn a_batch_written_again_later_is_found() {
        let found = found((0..6).chain(2..4).chain(6..10));
        assert_eq!(
            differences(&found),
            [Difference::Twice { target: 6 }, Difference::Twice { target: 7 }]
        );
    }

    #[test]
    fn swapped_records_are_found_anywhere() {
        for swapped in 0..9 {
            let mut numbers: Vec<_> = (0..10).collect();
            numbers.swap(swapped as usize, swapped as usize + 1);
            let moved = Difference::OutOfOrder {
                source: 100 + swapped,
                target: swapped + 1,
            };
            assert_eq!(differences(&found(numbers)), [moved]);
        }
    }

    #[test]
    fn each_altered_field_is_found_and_named() {
        type Alteration = fn(&mut Content);
        let alterations: [(&str, Alteration); 6] = [
            ("key", |content| content.key = None),
            ("value", |content| content.value = Some(b"other".to_vec())),
            ("value", |content| content.value = Some(Vec::new())),
            ("headers", |content| content.headers.swap(0, 1)),
            ("headers", |content| content.headers[0].1 = Some(Vec::new())),
            ("timestamp", |content| content.timestamp += 1),
        ];
        for (field, alter) in alterations {
            let mut found = found(0..10);
            alter(&mut found[4].content);
            let altered = Difference::Altered {
                source: 104,
                target: 4,
                fields: vec![field],
            };
            assert_eq!(differences(&found), [altered]);
        }
    }

    #[test]
    fn a_record_of_another_origin_is_found() {
        let mut numbers: Vec<_> = (0..10).collect();
        numbers.insert(7, 77);
        assert_eq!(differences(&found(numbers)), [Difference::Foreign { target: 7 }]);
    }

    #[test]
    fn what_the_cleaner_removed_may_be_there_or_not_but_only_in_its_place() {
        let mut expected = expected();
        for number in [0, 3, 4, 9] {
            expected[number].may_be_missing = true;
        }
        for numbers in [vec![1, 2, 5, 6, 7, 8], vec![0, 1, 2, 4, 5, 6, 7, 8], (0..10).collect()] {
            let compared = compare(&expected, &found(numbers.clone()));
            assert_eq!((compared.equal, compared.differences), (numbers.len() as u64, vec![]));
        }
        assert!(!compare(&expected, &found([1, 2, 5, 6, 3, 7, 8])).differences.is_empty());
        assert_eq!(
            compare(&expected, &found([1, 2, 6, 7, 8])).differences,
            [Difference::Lost { source: 105 }]
        );
    }

    #[test]
    fn what_is_altogether_different_ends_soon() {
        let foreign = found(1000..9000);
        assert_eq!(differences(&foreign).len(), MAX_DIFFERENCES);
        assert_eq!(differences(&[]).len(), MAX_DIFFERENCES);
    }
}
