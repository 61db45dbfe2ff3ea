//! Durations as people write them: `250ms`, `30s`, `5m`, `2h`.

use std::time::Duration;

/// Reads a duration.
///
/// # Errors
/// A sentence that says how one looks.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let not_one = || format!("{text:?} is not a duration such as 250ms, 30s, 5m or 2h");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| not_one())?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(not_one()),
    };
    let milliseconds = number.checked_mul(milliseconds).ok_or_else(not_one)?;
    if milliseconds > LONGEST_MS {
        return Err(format!("{text:?} is longer than a year"));
    }
    Ok(Duration::from_millis(milliseconds))
}

/// A year: further away than anything that is configured here.
const LONGEST_MS: u64 = 365 * 24 * 3_600_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_its_unit() {
        #[track_caller]
        fn check(text: &str, expect: Option<u64>) {
            let milliseconds = parse(text).ok().map(|parsed| parsed.as_millis());
            assert_eq!(milliseconds, expect.map(u128::from), "{text}");
        }
        check("250ms", Some(250));
        check("0s", Some(0));
        check("5m", Some(300_000));
        check("2h", Some(7_200_000));
        for bad in [
            "",
            "5",
            "m",
            "5 m",
            "-5m",
            "5.5m",
            "5d",
            "99999999999999999h",
            "9000h",
        ] {
            check(bad, None);
        }
    }
}
