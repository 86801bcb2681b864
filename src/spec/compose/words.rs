//! Splitting of commands that are written as one text, by the rules of go-shellwords 1.0.12.
//!
//! The shell's quotes are known, but the text is not run by a shell: it ends silently at the first unquoted `;`, `&`,
//! `|`, `<` or `>`, and a bare `(` or `)` is an error, except after `$`. A backslash escapes the next character
//! everywhere but in single quotes, and is dropped.

/// Words of a command.
#[derive(Debug, PartialEq, Eq)]
pub struct Command {
    pub words: Vec<String>,
    /// Byte offset of the operator at which the command ends, if it does not end with the text.
    pub cut: Option<usize>,
}

/// The text is no list of words: an unclosed quote or parenthesis, or a `\` at its end.
#[derive(Debug, PartialEq, Eq)]
pub struct InvalidCommand;

/// What is open at a position.
#[derive(Default)]
struct Open {
    single: bool,
    double: bool,
    back: bool,
    /// `$(`.
    dollar: bool,
    escape: bool,
}

impl Open {
    fn any_quote(&self) -> bool {
        self.single || self.double || self.back || self.dollar
    }
}

/// Splits a command into words.
pub fn split(text: &str) -> Result<Command, InvalidCommand> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut has_word = false;
    let mut open = Open::default();
    let mut cut = None;
    for (at, c) in text.char_indices() {
        if open.escape {
            word.push(c);
            open.escape = false;
            has_word = true;
            continue;
        }
        match c {
            '\\' if open.single => word.push(c),
            '\\' => open.escape = true,
            ' ' | '\t' | '\r' | '\n' => {
                if open.any_quote() {
                    word.push(c);
                } else if has_word {
                    words.push(std::mem::take(&mut word));
                    has_word = false;
                }
            }
            '(' if !(open.single || open.double || open.back) => {
                if open.dollar || !word.ends_with('$') {
                    return Err(InvalidCommand);
                }
                open.dollar = true;
                word.push(c);
            }
            '"' if !open.single && !open.dollar => {
                has_word |= open.double;
                open.double = !open.double;
            }
            '\'' if !open.double && !open.dollar => {
                has_word |= open.single;
                open.single = !open.single;
            }
            ';' | '&' | '|' | '<' | '>' if !open.any_quote() => {
                // The number in front of a redirection belongs to it.
                if c == '>' && word.starts_with(|first: char| first.is_ascii_digit()) {
                    has_word = false;
                }
                cut = Some(at);
                break;
            }
            _ => {
                match c {
                    '`' if !(open.single || open.double || open.dollar) => open.back = !open.back,
                    ')' if !(open.single || open.double || open.back) => open.dollar = !open.dollar,
                    _ => {}
                }
                has_word = true;
                word.push(c);
            }
        }
    }
    if open.any_quote() || open.escape {
        return Err(InvalidCommand);
    }
    if has_word {
        words.push(word);
    }
    Ok(Command { words, cut })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        split(text).map_or_else(|_| vec!["invalid".to_owned()], |command| command.words)
    }

    #[test]
    fn fact_3_a_command_is_split_without_a_shell() {
        for (text, expected) in [
            ("", vec![]),
            ("a  b\tc\nd", vec!["a", "b", "c", "d"]),
            ("a 'b c' \"d e\"f", vec!["a", "b c", "d ef"]),
            ("a '' \"\"", vec!["a", "", ""]),
            ("serve --log 1 && tail -f x", vec!["serve", "--log", "1"]),
            ("a; b", vec!["a"]),
            ("a|b", vec!["a"]),
            ("a <b", vec!["a"]),
            ("a 2>b", vec!["a"]),
            ("a x2>b", vec!["a", "x2"]),
            ("sh -c \"a && b\"", vec!["sh", "-c", "a && b"]),
            (r#"a "x\ny" \t b"#, vec!["a", "xny", "t", "b"]),
            (r"a '\n' b\ c", vec!["a", r"\n", "b c"]),
            ("app --rule Host(a)", vec!["invalid"]),
            ("a )", vec!["invalid"]),
            ("$(x y) z", vec!["$(x y)", "z"]),
            ("'$(x y)' \"(z)\"", vec!["$(x y)", "(z)"]),
            ("a `b c` d", vec!["a", "`b c`", "d"]),
            ("a 'b", vec!["invalid"]),
            ("a \"b", vec!["invalid"]),
            ("a \\", vec!["invalid"]),
            ("echo $! $x", vec!["echo", "$!", "$x"]),
            ("it's 'x", vec!["its x"]),
            ("it's x", vec!["invalid"]),
        ] {
            assert_eq!(words(text), expected, "{text}");
        }
    }

    #[test]
    fn pitfall_4_the_cut_is_known() {
        assert_eq!(split("serve --log 1 && tail -f x").unwrap().cut, Some(14));
        assert_eq!(split("serve '&&'").unwrap().cut, None);
    }
}
