//! Shows what is going on: lines that change on a terminal, elsewhere a log line every two seconds.

use std::convert::Infallible;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressStyle};

use super::generator::{Counts, Written};
use super::traffic::{PAYMENTS, PROFILES, ROUNDS, TOPICS};
use super::{lag, offsets_of};
use crate::cli::output::bytes;
use crate::sandbox::Sandbox;
use crate::service::progress::Progress;

const REDRAW_INTERVAL: Duration = Duration::from_millis(100);
const LINE_INTERVAL: Duration = Duration::from_secs(2);

/// What is looked at.
pub(super) struct View<'a> {
    pub(super) source: &'a Sandbox,
    pub(super) target: &'a Sandbox,
    pub(super) counts: &'a Counts,
    pub(super) progress: &'a Progress,
}

/// A moment of the demo.
struct Seen {
    written: Written,
    /// Records of each topic on the target.
    arrived: [u64; TOPICS.len()],
    carried_bytes: u64,
    lag: u64,
}

impl View<'_> {
    /// Shows it for as long as the future is polled; `bars` are drawn in if stderr is a terminal.
    pub(super) async fn show(&self, bars: &MultiProgress) -> Infallible {
        if std::io::stderr().is_terminal() {
            self.draw(&Lines::new(bars)).await
        } else {
            self.log().await
        }
    }

    /// Draws the last state, for good.
    pub(super) fn finish(&self, bars: &MultiProgress) {
        if std::io::stderr().is_terminal() {
            bars.clear().ok(); // What was drawn before; a terminal that is gone needs nothing.
            let lines = Lines::new(bars);
            lines.update(&self.look(), None);
            lines.finish();
            eprintln!(); // The last line is left open.
        }
    }

    async fn draw(&self, lines: &Lines) -> Infallible {
        let mut rates = Rates::default();
        loop {
            let seen = self.look();
            let rate = rates.next(&seen);
            lines.update(&seen, rate);
            tokio::time::sleep(REDRAW_INTERVAL).await;
        }
    }

    async fn log(&self) -> Infallible {
        loop {
            tokio::time::sleep(LINE_INTERVAL).await;
            let Seen {
                written,
                arrived,
                carried_bytes,
                lag,
            } = self.look();
            tracing::info!(
                written = written.records.iter().sum::<u64>(),
                arrived = arrived.iter().sum::<u64>(),
                aborted = written.aborted_records,
                compacted_away = written.removed_records,
                bytes = carried_bytes,
                lag,
                "carrying"
            );
        }
    }

    fn look(&self) -> Seen {
        Seen {
            written: self.counts.read(),
            arrived: self
                .target
                .with_core(|core| TOPICS.each_ref().map(|topic| offsets_of(core, topic))),
            carried_bytes: self.progress.read().bytes,
            lag: lag(self.source, self.progress),
        }
    }
}

/// Records and bytes a second over the last second or so.
#[derive(Default)]
struct Rates(std::collections::VecDeque<(u64, u64)>);

impl Rates {
    fn next(&mut self, seen: &Seen) -> Option<(f64, f64)> {
        const MOMENTS: usize = 10;
        let now = (seen.arrived.iter().sum(), seen.carried_bytes);
        self.0.push_back(now);
        if self.0.len() <= MOMENTS {
            return None;
        }
        let before = self.0.pop_front()?;
        let seconds = REDRAW_INTERVAL.as_secs_f64() * MOMENTS as f64;
        Some((
            (now.0 - before.0) as f64 / seconds,
            now.1.saturating_sub(before.1) as f64 / seconds,
        ))
    }
}

/// One for the traffic, one for each topic, one for the flow.
struct Lines {
    traffic: ProgressBar,
    topics: [ProgressBar; TOPICS.len()],
    flow: ProgressBar,
}

impl Lines {
    fn new(bars: &MultiProgress) -> Self {
        let line = |name: &str, length: u64, template: &str| {
            let bar = bars.add(ProgressBar::new(length));
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_prefix(name.to_owned());
            bar
        };
        Self {
            traffic: line("traffic", u64::from(ROUNDS), "  {prefix:9} {bar:40} {percent:>3} %"),
            topics: TOPICS.each_ref().map(|topic| line(topic.name, 0, "  {prefix:9} {msg}")),
            flow: line("flow", 0, "  {prefix:9} {msg}"),
        }
    }

    fn update(&self, seen: &Seen, rate: Option<(f64, f64)>) {
        let Seen {
            written,
            arrived,
            carried_bytes,
            lag,
        } = seen;
        self.traffic.set_position(written.rounds.into());
        for (topic, line) in self.topics.iter().enumerate() {
            let left_out = match topic {
                PAYMENTS => format!("{} aborted", HumanCount(written.aborted_records)),
                PROFILES => format!("{} compacted away", HumanCount(written.removed_records)),
                _ => String::new(),
            };
            line.set_message(format!(
                "{:>6} written  {left_out:20}  {:>6} arrived  {}",
                HumanCount(written.records[topic]).to_string(),
                HumanCount(arrived[topic]).to_string(),
                TOPICS[topic].about
            ));
        }
        let rate = match rate {
            Some((records, carried)) => {
                format!("{} records/s, {}/s", HumanCount(records as u64), bytes(carried as u64))
            }
            None => format!("{} records", HumanCount(arrived.iter().sum())),
        };
        self.flow
            .set_message(format!("{rate}, {} carried, lag {lag}", bytes(*carried_bytes)));
    }

    fn finish(&self) {
        for line in self.topics.iter().chain([&self.traffic, &self.flow]) {
            line.abandon();
        }
    }
}
