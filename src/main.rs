//! Arguments in, exit code out.

use std::process::ExitCode;

use clap::Parser;
use kferry::cli::{self, Cli};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(cli::run(cli)),
        Err(error) => {
            eprintln!("error: the runtime can't be started: {error}");
            ExitCode::from(cli::EXIT_FAILED)
        }
    }
}
