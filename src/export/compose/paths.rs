//! Paths of the specs, as they are written in the compose file.

use super::written::Unsaid;
use crate::spec::paths;

/// Directories, absolute and clean.
#[derive(Debug, Clone, Copy)]
pub(super) struct Directories<'a> {
    /// The spec directory, at which the paths of specs start.
    pub specs: &'a str,
    /// The directory of the compose file, at which its paths start.
    pub file: &'a str,
}

impl Directories<'_> {
    /// Converts a path, with dollars doubled. Absolute ones and those below the home directory stay.
    pub fn rebased(self, path: &str) -> String {
        let is_fixed = path.starts_with('/') || path == "~" || path.starts_with("~/");
        let path = if is_fixed { path.to_owned() } else { paths::relative(self.file, &paths::join(self.specs, path)) };
        path.replace('$', "$$")
    }

    /// Returns an absolute path as one relative to the compose file.
    pub fn relative(self, path: &str) -> String {
        paths::relative(self.file, path)
    }

    /// Converts a path with variables as it is written in the compose file: `./${DIR}/conf`. `value`: the path.
    pub fn rebased_template(self, template: &str, value: &str) -> Result<String, Unsaid> {
        let known = template.split("${").next().unwrap_or_default();
        // The directory in front of the first variable.
        let (head, tail) = match known.rfind('/') {
            Some(at) => template.split_at(at + 1),
            None => ("", template),
        };
        match head {
            "" if value.starts_with(['/', '~']) || self.specs == self.file => Ok(template.to_owned()),
            "" if known.is_empty() => Err(Unsaid("the path begins with a variable, and is relative to the specs")),
            head => {
                let head = self.rebased(&head.replace("$$", "$"));
                Ok(format!("{}/{tail}", head.trim_end_matches('/')))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOP: Directories<'_> = Directories { specs: "/srv/shop/specs", file: "/srv/shop" };

    #[test]
    fn paths_start_at_the_file() {
        for (path, expected) in [
            ("./conf", "./specs/conf"),
            ("conf/a.env", "./specs/conf/a.env"),
            ("../data/./x", "./data/x"),
            ("..", "."),
            ("../../other", "../other"),
            ("/etc/hosts", "/etc/hosts"),
            ("~/x", "~/x"),
            ("./a$b", "./specs/a$$b"),
        ] {
            assert_eq!(SHOP.rebased(path), expected, "{path}");
        }
        let same = Directories { specs: "/srv/shop", file: "/srv/shop" };
        assert_eq!([same.rebased("."), same.rebased("./a")], [".", "./a"]);
        let far = Directories { specs: "/srv/shop", file: "/home/ann" };
        assert_eq!(far.rebased("./a"), "../../srv/shop/a");
    }

    #[test]
    fn variables_in_paths_stay() {
        let written = |template: &str, value: &str| SHOP.rebased_template(template, value).ok();
        for (template, value, expected) in [
            ("./${DIR}/conf", "./a/conf", Some("./specs/${DIR}/conf")),
            ("./conf${N:-1}", "./conf1", Some("./specs/conf${N:-1}")),
            ("../data/${X}", "../data/1", Some("./data/${X}")),
            ("../${X}", "../1", Some("./${X}")),
            ("${DIR}/conf", "/a/conf", Some("${DIR}/conf")),
            ("${DIR:-./data}", "./data", None),
            ("/etc/${X}", "/etc/a", Some("/etc/${X}")),
            ("~/${X}", "~/a", Some("~/${X}")),
        ] {
            assert_eq!(written(template, value).as_deref(), expected, "{template}");
        }
        let same = Directories { specs: "/srv/shop", file: "/srv/shop" };
        assert_eq!(same.rebased_template("${DIR:-./data}", "./data").ok().as_deref(), Some("${DIR:-./data}"));
    }
}
