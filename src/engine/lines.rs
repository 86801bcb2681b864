//! Lines of output, joined from the chunks in which they arrive.

use jiff::Timestamp;

use super::LogLine;

/// Output without a newline is split at this size, in bytes.
const LONGEST: usize = 1024 * 1024;

/// Truncates a line at a character boundary if it has more than `maximum` bytes, and marks it with `…`.
pub fn truncate(line: &mut String, maximum: usize) {
    if line.len() > maximum {
        let end = (0..=maximum).rev().find(|end| line.is_char_boundary(*end)).unwrap_or(0);
        line.truncate(end);
        line.push('…');
    }
}

/// Splits a line of [`super::LogOptions::timestamps`] into its time and its text.
pub fn split_timestamp(line: &str) -> (Option<Timestamp>, &str) {
    let parsed = line.split_once(' ').and_then(|(time, text)| Some((time.parse::<Timestamp>().ok()?, text)));
    parsed.map_or((None, line), |(time, text)| (Some(time), text))
}

/// Joins chunks of output to lines, separately for stdout and stderr.
#[derive(Debug, Default)]
pub struct Lines {
    out: Vec<u8>,
    err: Vec<u8>,
}

impl Lines {
    /// The lines completed by this chunk.
    pub fn take(&mut self, stderr: bool, piece: &[u8]) -> Vec<LogLine> {
        let unfinished = if stderr { &mut self.err } else { &mut self.out };
        let mut lines = Vec::new();
        let mut rest = piece;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            unfinished.extend_from_slice(&rest[..end]);
            lines.push(line(stderr, unfinished));
            unfinished.clear();
            rest = &rest[end + 1..];
        }
        unfinished.extend_from_slice(rest);
        if unfinished.len() > LONGEST {
            lines.push(line(stderr, unfinished));
            unfinished.clear();
        }
        lines
    }

    /// As [`Lines::take`], for a chunk with a timestamp. The engine splits long lines at 16 KiB and prefixes each part
    /// with a timestamp; only the first one is kept.
    pub fn take_stamped(&mut self, stderr: bool, piece: &[u8]) -> Vec<LogLine> {
        let is_continued = !if stderr { &self.err } else { &self.out }.is_empty();
        let stamp = piece.iter().position(|byte| *byte == b' ').map(|end| piece.split_at(end + 1));
        let is_stamp =
            |stamp: &[u8]| str::from_utf8(stamp).is_ok_and(|stamp| stamp.trim_end().parse::<Timestamp>().is_ok());
        match stamp {
            Some((stamp, rest)) if is_continued && is_stamp(stamp) => self.take(stderr, rest),
            _ => self.take(stderr, piece),
        }
    }

    /// The remaining output without a newline.
    pub fn rest(self) -> Vec<LogLine> {
        let rest = [(false, self.out), (true, self.err)].into_iter().filter(|(_, bytes)| !bytes.is_empty());
        rest.map(|(stderr, bytes)| line(stderr, &bytes)).collect()
    }
}

fn line(stderr: bool, bytes: &[u8]) -> LogLine {
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    LogLine { stderr, text: String::from_utf8_lossy(bytes).into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_split_into_lines() {
        let mut lines = Lines::default();
        let mut heard = Vec::new();
        for (stderr, piece) in [(false, "a"), (true, "x\n"), (false, "b\nc\r\n\nd"), (false, "e")] {
            heard.extend(lines.take(stderr, piece.as_bytes()));
        }
        heard.extend(lines.rest());
        let expected = [(true, "x"), (false, "ab"), (false, "c"), (false, ""), (false, "de")];
        assert_eq!(heard, expected.map(|(stderr, text)| LogLine { stderr, text: text.to_owned() }));
    }

    #[test]
    fn parts_of_a_long_line_have_one_timestamp() {
        let mut lines = Lines::default();
        let at = |second: u8, text: &str| format!("2026-11-30T10:00:0{second}.000000000Z {text}");
        let mut heard = Vec::new();
        for piece in [at(1, "long "), at(2, "line\n"), at(3, "next 2026-11-30T10:00:00Z end\n")] {
            heard.extend(lines.take_stamped(false, piece.as_bytes()).into_iter().map(|line| line.text));
        }
        assert_eq!(heard, [at(1, "long line"), at(3, "next 2026-11-30T10:00:00Z end")]);
    }

    #[test]
    fn long_lines_are_flushed() {
        let mut lines = Lines::default();
        let piece = [b'x'; 32 * 1024];
        let given: Vec<LogLine> = (0..100).flat_map(|_| lines.take(false, &piece)).collect();
        assert!(given.len() >= 2 && given.iter().all(|line| line.text.len() <= LONGEST + piece.len()));
        let rest: usize = given.into_iter().chain(lines.rest()).map(|line| line.text.len()).sum();
        assert_eq!(rest, 100 * piece.len(), "nothing is lost");
    }

    #[test]
    fn invalid_utf8_is_replaced() {
        let lines = Lines::default().take(false, b"\xff\x00\n");
        assert_eq!(lines[0].text, "\u{fffd}\0");
    }
}
