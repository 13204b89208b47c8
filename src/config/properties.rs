//! Java properties, the grammar of every Kafka configuration file.
//!
//! As `java.util.Properties` reads them, but for the encoding, which is UTF-8: comments with `#` and `!`, keys that end
//! at `=`, `:` or white space, lines continued by a backslash, and the escapes `\t \n \r \f \uXXXX`.

use thiserror::Error;

/// One `key = value`, with the line that it began on (from 1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    pub line: usize,
    pub key: String,
    pub value: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: \\u must be followed by four hexadecimal digits")]
pub struct PropertiesError {
    pub line: usize,
}

/// Reads a file's text. Keys keep their order, and a key that comes twice is there twice.
pub fn parse(text: &str) -> Result<Vec<Property>, PropertiesError> {
    logical_lines(text)
        .into_iter()
        .map(|(line, content)| property(line, &content))
        .collect()
}

/// Lines with their continuations joined; comments and blank lines are left out.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut logical: Vec<(usize, String)> = Vec::new();
    let mut continued = false;
    for (index, raw) in text.lines().enumerate() {
        let line = raw.trim_start_matches([' ', '\t', '\x0c']);
        if !continued && (line.is_empty() || line.starts_with(['#', '!'])) {
            continue;
        }
        let backslashes = line.bytes().rev().take_while(|byte| *byte == b'\\').count();
        let goes_on = backslashes % 2 == 1;
        let content = if goes_on { &line[..line.len() - 1] } else { line };
        match logical.last_mut().filter(|_| continued) {
            Some((_, whole)) => whole.push_str(content),
            None => logical.push((index + 1, content.to_owned())),
        }
        continued = goes_on;
    }
    logical
}

fn property(line: usize, content: &str) -> Result<Property, PropertiesError> {
    let mut escaped = false;
    let ends_key = |c: char| {
        let ends = !escaped && matches!(c, '=' | ':' | ' ' | '\t' | '\x0c');
        escaped = !escaped && c == '\\';
        ends
    };
    let (key, rest) = content.split_at(content.find(ends_key).unwrap_or(content.len()));
    let rest = rest.trim_start_matches([' ', '\t', '\x0c']);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    let value = rest.trim_start_matches([' ', '\t', '\x0c']);
    Ok(Property {
        line,
        key: unescape(line, key)?,
        value: unescape(line, value)?,
    })
}

fn unescape(line: usize, text: &str) -> Result<String, PropertiesError> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match chars.next() {
            Some('t') => plain.push('\t'),
            Some('n') => plain.push('\n'),
            Some('r') => plain.push('\r'),
            Some('f') => plain.push('\x0c'),
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 4);
                plain.push(code.and_then(char::from_u32).ok_or(PropertiesError { line })?);
            }
            Some(other) => plain.push(other),
            None => {}
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text)
            .expect("well-formed")
            .into_iter()
            .map(|p| (p.key, p.value))
            .collect()
    }

    fn pair(key: &str, value: &str) -> Vec<(String, String)> {
        vec![(key.to_owned(), value.to_owned())]
    }

    #[test]
    fn every_separator_ends_a_key() {
        for text in ["a.b=c", "a.b = c", "a.b:c", "a.b c", "  a.b\t=\tc"] {
            assert_eq!(pairs(text), pair("a.b", "c"), "{text:?}");
        }
        assert_eq!(pairs("A->B.enabled = true"), pair("A->B.enabled", "true"));
        assert_eq!(pairs("k = a = b"), pair("k", "a = b"));
        assert_eq!(pairs("alone"), pair("alone", ""));
    }

    #[test]
    fn comments_and_blank_lines_are_nothing() {
        assert_eq!(
            pairs("# c\n! c\n\n   # c\nk=v # no comment"),
            pair("k", "v # no comment")
        );
    }

    #[test]
    fn a_backslash_goes_on_in_the_next_line() {
        assert_eq!(pairs("k = a,\\\n    b"), pair("k", "a,b"));
        assert_eq!(pairs("k = a\\\\\nx = y").len(), 2, "an escaped backslash does not");
    }

    #[test]
    fn escapes_are_undone() {
        assert_eq!(pairs(r"a\=b = \u00e9\t\\"), pair("a=b", "é\t\\"));
        assert_eq!(parse("x\nk = \\u12"), Err(PropertiesError { line: 2 }));
    }

    #[test]
    fn a_value_keeps_its_end() {
        assert_eq!(pairs("k = v  "), pair("k", "v  "));
    }
}
