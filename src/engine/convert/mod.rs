//! Converts between our types and the Docker API. Pure: sends nothing and decides nothing.
//!
//! Tolerates missing values: the engine lists containers that are being removed with few fields.

mod capabilities;
mod create;
mod devices;
mod events;
mod files;
mod mounts;
mod observe;
pub mod podman;

pub use self::capabilities::*;
pub use self::create::*;
pub use self::events::*;
pub use self::files::archive;
pub use self::observe::*;

/// Parses an RFC 3339 time with any offset, e.g. `2026-11-27T12:24:53.5+02:00`.
pub fn timestamp(text: &str) -> Option<jiff::Timestamp> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_parsed() {
        let table = [
            ("1970-01-01T00:00:00Z", Some((0, 0))),
            ("2024-02-29T12:34:56.5Z", Some((1_709_210_096, 500_000_000))),
            ("2024-03-01T00:00:00.123456789+02:00", Some((1_709_244_000, 123_456_789))),
            ("1999-12-31T23:59:59-00:30", Some((946_686_599, 0))),
            ("0001-01-01T00:00:00Z", Some((-62_135_596_800, 0))),
            ("yesterday", None),
            ("2024-03-01T00:00:00", None),
            ("2024-03-01T0:0:0Z", None),
        ];
        for (text, expected) in table {
            let parsed = timestamp(text).map(|at| at.duration_since(jiff::Timestamp::UNIX_EPOCH));
            let parsed = parsed.map(|since| (since.as_secs(), since.subsec_nanos()));
            assert_eq!(parsed, expected, "{text}");
        }
    }
}
