//! `kferry sandbox`: a small Kafka in the foreground, for other people's tests.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use super::signals::Stop;
use crate::sandbox::{Sandbox, SandboxOptions};

/// Runs a small Kafka cluster in memory until it is interrupted
///
/// Everything it holds is gone when it ends. Clients connect without TLS and without authentication.
///
/// Example: kferry sandbox --listen 127.0.0.1:9092
#[derive(Debug, Args)]
pub struct SandboxArgs {
    /// Address of the first broker; the others take the ports after it, or any that are free if it is 0
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9092")]
    listen: SocketAddr,

    /// How many brokers the cluster has
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    brokers: u16,

    /// The name under which clients reach the brokers, if it is not the address they listen on
    #[arg(long, value_name = "HOST")]
    advertised_host: Option<String>,

    /// Creates topics that a client asks about, as Kafka's brokers do unless they are told not to
    #[arg(long)]
    auto_create_topics: bool,
}

pub async fn run(args: SandboxArgs) -> anyhow::Result<ExitCode> {
    let stop = Stop::listen()?;
    let listen = addresses(args.listen.ip(), args.listen.port(), args.brokers)?;
    let mut options = SandboxOptions {
        listen,
        advertised_host: args.advertised_host,
        ..SandboxOptions::default()
    };
    options.settings.auto_create_topics = args.auto_create_topics;
    let sandbox = Sandbox::start(options)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    tracing::warn!("the sandbox keeps everything in memory: what is written to it is gone when it ends");
    writeln!(std::io::stdout(), "{}", sandbox.bootstrap())?;

    // The sender lives as long as the process.
    let _ = stop.asked().wait_for(|is_asked| *is_asked).await;
    sandbox.stop().await;
    Ok(stop.exit_code().unwrap_or(ExitCode::SUCCESS))
}

fn addresses(ip: IpAddr, first: u16, brokers: u16) -> anyhow::Result<Vec<SocketAddr>> {
    (0..brokers)
        .map(|broker| {
            let port = match first {
                0 => 0,
                first => first
                    .checked_add(broker)
                    .context("there are no ports for so many brokers")?,
            };
            Ok(SocketAddr::new(ip, port))
        })
        .collect()
}
