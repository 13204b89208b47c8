//! A broker, which is a cluster of its own, or joins another one's.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use super::process::{Signal, Tethered, java};
use super::{Version, eventually, tools};

const HEAP_MB: u32 = 384;

/// Somebody else may take a port between our looking for one and the broker's opening it.
const PORT_ATTEMPTS: usize = 5;

/// The broker of this release that all tests of this binary share. It runs until the process ends.
pub(crate) fn shared(version: Version) -> &'static KafkaCluster {
    static BROKERS: [OnceLock<KafkaCluster>; 3] = [const { OnceLock::new() }; 3];
    BROKERS[version as usize].get_or_init(|| KafkaCluster::start(version, &[]))
}

/// One broker of real Apache Kafka, with its data, on ports that were free.
///
/// It can be killed, stopped, frozen and started again on the same data and ports; dropping it ends it and removes the
/// data, unless a test is failing.
#[derive(Debug)]
pub(crate) struct KafkaCluster {
    version: Version,
    dir: PathBuf,
    ports: Ports,
    quorum: Quorum,
    /// A second way in, for clients that come over a proxy, and the port that they are told to go to.
    proxied: Option<(u16, u16)>,
    process: Mutex<Option<Tethered>>,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    broker: u16,
    /// The controller's, or ZooKeeper's.
    control: u16,
}

/// Whose cluster the broker is of.
#[derive(Debug, Clone)]
enum Quorum {
    Own(String),
    /// It is this node of a cluster that has this id, and its controller at this port.
    Joined(i32, String, u16),
}

impl KafkaCluster {
    /// Starts a cluster; `configs` go into the broker's properties, after ours.
    pub(crate) fn start(version: Version, configs: &[(&str, &str)]) -> Self {
        Self::start_with(version, configs, None, Quorum::Own(cluster_id()))
    }

    /// Another broker of this one's cluster, which has KRaft. It can be killed and stopped by itself.
    pub(crate) fn start_another(&self, node: i32, configs: &[(&str, &str)]) -> Self {
        let Quorum::Own(cluster_id) = &self.quorum else {
            panic!("the first broker of a cluster has the controller")
        };
        let quorum = Quorum::Joined(node, cluster_id.clone(), self.ports.control);
        Self::start_with(self.version, configs, None, quorum)
    }

    /// With a second listener, which says of itself that it is at `proxy`, where its clients go from then on.
    pub(crate) fn start_behind(version: Version, proxy: u16, configs: &[(&str, &str)]) -> Self {
        Self::start_with(version, configs, Some(proxy), Quorum::Own(cluster_id()))
    }

    fn start_with(version: Version, configs: &[(&str, &str)], proxy: Option<u16>, quorum: Quorum) -> Self {
        for _ in 0..PORT_ATTEMPTS {
            let dir = tools::scratch(version.release());
            let cluster = Self {
                version,
                ports: free_ports(),
                quorum: quorum.clone(),
                proxied: proxy.map(|proxy| (free_ports().broker, proxy)),
                dir,
                process: Mutex::new(None),
            };
            cluster.write_properties(configs);
            cluster.format();
            match cluster.try_start() {
                Ok(()) => return cluster,
                Err(log) if log.contains("Address already in use") => (),
                Err(log) => panic!("Apache Kafka {} does not start: {log}", version.release()),
            }
        }
        panic!("no free ports for Apache Kafka after {PORT_ATTEMPTS} attempts");
    }

    pub(crate) fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.ports.broker)
    }

    /// Where the second listener is.
    pub(crate) fn behind_proxy(&self) -> u16 {
        self.proxied.expect("a broker behind a proxy").0
    }

    /// From now on no file of the broker may grow beyond this; a broker that is started again has no such limit.
    pub(crate) fn limit_files(&self, bytes: u64) {
        self.running().as_ref().expect("the broker runs").limit_files(bytes);
    }

    /// Whether the process has ended by itself.
    pub(crate) fn has_ended(&self) -> bool {
        self.running().as_mut().is_none_or(Tethered::has_ended)
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// As `kill -9`, or as a machine that loses its power.
    pub(crate) fn kill(&self) {
        self.running().take().expect("the broker runs").kill();
    }

    /// A clean stop.
    pub(crate) fn stop(&self) {
        let mut process = self.running().take().expect("the broker runs");
        process.signal(Signal::Terminate);
        process.wait();
    }

    /// Starts it again on the data and the ports that it had.
    pub(crate) fn start_again(&self) {
        if let Err(log) = self.try_start() {
            panic!("Apache Kafka {} does not start again: {log}", self.version.release());
        }
    }

    /// Takes the last batches from the log on disk, those that begin past `offset`, as a disk does that loses what it has not
    /// written: not while the broker runs. Returns where the log ends then.
    pub(crate) fn cut_log_back(&self, topic: &str, partition: i32, offset: i64) -> i64 {
        let folder = self.dir.join("data").join(format!("{topic}-{partition}"));
        let segment = folder.join("00000000000000000000.log");
        let bytes = fs::read(&segment).expect("the first segment");
        let mut place = 0;
        loop {
            let batch = bytes
                .get(place..)
                .and_then(<[u8]>::first_chunk)
                .expect("a batch past the offset");
            let [base @ .., l0, l1, l2, l3]: [u8; 12] = *batch;
            let base_offset = i64::from_be_bytes(base);
            if base_offset > offset {
                let file = fs::OpenOptions::new().write(true).open(&segment).expect("the segment");
                file.set_len(place as u64).expect("a shorter segment");
                return base_offset;
            }
            place += 12 + u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        }
    }

    /// The broker keeps its connections and answers nothing, until [`Self::thaw`].
    pub(crate) fn freeze(&self) {
        self.running().as_ref().expect("the broker runs").signal(Signal::Stop);
    }

    pub(crate) fn thaw(&self) {
        self.running()
            .as_ref()
            .expect("the broker runs")
            .signal(Signal::Continue);
    }

    fn running(&self) -> MutexGuard<'_, Option<Tethered>> {
        self.process.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Returns when the broker serves requests; when it ends before, with its log.
    fn try_start(&self) -> Result<(), String> {
        let mut process = Tethered::start(java(self.version, HEAP_MB), &self.commands(), &self.dir.join("log"));
        let mut ended = false;
        let living = match &self.quorum {
            Quorum::Own(_) => 1,
            Quorum::Joined(node, ..) => *node, // Those before it live.
        };
        eventually("a broker that serves requests", || {
            ended = process.has_ended();
            ended || serves(self.ports.broker, living)
        });
        if ended {
            return Err(process.log_tail());
        }
        *self.running() = Some(process);
        Ok(())
    }

    fn commands(&self) -> Vec<Vec<String>> {
        let command = |class: &str, file: &str| vec![class.to_owned(), self.path(file)];
        let broker = command("kafka.Kafka", "server.properties");
        match self.version {
            Version::V3 | Version::V4 => vec![broker],
            Version::V2 => {
                vec![
                    command(
                        "org.apache.zookeeper.server.ZooKeeperServerMain",
                        "zookeeper.properties",
                    ),
                    broker,
                ]
            }
        }
    }

    fn write_properties(&self, configs: &[(&str, &str)]) {
        let Ports { broker, control } = self.ports;
        let (mut listeners, mut advertised) = (String::new(), String::new());
        if let Some((port, proxy)) = self.proxied {
            listeners = format!(",PROXIED://127.0.0.1:{port}");
            advertised = format!(",PROXIED://127.0.0.1:{proxy}");
        }
        let (node, roles, controller) = match &self.quorum {
            Quorum::Own(_) => (1, "broker,controller", control),
            Quorum::Joined(node, _, controller) => (*node, "broker", *controller),
        };
        if node == 1 {
            listeners += &format!(",CONTROLLER://127.0.0.1:{control}");
        }
        let mut lines = vec![
            format!("node.id={node}"),
            format!("log.dirs={}", self.path("data")),
            format!("advertised.listeners=PLAINTEXT://127.0.0.1:{broker}{advertised}"),
        ];
        match self.version {
            Version::V3 | Version::V4 => lines.extend([
                format!("process.roles={roles}"),
                format!("controller.quorum.voters=1@127.0.0.1:{controller}"),
                "controller.listener.names=CONTROLLER".to_owned(),
                format!("listeners=PLAINTEXT://127.0.0.1:{broker}{listeners}"),
                "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT".to_owned(),
            ]),
            Version::V2 => {
                lines.extend([
                    "broker.id=1".to_owned(),
                    format!("zookeeper.connect=127.0.0.1:{control}"),
                    format!("listeners=PLAINTEXT://127.0.0.1:{broker}"),
                ]);
                let zookeeper = [
                    format!("dataDir={}", self.path("zookeeper")),
                    format!("clientPort={control}"),
                    "clientPortAddress=127.0.0.1".to_owned(),
                ];
                self.write("zookeeper.properties", &zookeeper);
            }
        }
        lines.extend(
            COMMON
                .iter()
                .chain(configs)
                .map(|(name, value)| format!("{name}={value}")),
        );
        self.write("server.properties", &lines);
    }

    /// KRaft starts on formatted storage only.
    fn format(&self) {
        if self.version == Version::V2 {
            return;
        }
        let (Quorum::Own(cluster_id) | Quorum::Joined(_, cluster_id, _)) = &self.quorum;
        let output = java(self.version, 128)
            .args([
                "kafka.tools.StorageTool",
                "format",
                "--cluster-id",
                cluster_id,
                "--config",
            ])
            .arg(self.path("server.properties"))
            .output()
            .unwrap_or_else(|e| panic!("Java 17 runs Apache Kafka, but java does not start: {e}"));
        assert!(
            output.status.success(),
            "storage of Apache Kafka: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn write(&self, file: &str, lines: &[String]) {
        fs::write(self.dir.join(file), lines.join("\n")).expect("a properties file");
    }

    fn path(&self, file: &str) -> String {
        self.dir.join(file).display().to_string()
    }
}

impl Drop for KafkaCluster {
    fn drop(&mut self) {
        drop(self.running().take());
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// As many threads and internal partitions as tests need, and everything that waits by default made prompt.
const COMMON: &[(&str, &str)] = &[
    ("num.network.threads", "2"),
    ("num.io.threads", "4"),
    ("auto.create.topics.enable", "false"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("offsets.topic.num.partitions", "1"),
    ("offsets.topic.replication.factor", "1"),
    ("transaction.state.log.num.partitions", "1"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
    // Tests write records of any age and expect to find them.
    ("log.retention.ms", "-1"),
    ("log.cleaner.backoff.ms", "100"),
    ("log.cleaner.dedupe.buffer.size", "16777216"),
];

/// Two ports that nobody listens on.
fn free_ports() -> Ports {
    let listen = || TcpListener::bind("127.0.0.1:0").expect("a free port");
    let (broker, control) = (listen(), listen()); // Both at once, so that they differ.
    let port = |listener: &TcpListener| listener.local_addr().expect("a bound address").port();
    Ports {
        broker: port(&broker),
        control: port(&control),
    }
}

/// A cluster id in Kafka's form: 16 random bytes in URL-safe base64.
fn cluster_id() -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut id: String = (0..21).map(|_| char::from(ALPHABET[fastrand::usize(..64)])).collect();
    id.replace_range(..1, "k"); // A leading '-' would read as an option.
    id.push(['A', 'Q', 'g', 'w'][fastrand::usize(..4)]); // The last one carries two bits only.
    id
}

/// Whether a broker answers Metadata, and knows of so many that live, or more. An open port alone promises nothing.
fn serves(port: u16, living: i32) -> bool {
    // Metadata v4 about no topics: API 3, version 4, correlation id 1, null client id, no topics, create none.
    const REQUEST: [u8; 19] = [0, 0, 0, 15, 0, 3, 0, 4, 0, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 0, 0];
    let ask = || -> std::io::Result<[u8; 16]> {
        let mut broker = TcpStream::connect(("127.0.0.1", port))?;
        broker.set_read_timeout(Some(Duration::from_secs(5)))?;
        broker.write_all(&REQUEST)?;
        let mut answer = [0; 16]; // Length, correlation id, throttle time, number of brokers.
        broker.read_exact(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| {
        let [.., b0, b1, b2, b3] = answer;
        answer[4..8] == [0, 0, 0, 1] && i32::from_be_bytes([b0, b1, b2, b3]) >= living
    })
}
