//! Sizes as people write them: `100MB`, `256MiB`, `65536`.

use thiserror::Error;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("\"{0}\" is not a size: write a whole number with B, kB, MB, GB, KiB, MiB or GiB")]
pub struct SizeError(String);

/// Reads a number of bytes.
pub fn parse(text: &str) -> Result<u64, SizeError> {
    let refused = || SizeError(text.to_owned());
    let trimmed = text.trim();
    let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = trimmed.split_at(digits);
    let number: u64 = number.parse().map_err(|_| refused())?;
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return Err(refused()),
    };
    number.checked_mul(factor).ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_ten_and_of_two() {
        assert_eq!(parse("100MB"), Ok(100_000_000));
        assert_eq!(parse("256MiB"), Ok(268_435_456));
        assert_eq!(parse("1 GiB"), Ok(1 << 30));
        assert_eq!(parse("65536"), Ok(65_536));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "MB", "-1", "1.5GB", "12parsecs", "99999999999GiB"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
