//! Durations.

use super::*;

/// A duration with units: `100ms`, `10s`, `1m30s`, `2h`, `0s`. At most 292 years, the engine's maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Period(Duration);

impl Period {
    pub const fn new(duration: Duration) -> Self {
        Self(duration)
    }

    pub const fn get(self) -> Duration {
        self.0
    }
}

impl From<Period> for Duration {
    fn from(period: Period) -> Self {
        period.0
    }
}

/// Units in nanoseconds, longest first.
const TIME_UNITS: [(&str, u64); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

impl FromStr for Period {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = |why: &str| Invalid::new(format!("invalid duration {}: {why}", quoted(text)));
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(Invalid::new("a duration must not be empty").hint("write for example `10s`"));
        }
        let mut nanoseconds: u64 = 0;
        while !rest.is_empty() {
            let (number, after) = take_number(rest).ok_or_else(|| {
                invalid("not a number with a unit").hint("write for example `100ms`, `10s` or `1m30s`")
            })?;
            let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
            let (unit, after) = after.split_at(end);
            let unit = unit.trim();
            if unit.is_empty() {
                return Err(invalid("missing unit").hint(format!("did you mean `{}s`?", text.trim())));
            }
            let (_, factor) = TIME_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(|| {
                invalid(&format!("unknown unit {}", quoted(unit))).hint("units are `h`, `m`, `s`, `ms`, `us` and `ns`")
            })?;
            nanoseconds = scaled(number, *factor)
                .and_then(|part| nanoseconds.checked_add(part))
                .filter(|sum| i64::try_from(*sum).is_ok())
                .ok_or_else(|| invalid("too long"))?;
            rest = after;
        }
        Ok(Self(Duration::from_nanos(nanoseconds)))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_nanos();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (name, factor) in TIME_UNITS {
            let count = rest / u128::from(factor);
            rest %= u128::from(factor);
            if count > 0 {
                write!(f, "{count}{name}")?;
            }
        }
        Ok(())
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

read_value!(Period, shaped, "a duration such as `10s`", {
    "type": "string",
    "title": "duration",
    "description": "One or more numbers with units: `100ms`, `10s`, `1m30s`, `2h`. Units: h, m, s, ms, us, ns.",
    "pattern": "^([0-9]+(\\.[0-9]*)?(h|m|s|ms|us|ns))+$",
    "examples": ["100ms", "10s", "1m30s"]
});

#[cfg(test)]
mod tests {
    use super::super::tests::canonical;
    use super::*;

    #[test]
    fn periods() {
        canonical::<Period>(&[
            ("0s", "0s"),
            ("0ms", "0s"),
            ("100ms", "100ms"),
            ("1m30s", "1m30s"),
            ("90s", "1m30s"),
            ("1.5s", "1s500ms"),
            ("0.5h", "30m"),
            ("120m", "2h"),
            ("1us1ns", "1us1ns"),
            ("0.1234567891234567s", "123ms456us789ns"),
            ("", ""),
            ("10", ""),
            ("s", ""),
            ("-1s", ""),
            ("1x", ""),
            ("1..5s", ""),
            ("1d", ""),
            ("99999999999999999999s", ""),
            ("9999999h", ""),
        ]);
    }
}
