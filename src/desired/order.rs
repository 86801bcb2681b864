//! Dependency order and transitive selections of services. Pure functions.

use std::collections::{BTreeMap, BTreeSet};

use super::{Desired, Job, Kind, Rerun, Service};

/// Dependencies by service name.
pub type Needs = BTreeMap<String, BTreeSet<String>>;

/// Sorts services topologically, dependencies first. Dependencies without an entry of their own are omitted. On a cycle,
/// which old labels may contain but checked specs cannot, the edge that closes it is ignored.
pub fn dependencies_first(needs: &Needs) -> Vec<String> {
    fn visit<'a>(name: &'a str, needs: &'a Needs, seen: &mut BTreeSet<&'a str>, order: &mut Vec<String>) {
        let Some((name, needed)) = needs.get_key_value(name) else {
            return;
        };
        if !seen.insert(name) {
            return;
        }
        for next in needed {
            visit(next, needs, seen, order);
        }
        order.push(name.clone());
    }
    let mut seen = BTreeSet::new();
    let mut order = Vec::with_capacity(needs.len());
    for name in needs.keys() {
        visit(name, needs, &mut seen, &mut order);
    }
    order
}

/// Returns the names with their direct and indirect dependencies.
pub fn with_dependencies(names: &BTreeSet<String>, needs: &Needs) -> BTreeSet<String> {
    let mut all = names.clone();
    let mut open: Vec<&String> = names.iter().collect();
    while let Some(name) = open.pop() {
        for needed in needs.get(name).into_iter().flatten() {
            if all.insert(needed.clone()) {
                open.push(needed);
            }
        }
    }
    all
}

/// Returns the services with their direct and indirect dependents that have `restart: true` or are jobs with
/// `rerun: with-dependencies`.
pub fn with_restarted(names: &BTreeSet<String>, desired: &Desired) -> BTreeSet<String> {
    let mut all = names.clone();
    let mut open: Vec<String> = names.iter().cloned().collect();
    while let Some(name) = open.pop() {
        let restarts = |service: &&Service| {
            let reruns = matches!(service.kind, Kind::Job(Job { rerun: Rerun::WithDependencies, .. }));
            service.dependencies.iter().any(|need| need.name == name && (need.restart || reruns))
        };
        for dependent in desired.services.values().filter(restarts) {
            if all.insert(dependent.service.clone()) {
                open.push(dependent.service.clone());
            }
        }
    }
    all
}

/// Returns the first pair (dependent, dependency) of which `needing` accepts the dependent and `needed` the dependency.
pub fn first_need(
    needs: &Needs,
    needing: impl Fn(&str) -> bool,
    needed: impl Fn(&str) -> bool,
) -> Option<(&str, &str)> {
    needs.iter().filter(|(name, _)| needing(name)).find_map(|(name, dependencies)| {
        dependencies.iter().find(|dependency| needed(dependency)).map(|dependency| (name.as_str(), dependency.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(pairs: &[(&str, &[&str])]) -> Needs {
        pairs
            .iter()
            .map(|(name, needed)| ((*name).to_owned(), needed.iter().map(|n| (*n).to_owned()).collect()))
            .collect()
    }

    #[test]
    fn dependencies_come_first() {
        let diamond = needs(&[("a", &["b", "c"]), ("b", &["d"]), ("c", &["d"]), ("d", &[])]);
        assert_eq!(dependencies_first(&diamond), ["d", "b", "c", "a"]);
    }

    #[test]
    fn cycle_of_old_labels_gets_an_arbitrary_order() {
        let cycle = needs(&[("a", &["b"]), ("b", &["a", "gone"])]);
        assert_eq!(dependencies_first(&cycle), ["b", "a"]);
    }

    #[test]
    fn long_chains_are_sorted() {
        let names: Vec<String> = (0..5_000).map(|number| format!("s{number:05}")).collect();
        let chain: Needs = names
            .windows(2)
            .map(|pair| (pair[0].clone(), [pair[1].clone()].into()))
            .chain([(names[4_999].clone(), BTreeSet::new())])
            .collect();
        let order = dependencies_first(&chain);
        assert_eq!((order.first(), order.last()), (names.last(), names.first()));
    }

    #[test]
    fn dependencies_are_included() {
        let chain = needs(&[("a", &["b"]), ("b", &["c"]), ("c", &[]), ("x", &[])]);
        let all = with_dependencies(&["a".to_owned()].into(), &chain);
        assert_eq!(all.into_iter().collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[test]
    fn first_need_returns_the_chain() {
        let chain = needs(&[("a", &["b"]), ("b", &[])]);
        assert_eq!(first_need(&chain, |name| name == "a", |name| name == "b"), Some(("a", "b")));
        assert_eq!(first_need(&chain, |name| name == "b", |name| name == "a"), None);
    }
}
