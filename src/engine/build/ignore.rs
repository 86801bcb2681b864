//! `.dockerignore`: what of a context is left out.
//!
//! Docker's rules, which are not git's: every pattern holds from the top of the context, one that matches a directory
//! holds for all that is in it, and of several that match the last decides; `!` takes back. Knows paths only.

use regex_lite::Regex;

/// What editors keep beside a file for as long as it is open or until it is saved. Left out unless a pattern takes it
/// back: else to open a file would be to change the sources.
const EDITORS: [&str; 4] = ["**/.*.sw?", "**/*~", "**/.#*", "**/#*#"];

/// The patterns, in their order.
#[derive(Debug)]
pub struct Ignore {
    patterns: Vec<Pattern>,
}

#[derive(Debug)]
struct Pattern {
    /// Of a whole path.
    regex: Regex,
    /// Of each of its parts; `None`: any number of parts.
    parts: Vec<Option<Regex>>,
    /// It takes back what others leave out.
    exception: bool,
}

/// Which patterns match a path or a directory above it.
#[derive(Debug, Clone)]
pub struct Matches(Vec<bool>);

impl Ignore {
    /// Reads the text of such a file.
    ///
    /// # Errors
    ///
    /// What is wrong with it, for people.
    pub fn parse(text: &str) -> Result<Ignore, String> {
        let text = text.trim_start_matches('\u{feff}');
        let mut patterns = Vec::new();
        for line in EDITORS {
            patterns.extend(pattern(line)?);
        }
        for (number, line) in (1..).zip(text.lines()) {
            // Only in the first column is it a comment.
            if !line.starts_with('#') {
                patterns.extend(pattern(line).map_err(|why| format!("{why} (line {number})"))?);
            }
        }
        Ok(Ignore { patterns })
    }

    /// What matches the context itself: nothing.
    pub fn top(&self) -> Matches {
        Matches(vec![false; self.patterns.len()])
    }

    /// What matches a path, given with `/` and relative to the context; `above` is what matches its directory.
    pub fn matches(&self, path: &str, above: &Matches) -> Matches {
        let each = self.patterns.iter().zip(&above.0);
        Matches(each.map(|(pattern, above)| *above || pattern.regex.is_match(path)).collect())
    }

    /// Whether what these match is left out.
    pub fn leaves_out(&self, matches: &Matches) -> bool {
        let last = self.patterns.iter().zip(&matches.0).rfind(|(_, matches)| **matches);
        last.is_some_and(|(pattern, _)| !pattern.exception)
    }

    /// Whether something in a directory that is left out may be taken back.
    pub fn takes_back_in(&self, directory: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.exception && pattern.may_match_in(directory))
    }
}

impl Pattern {
    fn may_match_in(&self, directory: &str) -> bool {
        let mut parts = self.parts.iter();
        for name in directory.split('/') {
            match parts.next() {
                Some(Some(part)) if part.is_match(name) => {}
                // Any number of directories may come.
                Some(None) => return true,
                _ => return false,
            }
        }
        parts.next().is_some()
    }
}

/// One line; `None`: it says nothing.
fn pattern(line: &str) -> Result<Option<Pattern>, String> {
    let line = line.trim();
    let (exception, text) = match line.strip_prefix('!') {
        Some(rest) => (true, rest.trim()),
        None => (false, line),
    };
    if exception && text.is_empty() {
        return Err("`!` takes nothing back".into());
    }
    let parts = cleaned(text);
    if parts.is_empty() {
        return Ok(None);
    }
    let compiled = |text: &str| {
        let expression = format!("^{}$", expression(text));
        Regex::new(&expression).map_err(|_| format!("the pattern `{line}` cannot be understood"))
    };
    let regex = compiled(&parts.join("/"))?;
    let part = |part: &&str| if part.contains("**") { Ok(None) } else { compiled(part).map(Some) };
    Ok(Some(Pattern { regex, parts: parts.iter().map(part).collect::<Result<_, _>>()?, exception }))
}

/// The parts of a path, without those that mean nothing.
fn cleaned(path: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => _ = parts.pop(),
            // Above the top there is nothing.
            ".." if path.starts_with('/') => {}
            part => parts.push(part),
        }
    }
    parts
}

/// A pattern as a regular expression: `*` and `?` stay within a part of a path, `**` is any number of parts.
fn expression(pattern: &str) -> String {
    let mut expression = String::new();
    let mut characters = pattern.chars().peekable();
    let mut in_class = false;
    while let Some(character) = characters.next() {
        match character {
            '\\' => {
                let escaped = characters.next().unwrap_or('\\');
                if !escaped.is_alphanumeric() {
                    expression.push('\\');
                }
                expression.push(escaped);
            }
            _ if in_class => {
                in_class = character != ']';
                expression.push(character);
            }
            '[' => {
                in_class = true;
                expression.push('[');
            }
            '*' if characters.next_if_eq(&'*').is_some() => {
                let _ = characters.next_if_eq(&'/');
                expression += if characters.peek().is_none() { ".*" } else { "(.*/)?" };
            }
            '*' => expression += "[^/]*",
            '?' => expression += "[^/]",
            '.' | '+' | '(' | ')' | '|' | '{' | '}' | '^' | '$' | ']' => expression.extend(['\\', character]),
            character => expression.push(character),
        }
    }
    // A file name may hold a line break.
    format!("(?s:{expression})")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves_out(ignore: &Ignore, path: &str) -> bool {
        let mut matches = ignore.top();
        let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
        for end in ends {
            matches = ignore.matches(&path[..end], &matches);
        }
        ignore.leaves_out(&matches)
    }

    /// Of these paths those that are left out.
    fn left_out<'p>(text: &str, paths: &[&'p str]) -> Vec<&'p str> {
        let ignore = Ignore::parse(text).unwrap();
        paths.iter().copied().filter(|path| leaves_out(&ignore, path)).collect()
    }

    #[test]
    fn patterns_hold_from_the_top() {
        let paths = ["temp", "temp/a", "src/temp", "src/temp/a", "temporary"];
        assert_eq!(left_out("temp", &paths), ["temp", "temp/a"]);
        assert_eq!(left_out("/temp/", &paths), ["temp", "temp/a"]);
        assert_eq!(left_out("./src/../temp", &paths), ["temp", "temp/a"]);
        assert_eq!(left_out("*/temp", &paths), ["src/temp", "src/temp/a"]);
        assert_eq!(left_out("**/temp", &paths), ["temp", "temp/a", "src/temp", "src/temp/a"]);
        assert_eq!(left_out("temp*", &paths), ["temp", "temp/a", "temporary"]);
        assert_eq!(left_out("tem?", &paths), ["temp", "temp/a"]);
    }

    #[test]
    fn two_stars_are_any_number_of_directories() {
        let paths = ["a.go", "x/a.go", "x/y/a.go", "x/a.rs", "x"];
        assert_eq!(left_out("**/*.go", &paths), ["a.go", "x/a.go", "x/y/a.go"]);
        assert_eq!(left_out("x/**", &paths), ["x/a.go", "x/y/a.go", "x/a.rs"]);
        assert_eq!(left_out("x/**/a.go", &paths), ["x/a.go", "x/y/a.go"]);
        assert_eq!(left_out("**", &paths), paths);
        assert_eq!(left_out("*.go", &paths), ["a.go"]);
    }

    #[test]
    fn the_last_that_matches_decides() {
        let paths = ["README.md", "README-secret.md", "docs/a.md"];
        assert_eq!(left_out("*.md\n!README*.md\nREADME-secret.md", &paths), ["README-secret.md"]);
        assert_eq!(left_out("*.md\nREADME-secret.md\n!README*.md", &paths), [""; 0]);
        assert_eq!(left_out("docs\n!docs/a.md", &paths), [""; 0]);
        assert_eq!(left_out("!docs/a.md\ndocs", &paths), ["docs/a.md"]);
        assert_eq!(left_out("*\n!docs", &paths), ["README.md", "README-secret.md"]);
    }

    #[test]
    fn special_characters_mean_themselves() {
        let paths = ["a.b", "aXb", "a+b", "a(b", "[x]", "x", "#a", "{a,b}", "a$b", "a^b"];
        for path in ["a.b", "a+b", "a(b", "{a,b}", "a$b", "a^b"] {
            assert_eq!(left_out(path, &paths), [path]);
        }
        assert_eq!(left_out("\\[x\\]", &paths), ["[x]"]);
        assert_eq!(left_out("[w-y]", &paths), ["x"]);
        assert_eq!(left_out("a[^X]b", &["aXb", "aYb"]), ["aYb"]);
        assert_eq!(left_out("# a comment\n\\#a", &paths), ["#a"]);
        assert_eq!(left_out("\u{feff}\n\n  x  \n.\n/\n", &paths), ["x"]);
    }

    #[test]
    fn invalid_patterns_are_reported_with_their_line() {
        assert_eq!(Ignore::parse("a\n!\n").unwrap_err(), "`!` takes nothing back (line 2)");
        assert_eq!(Ignore::parse("[a\n").unwrap_err(), "the pattern `[a` cannot be understood (line 1)");
    }

    #[test]
    fn what_editors_keep_for_a_while_is_left_out() {
        let paths = ["src/.main.py.swp", "main.py~", "src/#main.py#", "src/.#main.py", "src/main.py", ".env", "src/#a"];
        assert_eq!(left_out("", &paths), ["src/.main.py.swp", "main.py~", "src/#main.py#", "src/.#main.py"]);
        assert_eq!(left_out("!**/*~", &["main.py~"]), [""; 0]);
    }

    #[test]
    fn excluded_directory_is_entered_only_for_exceptions() {
        let enters = |text: &str, directory: &str| Ignore::parse(text).unwrap().takes_back_in(directory);
        assert!(!enters("node_modules", "node_modules"));
        assert!(!enters("*\n!src", "node_modules"));
        assert!(enters("*\n!src/a/b", "src"));
        assert!(enters("*\n!src/a/b", "src/a"));
        assert!(!enters("*\n!src/a/b", "src/b"));
        assert!(enters("*\n!*/b", "src"));
        assert!(enters("*\n!**/b", "x/y/z"));
    }
}
