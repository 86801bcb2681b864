//! Which values of the specs are hidden in text, and which fields of a container are secret.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::fingerprint::{Change, change_of};
use super::{Desired, Service, VolumeSource};
use crate::spec::Specs;
use crate::spec::secrets::{SecretFields, Secrets};

/// Words of our own in texts: hiding one that happens to be a value would hide nothing and make the text unreadable.
const OWN_WORDS: &str = "creating created starting started stopping stopped removing removed replacing replaced \
                         updating updated restarting restarted renaming connecting disconnecting unpausing pulling \
                         pulled building built collecting changed requested missing unused waiting pending running \
                         succeeded failed paused exited healthy unhealthy rolled-back reconciling watching network \
                         volume image container containers services outputs dependency depends specs engine";

/// Returns the values to hide in text: those of the specs without what everyone can see, such as the name of a service to
/// which a variable is set.
pub fn secrets(specs: &Specs, desired: &Desired) -> Secrets {
    let mut secrets = specs.secrets.clone();
    secrets.remove_public(&public_text(desired));
    secrets
}

/// Our own words, names, images and addresses, one a line.
fn public_text(desired: &Desired) -> String {
    let mut text = format!("{OWN_WORDS}\n{}\n{}\n{}\n", desired.group, desired.source, desired.network);
    for name in desired.networks.keys() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}");
    }
    for service in desired.services.values() {
        let config = &service.config;
        let words = [&service.service, &config.image, &service.location].into_iter();
        let words = words.chain(&config.aliases).chain(&config.hostname).cloned();
        let ports = config.ports.iter().map(ToString::to_string);
        let volumes = config.volumes.iter().filter_map(|volume| match &volume.source {
            VolumeSource::Named(name) => Some(name.clone()),
            _ => None,
        });
        for word in words.chain(ports).chain(volumes) {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{word}");
        }
    }
    text
}

/// The secret fields that a container is made from, and `ping`, by name and each as a whole: `command`, `labels`.
pub(super) fn secret_fields(fields: &SecretFields) -> BTreeSet<String> {
    let names = fields.keys().map(|path| path.split('.').next().unwrap_or_default());
    let is_shown = |name: &&str| *name == PING || matches!(change_of(name), Change::Replace | Change::Update);
    names.filter(is_shown).map(str::to_owned).collect()
}

/// Field of the readiness probe.
const PING: &str = "ping";

/// Returns true if the readiness probe of a service has a secret field.
pub fn has_secret_ping(service: &Service) -> bool {
    service.secret.contains(PING)
}
