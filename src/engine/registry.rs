//! Registries: defaults of an image reference, credentials, progress and errors of a pull.
//!
//! Follows the formats of the Docker CLI. Sends nothing to an engine or a registry.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::process::Stdio;

use docker_credential::{CredentialRetrievalError, DockerCredential};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use super::{PullProgress, io_message};
use crate::spec::value::ImageParts;

/// Maximum size of the configuration, and of what a credential helper prints, in bytes.
const MAX_SIZE: u64 = 1 << 20;
/// Maximum length of the message of a helper, in characters.
const MAX_MESSAGE: usize = 1000;

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

/// Where the credentials of a registry are.
#[derive(Debug, PartialEq)]
pub enum Credentials {
    None,
    Found(DockerCredential),
    /// A credential helper has them: the name of its program.
    Helper(String),
}

/// Looks up the credentials of a registry in the configuration, in the order of the Docker CLI. Blocks.
///
/// # Errors
///
/// If the configuration is invalid.
pub fn credentials(config_dir: &Path, key: &str) -> Result<Credentials, String> {
    let Ok(file) = File::open(config_dir.join("config.json")) else {
        return Ok(Credentials::None);
    };
    let mut config: Map<String, Value> = serde_json::from_reader(BufReader::new(file.take(MAX_SIZE)))
        .map_err(|error| format!("config.json is invalid: {error}"))?;
    let program = |name: &Value| {
        let name = name.as_str().filter(|name| !name.is_empty())?;
        Some(Credentials::Helper(format!("docker-credential-{name}")))
    };
    // The library would keep everything that a helper prints.
    let (helpers, store) = (config.remove("credHelpers"), config.remove("credsStore"));
    if let Some(helper) = helpers.as_ref().and_then(|helpers| program(helpers.get(key)?)) {
        return Ok(helper);
    }
    match docker_credential::get_credential_from_reader(Value::from(config).to_string().as_bytes(), key) {
        Ok(credential) => Ok(Credentials::Found(credential)),
        Err(CredentialRetrievalError::NoCredentialConfigured) => {
            Ok(store.as_ref().and_then(program).unwrap_or(Credentials::None))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Response of a credential helper.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperResponse {
    username: String,
    secret: String,
}

/// Asks a credential helper for the credentials of a registry; `None` if it has none. It is killed if this is dropped.
///
/// Protocol: <https://github.com/docker/docker-credential-helpers#development>.
///
/// # Errors
///
/// If it cannot be run, fails, prints more than [`MAX_SIZE`] bytes, or its response is invalid.
pub async fn ask_helper(program: &str, key: &str) -> Result<Option<DockerCredential>, String> {
    let failed = |error: io::Error| format!("{program}: {}", io_message(&error));
    let mut child = tokio::process::Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // It may exit without reading.
        let _ = stdin.write_all(key.as_bytes()).await;
    }
    let output = tokio::try_join!(read_limited(child.stdout.take()), read_limited(child.stderr.take()));
    let (stdout, stderr) = output.map_err(failed)?;
    let status = child.wait().await.map_err(failed)?;
    if status.success() {
        let response: HelperResponse =
            serde_json::from_slice(&stdout).map_err(|_| format!("the response of {program} is invalid"))?;
        return Ok(Some(match &*response.username {
            "<token>" => DockerCredential::IdentityToken(response.secret),
            _ => DockerCredential::UsernamePassword(response.username, response.secret),
        }));
    }
    let [stdout, stderr] = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
    if stdout.contains("credentials not found") {
        return Ok(None);
    }
    let said = [stderr, stdout].into_iter().find(|text| !text.is_empty()).unwrap_or_else(|| "nothing".into());
    Err(format!("{program} says: {}", said.chars().take(MAX_MESSAGE).collect::<String>()))
}

async fn read_limited(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(MAX_SIZE + 1).read_to_end(&mut bytes).await?;
    }
    match bytes.len() as u64 > MAX_SIZE {
        true => Err(io::Error::other(format!("its output is larger than {} MiB", MAX_SIZE >> 20))),
        false => Ok(bytes),
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
    use std::os::unix::fs::PermissionsExt;

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
        let look_up = |key: &str| credentials(directory.path(), key);
        assert_eq!(look_up("ghcr.io"), Ok(Credentials::None));
        let ann = Credentials::Found(DockerCredential::UsernamePassword("ann".into(), "secret".into()));
        let helper = |name: &str| Ok(Credentials::Helper(format!("docker-credential-{name}")));
        let auths = r#""auths": {"ghcr.io": {"auth": "YW5uOnNlY3JldA=="}, "own.io": {"auth": "YW5uOnNlY3JldA=="}}"#;
        let write = |text: String| std::fs::write(directory.path().join("config.json"), text).unwrap();
        write(format!(r#"{{{auths}, "credHelpers": {{"own.io": "own", "empty.io": ""}}}}"#));
        assert_eq!(look_up("ghcr.io"), Ok(ann));
        assert_eq!(look_up("own.io"), helper("own"), "before the file");
        assert_eq!(look_up("empty.io"), Ok(Credentials::None));
        assert_eq!(look_up("quay.io"), Ok(Credentials::None));
        write(format!(r#"{{{auths}, "credsStore": "store"}}"#));
        assert!(matches!(look_up("ghcr.io"), Ok(Credentials::Found(_))), "before the store");
        assert_eq!(look_up("quay.io"), helper("store"));
        write("{".into());
        assert!(look_up("ghcr.io").unwrap_err().starts_with("config.json is invalid: "));
    }

    #[tokio::test]
    async fn credential_helper_is_asked_with_a_limit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("helper");
        let program = path.to_str().unwrap();
        std::fs::write(&path, "#!/bin/sh\n. $0.sh\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let ask = async |script: &str| {
            std::fs::write(path.with_extension("sh"), script).unwrap();
            ask_helper(program, "ghcr.io").await.map_err(|error| error.replace(program, "helper"))
        };
        let echo = r#"echo "{\"ServerURL\": \"\", \"Username\": \"$1\", \"Secret\": \"$(cat)\"}""#;
        let found = DockerCredential::UsernamePassword("get".into(), "ghcr.io".into());
        assert_eq!(ask(echo).await, Ok(Some(found)));
        let token = ask(r#"echo '{"Username": "<token>", "Secret": "s"}'"#).await;
        assert_eq!(token, Ok(Some(DockerCredential::IdentityToken("s".into()))));
        assert_eq!(ask("echo credentials not found in native keychain; exit 1").await, Ok(None));
        assert_eq!(ask("echo out; echo locked >&2; exit 1").await, Err("helper says: locked".into()));
        assert_eq!(ask("exit 1").await, Err("helper says: nothing".into()));
        assert_eq!(ask("echo secret").await, Err("the response of helper is invalid".into()));
        for endless in ["yes", "yes >&2"] {
            assert_eq!(ask(endless).await, Err("helper: its output is larger than 1 MiB".into()));
        }
        assert_eq!(ask_helper("/no/such", "ghcr.io").await, Err("/no/such: no such file or directory".into()));
    }
}
