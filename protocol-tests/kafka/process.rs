//! Java processes on a tether: each ends with the test process, however that ends.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{Version, tools};

/// What can be sent to a process.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Signal {
    Terminate,
    Stop,
    Continue,
}

pub(crate) fn signal(process: &Child, signal: Signal) {
    let pid = rustix::process::Pid::from_child(process);
    let signal = match signal {
        Signal::Terminate => rustix::process::Signal::TERM,
        Signal::Stop => rustix::process::Signal::STOP,
        Signal::Continue => rustix::process::Signal::CONT,
    };
    rustix::process::kill_process(pid, signal).expect("a process of ours takes a signal");
}

/// `java` with the class path of a release, set for short lives and two cores.
pub(crate) fn java(version: Version, heap_mb: u32) -> Command {
    let mut java = Command::new("java");
    java.arg(format!("-Xmx{heap_mb}m"))
        .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"])
        .args([
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dzookeeper.admin.enableServer=false",
        ])
        .args(["-cp", &tools::class_path(version)]);
    java
}

/// A Java process whose output goes to a log file. It holds the tether: our end of its standard input.
#[derive(Debug)]
pub(crate) struct Tethered {
    process: Child,
    log: PathBuf,
}

impl Tethered {
    /// Starts the main methods `commands`, in one process.
    pub(crate) fn start(mut java: Command, commands: &[Vec<String>], log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).expect("a log file");
        let process = java
            .arg("kferry.Tethered")
            .args(commands.join(&"--".to_owned()))
            .stdin(Stdio::piped())
            .stdout(file.try_clone().expect("a second handle of the log file"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|e| panic!("Java 17 runs Apache Kafka, but java does not start: {e}"));
        Self {
            process,
            log: log.to_owned(),
        }
    }

    pub(crate) fn signal(&self, which: Signal) {
        signal(&self.process, which);
    }

    pub(crate) fn limit_files(&self, bytes: u64) {
        use rustix::process::{Pid, Resource, Rlimit, prlimit};
        let limit = Rlimit {
            current: Some(bytes),
            maximum: None,
        };
        prlimit(Some(Pid::from_child(&self.process)), Resource::Fsize, limit).expect("a limit for a process of ours");
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.process
            .try_wait()
            .expect("a process of ours can be asked")
            .is_some()
    }

    pub(crate) fn wait(&mut self) {
        // Waiting would close it, and cut the tether of a process that is still cleaning up.
        let _tether = self.process.stdin.take();
        self.process.wait().expect("a process of ours can be waited for");
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.process.kill(); // It may have ended by itself.
        self.wait();
    }

    /// The last lines that it wrote.
    pub(crate) fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        format!(
            "{}:\n{}",
            self.log.display(),
            lines[lines.len().saturating_sub(30)..].join("\n")
        )
    }
}

impl Drop for Tethered {
    fn drop(&mut self) {
        self.kill();
    }
}
