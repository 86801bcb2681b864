//! Lexical operations on paths.

/// Joins a path to a directory, unless it is absolute, and removes `.`, `..` and repeated slashes.
pub(crate) fn join(directory: &str, path: &str) -> String {
    if path.starts_with('/') { clean(path) } else { clean(&format!("{directory}/{path}")) }
}

/// Removes `.`, `..` and repeated slashes.
pub(crate) fn clean(path: &str) -> String {
    let is_absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if is_absolute => {}
            part => parts.push(part),
        }
    }
    match (is_absolute, parts.join("/")) {
        (true, path) => format!("/{path}"),
        (false, path) if path.is_empty() => ".".to_owned(),
        (false, path) => path,
    }
}

/// Returns a path relative to a directory: `./conf`, `../conf`. Both are absolute and clean.
pub(crate) fn relative(directory: &str, path: &str) -> String {
    fn parts(path: &str) -> Vec<&str> {
        path.split('/').filter(|part| !part.is_empty()).collect()
    }
    let (directory, path) = (parts(directory), parts(path));
    let common = directory.iter().zip(&path).take_while(|(one, other)| one == other).count();
    let up = directory.len() - common;
    let start = if up == 0 { vec!["."] } else { vec![".."; up] };
    [&start[..], &path[common..]].concat().join("/")
}

/// Returns the directory of a file.
pub(crate) fn parent(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(at) => &path[..at],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_joined_and_cleaned() {
        for (path, expected) in [
            ("a", "/p/a"),
            ("./a/", "/p/a"),
            ("../a//b/./c", "/a/b/c"),
            ("../../..", "/"),
            ("/x/../y", "/y"),
            ("", "/p"),
        ] {
            assert_eq!(join("/p", path), expected, "{path}");
        }
        assert_eq!(clean("../a/.."), "..");
        assert_eq!(clean(""), ".");
        assert_eq!(relative("/p/specs", "/p/data"), "../data");
        assert_eq!(relative("/p", "/p/data/x"), "./data/x");
        assert_eq!(relative("/p", "/p"), ".");
        assert_eq!(relative("/p/a", "/q"), "../../q");
        assert_eq!([parent("/a/b"), parent("/a"), parent("/")], ["/a", "/", "/"]);
    }
}
