//! Static limits for programs: nesting depth and instrumentation of operations that can create large values.
//!
//! The Starlark library has no such limits: its parser is recursive, and a single multiplication can allocate more memory
//! than available, which aborts the process. The library itself can replace the operators `a + b`, `a * b`, `a % b` and
//! `a << b` by calls. This module rewrites, on tokens, `a += b`, `a.join(b)`, `a.replace(b)`, `a.format(b)`, `str(a)`,
//! `repr(a)` and expressions in f-strings to calls that check the size of the result first. Other method calls, and calls
//! of functions that build collections, get a memory check afterwards. Locations in the rewritten text are mapped back to
//! the source.

use std::ops::Range;

use starlark::codemap::CodeMap;
use starlark::syntax::Dialect;
use starlark_syntax::lexer::{Lexer, Token};

/// Maximum nesting of a program: brackets, blocks and chained operators.
const MAX_NESTING: usize = 1000;
/// Maximum number of `elif` in a file: the parser nests each in the previous one.
const MAX_ELIF: usize = 1000;

/// String methods that can create long strings, with the functions that check the result first.
const METHODS: [(&str, &str); 3] = [("join", JOIN), ("replace", REPLACE), ("format", FORMAT)];

/// Replacement of the string method `join`.
pub(super) const JOIN: &str = "__join";
/// Replacement of the string method `replace`.
pub(super) const REPLACE: &str = "__replace";
/// Replacement of the string method `format`.
pub(super) const FORMAT: &str = "__format";
/// Checks the right-hand side of `+=`.
pub(super) const ADD_ASSIGN: &str = "__add_assign";
/// Checks memory usage after a call that may return a large value.
pub(super) const CHECK_MEMORY: &str = "__check_memory";
/// Functions whose result can be as large as their argument.
const COLLECTION_FUNCTIONS: [&str; 11] =
    ["list", "tuple", "dict", "set", "sorted", "reversed", "enumerate", "zip", "map", "filter", "read_file"];
/// Checks the length of a value that is converted to a string.
pub(super) const CHECK_TEXT: &str = "__check_text";

/// Operators that the library replaces by calls of functions with the same names.
pub(super) const OPERATORS: [&str; 4] = ["+", "*", "%", "<<"];

/// A rewritten program, ready for parsing.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    /// The rewritten text.
    pub source: String,
    pieces: Vec<Piece>,
}

/// A piece of the rewritten text.
#[derive(Debug, Clone)]
struct Piece {
    /// Offset in the rewritten text.
    start: usize,
    /// Offset in the source: of the copied text, or of the insertion.
    source: usize,
    /// True if copied from the source, false if inserted.
    copied: bool,
}

/// An error found before parsing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GuardError {
    /// Byte range of the source.
    pub span: Range<usize>,
    pub message: String,
    pub hint: String,
}

impl Prepared {
    /// Maps a span of the rewritten text to the source.
    pub fn source_span(&self, span: Range<usize>) -> Range<usize> {
        let start = self.source_offset(span.start);
        start..self.source_offset(span.end).max(start)
    }

    fn source_offset(&self, at: usize) -> usize {
        let piece = self.pieces.partition_point(|piece| piece.start <= at).checked_sub(1);
        let Some(piece) = piece.and_then(|index| self.pieces.get(index)) else { return at };
        if piece.copied { piece.source + (at - piece.start) } else { piece.source }
    }
}

/// Checks the nesting of a program and instruments it.
pub(super) fn prepare(text: &str, dialect: &Dialect) -> Result<Prepared, GuardError> {
    let codemap = CodeMap::new(String::new(), text.to_owned());
    let mut tokens = Vec::new();
    for lexeme in Lexer::new(codemap.source(), dialect, codemap.clone()) {
        // Invalid tokens are reported by the parser.
        let Ok((start, token, end)) = lexeme else { break };
        if !matches!(token, Token::Comment(_)) {
            tokens.push(Lexeme { token, span: start..end });
        }
    }
    check_nesting(&tokens)?;
    let mut edits = Vec::new();
    rewrite(&tokens, text.len(), &mut edits)?;
    Ok(apply_edits(text, edits))
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

/// Fails if a program is nested too deeply. Overestimates the depth: each token counts as one level, until a separator
/// resets the count.
fn check_nesting(tokens: &[Lexeme]) -> Result<(), GuardError> {
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
            let hint = "move parts to variables or functions: `part = ...`, `def part(): ...`".to_owned();
            return Err(GuardError { span: span.clone(), message: "the program is nested too deeply".into(), hint });
        }
    }
    Ok(())
}

/// Replacement of a range of the source by other text.
struct Edit {
    at: usize,
    /// Number of bytes removed.
    removed: usize,
    text: String,
    /// Order among edits at the same offset, ascending.
    rank: usize,
}

fn insert(edits: &mut Vec<Edit>, at: usize, removed: usize, text: String) {
    edits.push(Edit { at, removed, text, rank: 0 });
}

/// Returns the end of the f-string expression that starts at `index`: the start of its conversion, or its closing brace.
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

fn rewrite(tokens: &[Lexeme], length: usize, edits: &mut Vec<Edit>) -> Result<(), GuardError> {
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
                let message = format!("`{operator}=` is not supported");
                return Err(GuardError { span: span.clone(), message, hint: format!("write `x = x {operator} y`") });
            }
            Token::PlusEqual => {
                let ends = |lexeme: &&Lexeme| matches!(lexeme.token, Token::Newline | Token::Semicolon);
                let end = tokens.iter().skip(index).find(ends).map_or(length, |lexeme| lexeme.span.start);
                insert(edits, span.end, 0, format!(" {ADD_ASSIGN}(("));
                insert(edits, end, 0, "))".to_owned());
            }
            Token::FStringExprStart => {
                if let Some(end) = end_of_expression(tokens, index) {
                    insert(edits, span.end, 0, format!("{CHECK_TEXT}("));
                    insert(edits, end, 0, ")".to_owned());
                }
            }
            Token::Identifier(name) if next.is_some_and(|next| next.token == Token::OpeningRound) => {
                let method = METHODS.iter().find(|(method, _)| method == name);
                let dot = before.filter(|before| before.token == Token::Dot);
                match (method, dot) {
                    (Some((_, function)), Some(dot)) => {
                        let Some(start) = operand_start(tokens, &pairs, index.saturating_sub(2)) else { continue };
                        let open = next.map_or(span.end, |next| next.span.end);
                        // In `a.join(b).join(c)` the last call is the outermost.
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
                            insert(edits, open, 0, format!("{CHECK_TEXT}("));
                            insert(edits, close.span.start, 0, ")".to_owned());
                        }
                    }
                    (None, dot) if dot.is_some() || COLLECTION_FUNCTIONS.contains(&name.as_str()) => {
                        let defined = before.is_some_and(|before| before.token == Token::Def);
                        let start = match dot {
                            Some(_) => operand_start(tokens, &pairs, index.saturating_sub(2)),
                            None => Some(span.start).filter(|_| !defined),
                        };
                        if let (Some(start), Some(close)) = (start, closing(index + 1)) {
                            let (text, rank) = (format!("{CHECK_MEMORY}("), tokens.len() - index);
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

/// Maps each bracket to its counterpart.
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

/// Returns the start of the operand that ends with the token `last`: `a`, `a.b[c](d)`, `(a)`, `"a"`.
fn operand_start(tokens: &[Lexeme], pairs: &[Option<usize>], last: usize) -> Option<usize> {
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
                // f-strings may be nested.
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

/// Applies edits to the source.
fn apply_edits(text: &str, mut edits: Vec<Edit>) -> Prepared {
    edits.sort_by_key(|edit| (edit.at, edit.rank));
    let mut prepared = Prepared { source: String::with_capacity(text.len()), pieces: Vec::new() };
    let mut at = 0;
    let copy = |prepared: &mut Prepared, range: Range<usize>| {
        let copied = text.get(range.clone()).unwrap_or_default();
        prepared.pieces.push(Piece { start: prepared.source.len(), source: range.start, copied: true });
        prepared.source.push_str(copied);
    };
    for edit in edits {
        copy(&mut prepared, at..edit.at.max(at));
        prepared.pieces.push(Piece { start: prepared.source.len(), source: edit.at, copied: false });
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
            Err(error) => format!("{}..{} {}", error.span.start, error.span.end, error.message),
        }
    }

    #[test]
    fn growing_operations_become_calls() {
        for (source, expected) in [
            ("x = \", \".join(y)\n", "x = __join(\", \", y)\n"),
            ("x = a.b[c](d).join(y)\n", "x = __join(a.b[c](d), y)\n"),
            ("x = (a).replace(b, c).join(y)\n", "x = __join(__replace((a), b, c), y)\n"),
            ("x = not [a][0].format()\n", "x = not __format([a][0], )\n"),
            (
                "def f():\n  return f\"{a.b} {c!r} {[d]}\".format(1)\n",
                "def f():\n  return __format(f\"{__check_text(a.b)} {__check_text(c)!r} {__check_text([d])}\", 1)\n",
            ),
            ("x += a, b\ny += (\n  1)", "x += __add_assign(( a, b))\ny += __add_assign(( (\n  1)))"),
            (
                "x = str(a)\ny = repr([b])\nz = str()\n",
                "x = str(__check_text(a))\ny = repr(__check_text([b]))\nz = str()\n",
            ),
            ("f = \"\".join\ng = x.str(a)\n", "f = \"\".join\ng = __check_memory(x.str(a))\n"),
            ("x = a.b().join(c.d(), e)", "x = __join(__check_memory(a.b()), __check_memory(c.d()), e)"),
            ("x = list(a).b()[0].c(d)", "x = __check_memory(__check_memory(__check_memory(list(a)).b())[0].c(d))"),
            ("def list(a):\n  return {}.get(a)\n", "def list(a):\n  return __check_memory({}.get(a))\n"),
            (
                "x = f\"{a.b()}\"\nx += a.b()",
                "x = f\"{__check_text(__check_memory(a.b()))}\"\nx += __add_assign(( __check_memory(a.b())))",
            ),
            ("# a.join(b)\nx = \"a.join(b)\"\n", "# a.join(b)\nx = \"a.join(b)\"\n"),
            ("x *= 2\n", "2..4 `*=` is not supported"),
        ] {
            assert_eq!(rewritten(source), expected, "{source}");
        }
    }

    #[test]
    fn spans_map_back_to_the_source() {
        let text = "x = \", \".join(y) or z\n";
        let prepared = prepare(text, &dialect()).unwrap();
        let find = |word: &str| prepared.source.find(word).unwrap();
        for word in ["y)", "z", "x"] {
            let at = find(word);
            let source = prepared.source_span(at..at + 1);
            assert_eq!(&text[source], &word[..1]);
        }
        let call = find("__join")..find(") or") + 1;
        assert_eq!(&text[prepared.source_span(call)], "\", \".join(y)");
    }

    #[test]
    fn deep_programs_are_rejected() {
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
