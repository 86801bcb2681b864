//! What keeps a program within bounds before it runs: how deep its text may be nested, and the places in it where values
//! grow at once, which are rewritten so that they ask first.
//!
//! The language has no such bounds of its own: its parser is recursive, and one multiplication can ask for more memory
//! than there is, which would end the whole process. So `a + b`, `a * b`, `a % b` and `a << b` become calls (the language
//! library offers that), and here, on the level of tokens, so do `a += b`, `a.join(b)`, `a.replace(b)`, `a.format(b)`,
//! `str(a)`, `repr(a)` and what stands in an f-string. After any other method, and after functions that make lists, it is
//! looked how much memory there is by now. Every place in the rewritten text is mapped back.

use std::ops::Range;

use starlark::codemap::CodeMap;
use starlark::syntax::Dialect;
use starlark_syntax::lexer::{Lexer, Token};

/// How deep a program may be nested: brackets, blocks and operators in a row.
const MAX_NESTING: usize = 1000;
/// How many `elif` a file may have: each is nested in the one before.
const MAX_ELIF: usize = 1000;

/// Methods that make a text of others, and the function that does it within bounds.
const METHODS: [(&str, &str); 3] = [("join", JOIN), ("replace", REPLACE), ("format", FORMAT)];

/// `join` of a text.
pub(super) const JOIN: &str = "__join";
/// `replace` of a text.
pub(super) const REPLACE: &str = "__replace";
/// `format` of a text.
pub(super) const FORMAT: &str = "__format";
/// The right side of `+=`.
pub(super) const MORE: &str = "__more";
/// What a call gave that may be large.
pub(super) const KEPT: &str = "__kept";
/// Functions that make something of what they are given that is as large.
const MAKERS: [&str; 11] =
    ["list", "tuple", "dict", "set", "sorted", "reversed", "enumerate", "zip", "map", "filter", "read_file"];
/// What is written out as text.
pub(super) const SHOWN: &str = "__shown";

/// Operators that are replaced by a call, each under its own name.
pub(super) const OPERATORS: [&str; 4] = ["+", "*", "%", "<<"];

/// A program that may be parsed.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    /// The text to parse.
    pub source: String,
    pieces: Vec<Piece>,
}

/// A piece of the rewritten text.
#[derive(Debug, Clone)]
struct Piece {
    /// Where it begins in the rewritten text.
    start: usize,
    /// Where it begins in the text as written, or where it was put in.
    written: usize,
    /// Whether it is copied.
    copied: bool,
}

/// Why a program is not even parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    /// Bytes of the file.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl Prepared {
    /// A place of the rewritten text in the text as written.
    pub fn written(&self, span: Range<usize>) -> Range<usize> {
        let start = self.written_at(span.start);
        start..self.written_at(span.end).max(start)
    }

    fn written_at(&self, at: usize) -> usize {
        let piece = self.pieces.partition_point(|piece| piece.start <= at).checked_sub(1);
        let Some(piece) = piece.and_then(|index| self.pieces.get(index)) else { return at };
        if piece.copied { piece.written + (at - piece.start) } else { piece.written }
    }
}

/// Checks how deep a program is nested, and rewrites what grows.
pub(super) fn prepare(text: &str, dialect: &Dialect) -> Result<Prepared, Refused> {
    let codemap = CodeMap::new(String::new(), text.to_owned());
    let mut tokens = Vec::new();
    for lexeme in Lexer::new(codemap.source(), dialect, codemap.clone()) {
        // What is no token is the parser's to tell.
        let Ok((start, token, end)) = lexeme else { break };
        if !matches!(token, Token::Comment(_)) {
            tokens.push(Lexeme { token, span: start..end });
        }
    }
    nesting(&tokens)?;
    let mut edits = Vec::new();
    rewrite(&tokens, text.len(), &mut edits)?;
    Ok(applied(text, edits))
}

struct Lexeme {
    token: Token,
    span: Range<usize>,
}

fn opens(token: &Token) -> bool {
    use Token::{FStringExprStart, OpeningCurly, OpeningRound, OpeningSquare};
    matches!(token, OpeningRound | OpeningSquare | OpeningCurly | FStringExprStart)
}

fn closes(token: &Token) -> bool {
    use Token::{ClosingCurly, ClosingRound, ClosingSquare, FStringExprEnd};
    matches!(token, ClosingRound | ClosingSquare | ClosingCurly | FStringExprEnd)
}

/// Counts more than the true depth, never less: each token may lead one level down, until a separator resets it.
fn nesting(tokens: &[Lexeme]) -> Result<(), Refused> {
    let (mut depth, mut blocks, mut elifs) = (0_usize, 0_usize, 0_usize);
    let mut brackets: Vec<usize> = Vec::new();
    for Lexeme { token, span } in tokens {
        match token {
            Token::Indent => blocks += 1,
            Token::Dedent => blocks = blocks.saturating_sub(1),
            Token::Newline | Token::Semicolon => depth = 4 * blocks,
            Token::Comma => depth = brackets.last().copied().unwrap_or(4 * blocks),
            Token::Elif => elifs += 1,
            token if closes(token) => depth = brackets.pop().unwrap_or(depth),
            token => {
                depth += 1;
                if opens(token) {
                    brackets.push(depth);
                }
            }
        }
        if depth > MAX_NESTING || elifs > MAX_ELIF {
            let hint = "give parts of it a name of their own: `part = ...`, `def part(): ...`".to_owned();
            return Err(Refused { span: span.clone(), message: "the program is nested too deep here".into(), hint });
        }
    }
    Ok(())
}

/// Text to put in at a place, in place of so many bytes.
struct Edit {
    at: usize,
    removed: usize,
    text: String,
    /// Of several at one place the lowest comes first.
    rank: usize,
}

fn insert(edits: &mut Vec<Edit>, at: usize, removed: usize, text: String) {
    edits.push(Edit { at, removed, text, rank: 0 });
}

/// End of the expression in an f-string that starts at `index`: where its conversion begins, or its closing brace.
fn end_of_expression(tokens: &[Lexeme], index: usize) -> Option<usize> {
    let mut open = 0_usize;
    for lexeme in tokens.iter().skip(index + 1) {
        if opens(&lexeme.token) {
            open += 1;
        } else if closes(&lexeme.token) && open > 0 {
            open -= 1;
        } else if open == 0 && matches!(lexeme.token, Token::FStringBang | Token::FStringExprEnd) {
            return Some(lexeme.span.start);
        }
    }
    None
}

fn rewrite(tokens: &[Lexeme], length: usize, edits: &mut Vec<Edit>) -> Result<(), Refused> {
    let pairs = pairs(tokens);
    for (index, Lexeme { token, span }) in tokens.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|before| tokens.get(before));
        let next = tokens.get(index + 1);
        let closing = |index: usize| pairs.get(index).copied().flatten().and_then(|pair| tokens.get(pair));
        match token {
            Token::StarEqual | Token::PercentEqual | Token::LessLessEqual => {
                let operator = match token {
                    Token::StarEqual => "*",
                    Token::PercentEqual => "%",
                    _ => "<<",
                };
                let message = format!("`{operator}=` is not part of the language here");
                return Err(Refused { span: span.clone(), message, hint: format!("write `x = x {operator} y`") });
            }
            Token::PlusEqual => {
                let ends = |lexeme: &&Lexeme| matches!(lexeme.token, Token::Newline | Token::Semicolon);
                let end = tokens.iter().skip(index).find(ends).map_or(length, |lexeme| lexeme.span.start);
                insert(edits, span.end, 0, format!(" {MORE}(("));
                insert(edits, end, 0, "))".to_owned());
            }
            Token::FStringExprStart => {
                if let Some(end) = end_of_expression(tokens, index) {
                    insert(edits, span.end, 0, format!("{SHOWN}("));
                    insert(edits, end, 0, ")".to_owned());
                }
            }
            Token::Identifier(name) if next.is_some_and(|next| next.token == Token::OpeningRound) => {
                let method = METHODS.iter().find(|(method, _)| method == name);
                let dot = before.filter(|before| before.token == Token::Dot);
                match (method, dot) {
                    (Some((_, function)), Some(dot)) => {
                        let Some(start) = beginning(tokens, &pairs, index.saturating_sub(2)) else { continue };
                        let open = next.map_or(span.end, |next| next.span.end);
                        // Of `a.join(b).join(c)` the last is the outermost.
                        let (text, rank) = (format!("{function}("), tokens.len() - index);
                        edits.push(Edit { at: start, removed: 0, text, rank });
                        insert(edits, dot.span.start, open - dot.span.start, ", ".to_owned());
                    }
                    (None, None) if name == "str" || name == "repr" => {
                        let defined = before.is_some_and(|before| before.token == Token::Def);
                        let Some(close) = closing(index + 1).filter(|_| !defined) else { continue };
                        let open = next.map_or(span.end, |next| next.span.end);
                        let empty = tokens.get(index + 2).is_none_or(|first| closes(&first.token));
                        if !empty {
                            insert(edits, open, 0, format!("{SHOWN}("));
                            insert(edits, close.span.start, 0, ")".to_owned());
                        }
                    }
                    (None, dot) if dot.is_some() || MAKERS.contains(&name.as_str()) => {
                        let defined = before.is_some_and(|before| before.token == Token::Def);
                        let start = match dot {
                            Some(_) => beginning(tokens, &pairs, index.saturating_sub(2)),
                            None => Some(span.start).filter(|_| !defined),
                        };
                        if let (Some(start), Some(close)) = (start, closing(index + 1)) {
                            let (text, rank) = (format!("{KEPT}("), tokens.len() - index);
                            edits.push(Edit { at: start, removed: 0, text, rank });
                            insert(edits, close.span.end, 0, ")".to_owned());
                        }
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// For each bracket the other one of its pair.
fn pairs(tokens: &[Lexeme]) -> Vec<Option<usize>> {
    let mut pairs = vec![None; tokens.len()];
    let mut open: Vec<usize> = Vec::new();
    for (index, Lexeme { token, .. }) in tokens.iter().enumerate() {
        if opens(token) {
            open.push(index);
        } else if closes(token)
            && let Some(other) = open.pop()
        {
            pairs[index] = Some(other);
            pairs[other] = Some(index);
        }
    }
    pairs
}

/// Where the operand begins whose last token this is: `a`, `a.b[c](d)`, `(a)`, `"a"`.
fn beginning(tokens: &[Lexeme], pairs: &[Option<usize>], last: usize) -> Option<usize> {
    let mut at = last;
    loop {
        let Lexeme { token, span } = tokens.get(at)?;
        let before = at.checked_sub(1).and_then(|before| tokens.get(before)).map(|lexeme| &lexeme.token);
        match token {
            Token::Identifier(_) => match before {
                Some(Token::Dot) => at = at.checked_sub(2)?,
                _ => return Some(span.start),
            },
            token if closes(token) => {
                let open = pairs.get(at).copied().flatten()?;
                let called = open.checked_sub(1).and_then(|before| tokens.get(before)).map(|lexeme| &lexeme.token);
                let operand = |token: &Token| {
                    matches!(token, Token::Identifier(_) | Token::String(_) | Token::FStringEnd) || closes(token)
                };
                match called {
                    Some(token) if operand(token) => at = open - 1,
                    _ => return tokens.get(open).map(|lexeme| lexeme.span.start),
                }
            }
            Token::FStringEnd => {
                // f-strings may hold others.
                let mut open = 0_usize;
                for lexeme in tokens.get(..=at)?.iter().rev() {
                    match lexeme.token {
                        Token::FStringEnd => open += 1,
                        Token::FStringStart(_) => open = open.saturating_sub(1),
                        _ => continue,
                    }
                    if open == 0 {
                        return Some(lexeme.span.start);
                    }
                }
                return None;
            }
            Token::String(_) => return Some(span.start),
            _ => return None,
        }
    }
}

fn applied(text: &str, mut edits: Vec<Edit>) -> Prepared {
    edits.sort_by_key(|edit| (edit.at, edit.rank));
    let mut prepared = Prepared { source: String::with_capacity(text.len()), pieces: Vec::new() };
    let mut at = 0;
    let copy = |prepared: &mut Prepared, range: Range<usize>| {
        let copied = text.get(range.clone()).unwrap_or_default();
        prepared.pieces.push(Piece { start: prepared.source.len(), written: range.start, copied: true });
        prepared.source.push_str(copied);
    };
    for edit in edits {
        copy(&mut prepared, at..edit.at.max(at));
        prepared.pieces.push(Piece { start: prepared.source.len(), written: edit.at, copied: false });
        prepared.source.push_str(&edit.text);
        at = at.max(edit.at + edit.removed);
    }
    copy(&mut prepared, at..text.len());
    prepared
}

#[cfg(test)]
mod tests {
    use super::super::dialect;
    use super::*;

    fn rewritten(text: &str) -> String {
        match prepare(text, &dialect()) {
            Ok(prepared) => prepared.source,
            Err(refused) => format!("{}..{} {}", refused.span.start, refused.span.end, refused.message),
        }
    }

    #[test]
    fn what_grows_becomes_a_call() {
        for (written, expected) in [
            ("x = \", \".join(y)\n", "x = __join(\", \", y)\n"),
            ("x = a.b[c](d).join(y)\n", "x = __join(a.b[c](d), y)\n"),
            ("x = (a).replace(b, c).join(y)\n", "x = __join(__replace((a), b, c), y)\n"),
            ("x = not [a][0].format()\n", "x = not __format([a][0], )\n"),
            (
                "def f():\n  return f\"{a.b} {c!r} {[d]}\".format(1)\n",
                "def f():\n  return __format(f\"{__shown(a.b)} {__shown(c)!r} {__shown([d])}\", 1)\n",
            ),
            ("x += a, b\ny += (\n  1)", "x += __more(( a, b))\ny += __more(( (\n  1)))"),
            ("x = str(a)\ny = repr([b])\nz = str()\n", "x = str(__shown(a))\ny = repr(__shown([b]))\nz = str()\n"),
            ("f = \"\".join\ng = x.str(a)\n", "f = \"\".join\ng = __kept(x.str(a))\n"),
            ("x = a.b().join(c.d(), e)", "x = __join(__kept(a.b()), __kept(c.d()), e)"),
            ("x = list(a).b()[0].c(d)", "x = __kept(__kept(__kept(list(a)).b())[0].c(d))"),
            ("def list(a):\n  return {}.get(a)\n", "def list(a):\n  return __kept({}.get(a))\n"),
            ("x = f\"{a.b()}\"\nx += a.b()", "x = f\"{__shown(__kept(a.b()))}\"\nx += __more(( __kept(a.b())))"),
            ("# a.join(b)\nx = \"a.join(b)\"\n", "# a.join(b)\nx = \"a.join(b)\"\n"),
            ("x *= 2\n", "2..4 `*=` is not part of the language here"),
        ] {
            assert_eq!(rewritten(written), expected, "{written}");
        }
    }

    #[test]
    fn places_are_those_of_the_text_as_written() {
        let text = "x = \", \".join(y) or z\n";
        let prepared = prepare(text, &dialect()).unwrap();
        let find = |word: &str| prepared.source.find(word).unwrap();
        for word in ["y)", "z", "x"] {
            let at = find(word);
            let written = prepared.written(at..at + 1);
            assert_eq!(&text[written], &word[..1]);
        }
        let call = find("__join")..find(") or") + 1;
        assert_eq!(&text[prepared.written(call)], "\", \".join(y)");
    }

    #[test]
    fn deep_programs_are_refused() {
        let deep = "nested too deep";
        for text in [
            format!("x = {}1{}\n", "(".repeat(2000), ")".repeat(2000)),
            format!("x = {}1\n", "not ".repeat(2000)),
            format!("x = {}1\n", "-".repeat(2000)),
            format!("x = 1{}\n", " + y".repeat(2000)),
            format!("x = {}1\n", "lambda: ".repeat(2000)),
            format!("if a:\n  pass\n{}", "elif b:\n  pass\n".repeat(2000)),
            (0..600).fold(String::new(), |text, depth| format!("{text}{}if a:\n", " ".repeat(depth)))
                + &" ".repeat(600)
                + "pass\n",
        ] {
            assert!(rewritten(&text).contains(deep), "{}", &text[..20]);
        }
        for text in [
            format!("x = [{}]\n", "1 + 2, ".repeat(2000)),
            format!("x = 1{}\n", " + y".repeat(200)),
            "x = 1\n".repeat(5000),
            format!("f({})\n", "a = g(b, c), ".repeat(2000)),
        ] {
            assert!(!rewritten(&text).contains(deep), "{}", &text[..20]);
        }
    }
}
