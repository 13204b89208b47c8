//! Kafka's own Java client, as a process that takes commands.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::Mutex;

use super::dump::{Dump, Isolation};
use super::process::java;
use super::{Cluster, Version, tools};

/// Judges without work. A Java process takes a second to start, so tests hand theirs on.
static IDLE: Mutex<Vec<Process>> = Mutex::new(Vec::new());

/// A Java process that writes and reads records and topics for one test, with the client of the newest release.
pub(crate) struct Judge(Option<Process>);

struct Process {
    process: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// What a produce command writes: see `Shape.java`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Produce {
    pub(crate) shape: &'static str,
    pub(crate) count: usize,
    /// The number of the first record, where records are numbered.
    pub(crate) first: usize,
    pub(crate) seed: u64,
    pub(crate) codec: &'static str,
    /// Records are spread over that many partitions.
    pub(crate) partitions: usize,
    /// Bytes of each value, where values are of one size.
    pub(crate) size: usize,
    /// Keys to choose from, where they are few.
    pub(crate) keys: usize,
    pub(crate) batch_bytes: usize,
    /// Of the record with number 0, where timestamps rise.
    pub(crate) timestamp: i64,
    /// Whether records have headers. In message formats before v2 they have none, nor an idempotent producer.
    pub(crate) headers: bool,
}

impl Produce {
    /// Records that differ in everything that records can differ in.
    pub(crate) const VARIED: Self = Self {
        shape: "varied",
        count: 200,
        first: 0,
        seed: 1,
        codec: "none",
        partitions: 1,
        size: 100,
        keys: 10,
        batch_bytes: 16 << 10,
        timestamp: 1_425_000_000_000,
        headers: true,
    };

    /// Numbered records of one size.
    pub(crate) const PLAIN: Self = Self {
        shape: "plain",
        ..Self::VARIED
    };

    /// Few keys, each written many times and deleted now and then.
    pub(crate) const KEYED: Self = Self {
        shape: "keyed",
        ..Self::VARIED
    };

    /// As the fields of a command.
    fn fields(&self) -> [(&'static str, String); 11] {
        [
            ("shape", self.shape.to_string()),
            ("count", self.count.to_string()),
            ("first", self.first.to_string()),
            ("seed", self.seed.to_string()),
            ("codec", self.codec.to_string()),
            ("partitions", self.partitions.to_string()),
            ("size", self.size.to_string()),
            ("keys", self.keys.to_string()),
            ("batch", self.batch_bytes.to_string()),
            ("timestamp", self.timestamp.to_string()),
            ("headers", self.headers.to_string()),
        ]
    }
}

impl Judge {
    /// An idle judge, or a new one.
    pub(crate) fn take() -> Self {
        let idle = IDLE.lock().expect("no panic while judges change hands").pop();
        Self(Some(idle.unwrap_or_else(Process::start)))
    }

    pub(crate) fn create_topic(
        &mut self,
        cluster: &dyn Cluster,
        topic: &str,
        partitions: usize,
        configs: &[(&str, &str)],
    ) {
        let mut fields = vec![("partitions".to_owned(), partitions.to_string())];
        fields.extend(
            configs
                .iter()
                .map(|(name, value)| (format!("config.{name}"), (*value).to_owned())),
        );
        self.ask(cluster, "create-topic", topic, fields);
    }

    pub(crate) fn create_partitions(&mut self, cluster: &dyn Cluster, topic: &str, total: usize) {
        self.ask(cluster, "create-partitions", topic, [("partitions", total.to_string())]);
    }

    pub(crate) fn alter_configs(&mut self, cluster: &dyn Cluster, topic: &str, configs: &[(&str, &str)]) {
        let fields = configs
            .iter()
            .map(|(name, value)| (format!("config.{name}"), (*value).to_owned()));
        self.ask(cluster, "alter-configs", topic, fields);
    }

    /// The topic's own configs, without defaults, as `name=value`.
    pub(crate) fn configs(&mut self, cluster: &dyn Cluster, topic: &str) -> Vec<String> {
        self.ask(cluster, "configs", topic, NOTHING)
    }

    /// All topics with their number of partitions.
    pub(crate) fn topics(&mut self, cluster: &dyn Cluster) -> Vec<(String, usize)> {
        let parse = |line: String| {
            let (name, partitions) = line.split_once(' ').expect("a name and a number");
            (name.to_owned(), partitions.parse().expect("a number"))
        };
        self.ask(cluster, "topics", NO_TOPIC, NOTHING)
            .into_iter()
            .map(parse)
            .collect()
    }

    /// The first and the end offset of each partition.
    pub(crate) fn offsets(&mut self, cluster: &dyn Cluster, topic: &str) -> Vec<(i64, i64)> {
        let parse = |line: String| {
            let numbers: Vec<i64> = line
                .split(' ')
                .map(|number| number.parse().expect("a number"))
                .collect();
            (numbers[1], numbers[2])
        };
        let isolation = [("isolation", Isolation::ReadUncommitted.name())];
        self.ask(cluster, "offsets", topic, isolation)
            .into_iter()
            .map(parse)
            .collect()
    }

    pub(crate) fn delete_records(&mut self, cluster: &dyn Cluster, topic: &str, partition: i32, before: i64) {
        let fields = [("partition", partition.to_string()), ("offset", before.to_string())];
        self.ask(cluster, "delete-records", topic, fields);
    }

    pub(crate) fn produce(&mut self, cluster: &dyn Cluster, topic: &str, records: &Produce) {
        self.ask(cluster, "produce", topic, records.fields());
    }

    /// Transactions of several producers between one another; none stays open. `steps` is how often one of them begins,
    /// writes, commits or aborts.
    pub(crate) fn interleave(
        &mut self,
        cluster: &dyn Cluster,
        topic: &str,
        records: &Produce,
        producers: usize,
        steps: usize,
    ) {
        let own = [("producers", producers.to_string()), ("steps", steps.to_string())];
        self.ask(cluster, "interleave", topic, records.fields().into_iter().chain(own));
    }

    /// Begins a transaction and leaves it open.
    pub(crate) fn begin(&mut self, cluster: &dyn Cluster, topic: &str, id: &str, records: &Produce) {
        self.ask(
            cluster,
            "begin",
            topic,
            records.fields().into_iter().chain([("id", id.to_owned())]),
        );
    }

    pub(crate) fn commit(&mut self, cluster: &dyn Cluster, id: &str) {
        self.ask(cluster, "end", NO_TOPIC, [("id", id), ("outcome", "commit")]);
    }

    pub(crate) fn abort(&mut self, cluster: &dyn Cluster, id: &str) {
        self.ask(cluster, "end", NO_TOPIC, [("id", id), ("outcome", "abort")]);
    }

    /// Everything that is in a topic now.
    pub(crate) fn dump(&mut self, cluster: &dyn Cluster, topic: &str, isolation: Isolation) -> Dump {
        let dir = tools::scratch("dump");
        let file = dir.join(topic);
        let fields = [
            ("isolation", isolation.name().to_owned()),
            ("file", file.display().to_string()),
        ];
        self.ask(cluster, "dump", topic, fields);
        let dump = Dump::read(&file);
        let _ = std::fs::remove_dir_all(dir);
        dump
    }

    fn ask<N: AsRef<str>, V: AsRef<str>>(
        &mut self,
        cluster: &dyn Cluster,
        verb: &str,
        topic: &str,
        fields: impl IntoIterator<Item = (N, V)>,
    ) -> Vec<String> {
        let mut command = format!("{verb}\tbootstrap={}\ttopic={topic}", cluster.bootstrap());
        for (name, value) in fields {
            command.push_str(&format!("\t{}={}", name.as_ref(), value.as_ref()));
        }
        self.0.as_mut().expect("taken on drop only").ask(&command)
    }
}

const NO_TOPIC: &str = "";
const NOTHING: [(&str, &str); 0] = [];

impl Drop for Judge {
    fn drop(&mut self) {
        // After a failed test it may hold transactions open, or be in the middle of an answer.
        if !std::thread::panicking() {
            IDLE.lock()
                .expect("no panic while judges change hands")
                .extend(self.0.take());
        }
    }
}

impl Process {
    fn start() -> Self {
        let log = tools::scratch("judge").join("log");
        let mut process = java(Version::V4, 512)
            .arg("kferry.Judge")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).expect("a log file"))
            .spawn()
            .unwrap_or_else(|e| panic!("Java 17 runs the judge, but java does not start: {e}"));
        let commands = process.stdin.take().expect("a pipe, as asked for");
        let answers = BufReader::new(process.stdout.take().expect("a pipe, as asked for"));
        Self {
            process,
            commands,
            answers,
        }
    }

    #[track_caller]
    fn ask(&mut self, command: &str) -> Vec<String> {
        writeln!(self.commands, "{command}").expect("the judge takes commands");
        let mut answer = Vec::new();
        loop {
            let mut line = String::new();
            self.answers.read_line(&mut line).expect("the judge answers in text");
            match line.trim_end_matches('\n') {
                "ok" => return answer,
                line if line.starts_with('\t') => answer.push(line[1..].to_owned()),
                other => panic!("the judge cannot: {command}\n{other}"),
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.process.kill(); // It may have ended by itself.
        let _ = self.process.wait();
    }
}
