//! Which topics are copied, under which name, and what the target lacks.

use std::collections::BTreeMap;

use crate::config::Patterns;
use crate::replication::ledger::is_ledger_topic;

use super::configs::is_copied;

/// Which of the source's topics are copied, and what they are called on the target.
#[derive(Debug, Clone)]
pub struct TopicSelection {
    pub include: Patterns,
    pub exclude: Patterns,
    /// Put before each name, as it is.
    pub prefix: String,
    /// Both ends are one cluster. Copies are then not copied again, or there would be no end.
    pub same_cluster: bool,
}

impl TopicSelection {
    pub fn selects(&self, topic: &str, is_internal: bool) -> bool {
        let is_own_copy = self.same_cluster && topic.starts_with(&self.prefix);
        !is_internal
            && !is_ledger_topic(topic)
            && !is_own_copy
            && self.include.matches(topic)
            && !self.exclude.matches(topic)
    }

    pub fn target_name(&self, topic: &str) -> String {
        format!("{}{topic}", self.prefix)
    }
}

/// A source topic that is to be copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceTopic {
    pub name: String,
    pub target_name: String,
    pub partitions: i32,
    /// Configs set on the topic itself.
    /// `None` where they can't be read.
    pub configs: Option<Vec<(String, String)>>,
    /// By `cleanup.policy`, wherever that is set.
    pub is_compacted: bool,
}

/// What has to change on the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicChange {
    Create {
        name: String,
        partitions: i32,
        configs: Vec<(String, String)>,
    },
    Grow {
        name: String,
        before: i32,
        after: i32,
    },
}

/// Lists what the target lacks. Topics that have all partitions, or more, are left as they are.
pub fn plan_topics(source: &[SourceTopic], target_partitions: &BTreeMap<String, i32>) -> Vec<TopicChange> {
    source
        .iter()
        .filter_map(|topic| plan_topic(topic, target_partitions.get(&topic.target_name).copied()))
        .collect()
}

fn plan_topic(topic: &SourceTopic, target_partitions: Option<i32>) -> Option<TopicChange> {
    let name = topic.target_name.clone();
    match target_partitions {
        None => {
            let copied = topic.configs.iter().flatten().filter(|(name, _)| is_copied(name));
            Some(TopicChange::Create {
                name,
                partitions: topic.partitions,
                configs: copied.cloned().collect(),
            })
        }
        Some(before) if before < topic.partitions => Some(TopicChange::Grow {
            name,
            before,
            after: topic.partitions,
        }),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(include: &str, exclude: &str) -> TopicSelection {
        TopicSelection {
            include: include.parse().expect("well-formed"),
            exclude: exclude.parse().expect("well-formed"),
            prefix: String::new(),
            same_cluster: false,
        }
    }

    fn topic(partitions: i32) -> SourceTopic {
        SourceTopic {
            name: "t".into(),
            target_name: "A.t".into(),
            partitions,
            is_compacted: true,
            configs: Some(vec![
                ("cleanup.policy".into(), "compact".into()),
                ("min.insync.replicas".into(), "2".into()),
            ]),
        }
    }

    #[test]
    fn ledgers_and_internal_topics_are_never_copied() {
        let all = selection(".*", "nothing");
        assert!(all.selects("orders", false));
        assert!(!all.selects("kferry-ledger.A.B.internal", false));
        assert!(!all.selects("__consumer_offsets", true));
    }

    #[test]
    fn exclusion_wins() {
        let some = selection("o.*", "orders");
        assert!(some.selects("offers", false) && !some.selects("orders", false));
    }

    #[test]
    fn copies_within_one_cluster_are_not_copied_again() {
        let within = TopicSelection {
            prefix: "A.".into(),
            same_cluster: true,
            ..selection(".*", "x")
        };
        assert!(within.selects("orders", false) && !within.selects("A.orders", false));
        assert_eq!(within.target_name("orders"), "A.orders");
    }

    #[test]
    fn a_missing_topic_is_created_with_the_configs_that_travel() {
        let expected = TopicChange::Create {
            name: "A.t".into(),
            partitions: 3,
            configs: vec![("cleanup.policy".into(), "compact".into())],
        };
        assert_eq!(plan_topics(&[topic(3)], &BTreeMap::new()), [expected]);
    }

    #[test]
    fn a_topic_grows_and_never_shrinks() {
        let target = BTreeMap::from([("A.t".to_owned(), 2)]);
        let grown = TopicChange::Grow {
            name: "A.t".into(),
            before: 2,
            after: 3,
        };
        assert_eq!(plan_topics(&[topic(3)], &target), [grown]);
        assert_eq!(plan_topics(&[topic(2)], &target), []);
        assert_eq!(plan_topics(&[topic(1)], &target), []);
    }
}
