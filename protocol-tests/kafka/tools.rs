//! What the tests fetch and build once, under `target/kafka`: the jars of each release, the Java program, the Python
//! environment. Test binaries that run at the same time wait for each other by a file lock.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Version;

const POM: &str = include_str!("pom.xml");

/// Cargo's target directory.
pub(crate) fn target_dir() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("the directory for tests lies in the target directory")
}

/// A directory for one test's files. It stays until the next run that needs the room, for whoever looks for a failure.
pub(crate) fn scratch(name: &str) -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let own = format!(
        "{name}-{}-{}",
        std::process::id(),
        NUMBER.fetch_add(1, Ordering::Relaxed)
    );
    let dir = scratch_root().join(own);
    fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("cannot create {}: {e}", dir.display()));
    dir
}

/// The root of all scratch directories of test processes; those of processes that have ended are removed first.
fn scratch_root() -> PathBuf {
    static SWEPT: std::sync::Once = std::sync::Once::new();
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kafka");
    SWEPT.call_once(|| {
        for entry in fs::read_dir(&root).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = name.rsplit('-').nth(1).unwrap_or_default();
            if !Path::new("/proc").join(owner).exists() {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    });
    root
}

/// The class path of a Kafka release, and first on it our own classes.
pub(crate) fn class_path(version: Version) -> String {
    format!("{}:{}/*", classes().display(), jars(version).display())
}

fn jars(version: Version) -> PathBuf {
    build_once(version.release(), POM, |dir| {
        let mut mvn = Command::new("mvn");
        mvn.args(["-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime"])
            .arg("-f")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("protocol-tests/kafka/pom.xml"))
            .arg(format!("-Dkafka.version={}", version.release()))
            .arg(format!("-DoutputDirectory={}", dir.display()));
        run(&mut mvn, "Maven fetches the jars of Apache Kafka");
    })
}

/// Our Java program, compiled against the newest client: it speaks to all of the releases.
fn classes() -> PathBuf {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("protocol-tests/kafka/java/kferry");
    let mut files: Vec<PathBuf> = fs::read_dir(&sources)
        .expect("the Java sources")
        .map(|entry| entry.expect("a Java source").path())
        .collect();
    files.sort();
    let text: String = files
        .iter()
        .map(|file| fs::read_to_string(file).expect("a Java source"))
        .collect();
    let jars = jars(Version::V4);
    build_once("classes", &text, |dir| {
        let mut javac = Command::new("javac");
        javac
            .args(["--release", "17", "-cp"])
            .arg(format!("{}/*", jars.display()))
            .arg("-d")
            .arg(dir)
            .args(&files);
        run(&mut javac, "a Java 17 compiler builds the judge");
    })
}

/// Python's bindings of librdkafka, which bring the library.
pub(crate) fn python() -> PathBuf {
    let packages = "confluent-kafka==2.16.0";
    let environment = build_once("python", packages, |dir| {
        run(
            Command::new("python3").args(["-m", "venv"]).arg(dir),
            "Python 3 makes an environment (python3-venv)",
        );
        let mut pip = Command::new(dir.join("bin/pip"));
        run(
            pip.args(["install", "--quiet", "--disable-pip-version-check", packages]),
            "pip installs librdkafka",
        );
    });
    environment.join("bin/python")
}

/// Builds `target/kafka/<name>` unless it was built from the same `recipe`.
fn build_once(name: &str, recipe: &str, build: impl FnOnce(&Path)) -> PathBuf {
    let root = target_dir().join("kafka");
    fs::create_dir_all(&root).expect("the directory for Kafka's jars");
    let lock = File::create(root.join(format!("{name}.lock"))).expect("a lock file");
    lock.lock().expect("the lock"); // Until the file is closed.

    let dir = root.join(name);
    let stamp = root.join(format!("{name}.recipe"));
    if fs::read_to_string(&stamp).is_ok_and(|built| built == recipe) {
        return dir;
    }
    let _ = fs::remove_file(&stamp);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("a directory to build in");
    build(&dir);
    fs::write(&stamp, recipe).expect("the recipe is remembered"); // Last: half a build is no build.
    dir
}

fn run(command: &mut Command, purpose: &str) {
    let program = command.get_program().to_owned();
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{purpose}, but {program:?} does not start: {e}; protocol-tests/run installs it"));
    assert!(
        output.status.success(),
        "{purpose}, but {command:?} failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
