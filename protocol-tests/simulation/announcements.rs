//! What the replicator says: its log, as an operator reads it. Whatever it announces is held against what happens.

use std::cell::{Cell, RefCell};
use std::fmt::{self, Write};
use std::sync::{LazyLock, Once};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// One line of the log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Line {
    pub(crate) text: String,
    pub(crate) topic: String,
    pub(crate) partition: i32,
}

impl Line {
    /// The source offsets, from and to (exclusive), that the line is about.
    pub(crate) fn range(&self) -> Option<(i64, i64)> {
        let rest = self.text.split_once("offsets ")?.1;
        let mut words = rest.split(' ');
        let from = words.next()?.parse().ok()?;
        let to = words.nth(1)?.parse().ok()?;
        Some((from, to))
    }

    /// The source offsets, from and to (exclusive), that it says the source has lost.
    pub(crate) fn lost(&self) -> (i64, i64) {
        if let Some(range) = self.range() {
            return range;
        }
        let from = self
            .text
            .split_once("from offset ")
            .and_then(|(_, rest)| rest.split(' ').next());
        (from.and_then(|word| word.parse().ok()).expect("an offset"), i64::MAX)
    }
}

thread_local! {
    static LINES: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    static NOW: Cell<i64> = const { Cell::new(0) };
}

/// Environment variable: with any value, everything is printed as it happens.
pub(crate) const LOG: &str = "KFERRY_SIMULATION_LOG";

/// From now on this thread hears what is said on it.
pub(crate) fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Whoever else listens in this process hears the same.
        let _ = tracing::subscriber::set_global_default(Listener {
            is_verbose: is_verbose(),
        });
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANIC.set(Some(info.to_string()));
            before(info);
        }));
    });
    LINES.with_borrow_mut(Vec::clear);
    PANIC.set(None);
}

/// What was announced since the last call.
pub(crate) fn take_lines() -> Vec<Line> {
    LINES.with_borrow_mut(std::mem::take)
}

/// What has panicked on this thread.
pub(crate) fn take_panic() -> Option<String> {
    PANIC.take()
}

pub(crate) fn set_now(now: i64) {
    NOW.set(now);
}

/// Tells what the simulation does, where somebody wants to read it.
pub(crate) fn tell(what: impl FnOnce() -> String) {
    if is_verbose() {
        eprintln!("{:>8} === {}", NOW.get(), what());
    }
}

fn is_verbose() -> bool {
    static IS_VERBOSE: LazyLock<bool> = LazyLock::new(|| std::env::var_os(LOG).is_some());
    *IS_VERBOSE
}

struct Listener {
    is_verbose: bool,
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let wanted = if self.is_verbose { Level::DEBUG } else { Level::WARN };
        *metadata.level() <= wanted && metadata.target().starts_with("kferry")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Words::default();
        event.record(&mut line);
        if self.is_verbose {
            let Words { line, others } = &line;
            let Line { topic, partition, text } = line;
            eprintln!(
                "{:>8} {:5} {text}{others} {topic}-{partition}",
                NOW.get(),
                event.metadata().level()
            );
        }
        if *event.metadata().level() <= Level::WARN {
            LINES.with_borrow_mut(|lines| lines.push(line.line));
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Words {
    line: Line,
    others: String,
}

impl Visit for Words {
    fn record_i64(&mut self, field: &Field, value: i64) {
        match field.name() {
            "partition" => self.line.partition = value as i32,
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.line.text = format!("{value:?}"),
            "topic" => self.line.topic = format!("{value:?}"),
            name => {
                let _ = write!(self.others, " {name}={value:?}"); // Strings take everything.
            }
        }
    }
}
