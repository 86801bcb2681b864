//! Byte sizes and CPU counts.

use super::*;

/// Splits a decimal number (digits with at most one point) off the start of a text, if there is one.
pub(super) fn take_number(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let digits = number.bytes().filter(u8::is_ascii_digit).count();
    (digits > 0 && number.len() - digits <= 1).then_some((number, rest))
}

/// Multiplies a decimal number by a unit, rounded down. Returns `None` on overflow.
pub(super) fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let total = whole.checked_mul(unit)?;
    let fraction = &fraction[..fraction.len().min(15)];
    let Ok(digits) = fraction.parse::<u128>() else {
        return Some(total);
    };
    let part = u128::from(unit) * digits / 10u128.pow(u32::try_from(fraction.len()).ok()?);
    total.checked_add(u64::try_from(part).ok()?)
}

/// A number of bytes: `512k`, `256m`, `1g`, `1.5g`, or a plain integer. Units are powers of 1024, as in Docker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(u64);

impl ByteSize {
    /// Creates a size from a number of bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Returns the number of bytes; always fits the engine's `i64`.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

/// Unit letters with their power of 1024, largest first.
const SIZE_UNITS: [(char, u32); 5] = [('t', 4), ('g', 3), ('m', 2), ('k', 1), ('b', 0)];

fn size_factor(unit: &str) -> Option<u64> {
    let unit = unit.trim().to_ascii_lowercase();
    let mut letters = unit.chars();
    let Some(first) = letters.next() else { return Some(1) };
    let (_, power) = SIZE_UNITS.iter().find(|(letter, _)| *letter == first)?;
    let known = match letters.as_str() {
        "" => true,
        "b" | "ib" => first != 'b',
        _ => false,
    };
    known.then(|| 1024u64.pow(*power))
}

impl FromStr for ByteSize {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let hint = "write a number and `k`, `m` or `g`, for example `256m`";
        let invalid = |why: &str| Invalid::new(format!("invalid size {}: {why}", quoted(text)));
        let (number, unit) = take_number(text.trim()).ok_or_else(|| invalid("not a number with a unit").hint(hint))?;
        let factor = size_factor(unit).ok_or_else(|| invalid(&format!("unknown unit {}", quoted(unit))).hint(hint))?;
        scaled(number, factor)
            .filter(|bytes| i64::try_from(*bytes).is_ok())
            .map(Self)
            .ok_or_else(|| invalid("too large"))
    }
}

impl fmt::Display for ByteSize {
    /// Uses the largest unit that yields a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (letter, power) in SIZE_UNITS {
            let unit = 1024u64.pow(power);
            if self.0 >= unit && self.0.is_multiple_of(unit) {
                return write!(f, "{}{letter}", self.0 / unit);
            }
        }
        f.write_str("0b")
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

read_value!(ByteSize, shaped, "a size such as `256m`", {
    "title": "size",
    "description": "Bytes: a number with `b`, `k`, `m`, `g` or `t` (powers of 1024, as in Docker), or a plain integer.",
    "anyOf": [
        {"type": "string", "pattern": "^[0-9]+(\\.[0-9]*)? ?([bB]|[kmgtKMGT]([iI]?[bB])?)?$"},
        {"type": "integer", "minimum": 0}
    ],
    "examples": ["256m", "1g"]
});

/// A number of CPUs above 0, in steps of 1e-9: `0.5`, `2`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct CpuCount(f64);

impl CpuCount {
    /// Returns the number of CPUs.
    pub const fn get(self) -> f64 {
        self.0
    }

    /// Returns the number of CPUs in units of 1e-9, as used by the engine.
    pub fn nanos(self) -> i64 {
        // Parsing has checked that the result is between 1 and 1e15.
        (self.0 * 1e9).round() as i64
    }
}

impl FromStr for CpuCount {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = |why: &str| Invalid::new(format!("invalid number of CPUs {}: {why}", quoted(text)));
        let plain = text.trim().bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b));
        let count: f64 = text
            .trim()
            .parse()
            .ok()
            .filter(|_| plain)
            .ok_or_else(|| invalid("not a number").hint("write for example `0.5`"))?;
        match count {
            count if !(1e-9..).contains(&count) => Err(invalid("it must be more than 0")),
            count if count > 1e6 => Err(invalid("too many")),
            count => Ok(Self(count)),
        }
    }
}

impl fmt::Display for CpuCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Serialize for CpuCount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

read_value!(CpuCount, shaped, "a number of CPUs such as `0.5`", {
    "type": "number",
    "description": "Number of CPUs, more than 0.",
    "exclusiveMinimum": 0,
    "examples": [0.5, 2]
});

#[cfg(test)]
mod tests {
    use super::super::tests::canonical;
    use super::*;

    #[test]
    fn sizes() {
        canonical::<ByteSize>(&[
            ("0", "0b"),
            ("1024", "1k"),
            ("1000", "1000b"),
            ("64m", "64m"),
            ("64MB", "64m"),
            ("64MiB", "64m"),
            ("1.5g", "1536m"),
            ("1024k", "1m"),
            ("2t", "2t"),
            ("5 b", "5b"),
            ("", ""),
            ("m", ""),
            ("5x", ""),
            ("5bb", ""),
            ("-1m", ""),
            ("1e3", ""),
            ("99999999t", ""),
        ]);
    }

    #[test]
    fn cpu_counts() {
        canonical::<CpuCount>(&[
            ("0.5", "0.5"),
            ("2", "2"),
            ("2.0", "2"),
            ("1e-1", "0.1"),
            ("0", ""),
            ("-1", ""),
            ("inf", ""),
            ("NaN", ""),
            ("1e300", ""),
            ("", ""),
        ]);
        assert_eq!("0.5".parse::<CpuCount>().unwrap().nanos(), 500_000_000);
    }
}
