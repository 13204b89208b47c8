//! The second judge: librdkafka, by way of its Python package.

use std::path::Path;
use std::process::Command;

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
