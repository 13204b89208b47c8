//! Logs: where they go, and in which form.
//!
//! Everything goes to stderr, so that stdout carries results alone. On a terminal that shows progress bars, lines pass
//! through the bars' own writer, so that neither tears the other.

use std::io::Write;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, thiserror::Error)]
#[error("\"{filter}\" is no log filter (try `info`, or `kferry=debug`)")]
pub struct LogFilterError {
    filter: String,
    #[source]
    cause: tracing_subscriber::filter::ParseError,
}

/// Sends logs to `writer` from here on. Called once, at the start.
pub fn init<W>(filter: &str, format: LogFormat, colour: bool, writer: W) -> Result<(), LogFilterError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let parsed = EnvFilter::try_new(filter).map_err(|cause| LogFilterError {
        filter: filter.to_owned(),
        cause,
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_writer(writer)
        .with_target(false);
    // A second subscriber in one process (tests) is no harm: the first one stays.
    let _ = match format {
        LogFormat::Text => builder.with_ansi(colour).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    Ok(())
}

/// A writer to stderr that lets progress bars step aside.
#[derive(Debug, Clone)]
pub struct BesideBars(pub indicatif::MultiProgress);

impl<'a> MakeWriter<'a> for BesideBars {
    type Writer = BarWriter;

    fn make_writer(&'a self) -> BarWriter {
        BarWriter(self.0.clone())
    }
}

/// One line on its way to stderr.
#[derive(Debug)]
pub struct BarWriter(indicatif::MultiProgress);

impl Write for BarWriter {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0
            .suspend(|| std::io::stderr().write_all(line))
            .map(|()| line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}
