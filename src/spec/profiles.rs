//! Profiles: a service or job with `profiles` exists only while one of them is active.

use std::collections::BTreeSet;

use super::model::Service;

/// Every profile.
const EVERY: &str = "*";

/// Active profiles. A service that is named by the user is active as well, with all its profiles.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Profiles {
    names: BTreeSet<String>,
    services: BTreeSet<String>,
}

impl Profiles {
    /// Activates these profiles, `*` all of them, and these services.
    pub fn new(names: &[String], services: &[String]) -> Profiles {
        let names = names.iter().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
        Profiles { names, services: services.iter().cloned().collect() }
    }

    /// Returns the active profiles.
    pub fn names(&self) -> Vec<String> {
        self.names.iter().cloned().collect()
    }

    /// Returns the services that are active in any case.
    pub fn services(&self) -> Vec<String> {
        self.services.iter().cloned().collect()
    }

    /// Activates every profile.
    pub fn all() -> Profiles {
        Profiles::new(&[EVERY.to_owned()], &[])
    }

    /// Activates the profiles of the named services.
    #[must_use]
    pub(super) fn with_those_of<'s>(&self, services: impl Iterator<Item = &'s Service>) -> Profiles {
        let mut profiles = self.clone();
        for service in services.filter(|service| self.services.contains(service.container.name.as_str())) {
            profiles.names.extend(service.container.profiles.iter().map(ToString::to_string));
        }
        profiles
    }

    /// Returns true if the service exists.
    pub fn activate(&self, service: &Service) -> bool {
        let profiles = &service.container.profiles;
        profiles.is_empty()
            || self.names.contains(EVERY)
            || profiles.iter().any(|profile| self.names.contains(profile.as_str()))
    }
}
