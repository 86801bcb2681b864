//! Signals.

use super::*;

/// A signal: `SIGTERM`, `TERM` or its Linux number. Canonical form: `SIGTERM`, `SIGRTMIN+3`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(String);

/// Signal names on x86 and ARM Linux; index 0 is signal 1.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

/// Range of real-time signals available to programs.
const REAL_TIME: std::ops::RangeInclusive<usize> = 34..=64;

fn signal_by_number(number: usize) -> Option<String> {
    match number {
        34 => Some("SIGRTMIN".into()),
        64 => Some("SIGRTMAX".into()),
        _ if REAL_TIME.contains(&number) => Some(format!("SIGRTMIN+{}", number - REAL_TIME.start())),
        _ => number.checked_sub(1).and_then(|index| SIGNALS.get(index)).map(|name| format!("SIG{name}")),
    }
}

fn signal_by_name(name: &str) -> Option<String> {
    let (first, last) = (REAL_TIME.start(), REAL_TIME.end());
    let number = match name {
        "IOT" => 6,
        "POLL" => 29,
        "RTMIN" => *first,
        "RTMAX" => *last,
        _ => {
            if let Some(offset) = name.strip_prefix("RTMIN+") {
                first.checked_add(offset.parse().ok()?)?
            } else if let Some(offset) = name.strip_prefix("RTMAX-") {
                last.checked_sub(offset.parse().ok()?).filter(|number| REAL_TIME.contains(number))?
            } else {
                SIGNALS.iter().position(|signal| *signal == name)? + 1
            }
        }
    };
    signal_by_number(number)
}

impl FromStr for Signal {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let upper = text.trim().to_ascii_uppercase();
        let signal = match upper.parse::<usize>() {
            Ok(number) => signal_by_number(number),
            Err(_) => signal_by_name(upper.strip_prefix("SIG").unwrap_or(&upper)),
        };
        signal.map(Self).ok_or_else(|| {
            Invalid::new(format!("unknown signal {}", quoted(text)))
                .hint("write a name such as `SIGTERM` or a number such as 15")
        })
    }
}

text_value!(Signal, shaped, "a signal such as `SIGTERM`", {
    "description": "Signal name or number.",
    "anyOf": [
        {"type": "string", "pattern": "^([sS][iI][gG])?[a-zA-Z][a-zA-Z0-9+-]*$"},
        {"type": "integer", "minimum": 1, "maximum": 64}
    ],
    "examples": ["SIGTERM", "SIGINT"]
});

#[cfg(test)]
mod tests {
    use super::super::tests::canonical;
    use super::*;

    #[test]
    fn signals_capabilities_and_variable_names() {
        canonical::<Signal>(&[
            ("SIGTERM", "SIGTERM"),
            ("term", "SIGTERM"),
            ("15", "SIGTERM"),
            ("9", "SIGKILL"),
            ("SIGRTMIN+3", "SIGRTMIN+3"),
            ("37", "SIGRTMIN+3"),
            ("RTMAX-30", "SIGRTMIN"),
            ("RTMAX-0", "SIGRTMAX"),
            ("64", "SIGRTMAX"),
            ("0", ""),
            ("32", ""),
            ("65", ""),
            ("RTMAX-99", ""),
            ("RTMIN+18446744073709551615", ""),
            ("SIGFOO", ""),
            ("SIG", ""),
            ("", ""),
        ]);
        canonical::<Capability>(&[
            ("net_admin", "NET_ADMIN"),
            ("CAP_SYS_PTRACE", "SYS_PTRACE"),
            ("all", "ALL"),
            ("", ""),
            ("A1", ""),
        ]);
        canonical::<OutputKey>(&[("user_id", "user_id"), ("_A1", "_A1"), ("", ""), ("1a", ""), ("a-b", ""), ("é", "")]);
        canonical::<EnvName>(&[("A", "A"), ("a.b-c", "a.b-c"), ("", ""), ("A=B", ""), ("A B", ""), ("A\0", "")]);
    }
}
