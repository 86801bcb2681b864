//! Registries: defaults of an image reference, credentials, progress and errors of a pull.
//!
//! Follows the formats of the Docker CLI. Sends nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use docker_credential::{CredentialRetrievalError, DockerCredential};

use super::PullProgress;
use crate::spec::value::ImageParts;

/// An image reference with the defaults of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference<'a> {
    /// Host of the registry; `docker.io` by default.
    pub registry: &'a str,
    /// The reference without tag and digest, as written.
    pub repository: &'a str,
    /// The digest, else the tag; `latest` by default.
    pub version: &'a str,
}

impl<'a> Reference<'a> {
    /// Parses a reference. A digest takes precedence over a tag.
    pub fn parse(text: &'a str) -> Self {
        let parts = ImageParts::split(text);
        let (registry, _) = parts.registry();
        let version = parts.digest.or(parts.tag).unwrap_or("latest");
        Reference { registry: registry.unwrap_or("docker.io"), repository: parts.name, version }
    }

    /// The key of the registry's credentials in Docker's `config.json`.
    pub fn credentials_key(&self) -> &'a str {
        match self.registry {
            "docker.io" | "index.docker.io" | "registry-1.docker.io" => "https://index.docker.io/v1/",
            registry => registry,
        }
    }
}

/// Looks up the credentials of a registry as the Docker CLI does. Blocks: it may run a credential helper. `None` if
/// there are none; an error if the helper or a file fails.
pub fn credentials(config_dir: &Path, key: &str) -> Result<Option<DockerCredential>, String> {
    let Ok(file) = File::open(config_dir.join("config.json")) else {
        return Ok(None);
    };
    match docker_credential::get_credential_from_reader(BufReader::new(file), key) {
        Ok(credential) => Ok(Some(credential)),
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(None),
        Err(CredentialRetrievalError::HelperFailure { stdout, .. }) if stdout.contains("credentials not found") => {
            Ok(None)
        }
        Err(CredentialRetrievalError::HelperFailure { helper, stdout, stderr }) => {
            let said = [stderr.trim(), stdout.trim()]
                .into_iter()
                .find(|text| !text.is_empty())
                .unwrap_or("nothing")
                .to_owned();
            Err(format!("{helper} says: {said}"))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Progress of a pull so far, by layer.
#[derive(Debug, Default)]
pub struct PullTracker {
    layers: BTreeMap<String, Layer>,
}

#[derive(Debug, Default)]
struct Layer {
    done: bool,
    bytes: u64,
}

impl PullTracker {
    /// Applies a message: the layer's id, the status, and the bytes downloaded, if reported.
    pub fn note(&mut self, id: Option<&str>, status: &str, current: Option<u64>) {
        let Some(id) = id else { return };
        let known = self.layers.contains_key(id);
        let starts = matches!(status, "Pulling fs layer" | "Already exists" | "Waiting" | "Downloading");
        // Other messages have an id as well: the tag being pulled.
        if !known && !starts {
            return;
        }
        let layer = self.layers.entry(id.to_owned()).or_default();
        match status {
            "Pull complete" | "Already exists" => layer.done = true,
            // Extraction counts from 0 again.
            "Downloading" => layer.bytes = layer.bytes.max(current.unwrap_or(0)),
            _ => {}
        }
    }

    /// The total over all layers.
    pub fn progress(&self) -> PullProgress {
        PullProgress {
            done: self.layers.values().filter(|layer| layer.done).count(),
            total: self.layers.len(),
            bytes: self.layers.values().map(|layer| layer.bytes).sum(),
        }
    }
}

/// Shortens the engine's message about an unreachable registry: it repeats the request, and the reason comes last.
pub fn trouble(registry: &str, message: &str) -> String {
    const SIGNS: [&str; 7] = [
        "dial tcp",
        "no such host",
        "connection refused",
        "TLS handshake timeout",
        "Client.Timeout exceeded",
        "i/o timeout",
        "context deadline exceeded",
    ];
    if !SIGNS.iter().any(|sign| message.contains(sign)) {
        return message.to_owned();
    }
    let reason = if message.contains("Client.Timeout") || message.contains("deadline exceeded") {
        "no answer in time"
    } else {
        message.rsplit(": ").next().unwrap_or(message)
    };
    format!("the registry {registry} cannot be reached: {reason}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (&str, &str, &str, &str) {
        let reference = Reference::parse(text);
        (reference.registry, reference.repository, reference.version, reference.credentials_key())
    }

    #[test]
    fn references_are_parsed_like_docker() {
        let hub = "https://index.docker.io/v1/";
        assert_eq!(parts("debian"), ("docker.io", "debian", "latest", hub));
        assert_eq!(parts("debian:12"), ("docker.io", "debian", "12", hub));
        assert_eq!(parts("shop/api:1"), ("docker.io", "shop/api", "1", hub));
        assert_eq!(parts("docker.io/library/debian"), ("docker.io", "docker.io/library/debian", "latest", hub));
        assert_eq!(parts("localhost/api"), ("localhost", "localhost/api", "latest", "localhost"));
        assert_eq!(parts("localhost:5000/api"), ("localhost:5000", "localhost:5000/api", "latest", "localhost:5000"));
        assert_eq!(parts("reg:5000/a/b:2"), ("reg:5000", "reg:5000/a/b", "2", "reg:5000"));
        assert_eq!(parts("ghcr.io/a/b:2@sha256:ff"), ("ghcr.io", "ghcr.io/a/b", "sha256:ff", "ghcr.io"));
    }

    #[test]
    fn progress_is_summed_over_layers() {
        let mut tally = PullTracker::default();
        tally.note(Some("12"), "Pulling from library/debian", None);
        tally.note(Some("a"), "Pulling fs layer", None);
        tally.note(Some("b"), "Already exists", None);
        tally.note(Some("a"), "Downloading", Some(700));
        tally.note(Some("a"), "Extracting", Some(30));
        tally.note(None, "Digest: sha256:ff", None);
        assert_eq!(tally.progress(), PullProgress { done: 1, total: 2, bytes: 700 });
        tally.note(Some("a"), "Pull complete", None);
        assert_eq!(tally.progress(), PullProgress { done: 2, total: 2, bytes: 700 });
    }

    #[test]
    fn unreachable_registry_error_is_short() {
        let table = [
            (
                "Get \"https://registry-1.docker.io/v2/\": dial tcp: lookup registry-1.docker.io: no such host",
                "the registry r cannot be reached: no such host",
            ),
            (
                "Get \"http://localhost:5/v2/\": dial tcp 127.0.0.1:5: connect: connection refused",
                "the registry r cannot be reached: connection refused",
            ),
            (
                "Get \"https://r/v2/\": net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)",
                "the registry r cannot be reached: no answer in time",
            ),
            (
                "manifest for debian:nope not found: manifest unknown",
                "manifest for debian:nope not found: manifest unknown",
            ),
        ];
        for (message, short) in table {
            assert_eq!(trouble("r", message), short);
        }
    }

    #[test]
    fn credentials_are_read_from_the_configuration() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(credentials(directory.path(), "ghcr.io"), Ok(None));
        let config =
            r#"{"auths": {"ghcr.io": {"auth": "YW5uOnNlY3JldA=="}}, "credHelpers": {"bad.io": "no-such-helper"}}"#;
        std::fs::write(directory.path().join("config.json"), config).unwrap();
        let ann = DockerCredential::UsernamePassword("ann".into(), "secret".into());
        assert_eq!(credentials(directory.path(), "ghcr.io"), Ok(Some(ann)));
        assert_eq!(credentials(directory.path(), "quay.io"), Ok(None));
        assert!(credentials(directory.path(), "bad.io").is_err());
    }
}
