//! Selects the engine: `--host`, the environment, Docker contexts.
//!
//! Reads Docker's configuration files; does not connect.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::ssh::SshHost;
use super::tls::Tls;
use crate::desired::fingerprint::sha256;
use crate::spec::secrets::HIDDEN;

/// Default endpoint of an engine.
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
/// Socket of Podman's system service for root.
const PODMAN_SOCKET: &str = "/run/podman/podman.sock";
/// Docker's port without TLS.
const PORT: u16 = 2375;
/// Docker's port with TLS.
const TLS_PORT: u16 = 2376;
/// Name of the context that the environment defines.
const DEFAULT_CONTEXT: &str = "default";

/// The selected engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// Its endpoint.
    pub endpoint: Endpoint,
    /// What names the endpoint: `--host`, `DOCKER_HOST`, a context, or `default`.
    pub origin: String,
    /// Directory of Docker's `config.json`, which holds registry credentials.
    pub config_dir: Option<PathBuf>,
    /// Whether to build with BuildKit, overriding the engine's default: `DOCKER_BUILDKIT`, parsed as by the Docker CLI.
    pub buildkit: Option<bool>,
}

/// An endpoint of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// Path of a Unix socket.
    Unix(PathBuf),
    /// `host:port`, unencrypted.
    Tcp(String),
    /// `host:port`, over TLS.
    Tls(String, Tls),
    /// Through `ssh`.
    Ssh(SshHost),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix://{}", path.display()),
            Endpoint::Tcp(address) | Endpoint::Tls(address, _) => write!(f, "tcp://{address}"),
            Endpoint::Ssh(host) => host.fmt(f),
        }
    }
}

/// Why no engine could be selected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// An unsupported kind of endpoint.
    #[error("{origin} names the engine {host}, and {kind} is not supported; {remedy}")]
    Unsupported {
        /// Where it is set.
        origin: String,
        /// Its value.
        host: String,
        /// What is not supported.
        kind: &'static str,
        /// What to do instead.
        remedy: &'static str,
    },
    /// Not an endpoint.
    #[error(
        "{origin} is {host:?}, which names no engine; write unix:///path/to/docker.sock, tcp://host:port or ssh://user@host"
    )]
    Malformed {
        /// Where it is set.
        origin: String,
        /// Its value.
        host: String,
    },
    /// The context does not exist.
    #[error("{origin} names the Docker context {name:?}, which does not exist; `docker context ls` lists them")]
    NoContext {
        /// Where it is set.
        origin: String,
        /// Name of the context.
        name: String,
    },
    /// The engine's certificate cannot be verified.
    #[error(
        "DOCKER_TLS_VERIFY is set, but there is no {}; put the certificate of the engine's authority there, or name its directory with DOCKER_CERT_PATH",
        path.display()
    )]
    NoAuthority {
        /// The missing file.
        path: PathBuf,
    },
    /// A Docker configuration file cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
}

/// Selects the engine by precedence: `--host`, `DOCKER_HOST`, `DOCKER_CONTEXT`, the Docker CLI's current context, the
/// default socket. An empty variable counts as unset. `DOCKER_TLS_VERIFY`, `DOCKER_TLS` and `DOCKER_CERT_PATH` hold for
/// all of these but contexts, which have files of their own.
pub fn target(host: Option<&str>, environment: &BTreeMap<String, String>) -> Result<EngineConfig, TargetError> {
    let set = |name: &str| environment.get(name).filter(|value| !value.is_empty());
    let config_dir =
        set("DOCKER_CONFIG").map(PathBuf::from).or_else(|| set("HOME").map(|home| Path::new(home).join(".docker")));
    let tls = || tls(&set, config_dir.as_deref());
    let (endpoint, origin) = if let Some(host) = host {
        (endpoint("--host", host, tls)?, "--host".to_owned())
    } else if let Some(host) = set("DOCKER_HOST") {
        (endpoint("DOCKER_HOST", host, tls)?, "DOCKER_HOST".to_owned())
    } else {
        let context = match (set("DOCKER_CONTEXT"), &config_dir) {
            (Some(name), _) => Some(("DOCKER_CONTEXT".to_owned(), name.clone())),
            (None, Some(directory)) => {
                let path = directory.join("config.json");
                let name = current_context(&path)?;
                Some((path.display().to_string(), name))
            }
            (None, None) => None,
        };
        match context.filter(|(_, name)| !name.is_empty() && name != DEFAULT_CONTEXT) {
            Some((origin, name)) => {
                (of_context(&origin, &name, config_dir.as_deref())?, format!("context {name}, from {origin}"))
            }
            None => (default_endpoint(tls()?), "default".to_owned()),
        }
    };
    let buildkit = set("DOCKER_BUILDKIT").map(|value| !matches!(value.as_str(), "0" | "f" | "F" | "false" | "False"));
    Ok(EngineConfig { endpoint, origin, config_dir, buildkit })
}

/// The endpoint if nothing names one: as for the Docker CLI, variables for TLS select an engine that is reached over it.
fn default_endpoint(tls: Option<Tls>) -> Endpoint {
    match tls {
        Some(tls) => Endpoint::Tls(format!("localhost:{TLS_PORT}"), tls),
        None => Endpoint::Unix(DEFAULT_SOCKET.into()),
    }
}

/// Sockets of engines on this machine that nothing names: of rootless Docker, and of Podman.
pub fn unnamed_sockets(environment: &BTreeMap<String, String>) -> Vec<PathBuf> {
    let runtime_dir = environment.get("XDG_RUNTIME_DIR").filter(|path| !path.is_empty()).map(Path::new);
    let of_user = ["docker.sock", "podman/podman.sock"].into_iter().filter_map(|name| Some(runtime_dir?.join(name)));
    of_user.chain([PathBuf::from(PODMAN_SOCKET)]).filter(|path| path.exists()).collect()
}

/// TLS as the environment configures it.
fn tls<'a>(set: &impl Fn(&str) -> Option<&'a String>, config_dir: Option<&Path>) -> Result<Option<Tls>, TargetError> {
    // As for the Docker CLI, any value counts, also "0".
    let verify = set("DOCKER_TLS_VERIFY").is_some();
    if !verify && set("DOCKER_TLS").is_none() {
        return Ok(None);
    }
    let directory = set("DOCKER_CERT_PATH").map(PathBuf::from).or_else(|| config_dir.map(Path::to_owned));
    let tls = Tls::new(directory.unwrap_or_default(), verify);
    match tls.ca() {
        path if verify && !path.exists() => Err(TargetError::NoAuthority { path }),
        _ => Ok(Some(tls)),
    }
}

fn endpoint(
    origin: &str,
    host: &str,
    tls: impl FnOnce() -> Result<Option<Tls>, TargetError>,
) -> Result<Endpoint, TargetError> {
    let shown = without_user(host);
    let malformed = || TargetError::Malformed { origin: origin.into(), host: shown.clone() };
    let unsupported =
        |kind, remedy| Err(TargetError::Unsupported { origin: origin.into(), host: shown.clone(), kind, remedy });
    let (scheme, rest) = host.split_once("://").ok_or_else(malformed)?;
    match scheme {
        "unix" if !rest.is_empty() => Ok(Endpoint::Unix(rest.into())),
        "tcp" | "http" if rest.contains('@') => unsupported("a user name or password", TUNNEL),
        "tcp" | "http" => match tls()? {
            Some(tls) => address(rest, TLS_PORT).map(|address| Endpoint::Tls(address, tls)).ok_or_else(malformed),
            None => address(rest, PORT).map(Endpoint::Tcp).ok_or_else(malformed),
        },
        "https" => unsupported("https://", "use tcp:// and set DOCKER_TLS_VERIFY=1"),
        "ssh" if rest.split_once('@').is_some_and(|(user, _)| user.contains(':')) => {
            unsupported("a password", "use a key, and an agent if it has a passphrase")
        }
        "ssh" => SshHost::parse(rest).map(Endpoint::Ssh).ok_or_else(malformed),
        "npipe" => unsupported("a Windows pipe", "run drillmaster where the engine has a unix socket, e.g. in WSL"),
        _ => Err(malformed()),
    }
}

/// The address without user name and password, to be shown.
fn without_user(host: &str) -> String {
    let (scheme, rest) = host.split_once("://").unwrap_or(("", host));
    match rest.rsplit_once('@') {
        Some((user, _)) if scheme == "ssh" && !user.contains(':') => host.to_owned(),
        Some((_, address)) if scheme.is_empty() => format!("{HIDDEN}@{address}"),
        Some((_, address)) if scheme != "unix" => format!("{scheme}://{HIDDEN}@{address}"),
        _ => host.to_owned(),
    }
}

const TUNNEL: &str =
    "forward its socket (ssh -NL /tmp/docker.sock:/var/run/docker.sock HOST) and use --host unix:///tmp/docker.sock";

/// `host:port` from the part after the scheme.
fn address(text: &str, default_port: u16) -> Option<String> {
    let text = text.trim_end_matches('/');
    let after_host = text.rsplit_once(']').map_or(text, |(_, rest)| rest);
    match after_host.rsplit_once(':') {
        _ if text.is_empty() || text.contains('/') => None,
        Some((_, port)) => port.parse::<u16>().ok().map(|_| text.to_owned()),
        None => Some(format!("{text}:{default_port}")),
    }
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default, rename = "currentContext")]
    current_context: String,
}

/// Name of the Docker CLI's current context; empty: the default context.
fn current_context(path: &Path) -> Result<String, TargetError> {
    Ok(read::<DockerConfig>(path)?.map(|config| config.current_context).unwrap_or_default())
}

#[derive(Deserialize)]
struct Context {
    #[serde(rename = "Endpoints", default)]
    endpoints: BTreeMap<String, ContextEndpoint>,
}

#[derive(Deserialize)]
struct ContextEndpoint {
    #[serde(rename = "Host", default)]
    host: String,
    #[serde(rename = "SkipTLSVerify", default)]
    skip_tls_verify: bool,
}

fn of_context(origin: &str, name: &str, config_dir: Option<&Path>) -> Result<Endpoint, TargetError> {
    let missing = || TargetError::NoContext { origin: origin.into(), name: name.into() };
    let contexts = config_dir.ok_or_else(missing)?.join("contexts");
    // The directory of a context is named after the hash of its name.
    let hash = sha256(name.as_bytes());
    let context: Context = read(&contexts.join("meta").join(&hash).join("meta.json"))?.ok_or_else(missing)?;
    let Some(docker) = context.endpoints.get("docker").filter(|endpoint| !endpoint.host.is_empty()) else {
        return Ok(default_endpoint(None));
    };
    let tls = Tls::new(contexts.join("tls").join(&hash).join("docker"), !docker.skip_tls_verify);
    let tls = (docker.skip_tls_verify || tls.has_files()).then_some(tls);
    endpoint(&format!("the Docker context {name:?}"), &docker.host, || Ok(tls))
}

/// Reads a JSON file; `None` if it does not exist.
fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, TargetError> {
    let unreadable = |reason: String| TargetError::Unreadable { path: path.to_owned(), reason };
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| unreadable(error.to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
        variables.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn found(host: Option<&str>, variables: &[(&str, &str)]) -> String {
        match target(host, &environment(variables)) {
            Ok(target) => target.endpoint.to_string(),
            Err(error) => error.to_string(),
        }
    }

    const SOCKET: &str = "unix:///var/run/docker.sock";

    /// Creates a configuration directory with these contexts; the first is current.
    fn configured(contexts: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let config = format!(r#"{{"currentContext": "{}", "auths": {{}}}}"#, contexts[0].0);
        std::fs::write(directory.path().join("config.json"), config).unwrap();
        for (name, host) in contexts {
            let hash = sha256(name.as_bytes());
            let meta = directory.path().join("contexts/meta").join(hash);
            std::fs::create_dir_all(&meta).unwrap();
            let json = format!(r#"{{"Name": "{name}", "Endpoints": {{"docker": {{"Host": "{host}"}}}}}}"#);
            std::fs::write(meta.join("meta.json"), json).unwrap();
        }
        directory
    }

    #[test]
    fn engine_sources_have_a_precedence() {
        let contexts = configured(&[("desk", "unix:///desk.sock"), ("lab", "tcp://lab:2375")]);
        let config = ("DOCKER_CONFIG", contexts.path().to_str().unwrap());
        let (host, context) = (("DOCKER_HOST", "tcp://there:1"), ("DOCKER_CONTEXT", "lab"));
        assert_eq!(found(Some("unix:///here.sock"), &[config, host, context]), "unix:///here.sock");
        assert_eq!(found(None, &[config, host, context]), "tcp://there:1");
        assert_eq!(found(None, &[config, ("DOCKER_HOST", ""), context]), "tcp://lab:2375");
        assert_eq!(found(None, &[config]), "unix:///desk.sock");
        assert_eq!(found(None, &[config, ("DOCKER_CONTEXT", "default")]), SOCKET);
        assert_eq!(found(None, &[]), SOCKET);
        assert_eq!(found(None, &[("HOME", "/no/such/home")]), SOCKET);
    }

    #[test]
    fn sockets_without_a_name_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let of_user = || {
            let found = unnamed_sockets(&environment(&[("XDG_RUNTIME_DIR", directory.path().to_str().unwrap())]));
            found.into_iter().filter(|path| path.starts_with(directory.path())).collect::<Vec<_>>()
        };
        assert_eq!(of_user(), [""; 0].map(PathBuf::from));
        std::fs::create_dir(directory.path().join("podman")).unwrap();
        let sockets = ["docker.sock", "podman/podman.sock"].map(|name| directory.path().join(name));
        sockets.iter().for_each(|path| std::fs::write(path, "").unwrap());
        assert_eq!(of_user(), sockets);
    }

    #[test]
    fn default_port_is_that_of_docker() {
        let table = [
            ("tcp://there", "tcp://there:2375"),
            ("http://there:80/", "tcp://there:80"),
            ("tcp://[::1]", "tcp://[::1]:2375"),
            ("tcp://[::1]:99", "tcp://[::1]:99"),
        ];
        for (host, endpoint) in table {
            assert_eq!(found(Some(host), &[]), endpoint);
        }
        let tls = ("DOCKER_TLS", "1");
        assert_eq!(found(Some("tcp://there"), &[tls]), "tcp://there:2376");
        assert_eq!(found(Some("tcp://there:2375"), &[tls]), "tcp://there:2375");
        assert_eq!(found(None, &[tls]), "tcp://localhost:2376");
        assert_eq!(found(None, &[tls, ("DOCKER_CONTEXT", "default")]), "tcp://localhost:2376");
        assert_eq!(found(Some("unix:///here.sock"), &[tls, ("DOCKER_TLS_VERIFY", "1")]), "unix:///here.sock");
    }

    #[test]
    fn tls_files_come_from_the_environment_or_the_context() {
        let contexts = configured(&[("plain", "tcp://plain"), ("secure", "tcp://secure"), ("lax", "tcp://lax")]);
        let config = ("DOCKER_CONFIG", contexts.path().to_str().unwrap());
        let endpoint = |variables: &[(&str, &str)]| target(None, &environment(variables)).map(|found| found.endpoint);
        let tls = |address: &str, directory: &Path, verify| {
            Ok(Endpoint::Tls(address.into(), Tls::new(directory.to_owned(), verify)))
        };
        let host = ("DOCKER_HOST", "tcp://there");
        let verify = ("DOCKER_TLS_VERIFY", "1");
        let missing = Err(TargetError::NoAuthority { path: contexts.path().join("ca.pem") });
        assert_eq!(endpoint(&[config, host, verify]), missing);
        assert_eq!(endpoint(&[config, host, ("DOCKER_TLS", "1")]), tls("there:2376", contexts.path(), false));
        std::fs::write(contexts.path().join("ca.pem"), "").unwrap();
        assert_eq!(endpoint(&[config, host, verify]), tls("there:2376", contexts.path(), true));
        let elsewhere = tempfile::tempdir().unwrap();
        std::fs::write(elsewhere.path().join("ca.pem"), "").unwrap();
        let path = ("DOCKER_CERT_PATH", elsewhere.path().to_str().unwrap());
        assert_eq!(endpoint(&[config, host, verify, path]), tls("there:2376", elsewhere.path(), true));
        assert_eq!(endpoint(&[config, host, path]), Ok(Endpoint::Tcp("there:2375".into())));

        // A context has files of its own; the environment's do not hold for it.
        assert_eq!(endpoint(&[config, verify, path]), Ok(Endpoint::Tcp("plain:2375".into())));
        let hash = |name: &str| sha256(name.as_bytes());
        let files = |name: &str| contexts.path().join("contexts/tls").join(hash(name)).join("docker");
        std::fs::create_dir_all(files("secure")).unwrap();
        std::fs::write(files("secure").join("ca.pem"), "").unwrap();
        assert_eq!(endpoint(&[config, ("DOCKER_CONTEXT", "secure")]), tls("secure:2376", &files("secure"), true));
        let meta = contexts.path().join("contexts/meta").join(hash("lax")).join("meta.json");
        let json = r#"{"Endpoints": {"docker": {"Host": "tcp://lax", "SkipTLSVerify": true}}}"#;
        std::fs::write(meta, json).unwrap();
        assert_eq!(endpoint(&[config, ("DOCKER_CONTEXT", "lax")]), tls("lax:2376", &files("lax"), false));
    }

    #[test]
    fn unsupported_endpoints_have_a_hint() {
        assert_eq!(found(None, &[("DOCKER_HOST", "ssh://ann@lab:22/docker.sock")]), "ssh://ann@lab:22/docker.sock");
        let ssh = found(Some("ssh://ann:s3cret@lab"), &[]);
        assert!(ssh.contains("ssh://(hidden)@lab, and a password is not supported; use a key"), "{ssh}");
        assert!(found(Some("https://lab"), &[]).contains("https:// is not supported; use tcp://"));
        assert!(found(Some("npipe:////./pipe/docker_engine"), &[]).contains("a Windows pipe is not supported"));
        for malformed in
            ["docker.sock", "unix://", "tcp://", "tcp://lab:port", "tcp://lab/path", "ftp://lab", "ssh://-x"]
        {
            assert!(found(Some(malformed), &[]).contains("names no engine"), "{malformed}");
        }
    }

    #[test]
    fn passwords_in_addresses_are_hidden() {
        for host in ["tcp://ann:s3cret@lab:2375", "tcp://ann:s3cret@lab:port", "ssh://ann:s3cret@lab", "ann:s3cret@lab"]
        {
            let error = found(None, &[("DOCKER_HOST", host)]);
            assert!(!error.contains("s3cret") && error.contains("(hidden)@lab"), "{error}");
        }
        let tcp = found(Some("tcp://ann:s3cret@lab"), &[]);
        assert!(tcp.contains("--host names the engine tcp://(hidden)@lab, and a user name or password"), "{tcp}");
    }

    #[test]
    fn invalid_configuration_is_reported_with_its_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_str().unwrap();
        let missing = found(None, &[("DOCKER_CONFIG", path), ("DOCKER_CONTEXT", "lab")]);
        assert_eq!(
            missing,
            r#"DOCKER_CONTEXT names the Docker context "lab", which does not exist; `docker context ls` lists them"#
        );
        std::fs::write(directory.path().join("config.json"), "{").unwrap();
        let broken = found(None, &[("DOCKER_CONFIG", path)]);
        assert!(broken.contains("config.json: EOF"), "{broken}");
        assert_eq!(found(Some("unix:///here.sock"), &[("DOCKER_CONFIG", path)]), "unix:///here.sock");
    }
}
