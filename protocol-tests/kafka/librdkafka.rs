//! The second judge: librdkafka, by way of its Python package.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::dump::{Dump, Isolation};
use super::{Cluster, tools};

/// Everything that is in a topic now, as librdkafka reads it.
pub(crate) fn dump(cluster: &dyn Cluster, topic: &str, isolation: Isolation) -> Dump {
    let dir = tools::scratch("librdkafka");
    let file = dir.join(topic);
    let path = file.to_str().expect("a path in UTF-8");
    run(
        "librdkafka_dump.py",
        &[&cluster.bootstrap(), topic, isolation.name(), path],
    );
    let dump = Dump::read(&file);
    let _ = std::fs::remove_dir_all(dir);
    dump
}

/// Two members of a group share a topic with so many records, and a transaction commits a group's offsets.
pub(crate) fn group(cluster: &dyn Cluster, topic: &str, records: usize) {
    run(
        "librdkafka_group.py",
        &[&cluster.bootstrap(), topic, &records.to_string()],
    );
}

/// A member of a group that has read, and stays until it is dismissed.
pub(crate) struct Member {
    process: Child,
    /// Partition and offset of each record that it has read.
    pub(crate) read: Vec<(i32, i64)>,
}

impl Member {
    /// Joins, reads so many records, or all with 0, and commits.
    pub(crate) fn join(cluster: &dyn Cluster, topic: &str, group: &str, count: usize) -> Self {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("protocol-tests/kafka");
        let mut process = Command::new(tools::python())
            .arg(scripts.join("librdkafka_consume.py"))
            .args([&cluster.bootstrap(), topic, group, &count.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python starts");
        let output = process.stdout.take().expect("a pipe");
        let parse = |line: String| {
            let (partition, offset) = line.split_once(' ').expect("two numbers");
            (
                partition.parse().expect("a partition"),
                offset.parse().expect("an offset"),
            )
        };
        let lines = BufReader::new(output).lines();
        let read = lines.map(|line| parse(line.expect("text"))).collect();
        Self { process, read }
    }

    /// Leaves the group.
    pub(crate) fn dismiss(mut self) -> Vec<(i32, i64)> {
        drop(self.process.stdin.take());
        let status = self.process.wait().expect("it can be waited for");
        assert!(status.success(), "the member fails: {status}");
        self.read
    }
}

fn run(script: &str, args: &[&str]) {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("protocol-tests/kafka");
    let output = Command::new(tools::python())
        .arg(scripts.join(script))
        .args(args)
        .output()
        .expect("Python starts");
    assert!(
        output.status.success(),
        "{script}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
