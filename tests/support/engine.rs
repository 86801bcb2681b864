//! Direct client for the engine under test, independent of drillmaster. Every request has a deadline.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::process;

/// Request timeout. Stopping a container alone takes 10 seconds.
const DEADLINE: Duration = Duration::from_secs(60);

/// Returns the engine address: `DOCKER_HOST`, the current docker context, or the default socket. Panics if the engine is
/// unreachable.
pub fn host() -> &'static str {
    static HOST: OnceLock<String> = OnceLock::new();
    HOST.get_or_init(|| {
        let host = std::env::var("DOCKER_HOST")
            .ok()
            .filter(|host| !host.is_empty())
            .or_else(current_context_host)
            .unwrap_or_else(|| "unix:///var/run/docker.sock".into());
        let response = connect(&host).and_then(|stream| exchange(stream, "GET", "/_ping", None));
        assert!(
            matches!(response, Ok((200, _))),
            "cannot reach a Docker engine at {host}: {response:?}; start one with dev/engine.sh"
        );
        host
    })
}

/// Returns true if the engine is Podman.
pub fn is_podman() -> bool {
    static PODMAN: OnceLock<bool> = OnceLock::new();
    *PODMAN.get_or_init(|| {
        let version = request("GET", "/version", None);
        let components = version["Components"].as_array().into_iter().flatten();
        components.into_iter().any(|component| component["Name"] == "Podman Engine")
    })
}

/// What some tests need and some engines do not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// The engine runs health checks.
    HealthChecks,
    /// The engine builds with BuildKit.
    BuildKit,
    /// The engine limits resources.
    Limits,
    /// Containers have addresses that can be reached from here, also on ports that are not published.
    Addresses,
    /// The engine and its containers may write to the files of the tests.
    Files,
}

impl Capability {
    fn lack(self) -> Option<&'static str> {
        let info = || request("GET", "/info", None);
        let (lacks, reason) = match self {
            Capability::HealthChecks => {
                (is_podman() && info()["CgroupDriver"] != "systemd", "Podman runs health checks only with systemd")
            }
            Capability::BuildKit => (is_podman(), "Podman builds with Buildah"),
            Capability::Limits => (info()["MemoryLimit"] == false, "the engine's control groups have no controllers"),
            Capability::Addresses => (is_rootless(), "only published ports of a rootless engine can be reached"),
            Capability::Files => (is_rootless(), "the files of the tests are those of another user than the engine's"),
        };
        lacks.then_some(reason)
    }
}

fn is_rootless() -> bool {
    request("GET", "/info", None)["SecurityOptions"].to_string().contains("name=rootless")
}

/// What a ping says of a port where nothing listens.
pub fn not_listening() -> &'static str {
    if is_rootless() { " listens on port " } else { "connection refused" }
}

/// Returns true if the engine lacks a capability, and says why the test is skipped.
pub fn lacks(capability: Capability) -> bool {
    let lack = capability.lack();
    if let Some(reason) = lack {
        #[allow(clippy::print_stderr, reason = "shown if the test fails, and with --nocapture")]
        {
            eprintln!("skipping: {reason}");
        }
    }
    lack.is_some()
}

/// Returns the short name of an image: Podman always tells the full one.
pub fn short_name(image: &str) -> String {
    let prefixes = ["docker.io/library/", "docker.io/", "localhost/"];
    prefixes.iter().find_map(|prefix| image.strip_prefix(prefix)).unwrap_or(image).to_owned()
}

fn current_context_host() -> Option<String> {
    let arguments = ["context", "inspect", "--format", "{{.Endpoints.docker.Host}}"];
    let run = Command::new("docker").args(arguments).output().ok()?;
    let host = String::from_utf8(run.stdout).ok()?.trim().to_owned();
    (run.status.success() && !host.is_empty()).then_some(host)
}

/// Returns the path of the engine's unix socket, as needed by a proxy.
pub fn socket() -> &'static std::path::Path {
    let host = host();
    std::path::Path::new(host.strip_prefix("unix://").unwrap_or_else(|| panic!("{host} is not a unix socket")))
}

/// A connection over a unix socket or TCP.
pub trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// Connects to an engine. Reads time out after `DEADLINE`.
pub fn connect(host: &str) -> io::Result<Box<dyn Stream>> {
    if let Some(path) = host.strip_prefix("unix://") {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        return Ok(Box::new(stream));
    }
    let address = host.strip_prefix("tcp://").unwrap_or(host);
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    Ok(Box::new(stream))
}

/// Sends one request and returns the status and the body of the response.
fn exchange(mut stream: Box<dyn Stream>, method: &str, path: &str, body: Option<&Value>) -> io::Result<(u16, String)> {
    send(&mut stream, method, path, body)?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response)?;
    let response = String::from_utf8_lossy(&response);
    let (head, body) = response.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("response without a head"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(|| io::Error::other("response without a status"))?, body.to_owned()))
}

/// Sends a request as HTTP 1.0, so that the response ends with the connection and is never chunked.
pub fn send(stream: &mut dyn Stream, method: &str, path: &str, body: Option<&Value>) -> io::Result<()> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let length = body.len();
    write!(
        stream,
        "{method} /v1.41{path} HTTP/1.0\r\nHost: engine\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )?;
    stream.flush()
}

/// Sends a request and returns the JSON response, or the engine's error message.
pub fn try_request(method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
    let response = connect(host()).and_then(|stream| exchange(stream, method, path, body));
    let (status, body) = response.map_err(|error| format!("{method} {path}: {error}"))?;
    let value = serde_json::from_str(&body).unwrap_or(Value::Null);
    match status {
        200..=304 => Ok(value),
        _ => Err(format!("{method} {path}: {status}: {body}")),
    }
}

/// Sends a request and returns the JSON response. Panics if the request fails.
#[track_caller]
pub fn request(method: &str, path: &str, body: Option<&Value>) -> Value {
    try_request(method, path, body).unwrap_or_else(|error| panic!("{error}"))
}

/// Sends a GET request; returns `None` for status 404 and panics for any other error.
pub fn try_get(path: &str) -> Option<Value> {
    match try_request("GET", path, None) {
        Ok(value) => Some(value),
        Err(error) if error.contains(": 404: ") => None,
        // Podman, of a container that is removed during the request.
        Err(error) if error.contains(": 500: ") && error.contains("no such container") => None,
        Err(error) => panic!("{error}"),
    }
}

/// Returns the query that filters by group: `filters={"label":["drillmaster.group=shop"]}`.
pub fn group_filter(group: &str) -> String {
    format!("filters={}", url_encode(&format!(r#"{{"label":["drillmaster.group={group}"]}}"#)))
}

/// Percent-encodes a query value.
pub fn url_encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(char::from(byte)),
            byte => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}

/// A container as listed by the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Full id.
    pub id: String,
    /// Name, without the slash.
    pub name: String,
    /// `running`, `exited`.
    pub state: String,
}

/// Lists all containers of a group, sorted by name.
pub fn containers(group: &str) -> Vec<Container> {
    let list = request("GET", &format!("/containers/json?all=true&{}", group_filter(group)), None);
    let mut containers: Vec<Container> = list
        .as_array()
        .into_iter()
        .flatten()
        .map(|found| Container {
            id: text(&found["Id"]),
            name: text(&found["Names"][0]).trim_start_matches('/').to_owned(),
            state: text(&found["State"]),
        })
        .collect();
    containers.sort_by(|a, b| a.name.cmp(&b.name));
    containers
}

/// Lists the ids of all networks that have the group's label or name.
pub fn networks(group: &str) -> Vec<String> {
    let list = request("GET", "/networks", None);
    list.as_array()
        .into_iter()
        .flatten()
        .filter(|network| network["Labels"]["drillmaster.group"] == group || network["Name"] == group)
        .map(|network| text(&network["Id"]))
        .collect()
}

/// Lists the names of the volumes that are leases of a group.
pub fn leases(group: &str) -> Vec<String> {
    let filter = url_encode(&format!(r#"{{"label":["drillmaster.lease={group}"]}}"#));
    let list = try_request("GET", &format!("/volumes?filters={filter}"), None).unwrap_or_default();
    list["Volumes"].as_array().into_iter().flatten().map(|volume| text(&volume["Name"])).collect()
}

/// Lists the names of all volumes of a group, sorted.
pub fn volumes(group: &str) -> Vec<String> {
    let list = request("GET", &format!("/volumes?{}", group_filter(group)), None);
    let mut names: Vec<String> =
        list["Volumes"].as_array().into_iter().flatten().map(|volume| text(&volume["Name"])).collect();
    names.sort();
    names
}

/// Inspects a container by name or id.
#[track_caller]
pub fn inspect(container: &str) -> Value {
    request("GET", &format!("/containers/{container}/json"), None)
}

/// Posts an action to a container: `stop`, `pause`, `rename?name=other`.
#[track_caller]
pub fn container_action(container: &str, verb: &str) {
    request("POST", &format!("/containers/{container}/{verb}"), None);
}

/// Runs a command in a container; returns stdout, or the description of the failed run.
pub fn exec(container: &str, command: &[&str]) -> Result<String, String> {
    let mut docker = Command::new("docker");
    docker.env("DOCKER_HOST", host()).env_remove("DOCKER_CONTEXT").arg("exec").arg(container).args(command);
    let run = process::run(docker, DEADLINE);
    if run.code == Some(0) { Ok(run.stdout) } else { Err(format!("{run}")) }
}

/// Returns a JSON string, or an empty string for any other value.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Removes all objects with a group's label, including volumes and images. Continues after errors.
pub fn purge(group: &str) {
    let remove = |path: String| {
        if let Err(error) = try_request("DELETE", &path, None) {
            #[allow(clippy::print_stderr)] // runs in `drop`, which cannot return an error
            {
                eprintln!("cannot remove: {error}");
            }
        }
    };
    let list = |path: &str| try_request("GET", &format!("{path}{}", group_filter(group)), None).unwrap_or_default();
    let field = |list: &Value, name: &str| -> Vec<String> {
        list.as_array().into_iter().flatten().map(|found| text(&found[name])).collect()
    };
    let containers = list("/containers/json?all=true&");
    // Anonymous volumes declared by an image have no label, and `v=true` skips volumes inherited by a replacement.
    let mounts = containers.as_array().into_iter().flatten().flat_map(|found| field(&found["Mounts"], "Name"));
    let anonymous: Vec<String> = mounts.filter(|name| name.len() == 64).collect();
    // Sequentially: engines before version 23 may hang if containers stop at the same time.
    for id in field(&containers, "Id") {
        remove(format!("/containers/{id}?force=true&v=true"));
    }
    for name in anonymous {
        let _ = try_request("DELETE", &format!("/volumes/{name}"), None);
    }
    for id in field(&list("/networks?"), "Id") {
        remove(format!("/networks/{id}"));
    }
    for name in field(&list("/volumes?")["Volumes"], "Name").into_iter().chain(leases(group)) {
        remove(format!("/volumes/{name}?force=true"));
    }
    for image in built_images(group) {
        remove(format!("/images/{image}?force=true"));
    }
    remove_dangling_images(|image| text(&image["Config"]["Labels"][BUILT_BY]) == group);
}

/// Label set in test Dockerfiles, so that intermediate images of failed builds have it too.
pub const BUILT_BY: &str = "e2e.group";

/// Removes matching dangling images, as left by failed builds and build stages. Retries for a few seconds, because an
/// engine may still use an image while it cancels a build.
pub fn remove_dangling_images(matches: impl Fn(&Value) -> bool) {
    let path = format!("/images/json?filters={}", url_encode(r#"{"dangling":["true"]}"#));
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let mut left = false;
        for image in try_request("GET", &path, None).unwrap_or_default().as_array().into_iter().flatten() {
            let path = format!("/images/{}", text(&image["Id"]));
            // A concurrent test may have removed the image already.
            if try_request("GET", &format!("{path}/json"), None).is_ok_and(|image| matches(&image)) {
                left |= try_request("DELETE", &path, None).is_err();
            }
        }
        if !left || Instant::now() > deadline {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Lists the tags of all images built for a group, sorted.
pub fn built_images(group: &str) -> Vec<String> {
    let filters = serde_json::json!({"label": [format!("dev.drillmaster.build.group={group}")]});
    let list = try_request("GET", &format!("/images/json?filters={}", url_encode(&filters.to_string())), None);
    let list = list.unwrap_or_default();
    let tags =
        list.as_array().into_iter().flatten().flat_map(|image| image["RepoTags"].as_array().into_iter().flatten());
    let mut tags: Vec<String> = tags.map(|tag| short_name(&text(tag))).filter(|tag| !tag.contains("<none>")).collect();
    tags.sort();
    tags
}
