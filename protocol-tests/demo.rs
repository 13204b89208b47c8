//! `kferry demo` as a user runs it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kferry"));
    command
        .arg("demo")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs it to its end, which has to come in time.
fn run(arguments: &[&str]) -> (Output, String) {
    let began = now();
    let output = demo(arguments).output().expect("kferry starts");
    let took = began.elapsed();
    let stdout = String::from_utf8(output.stdout.clone()).expect("text");
    assert!(took < Duration::from_secs(20), "it took {took:?}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{stdout}{stderr}", output.status);
    (output, stdout)
}

#[test]
fn the_demo_finds_both_sides_equal_and_has_shown_what_it_says() {
    let (_, stdout) = run(&["--output", "json"]);

    let report: Value = serde_json::from_str(&stdout).expect("one JSON document");
    assert_eq!(report["equal"], true, "{report}");
    assert_eq!(report["differences"], Value::Array(Vec::new()), "{report}");
    assert_eq!(report["records"], report["equal_records"], "{report}");
    assert_eq!(
        (&report["topics"], &report["partitions"]),
        (&4.into(), &11.into()),
        "{report}"
    );
    for shown in [
        "/batches/patched",
        "/batches/reencoded",
        "/batches/skipped",
        "/codecs/none",
        "/codecs/gzip",
        "/codecs/snappy",
        "/codecs/lz4",
        "/codecs/zstd",
        "/transactions/committed",
        "/transactions/aborted",
        "/transactions/aborted_records",
        "/transactions/markers",
        "/compaction/runs",
        "/compaction/removed_records",
        "/compaction/batches_with_gaps",
    ] {
        let number = report.pointer(shown).and_then(Value::as_u64);
        assert!(number.is_some_and(|number| number > 0), "{shown}: {report}");
    }
}

#[test]
fn the_demo_says_in_words_that_both_sides_are_equal_and_is_quiet_otherwise() {
    let (output, stdout) = run(&["--log", "warn"]);

    assert!(stdout.contains("\nEqual: "), "{stdout}");
    assert!(stdout.contains("kferry copy --from"), "{stdout}");
    assert!(stdout.lines().all(|line| line.chars().count() <= 80), "{stdout}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn the_demo_finds_what_another_flow_has_written_to_its_target() {
    let mut process = demo(&[]).spawn().expect("kferry starts");
    let mut stdout = BufReader::new(process.stdout.take().expect("a pipe")).lines();
    let [source, target] = ["source", "target"].map(|name| {
        let mut lines = stdout.by_ref().map(|line| line.expect("text"));
        let line = lines
            .find(|line| line.trim_start().starts_with(name))
            .expect("its address");
        line.rsplit(' ').next().unwrap_or_default().to_owned()
    });

    // The topic may not be there at first, or be empty.
    while copied(&source, &target) == 0 {
        assert!(process.try_wait().expect("its state").is_none(), "the demo has ended");
    }

    stdout.for_each(drop);
    let output = process.wait_with_output().expect("it ends");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("error: orders partition 0: the record at target offset"),
        "{stderr}"
    );
}

/// How many orders a second flow has copied.
fn copied(source: &str, target: &str) -> u64 {
    let output = Command::new(env!("CARGO_BIN_EXE_kferry"))
        .args([
            "copy",
            "--output",
            "json",
            "--topics",
            "orders",
            "--flow",
            "other->target",
        ])
        .args(["--from", source, "--to", target])
        .output()
        .expect("kferry starts");
    let report: Option<Value> = serde_json::from_slice(&output.stdout).ok();
    report.and_then(|report| report["records"].as_u64()).unwrap_or(0)
}

#[test]
fn a_signal_ends_the_demo() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut process = demo(&["--output", "json"]).spawn().expect("kferry starts");
        // It is at work once it says something.
        let mut first = String::new();
        let mut stderr = BufReader::new(process.stderr.take().expect("a pipe"));
        stderr.read_line(&mut first).expect("a line");

        kill_process(Pid::from_child(&process), signal).expect("it is there");

        let output = process.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(code), "{first}");
        assert!(output.stdout.is_empty());
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long the demo takes is part of what is promised"
)]
fn now() -> Instant {
    Instant::now()
}
