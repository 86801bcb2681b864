//! Values of plain scalars, as compose reads and prints them.
//!
//! Compose's YAML reader takes the numbers of YAML 1.1, except those with colons: `022` is 18, `1_000` is 1000,
//! `0x1F` is 31. It has no booleans besides `true` and `false`, and takes an unquoted date as a date, which no field
//! accepts.

use super::super::node::{Node, Style, Value};

/// Value of a node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind<'a> {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    /// An unquoted date or time.
    Date,
    Text(&'a str),
    List,
    Map,
}

/// Returns the value of a node.
pub(super) fn kind(node: &Node) -> Kind<'_> {
    match &node.value {
        Value::Scalar(scalar) if scalar.style == Style::Plain => plain(&scalar.text),
        Value::Scalar(scalar) => Kind::Text(&scalar.text),
        Value::Seq(_) => Kind::List,
        Value::Map(_) => Kind::Map,
        Value::Function(_) | Value::Pruned | Value::Placeholder => Kind::Null,
    }
}

/// Returns the text of a node that is text.
pub(super) fn text(node: &Node) -> Option<&str> {
    match kind(node) {
        Kind::Text(text) => Some(text),
        _ => None,
    }
}

/// Returns the text that compose makes of a scalar where it needs text; `None` for null, lists and maps.
pub(super) fn printed(node: &Node) -> Option<String> {
    match kind(node) {
        Kind::Bool(value) => Some(value.to_string()),
        Kind::Int(value) => Some(value.to_string()),
        Kind::Float(value) => Some(print_float(value)),
        Kind::Date => node.text().map(str::to_owned),
        Kind::Text(text) => Some(text.to_owned()),
        Kind::Null | Kind::List | Kind::Map => None,
    }
}

/// Returns a boolean, also of the words that YAML 1.1 knew; the second value is true for those.
pub(super) fn boolean(text: &str) -> Option<(bool, bool)> {
    match text.to_lowercase().as_str() {
        "true" => Some((true, false)),
        "false" => Some((false, false)),
        "y" | "yes" | "on" => Some((true, true)),
        "n" | "no" | "off" => Some((false, true)),
        _ => None,
    }
}

/// Resolves a plain scalar.
pub(super) fn plain(text: &str) -> Kind<'_> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Kind::Null,
        "true" | "True" | "TRUE" => return Kind::Bool(true),
        "false" | "False" | "FALSE" => return Kind::Bool(false),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Kind::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Kind::Float(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Kind::Float(f64::NAN),
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return Kind::Text(text);
    }
    if is_date(text) {
        return Kind::Date;
    }
    let digits = text.replace('_', "");
    match integer(&digits) {
        Some(value) => Kind::Int(value),
        None => float(&digits).map_or(Kind::Text(text), Kind::Float),
    }
}

/// Parses an integer with an optional prefix for its base; a leading `0` alone means octal.
fn integer(text: &str) -> Option<i128> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let value = sign * i128::from_str_radix(digits, radix).ok()?;
    (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&value).then_some(value)
}

/// Parses digits with an optional point and exponent.
fn float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let has_digits = !whole.is_empty() || !fraction.is_empty();
    let exponent_is_valid = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !exponent.is_empty() && digits(exponent)
    });
    (has_digits && digits(whole) && digits(fraction) && exponent_is_valid)
        .then(|| text.parse().ok().filter(|value: &f64| value.is_finite()))
        .flatten()
}

/// Returns true for `2024-01-31`, with or without a time.
fn is_date(text: &str) -> bool {
    let number = |text: &str, lengths: std::ops::RangeInclusive<usize>| {
        lengths.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
    };
    let end = text.find(['T', 't', ' ']).unwrap_or(text.len());
    let (date, time) = text.split_at(end);
    let parts: Vec<&str> = date.split('-').collect();
    let [year, month, day] = parts.as_slice() else { return false };
    let is_day = |day: &str| number(day, 1..=2) && matches!(day.parse(), Ok(1..=31));
    let is_month = |month: &str| number(month, 1..=2) && matches!(month.parse(), Ok(1..=12));
    if !(number(year, 4..=4) && is_month(month) && is_day(day)) {
        return false;
    }
    let Some(time) = time.get(1..) else { return true };
    // A zone follows after `T` only.
    let zone = time.find(['Z', '+', '-']).filter(|_| !text[end..].starts_with(' ')).unwrap_or(time.len());
    if text[end..].starts_with(['T', 't']) && zone == time.len() {
        return false;
    }
    let clock: Vec<&str> = time[..zone].trim().split(':').collect();
    clock.len() == 3
        && number(clock[0], 1..=2)
        && number(clock[1], 1..=2)
        && clock[2].bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// Prints a number with the fewest digits that identify it; with an exponent if it is small or from a million up.
pub(super) fn print_float(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if value.is_nan() {
        return "NaN".to_owned();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    match exponent {
        -4..=5 => value.to_string(),
        _ => with_exponent(mantissa, exponent),
    }
}

fn with_exponent(mantissa: &str, exponent: i32) -> String {
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prints(text: &str) -> String {
        printed(&Node::scalar(0..0, text, Style::Plain)).unwrap_or_else(|| "null".to_owned())
    }

    /// As docker compose 2.40.3 printed them.
    #[test]
    fn fact_5_plain_values_are_numbers_of_yaml_1_1() {
        for (text, expected) in [
            ("022", "18"),
            ("1.10", "1.1"),
            ("1_000", "1000"),
            ("0x1F", "31"),
            ("yes", "yes"),
            ("no", "no"),
            ("on", "on"),
            ("1e3", "1000"),
            ("1e6", "1e+06"),
            ("1e21", "1e+21"),
            ("0o17", "15"),
            ("0b11", "3"),
            (".5", "0.5"),
            ("-0.0", "-0"),
            ("1.", "1"),
            ("09", "9"),
            ("+5", "5"),
            ("1_0.5", "10.5"),
            ("True", "true"),
            (".inf", "+Inf"),
            ("1e-7", "1e-07"),
            ("12345678901234567890", "12345678901234567890"),
            ("123456789012345678901234567890", "1.2345678901234568e+29"),
            ("0x1FFFFFFFFFFFFFFFFF", "0x1FFFFFFFFFFFFFFFFF"),
            ("~", "null"),
            ("1:30", "1:30"),
            ("190:20:30", "190:20:30"),
            ("123456789.0", "1.23456789e+08"),
            ("0777_7", "4095"),
            ("_1", "_1"),
            ("1_", "1"),
            ("0x_1", "1"),
            ("-0x1F", "-31"),
            ("0o8", "0o8"),
            ("3.0", "3"),
            (".5_5", "0.55"),
        ] {
            assert_eq!(prints(text), expected, "{text}");
        }
        for date in ["2024-01-31", "2024-1-1", "2024-01-31T10:00:00Z", "2024-01-31 10:00:00"] {
            assert_eq!(plain(date), Kind::Date, "{date}");
        }
        for no_date in ["2024-13-01", "2024-01", "24-01-01", "2024-01-31x", "1.2.3.4"] {
            assert_eq!(plain(no_date), Kind::Text(no_date));
        }
    }
}
