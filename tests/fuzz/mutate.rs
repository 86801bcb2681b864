//! Mutation of texts.

use crate::rng::Rng;

/// Words that have a meaning somewhere: in YAML, `.env`, Starlark, labels or docker's configuration.
const WORDS: [&str; 48] = [
    "${",
    "}",
    "${A:-",
    "${A:?",
    "$$",
    "${context.",
    ": ",
    "- ",
    "\n---\n",
    "&a ",
    "*a",
    "<<: *a",
    "!!int ",
    "|\n",
    ">-\n",
    "\"",
    "'",
    "#",
    "{",
    "[",
    "]",
    ",",
    "\t",
    "\r\n",
    "\u{feff}",
    "\u{1b}[31m",
    "\u{202e}",
    "\0",
    "é",
    "💥",
    "null",
    "~",
    "true",
    "0x1F",
    "-1",
    "1e999",
    "99999999999999999999",
    "name",
    "image",
    "ports",
    "replicas: 1000000",
    "dependencies",
    "build: .",
    "for n in range(9):\n  ",
    "def f(x):\n  return f(x)\n",
    "load(\"a.star\", \"a\")",
    "lambda: ",
    "=",
];

/// Maximum size in bytes: larger spec files are not read.
const MAX_SIZE: usize = 1 << 20;

/// Returns a text after one to eight random changes, with parts of the others.
pub fn mutated(rng: &mut Rng, texts: &[String]) -> Vec<u8> {
    let mut bytes = pick(rng, texts).into_bytes();
    for _ in 0..=rng.below(8) {
        change(rng, &mut bytes, texts);
        bytes.truncate(MAX_SIZE);
    }
    bytes
}

/// Returns one of the texts.
pub fn pick(rng: &mut Rng, texts: &[String]) -> String {
    texts[index(rng, texts.len())].clone()
}

fn index(rng: &mut Rng, length: usize) -> usize {
    usize::try_from(rng.below(length.max(1) as u64)).unwrap()
}

/// Returns the bounds of a random part, mostly a short one.
fn part(rng: &mut Rng, length: usize) -> (usize, usize) {
    let start = index(rng, length + 1);
    let longest = if rng.once_in(4) { length } else { 16 };
    (start, length.min(start + index(rng, longest + 1)))
}

fn change(rng: &mut Rng, bytes: &mut Vec<u8>, texts: &[String]) {
    let (start, end) = part(rng, bytes.len());
    match rng.below(8) {
        0 => drop(bytes.drain(start..end)),
        1 => {
            let copy = bytes[start..end].to_vec();
            let at = index(rng, bytes.len() + 1);
            bytes.splice(at..at, copy);
        }
        2 => {
            let copy = bytes[start..end].repeat(1 + index(rng, 200));
            bytes.splice(start..end, copy);
        }
        3 => {
            let other = pick(rng, texts).into_bytes();
            let (from, to) = part(rng, other.len());
            bytes.splice(start..start, other[from..to].iter().copied());
        }
        4 if !bytes.is_empty() => {
            let at = index(rng, bytes.len());
            bytes[at] ^= 1 << rng.below(8);
        }
        5 if !bytes.is_empty() => {
            // A line is moved: the structure changes, the words stay.
            let mut lines: Vec<Vec<u8>> = bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
            let line = lines.remove(index(rng, lines.len()));
            let at = index(rng, lines.len() + 1);
            lines.insert(at, line);
            *bytes = lines.concat();
        }
        _ => {
            let word = rng.pick(&WORDS);
            bytes.splice(start..if rng.once_in(2) { start } else { end }, word.bytes());
        }
    }
}
