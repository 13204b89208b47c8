//! Shows how far a flow is: bars on a terminal, elsewhere a log line every ten seconds.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;

use super::output::bytes;
use crate::service::progress::Progress;

const BAR_INTERVAL: Duration = Duration::from_millis(200);
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Shows progress until dropped.
#[derive(Debug)]
pub(super) struct Shown(JoinHandle<()>);

impl Drop for Shown {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(super) fn show(flow: String, progress: Arc<Progress>, bars: &MultiProgress) -> Shown {
    let bar = std::io::stderr()
        .is_terminal()
        .then(|| bars.add(ProgressBar::no_length()));
    Shown(tokio::spawn(async move {
        match bar {
            Some(bar) => draw(&flow, &progress, &bar).await,
            None => log(&flow, &progress).await,
        }
    }))
}

async fn draw(flow: &str, progress: &Progress, bar: &ProgressBar) {
    let template = "{prefix} {bar:30} {percent:>3} %  {msg}  {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_prefix(flow.to_owned());
    let mut before = progress.read();
    loop {
        tokio::time::sleep(BAR_INTERVAL).await;
        let now = progress.read();
        bar.set_length(progress.total());
        bar.set_position(now.offsets);
        let rate = (now.bytes - before.bytes) as f64 / BAR_INTERVAL.as_secs_f64();
        bar.set_message(format!(
            "{} records, {}, {}/s",
            now.records,
            bytes(now.bytes),
            bytes(rate as u64)
        ));
        before = now;
    }
}

async fn log(flow: &str, progress: &Progress) {
    let mut before = progress.read();
    loop {
        tokio::time::sleep(LINE_INTERVAL).await;
        let now = progress.read();
        let rate = (now.bytes - before.bytes) / LINE_INTERVAL.as_secs();
        // There is no total before both clusters have been asked, nor where the flow has no end.
        let percent = (now.offsets * 100).checked_div(progress.total());
        let percent = percent.map_or_else(String::new, |percent| format!("{} %, ", percent.min(100)));
        let (copied, rate) = (bytes(now.bytes), bytes(rate));
        tracing::info!(flow, records = now.records, "copied {percent}{copied}, {rate}/s");
        before = now;
    }
}
