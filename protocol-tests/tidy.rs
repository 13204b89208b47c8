//! What the compiler cannot check: which folder may use which, where I/O is named, sizes, and what the package pulls in.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Folders and files that the package consists of. Hidden files and Cargo's target directory come on top.
const TOP_LEVEL: [&str; 11] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "benches",
    "fuzz",
    "protocol-tests",
    "src",
];

/// Past this length a file probably holds two ideas.
const LONG_FILE: usize = 500;

/// Longer files, each with the reason why it holds one idea.
const LONG_FILES: [(&str, &str); 2] = [
    (
        "src/protocol/primitives.rs",
        "each scalar type of the wire, read and written, with its claims",
    ),
    (
        "src/protocol/response_schemas.rs",
        "a table: the shape of each response and version",
    ),
];

/// Names that a folder without the I/O mark must not use: what a core knows comes in as a value.
const IO_NAMES: [&str; 8] = [
    "tokio::",
    "std::net",
    "std::fs",
    "std::thread",
    "Instant::now",
    "SystemTime::now",
    "fastrand::",
    "socket2::",
];

/// Crates whose build scripts compile C. `-sys` crates are suspected by their name.
const C_COMPILERS: [&str; 4] = ["autotools", "bindgen", "cc", "cmake"];

/// Constants and types of the Linux interface, in Rust.
const NOT_C: [&str; 1] = ["linux-raw-sys"];

/// Where kferry is built; crates for other systems need not even be downloaded.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

#[test]
fn imports_point_down() {
    let folders = Folder::all();
    for file in rust_files("src") {
        let Some(at) = folders
            .iter()
            .position(|folder| file.starts_with(root().join("src").join(&folder.name)))
        else {
            continue; // lib.rs and main.rs stand above all folders.
        };
        let code = code_without_tests(&file);
        for (below, used) in folders.iter().enumerate() {
            let allowed = match (folders[at].name.as_str(), used.name.as_str()) {
                ("sandbox", name) => ["protocol", "record", "sandbox"].contains(&name),
                (name, "sandbox") => name == "cli",
                _ => below >= at,
            };
            assert!(
                allowed || !uses_folder(&code, &used.name),
                "{} is in `{}` and uses `{}`; see the order of folders in src/lib.rs",
                file.display(),
                folders[at].name,
                used.name
            );
        }
    }
}

#[test]
fn only_folders_marked_for_it_do_io() {
    for folder in Folder::all() {
        for file in rust_files(&format!("src/{}", folder.name)) {
            let allowed = match folder.io {
                Io::Everywhere => true,
                Io::Nowhere => false,
                Io::AtItsEdge => file.parent() == Some(&root().join("src").join(&folder.name)),
            };
            let code = code_without_tests(&file);
            for name in IO_NAMES {
                let place = allowed || !code.contains(name);
                assert!(
                    place,
                    "{} names {name}, and is no place for I/O; see src/lib.rs",
                    file.display()
                );
            }
        }
    }
}

#[test]
fn every_folder_stands_in_the_map_of_modules() {
    let mapped: BTreeSet<String> = Folder::all().into_iter().map(|folder| folder.name).collect();
    let found: BTreeSet<String> = fs::read_dir(root().join("src"))
        .expect("sources")
        .map(|entry| entry.expect("an entry of src"))
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().expect("a name in UTF-8"))
        .collect();
    assert_eq!(mapped, found);
}

#[test]
fn every_module_says_what_it_is_for() {
    for file in rust_files("src").into_iter().chain(rust_files("protocol-tests")) {
        assert!(
            !module_docs(&file).is_empty(),
            "{} does not open with //!",
            file.display()
        );
    }
}

#[test]
fn files_are_of_one_idea_each() {
    let listed: BTreeSet<&str> = LONG_FILES.iter().map(|(file, _)| *file).collect();
    for file in ["src", "protocol-tests", "fuzz", "benches"]
        .into_iter()
        .flat_map(rust_files)
    {
        let name = file
            .strip_prefix(root())
            .expect("a file of ours")
            .to_str()
            .expect("a name in UTF-8");
        let lines = text(&file).lines().count();
        assert!(
            lines <= LONG_FILE || listed.contains(name),
            "{name} has {lines} lines: look for a second idea, or list it in tidy.rs with the reason"
        );
        assert!(
            lines > LONG_FILE || !listed.contains(name),
            "{name} is no longer long: take it off the list"
        );
    }
}

#[test]
fn nothing_is_left_to_do_and_no_path_is_of_one_machine() {
    // In pieces, so that this file does not find itself.
    let banned = [
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
    ];
    let machine = [
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("/wo", "rk/"),
        concat!("/Us", "ers/"),
    ];
    for file in text_files() {
        let text = text(&file);
        for word in banned.iter().chain(&machine) {
            assert!(!text.contains(word), "{} contains {word}", file.display());
        }
    }
}

#[test]
fn the_top_level_holds_what_is_documented() {
    for entry in fs::read_dir(root()).expect("the package") {
        let name = entry
            .expect("an entry")
            .file_name()
            .into_string()
            .expect("a name in UTF-8");
        let known = name.starts_with('.') || name == "target" || TOP_LEVEL.contains(&name.as_str());
        assert!(known, "{name} has no place at the top level");
    }
}

#[test]
fn the_default_build_compiles_no_c() {
    let tree = cargo(&[
        "tree",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--format",
        "{p}",
        "--target",
        PLATFORM,
    ]);
    for name in tree.lines().filter_map(|line| line.split(' ').next()) {
        let suspect = C_COMPILERS.contains(&name) || (name.ends_with("-sys") && !NOT_C.contains(&name));
        assert!(
            !suspect,
            "{name} compiles or links C; find who needs it with: cargo tree -e normal,build -i {name}"
        );
    }
}

#[test]
fn no_dependency_needs_a_newer_compiler_than_we_promise() {
    let metadata: serde_json::Value = serde_json::from_str(&cargo(&[
        "metadata",
        "--format-version",
        "1",
        "--filter-platform",
        PLATFORM,
    ]))
    .expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let version = |package: &serde_json::Value| package["rust_version"].as_str().map(parse_version);
    let ours = packages
        .iter()
        .find(|package| package["name"] == env!("CARGO_PKG_NAME"))
        .and_then(version);
    let ours = ours.expect("our own rust-version");
    for package in packages {
        let needed = version(package).unwrap_or_default();
        assert!(
            needed <= ours,
            "{} needs Rust {needed:?}, our rust-version is {ours:?}",
            package["id"]
        );
    }
}

/// A line of the map of modules in `src/lib.rs`: a folder of `src` and what it may do.
struct Folder {
    name: String,
    io: Io,
}

enum Io {
    Everywhere,
    /// In the folder's own files; those of its folders do none.
    AtItsEdge,
    Nowhere,
}

impl Folder {
    /// All folders; each may use those after it.
    fn all() -> Vec<Self> {
        let map = text(&root().join("src/lib.rs"));
        map.lines()
            .filter_map(|line| line.strip_prefix("//! | [`"))
            .map(Self::parse)
            .collect()
    }

    fn parse(line: &str) -> Self {
        let (name, purpose) = line.split_once("`] |").expect("a name and a purpose");
        let io = match purpose {
            _ if purpose.contains("(I/O at its edge)") => Io::AtItsEdge,
            _ if purpose.contains("(I/O)") => Io::Everywhere,
            _ => Io::Nowhere,
        };
        Self {
            name: name.to_owned(),
            io,
        }
    }
}

/// Whether code names `crate::folder`, on its own or in a braced list.
fn uses_folder(code: &str, folder: &str) -> bool {
    let names = |rest: &str| {
        let list = rest.strip_prefix('{').and_then(|rest| rest.split('}').next());
        list.unwrap_or(rest).split([',', '{', '\n']).map(str::trim).any(|item| {
            let name = item
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .next()
                .unwrap_or_default();
            name == folder
        }) && (list.is_some() || rest.starts_with(folder))
    };
    code.split("crate::").skip(1).any(names)
}

/// The code of a file without comments, and without its unit tests, which stand at its foot.
fn code_without_tests(file: &Path) -> String {
    if file.ends_with("tests.rs") {
        return String::new();
    }
    let text = text(file);
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn module_docs(file: &Path) -> String {
    text(file).lines().take_while(|line| line.starts_with("//!")).collect()
}

/// Everything that is written by hand.
fn text_files() -> Vec<PathBuf> {
    let top = [
        "Cargo.toml",
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        ".ci/run",
    ];
    let top = top
        .map(|name| root().join(name))
        .into_iter()
        .filter(|file| file.exists());
    let text = ["rs", "toml", "md", "java", "py", "xml", "sh"];
    ["src", "protocol-tests", "fuzz", "benches"]
        .into_iter()
        .flat_map(files)
        .filter(|file| {
            file.extension()
                .is_none_or(|ending| text.iter().any(|text| ending == *text))
        })
        .filter(|file| fs::read_to_string(file).is_ok())
        .chain(top)
        .collect()
}

fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut files = files(folder);
    files.retain(|file| file.extension().is_some_and(|ending| ending == "rs"));
    files
}

/// All files below a folder, but for what tools leave there.
fn files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            let left_there = ["target", "artifacts", "corpus"]
                .iter()
                .any(|name| path.ends_with(name));
            match path.is_dir() {
                true if left_there => (),
                true => folders.push(path),
                false => found.push(path),
            }
        }
    }
    found.sort();
    found
}

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .args(["--locked", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo starts");
    assert!(
        output.status.success(),
        "cargo {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("cargo writes UTF-8")
}

/// Major, minor and patch; what is left out counts as zero.
fn parse_version(version: &str) -> [u32; 3] {
    let mut numbers = version.split('.').map(|number| number.parse().expect("a number"));
    [(); 3].map(|()| numbers.next().unwrap_or_default())
}

fn text(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|e| panic!("cannot read {}: {e}", file.display()))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
