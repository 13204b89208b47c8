//! The command line: one file for each subcommand. Each parses, calls and prints; what it does is decided below.

mod clusters;
pub mod copy;
pub mod demo;
mod groups;
pub mod offsets;
mod output;
mod progress;
pub mod sandbox;
mod signals;
pub mod verify;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

pub use output::OutputFormat;

use crate::telemetry::{self, BesideBars, LogFormat};

/// Done.
pub const EXIT_DONE: u8 = 0;
/// It failed, or found a difference.
pub const EXIT_FAILED: u8 = 1;
/// The command line or the configuration is wrong; nothing was touched.
pub const EXIT_USAGE: u8 = 2;

const DEFAULT_LOG: &str = "info";

/// Carries Kafka topics from one cluster to another, batch by batch, as they are.
#[derive(Debug, Parser)]
#[command(
    name = "kferry",
    version,
    about,
    arg_required_else_help = true,
    propagate_version = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    global: Global,
}

/// What every command takes.
#[derive(Debug, clap::Args)]
pub struct Global {
    /// How results are printed on stdout
    #[arg(long, global = true, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,

    /// Which logs are written to stderr, such as `info`, which is the default, or `kferry=debug`; fewer for the demo
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,

    /// How logs are written
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::DemoArgs),
    Copy(Box<copy::CopyArgs>),
    Offsets(offsets::OffsetsArgs),
    Verify(Box<verify::VerifyArgs>),
    Sandbox(sandbox::SandboxArgs),
    /// Prints a completion script for a shell
    ///
    /// Example: kferry completions bash > /etc/bash_completion.d/kferry
    Completions {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

impl Cli {
    /// The threads on which tasks run, of a machine with so many cores.
    ///
    /// A copy moves more than 1 GB/s in one, and what takes long steps aside. With more of them, nearly each request wakes one that
    /// soon sleeps again: two cost a sixth more CPU than one, for no more throughput.
    pub fn worker_threads(&self, cores: usize) -> usize {
        match self.command {
            Command::Copy(_) => (cores / 4).max(1),
            _ => cores,
        }
    }
}

/// Runs what the arguments ask for.
pub async fn run(cli: Cli) -> ExitCode {
    let bars = indicatif::MultiProgress::new();
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let default_log = match cli.command {
        Command::Demo(_) => demo::DEFAULT_LOG,
        _ => DEFAULT_LOG,
    };
    let log = cli.global.log.as_deref().unwrap_or(default_log);
    if let Err(error) = telemetry::init(log, cli.global.log_format, colour, BesideBars(bars.clone())) {
        eprintln!("error: {error}");
        return ExitCode::from(EXIT_USAGE);
    }
    let result = match cli.command {
        Command::Demo(_) => demo::run(cli.global.output, bars).await,
        Command::Copy(args) => copy::run(*args, cli.global.output, bars).await,
        Command::Offsets(args) => offsets::run(args, cli.global.output).await,
        Command::Verify(args) => verify::run(*args, cli.global.output, bars).await,
        Command::Sandbox(args) => sandbox::run(args).await,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "kferry", &mut std::io::stdout());
            Ok(ExitCode::from(EXIT_DONE))
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(EXIT_FAILED)
    })
}
