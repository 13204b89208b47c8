//! The second judge: librdkafka, by way of its Python package.

use std::path::Path;
use std::process::Command;

use super::dump::{Dump, Isolation};
use super::{Cluster, tools};

/// Everything that is in a topic now, as librdkafka reads it.
pub(crate) fn dump(cluster: &dyn Cluster, topic: &str, isolation: Isolation) -> Dump {
    let dir = tools::scratch("librdkafka");
    let file = dir.join(topic);
    let output = Command::new(tools::python())
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("protocol-tests/kafka/librdkafka_dump.py"))
        .args([&cluster.bootstrap(), topic, isolation.name()])
        .arg(&file)
        .output()
        .expect("Python starts");
    assert!(
        output.status.success(),
        "librdkafka cannot read: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let dump = Dump::read(&file);
    let _ = std::fs::remove_dir_all(dir);
    dump
}
