//! Sizes as text: `32KiB`, `1MiB`, `4096`.

/// Parses a number of bytes, from 1 to 1 GiB.
///
/// # Errors
/// A sentence with the expected form, or the limits.
pub(crate) fn parse(text: &str) -> Result<u32, String> {
    let malformed = || format!("{text:?} is not a size such as 4096, 32KiB or 1MiB");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u32 = number.parse().map_err(|_| malformed())?;
    let bytes = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return Err(malformed()),
    };
    match number.checked_mul(bytes) {
        Some(bytes @ 1..=BYTES_MAX) => Ok(bytes),
        _ => Err(format!("{text:?} is not a size from 1 byte to 1 GiB")),
    }
}

/// 1 GiB: more than any limit of a peer needs.
const BYTES_MAX: u32 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        #[track_caller]
        fn check(text: &str, expect: Option<u32>) {
            assert_eq!(parse(text).ok(), expect, "{text}");
        }
        check("4096", Some(4_096));
        check("1B", Some(1));
        check("32KiB", Some(32_768));
        check("1MiB", Some(1 << 20));
        check("1024MiB", Some(1 << 30));
        for bad in [
            "",
            "0",
            "KiB",
            "32kB",
            "32 KiB",
            "-1",
            "1.5MiB",
            "1025MiB",
            "4194304KiB",
            "1GiB",
        ] {
            check(bad, None);
        }
    }
}
