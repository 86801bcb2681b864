//! Lines of output, joined from the chunks in which they arrive.

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
