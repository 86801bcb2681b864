//! Names of ours for the keys of a compose file.

use std::collections::{BTreeMap, BTreeSet};

use super::super::super::value::Name;

/// Names by the keys of a section.
pub(super) struct Names(BTreeMap<String, String>);

impl Names {
    /// Keeps the keys that are names, and renames the others: lower case, `-` for what is not allowed.
    pub fn new<'k>(keys: impl Iterator<Item = &'k str>) -> Names {
        let (valid, others): (Vec<&str>, Vec<&str>) = keys.partition(|key| key.parse::<Name>().is_ok());
        let mut taken: BTreeSet<String> = valid.iter().map(|key| (*key).to_owned()).collect();
        let mut names: BTreeMap<String, String> =
            valid.into_iter().map(|key| (key.to_owned(), key.to_owned())).collect();
        for key in others {
            let base = similar(key);
            let numbered = (2..).map(|number| format!("{base}-{number}"));
            let name = std::iter::once(base.clone()).chain(numbered).find(|name| taken.insert(name.clone()));
            names.insert(key.to_owned(), name.unwrap_or(base));
        }
        Names(names)
    }

    /// Returns the name of a key; the key itself if it is not known.
    pub fn of(&self, key: &str) -> String {
        self.0.get(key).cloned().unwrap_or_else(|| key.to_owned())
    }
}

fn similar(key: &str) -> String {
    let allowed = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' { c } else { '-' };
    let name: String = key.to_ascii_lowercase().chars().map(allowed).collect();
    match name.trim_matches(['-', '_']) {
        "" => "service".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_no_names_are_renamed() {
        let names = Names::new(["web", "Keycloak", "wazuh.manager", "wazuh-manager", "_x_"].into_iter());
        let renamed = ["web", "Keycloak", "wazuh.manager", "wazuh-manager", "_x_", "unknown"].map(|key| names.of(key));
        assert_eq!(renamed, ["web", "keycloak", "wazuh-manager-2", "wazuh-manager", "x", "unknown"]);
    }
}
