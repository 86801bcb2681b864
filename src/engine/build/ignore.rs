//! `.dockerignore`: which files of a context are excluded.
//!
//! Docker's rules, which differ from git's: every pattern is relative to the root of the context, one that matches a
//! directory applies to everything in it, and the last matching pattern decides; `!` includes again. Handles paths
//! only.

use regex_lite::Regex;

/// The repository of the context, and temporary files of editors. Excluded unless a pattern includes them again:
/// otherwise each commit, or opening a file, would change the sources.
const DEFAULTS: [&str; 5] = [".git", "**/.*.sw?", "**/*~", "**/.#*", "**/#*#"];

/// The patterns, in order.
#[derive(Debug)]
pub struct Ignore {
    patterns: Vec<Pattern>,
}

#[derive(Debug)]
struct Pattern {
    /// For a whole path.
    regex: Regex,
    /// For each component; `None`: any number of components.
    parts: Vec<Option<Regex>>,
    /// Whether it includes again (`!`).
    exception: bool,
}

/// The patterns that match a path or a parent directory of it.
#[derive(Debug, Clone)]
pub struct Matches(Vec<bool>);

impl Ignore {
    /// Parses the text of an ignore file.
    ///
    /// # Errors
    ///
    /// A message for the user.
    pub fn parse(text: &str) -> Result<Ignore, String> {
        let text = text.trim_start_matches('\u{feff}');
        let mut patterns = Vec::new();
        for line in DEFAULTS {
            patterns.extend(pattern(line)?);
        }
        for (number, line) in (1..).zip(text.lines()) {
            // A comment starts in the first column.
            if !line.starts_with('#') {
                patterns.extend(pattern(line).map_err(|why| format!("{why} (line {number})"))?);
            }
        }
        Ok(Ignore { patterns })
    }

    /// The matches of the context itself: none.
    pub fn top(&self) -> Matches {
        Matches(vec![false; self.patterns.len()])
    }

    /// The matches of a path, relative to the context and with `/`; `above` are the matches of its directory.
    pub fn matches(&self, path: &str, above: &Matches) -> Matches {
        let each = self.patterns.iter().zip(&above.0);
        Matches(each.map(|(pattern, above)| *above || pattern.regex.is_match(path)).collect())
    }

    /// Returns true if these matches exclude a path.
    pub fn leaves_out(&self, matches: &Matches) -> bool {
        let last = self.patterns.iter().zip(&matches.0).rfind(|(_, matches)| **matches);
        last.is_some_and(|(pattern, _)| !pattern.exception)
    }

    /// Returns true if something in an excluded directory may be included again.
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
                // Any number of directories may follow.
                Some(None) => return true,
                _ => return false,
            }
        }
        parts.next().is_some()
    }
}

/// Parses a line; `None` if it is blank or a comment.
fn pattern(line: &str) -> Result<Option<Pattern>, String> {
    let line = line.trim();
    let (exception, text) = match line.strip_prefix('!') {
        Some(rest) => (true, rest.trim()),
        None => (false, line),
    };
    if exception && text.is_empty() {
        return Err("`!` pattern is empty".into());
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

/// The components of a path, without empty ones and `.`.
fn cleaned(path: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => _ = parts.pop(),
            // There is no parent above the root.
            ".." if path.starts_with('/') => {}
            part => parts.push(part),
        }
    }
    parts
}

/// A pattern as a regular expression: `*` and `?` match within a component, `**` any number of components.
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
    // A file name may contain a newline.
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

    /// Returns the paths that are ignored.
    fn ignored_paths<'p>(text: &str, paths: &[&'p str]) -> Vec<&'p str> {
        let ignore = Ignore::parse(text).unwrap();
        paths.iter().copied().filter(|path| leaves_out(&ignore, path)).collect()
    }

    #[test]
    fn patterns_are_anchored_at_the_root() {
        let paths = ["temp", "temp/a", "src/temp", "src/temp/a", "temporary"];
        assert_eq!(ignored_paths("temp", &paths), ["temp", "temp/a"]);
        assert_eq!(ignored_paths("/temp/", &paths), ["temp", "temp/a"]);
        assert_eq!(ignored_paths("./src/../temp", &paths), ["temp", "temp/a"]);
        assert_eq!(ignored_paths("*/temp", &paths), ["src/temp", "src/temp/a"]);
        assert_eq!(ignored_paths("**/temp", &paths), ["temp", "temp/a", "src/temp", "src/temp/a"]);
        assert_eq!(ignored_paths("temp*", &paths), ["temp", "temp/a", "temporary"]);
        assert_eq!(ignored_paths("tem?", &paths), ["temp", "temp/a"]);
    }

    #[test]
    fn double_stars_match_any_number_of_directories() {
        let paths = ["a.go", "x/a.go", "x/y/a.go", "x/a.rs", "x"];
        assert_eq!(ignored_paths("**/*.go", &paths), ["a.go", "x/a.go", "x/y/a.go"]);
        assert_eq!(ignored_paths("x/**", &paths), ["x/a.go", "x/y/a.go", "x/a.rs"]);
        assert_eq!(ignored_paths("x/**/a.go", &paths), ["x/a.go", "x/y/a.go"]);
        assert_eq!(ignored_paths("**", &paths), paths);
        assert_eq!(ignored_paths("*.go", &paths), ["a.go"]);
    }

    #[test]
    fn last_matching_pattern_wins() {
        let paths = ["README.md", "README-secret.md", "docs/a.md"];
        assert_eq!(ignored_paths("*.md\n!README*.md\nREADME-secret.md", &paths), ["README-secret.md"]);
        assert_eq!(ignored_paths("*.md\nREADME-secret.md\n!README*.md", &paths), [""; 0]);
        assert_eq!(ignored_paths("docs\n!docs/a.md", &paths), [""; 0]);
        assert_eq!(ignored_paths("!docs/a.md\ndocs", &paths), ["docs/a.md"]);
        assert_eq!(ignored_paths("*\n!docs", &paths), ["README.md", "README-secret.md"]);
    }

    #[test]
    fn other_special_characters_are_literal() {
        let paths = ["a.b", "aXb", "a+b", "a(b", "[x]", "x", "#a", "{a,b}", "a$b", "a^b"];
        for path in ["a.b", "a+b", "a(b", "{a,b}", "a$b", "a^b"] {
            assert_eq!(ignored_paths(path, &paths), [path]);
        }
        assert_eq!(ignored_paths("\\[x\\]", &paths), ["[x]"]);
        assert_eq!(ignored_paths("[w-y]", &paths), ["x"]);
        assert_eq!(ignored_paths("a[^X]b", &["aXb", "aYb"]), ["aYb"]);
        assert_eq!(ignored_paths("# a comment\n\\#a", &paths), ["#a"]);
        assert_eq!(ignored_paths("\u{feff}\n\n  x  \n.\n/\n", &paths), ["x"]);
    }

    #[test]
    fn invalid_patterns_are_reported_with_their_line() {
        assert_eq!(Ignore::parse("a\n!\n").unwrap_err(), "`!` pattern is empty (line 2)");
        assert_eq!(Ignore::parse("[a\n").unwrap_err(), "the pattern `[a` cannot be understood (line 1)");
    }

    #[test]
    fn temporary_editor_files_are_ignored() {
        let paths = ["src/.main.py.swp", "main.py~", "src/#main.py#", "src/.#main.py", "src/main.py", ".env", "src/#a"];
        assert_eq!(ignored_paths("", &paths), ["src/.main.py.swp", "main.py~", "src/#main.py#", "src/.#main.py"]);
        assert_eq!(ignored_paths("!**/*~", &["main.py~"]), [""; 0]);
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
