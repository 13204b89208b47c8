//! How results are printed: text for people, one JSON document for programs. Logs and progress go to stderr.

use clap::ValueEnum;
use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    Text,
    Json,
}

/// Prints one JSON document on stdout.
pub(super) fn print_json(document: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(document)?);
    Ok(())
}

/// A number with its unit of a thousand: `1.36 GB`.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let (mut value, mut unit) = (count as f64, 0);
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{count} B")
    } else {
        format!("{value:.2} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn bytes_have_the_unit_that_fits() {
        assert_eq!(super::bytes(999), "999 B");
        assert_eq!(super::bytes(1_360_000_000), "1.36 GB");
    }
}
