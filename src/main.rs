//! Arguments in, exit code out.

use std::process::ExitCode;
use std::thread::available_parallelism;

use clap::Parser;
use kferry::cli::{self, Cli};
use tokio::runtime::Builder;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let workers = cli.worker_threads(available_parallelism().map_or(1, usize::from));
    match Builder::new_multi_thread().worker_threads(workers).enable_all().build() {
        Ok(runtime) => runtime.block_on(cli::run(cli)),
        Err(error) => {
            eprintln!("error: the runtime can't be started: {error}");
            ExitCode::from(cli::EXIT_FAILED)
        }
    }
}
