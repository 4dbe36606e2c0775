//! Numbers, booleans and durations in the notation that etcd's flags accept.
//!
//! Each parser answers what etcd prints after `invalid value … for flag -x: `, so that scripts matching those
//! words keep working.

use std::time::Duration;

const SYNTAX: &str = "parse error";
const RANGE: &str = "value out of range";

/// Text in double quotes, with the escapes of a Go string literal where they matter.
#[must_use]
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if (c as u32) < 0x20 || c == '\x7f' => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// `1`, `t`, `true`, `0`, `f`, `false` and their capital forms.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(SYNTAX.to_owned()),
    }
}

/// An unsigned number: decimal, `0x`, `0o` or `0`, `0b`, with `_` between digits.
pub(crate) fn unsigned(text: &str) -> Result<u64, String> {
    let (digits, radix) = radix_of(text).ok_or(SYNTAX)?;
    match u64::from_str_radix(&digits, radix) {
        Ok(value) => Ok(value),
        Err(error) if *error.kind() == std::num::IntErrorKind::PosOverflow => Err(RANGE.to_owned()),
        Err(_) => Err(SYNTAX.to_owned()),
    }
}

/// A signed number in the same notation.
pub(crate) fn signed(text: &str) -> Result<i64, String> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let magnitude = i128::from(unsigned(digits)?);
    i64::try_from(if negative { -magnitude } else { magnitude }).map_err(|_| RANGE.to_owned())
}

/// Digits without prefix and underscores, and their radix; `None` when the notation is wrong.
fn radix_of(text: &str) -> Option<(String, u32)> {
    let lower = text.to_ascii_lowercase();
    let (digits, radix, prefixed) = match lower.as_bytes() {
        [b'0', b'x', ..] => (&lower[2..], 16, true),
        [b'0', b'o', ..] => (&lower[2..], 8, true),
        [b'0', b'b', ..] => (&lower[2..], 2, true),
        [b'0', _, ..] => (&lower[1..], 8, true),
        _ => (lower.as_str(), 10, false),
    };
    let digits = if prefixed { digits.strip_prefix('_').unwrap_or(digits) } else { digits };
    let well_separated = !digits.starts_with('_') && !digits.ends_with('_') && !digits.contains("__");
    let plain: String = digits.chars().filter(|c| *c != '_').collect();
    // Underscores are allowed only where a prefix says which radix is meant: Go's base-0 rule.
    let separators_allowed = prefixed || digits.len() == plain.len() || radix == 10;
    (well_separated && separators_allowed && !plain.is_empty() && plain.chars().all(|c| c.is_digit(radix)))
        .then_some((plain, radix))
}

/// A duration such as `300ms`, `1.5h` or `2h45m`, in nanoseconds. `0` needs no unit.
pub(crate) fn duration(text: &str) -> Result<i64, String> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    let mut total = 0i128;
    loop {
        let (nanoseconds, after) = duration_term(rest).ok_or(SYNTAX)?;
        total = nanoseconds.saturating_add(total);
        if total > i128::from(i64::MAX) {
            return Err(SYNTAX.to_owned());
        }
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| SYNTAX.to_owned())
}

/// One `number unit` pair at the start of `text`: its nanoseconds and what follows.
fn duration_term(text: &str) -> Option<(i128, &str)> {
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(number_end);
    let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_end);
    let scale: i128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut nanoseconds = whole.checked_mul(scale)?;
    let mut place = scale;
    for digit in fraction.chars() {
        place /= 10;
        nanoseconds = nanoseconds.saturating_add(place * i128::from(digit.to_digit(10)?));
    }
    Some((nanoseconds, rest))
}

/// The same duration the way etcd prints one: `1m30s`, `300ms`, `0s`.
pub(crate) fn duration_text(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let total = nanoseconds.unsigned_abs();
    if total == 0 {
        return "0s".to_owned();
    }
    let small = |scale: u64, unit: &str| format!("{sign}{}{unit}", decimal(total, scale));
    match total {
        0..1_000 => small(1, "ns"),
        1_000..1_000_000 => small(1_000, "µs"),
        1_000_000..1_000_000_000 => small(1_000_000, "ms"),
        _ => {
            let minutes = total / 60_000_000_000;
            let seconds = format!("{}s", decimal(total % 60_000_000_000, 1_000_000_000));
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}"),
                (0, minutes) => format!("{sign}{minutes}m{seconds}"),
                (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

fn decimal(value: u64, scale: u64) -> String {
    let (whole, rest) = (value / scale, value % scale);
    if rest == 0 {
        return whole.to_string();
    }
    let width = scale.ilog10() as usize;
    let fraction = format!("{rest:0width$}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

/// Bytes the way etcd prints them for people: in powers of a thousand, with one decimal below ten.
pub(crate) fn size_text(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let mut scale = 1u64;
    let mut unit = 0;
    while bytes / scale >= 1000 {
        scale *= 1000;
        unit += 1;
    }
    let value = (bytes as f64 / scale as f64 * 10.0 + 0.5).floor() / 10.0;
    let decimals = usize::from(value < 10.0);
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// Nanoseconds as a duration; negative ones count as zero, which etcd's timers do as well.
pub(crate) fn to_duration(nanoseconds: i64) -> Duration {
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (text, value) in
            [("0", 0), ("128", 128), ("0x10", 16), ("0b11", 3), ("010", 8), ("1_000", 1000), ("0o17", 15)]
        {
            assert_eq!(unsigned(text), Ok(value), "{text}");
        }
        for text in ["", "-1", "+1", "1k", "_1", "1__0", "0x", "09"] {
            assert_eq!(unsigned(text), Err(SYNTAX.to_owned()), "{text}");
        }
        assert_eq!(unsigned("18446744073709551616"), Err(RANGE.to_owned()));
        assert_eq!(signed("-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(signed("9223372036854775808"), Err(RANGE.to_owned()));
    }

    #[test]
    fn durations() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("300ms", 300_000_000),
            ("1.5h", 5_400_000_000_000),
            ("2h45m", 9_900_000_000_000),
            ("-1s", -1_000_000_000),
            (".5s", 500_000_000),
            ("1us", 1000),
        ] {
            assert_eq!(duration(text), Ok(nanoseconds), "{text}");
        }
        let huge = format!("{}h", "9".repeat(34));
        assert_eq!(duration(&huge), Err(SYNTAX.to_owned()));
        assert_eq!(duration(&format!("1h{}ns", i128::MAX)), Err(SYNTAX.to_owned()));
        for text in ["", "5", "s", "1x", "1s5", ".s", "--1s", "9999999999h"] {
            assert_eq!(duration(text), Err(SYNTAX.to_owned()), "{text}");
        }
        for text in ["0s", "1ns", "1.5µs", "300ms", "20s", "1m0s", "2h0m0s", "1h1m1.5s", "-5s"] {
            assert_eq!(duration_text(duration(text).unwrap()), text);
        }
    }

    #[test]
    fn booleans() {
        assert_eq!(boolean("T"), Ok(true));
        assert_eq!(boolean("0"), Ok(false));
        assert_eq!(boolean("yes"), Err(SYNTAX.to_owned()));
    }

    #[test]
    fn sizes_for_people() {
        for (bytes, text) in [
            (9, "9 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (20_480, "20 kB"),
            (82_854_982, "83 MB"),
            (9_960, "10 kB"),
        ] {
            assert_eq!(size_text(bytes), text);
        }
    }
}
