//! Runs the binary under test.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::kafka::{KafkaCluster, Signal, happens, scratch, signal};

/// `kferry copy` as it is being put together.
pub(crate) struct Copy {
    command: Command,
    scratch: PathBuf,
    /// Which flow it is, and between which clusters.
    flow: Vec<String>,
}

impl Copy {
    /// Without any argument but the format of the output.
    pub(crate) fn bare() -> Self {
        let scratch = scratch("kferry");
        let mut command = Command::new(env!("CARGO_BIN_EXE_kferry"));
        command
            .args(["copy", "--output", "json"])
            .stdin(Stdio::null())
            .stdout(File::create(scratch.join("stdout")).expect("a file for the output"))
            .stderr(File::create(scratch.join("stderr")).expect("a file for the messages"));
        Self {
            command,
            scratch,
            flow: Vec::new(),
        }
    }

    /// From cluster to cluster; the topics and the rest are up to the test.
    pub(crate) fn between(source: &KafkaCluster, target: &KafkaCluster) -> Self {
        Self::bare()
            .arg("--from", source.bootstrap())
            .arg("--to", target.bootstrap())
    }

    pub(crate) fn arg(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.command.args([name, value.as_ref()]);
        if matches!(name, "--from" | "--to" | "--flow") {
            self.flow.extend([name.to_owned(), value.as_ref().to_owned()]);
        }
        self
    }

    pub(crate) fn flag(mut self, name: &str) -> Self {
        self.command.arg(name);
        self
    }

    /// Runs it to its end.
    #[track_caller]
    pub(crate) fn run(self) -> Outcome {
        self.start().wait()
    }

    pub(crate) fn start(mut self) -> Running {
        let process = self.command.spawn().expect("kferry starts");
        Running {
            process,
            scratch: self.scratch,
            flow: self.flow,
            began: now(),
            peak_memory: 0,
        }
    }
}

/// A `kferry copy` at work; killed when dropped.
pub(crate) struct Running {
    process: Child,
    scratch: PathBuf,
    flow: Vec<String>,
    began: Instant,
    peak_memory: u64,
}

impl Running {
    pub(crate) fn signal(&self, which: Signal) {
        signal(&self.process, which);
    }

    /// As `kill -9`. Returns what it had to say until then.
    pub(crate) fn kill(mut self) -> String {
        self.process.kill().expect("kferry is still there to be killed");
        self.process.wait().expect("it can be waited for");
        fs::read_to_string(self.scratch.join("stderr")).expect("what it wrote")
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.process.try_wait().expect("it can be asked").is_some()
    }

    /// Waits for its end. Where it says that all is copied, that is compared record by record.
    #[track_caller]
    pub(crate) fn wait(self) -> Outcome {
        let flow = self.flow.clone();
        let outcome = self.wait_unverified();
        if outcome.status.success() {
            let verified = ask("verify", &flow);
            assert_eq!(verified.code(), 0, "what was copied is not equal:\n{}", verified.stderr);
        }
        outcome
    }

    #[track_caller]
    pub(crate) fn wait_unverified(mut self) -> Outcome {
        let mut status = None;
        let ended = happens(Duration::from_secs(150), || {
            self.peak_memory = self.peak_memory.max(self.memory());
            status = self.process.try_wait().expect("it can be waited for");
            status.is_some()
        });
        let text = |name| fs::read_to_string(self.scratch.join(name)).expect("what it wrote");
        let (stdout, stderr) = (text("stdout"), text("stderr"));
        assert!(ended, "kferry does not end; it says:\n{stderr}");
        let status = status.expect("it has ended");
        Outcome {
            status,
            stdout,
            stderr,
            took: self.began.elapsed(),
            peak_memory: self.peak_memory,
        }
    }

    /// Peak resident memory so far, in bytes; 0 when it has ended.
    pub(crate) fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        peak.map_or(0, |kb| kb.parse::<u64>().expect("a number") * 1024)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill(); // It may have ended by itself.
        let _ = self.process.wait();
    }
}

/// Runs another command about a flow.
#[track_caller]
pub(crate) fn ask(command: &str, arguments: &[String]) -> Outcome {
    let began = now();
    let output = Command::new(env!("CARGO_BIN_EXE_kferry"))
        .args(command.split(' '))
        .args(["--output", "json"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("kferry starts");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Outcome {
        status: output.status,
        stdout: text(output.stdout),
        stderr: text(output.stderr),
        took: began.elapsed(),
        peak_memory: 0,
    }
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
    pub(crate) peak_memory: u64,
}

impl Outcome {
    #[track_caller]
    pub(crate) fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| panic!("{}:\n{}", self.status, self.stderr))
    }

    /// The claim that it succeeded, and the summary that it printed.
    #[track_caller]
    pub(crate) fn summary(&self) -> Summary {
        assert_eq!(self.code(), 0, "kferry failed:\n{}", self.stderr);
        self.document()
    }

    #[track_caller]
    pub(crate) fn document(&self) -> Summary {
        let document = serde_json::from_str(&self.stdout);
        Summary(document.unwrap_or_else(|e| panic!("no JSON ({e}): {}\n{}", self.stdout, self.stderr)))
    }

    /// The claim that it failed, with this exit code, and said all of these things.
    #[track_caller]
    pub(crate) fn assert_failed(&self, code: i32, says: &[&str]) {
        assert_eq!(self.code(), code, "{}", self.stderr);
        for words in says {
            assert!(
                self.stderr.contains(words),
                "it does not say {words:?}:\n{}",
                self.stderr
            );
        }
    }
}

/// The JSON document of a run.
#[derive(Debug)]
pub(crate) struct Summary(pub(crate) serde_json::Value);

impl Summary {
    #[track_caller]
    pub(crate) fn number(&self, path: &str) -> u64 {
        self.0
            .pointer(path)
            .and_then(serde_json::Value::as_u64)
            .unwrap_or_else(|| panic!("no {path} in {}", self.0))
    }

    #[track_caller]
    pub(crate) fn text(&self, path: &str) -> &str {
        self.0
            .pointer(path)
            .and_then(serde_json::Value::as_str)
            .unwrap_or_else(|| panic!("no {path} in {}", self.0))
    }

    #[track_caller]
    pub(crate) fn records(&self) -> usize {
        usize::try_from(self.number("/records")).expect("a count")
    }
}

/// An address on which nobody listens.
pub(crate) fn closed_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound address")
}

#[expect(clippy::disallowed_methods, reason = "measures a process")]
fn now() -> Instant {
    Instant::now()
}
