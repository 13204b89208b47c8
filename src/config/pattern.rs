//! Lists of patterns, as MirrorMaker 2 has them: regular expressions that match a whole name.

use std::str::FromStr;

use regex::RegexSet;
use thiserror::Error;

/// A name matches when one of the patterns matches all of it.
#[derive(Debug, Clone)]
pub struct Patterns(RegexSet);

#[derive(Debug, Clone, Error)]
pub enum PatternsError {
    #[error("no pattern")]
    Empty,
    #[error("not a regular expression that kferry knows (no look-around, no back references)")]
    Syntax(#[from] regex::Error),
}

impl Patterns {
    /// Matches nothing.
    pub fn none() -> Self {
        Self(RegexSet::empty())
    }

    pub fn matches(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}

impl FromStr for Patterns {
    type Err = PatternsError;

    /// Reads a list with commas between the patterns. A comma inside braces, as in `a{1,2}`, belongs to its pattern.
    fn from_str(list: &str) -> Result<Self, PatternsError> {
        let patterns: Vec<String> = split(list)
            .into_iter()
            .map(|pattern| format!("^(?:{pattern})$"))
            .collect();
        if patterns.is_empty() {
            return Err(PatternsError::Empty);
        }
        Ok(Self(RegexSet::new(patterns)?))
    }
}

fn split(list: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    list.split(|c| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
    .map(str::trim)
    .filter(|pattern| !pattern.is_empty())
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_the_whole_name() {
        let patterns: Patterns = "orders, pay.*".parse().expect("well-formed");
        for (name, matches) in [
            ("orders", true),
            ("orders2", false),
            ("my.orders", false),
            ("payments", true),
        ] {
            assert_eq!(patterns.matches(name), matches, "{name}");
        }
    }

    #[test]
    fn alternatives_are_anchored_as_one() {
        let patterns: Patterns = "a|b".parse().expect("well-formed");
        assert!(patterns.matches("b") && !patterns.matches("xb"));
    }

    #[test]
    fn a_comma_in_braces_belongs_to_its_pattern() {
        let patterns: Patterns = "a{1,2},b".parse().expect("well-formed");
        assert!(patterns.matches("aa") && patterns.matches("b") && !patterns.matches("aaa"));
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(matches!("(".parse::<Patterns>(), Err(PatternsError::Syntax(_))));
        assert!(matches!(" , ".parse::<Patterns>(), Err(PatternsError::Empty)));
    }
}
