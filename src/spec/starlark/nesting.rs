//! Nesting of programs: the library's parser is recursive and has no limit of its own.

use std::ops::Range;

use starlark::codemap::CodeMap;
use starlark::syntax::Dialect;
use starlark_syntax::lexer::{Lexer, Token};

/// Maximum nesting of a program: brackets, blocks and chained operators.
const MAX_NESTING: usize = 1000;
/// Maximum number of `elif` in a file: the parser nests each in the previous one.
const MAX_ELIF: usize = 1000;

/// A program is nested too deeply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NestingError {
    /// Byte range of the source.
    pub span: Range<usize>,
    pub message: String,
    pub hint: String,
}

/// Fails if a program is nested too deeply. Overestimates the depth: each token counts as one level, until a separator
/// resets the count.
pub(super) fn check(text: &str, dialect: &Dialect) -> Result<(), NestingError> {
    let codemap = CodeMap::new(String::new(), text.to_owned());
    let (mut depth, mut blocks, mut elifs) = (0_usize, 0_usize, 0_usize);
    let mut brackets: Vec<usize> = Vec::new();
    for lexeme in Lexer::new(codemap.source(), dialect, codemap.clone()) {
        // Invalid tokens are reported by the parser.
        let Ok((start, token, end)) = lexeme else { break };
        match token {
            Token::Comment(_) => {}
            Token::Indent => blocks += 1,
            Token::Dedent => blocks = blocks.saturating_sub(1),
            Token::Newline | Token::Semicolon => depth = 4 * blocks,
            Token::Comma => depth = brackets.last().copied().unwrap_or(4 * blocks),
            Token::Elif => elifs += 1,
            token if closes(&token) => depth = brackets.pop().unwrap_or(depth),
            token => {
                depth += 1;
                if opens(&token) {
                    brackets.push(depth);
                }
            }
        }
        if depth > MAX_NESTING || elifs > MAX_ELIF {
            let hint = "move parts to variables or functions: `part = ...`, `def part(): ...`".to_owned();
            return Err(NestingError { span: start..end, message: "the program is nested too deeply".into(), hint });
        }
    }
    Ok(())
}

fn opens(token: &Token) -> bool {
    use Token::{FStringExprStart, OpeningCurly, OpeningRound, OpeningSquare};
    matches!(token, OpeningRound | OpeningSquare | OpeningCurly | FStringExprStart)
}

fn closes(token: &Token) -> bool {
    use Token::{ClosingCurly, ClosingRound, ClosingSquare, FStringExprEnd};
    matches!(token, ClosingRound | ClosingSquare | ClosingCurly | FStringExprEnd)
}

#[cfg(test)]
mod tests {
    use super::super::dialect;
    use super::*;

    fn too_deep(text: &str) -> bool {
        check(text, &dialect()).is_err()
    }

    #[test]
    fn deep_programs_are_rejected() {
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
            assert!(too_deep(&text), "{}", &text[..20]);
        }
        for text in [
            format!("x = [{}]\n", "1 + 2, ".repeat(2000)),
            format!("x = 1{}\n", " + y".repeat(200)),
            "x = 1\n".repeat(5000),
            format!("f({})\n", "a = g(b, c), ".repeat(2000)),
        ] {
            assert!(!too_deep(&text), "{}", &text[..20]);
        }
    }
}
