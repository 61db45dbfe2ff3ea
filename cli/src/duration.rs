//! Durations as text: `250ms`, `30s`, `5m`, `1h 30m`.

use std::time::Duration;

/// Parses a duration of at most a year.
///
/// # Errors
/// A sentence with the expected form, or the limit.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    // humantime reads `M` as months; in a configuration it is a mistyped `m`, and 5 months of history would go unnoticed.
    let parsed = match text.contains('M') {
        true => None,
        false => humantime::parse_duration(text).ok(),
    };
    let duration =
        parsed.ok_or_else(|| format!("{text:?} is not a duration such as 250ms, 30s, 5m or 2h"))?;
    if duration > DURATION_MAX {
        return Err(format!("{text:?} is longer than a year, which is the most"));
    }
    Ok(duration)
}

/// A year: added to the current time it cannot overflow.
const DURATION_MAX: Duration = Duration::from_hours(365 * 24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        #[track_caller]
        fn check(text: &str, expect: Option<u64>) {
            let milliseconds = parse(text).ok().map(|parsed| parsed.as_millis());
            assert_eq!(milliseconds, expect.map(u128::from), "{text}");
        }
        check("250ms", Some(250));
        check("0s", Some(0));
        check("5m", Some(300_000));
        check("2h", Some(7_200_000));
        check("1h 30m", Some(5_400_000));
        check("1.5h", Some(5_400_000));
        check("7d", Some(604_800_000));
        for bad in ["", "5", "m", "-5m", "5M", "99999999999999999h", "9000h"] {
            check(bad, None);
        }
    }

    #[test]
    fn errors_name_the_form_and_the_limit() {
        let error = parse("5").unwrap_err();
        assert_eq!(
            error,
            r#""5" is not a duration such as 250ms, 30s, 5m or 2h"#
        );
        let error = parse("9000h").unwrap_err();
        assert_eq!(error, r#""9000h" is longer than a year, which is the most"#);
    }
}
