//! The engine under test, seen without drillmaster: its HTTP API, spoken by hand, each request with a deadline.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::process;

/// How long one request may take: stopping a container takes 10 seconds by itself.
const DEADLINE: Duration = Duration::from_secs(60);

/// Where the engine listens: `DOCKER_HOST`, else what the docker command uses, else the default socket. Fails where
/// none answers.
pub fn host() -> &'static str {
    static HOST: OnceLock<String> = OnceLock::new();
    HOST.get_or_init(|| {
        let host = std::env::var("DOCKER_HOST")
            .ok()
            .filter(|host| !host.is_empty())
            .or_else(of_the_current_context)
            .unwrap_or_else(|| "unix:///var/run/docker.sock".into());
        let answer = connect(&host).and_then(|stream| exchange(stream, "GET", "/_ping", None));
        assert!(
            matches!(answer, Ok((200, _))),
            "these tests need a Docker engine, and none answers at {host}: {answer:?}; start one with dev/engine.sh"
        );
        host
    })
}

fn of_the_current_context() -> Option<String> {
    let arguments = ["context", "inspect", "--format", "{{.Endpoints.docker.Host}}"];
    let run = Command::new("docker").args(arguments).output().ok()?;
    let host = String::from_utf8(run.stdout).ok()?.trim().to_owned();
    (run.status.success() && !host.is_empty()).then_some(host)
}

/// The engine's socket, for what can only be put in front of one.
pub fn socket() -> &'static std::path::Path {
    let host = host();
    std::path::Path::new(host.strip_prefix("unix://").unwrap_or_else(|| panic!("{host} is not a unix socket")))
}

/// A connection: of a unix socket or TCP.
pub trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// Connects to an engine; whoever reads is not kept longer than the deadline.
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

/// One request; the status and the body.
fn exchange(mut stream: Box<dyn Stream>, method: &str, path: &str, body: Option<&Value>) -> io::Result<(u16, String)> {
    send(&mut stream, method, path, body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("an answer without a head"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(|| io::Error::other("an answer without a status"))?, body.to_owned()))
}

/// Sends a request. HTTP 1.0: what comes back ends with the connection and is never chunked.
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

/// Sends a request; an error is what the engine said.
pub fn ask(method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
    let answer = connect(host()).and_then(|stream| exchange(stream, method, path, body));
    let (status, body) = answer.map_err(|error| format!("{method} {path}: {error}"))?;
    let value = serde_json::from_str(&body).unwrap_or(Value::Null);
    match status {
        200..=304 => Ok(value),
        _ => Err(format!("{method} {path}: {status}: {body}")),
    }
}

/// Sends a request that has to succeed.
#[track_caller]
pub fn must(method: &str, path: &str, body: Option<&Value>) -> Value {
    ask(method, path, body).unwrap_or_else(|error| panic!("{error}"))
}

/// Looks at a thing of this path; `None`: it does not exist.
pub fn look(path: &str) -> Option<Value> {
    match ask("GET", path, None) {
        Ok(value) => Some(value),
        Err(error) if error.contains(": 404: ") => None,
        Err(error) => panic!("{error}"),
    }
}

/// `filters={"label":["drillmaster.group=shop"]}`, as a query.
pub fn of_group(group: &str) -> String {
    format!("filters={}", escaped(&format!(r#"{{"label":["drillmaster.group={group}"]}}"#)))
}

/// Escapes a value of a query.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(char::from(byte)),
            byte => escaped += &format!("%{byte:02X}"),
        }
    }
    escaped
}

/// A container of which a test wants to know something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Full id.
    pub id: String,
    /// Name, without the slash.
    pub name: String,
    /// `running`, `exited`.
    pub state: String,
}

/// Every container of a group, by name.
pub fn containers(group: &str) -> Vec<Container> {
    let list = must("GET", &format!("/containers/json?all=true&{}", of_group(group)), None);
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

/// Every network with a group's label, and every one of this name: ids.
pub fn networks(group: &str) -> Vec<String> {
    let list = must("GET", "/networks", None);
    list.as_array()
        .into_iter()
        .flatten()
        .filter(|network| network["Labels"]["drillmaster.group"] == group || network["Name"] == group)
        .map(|network| text(&network["Id"]))
        .collect()
}

/// Every volume of a group, by name.
pub fn volumes(group: &str) -> Vec<String> {
    let list = must("GET", &format!("/volumes?{}", of_group(group)), None);
    let mut names: Vec<String> =
        list["Volumes"].as_array().into_iter().flatten().map(|volume| text(&volume["Name"])).collect();
    names.sort();
    names
}

/// What the engine says of a container, by name or id.
#[track_caller]
pub fn inspect(container: &str) -> Value {
    must("GET", &format!("/containers/{container}/json"), None)
}

/// Does something to a container: `stop`, `pause`, `rename?name=other`.
#[track_caller]
pub fn act(container: &str, verb: &str) {
    must("POST", &format!("/containers/{container}/{verb}"), None);
}

/// Runs a command in a container; what it printed, or how it failed.
pub fn exec(container: &str, command: &[&str]) -> Result<String, String> {
    let mut docker = Command::new("docker");
    docker.env("DOCKER_HOST", host()).env_remove("DOCKER_CONTEXT").arg("exec").arg(container).args(command);
    let run = process::run(docker, DEADLINE);
    if run.code == Some(0) { Ok(run.stdout) } else { Err(format!("{run}")) }
}

/// A JSON string, or nothing.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Removes what carries a group's label, volumes too. Goes on where something cannot be removed.
pub fn purge(group: &str) {
    let remove = |path: String| {
        if let Err(error) = ask("DELETE", &path, None) {
            #[allow(clippy::print_stderr)] // in a drop there is nowhere else to say it
            {
                eprintln!("left behind: {error}");
            }
        }
    };
    let list = |path: &str| ask("GET", &format!("{path}{}", of_group(group)), None).unwrap_or_default();
    let field = |list: &Value, name: &str| -> Vec<String> {
        list.as_array().into_iter().flatten().map(|found| text(&found[name])).collect()
    };
    let containers = list("/containers/json?all=true&");
    // Those of images carry no label; those that moved to a replacement do not go with it.
    let mounts = containers.as_array().into_iter().flatten().flat_map(|found| field(&found["Mounts"], "Name"));
    let nameless: Vec<String> = mounts.filter(|name| name.len() == 64).collect();
    // One after another: engines before 23 may hang when containers stop at the same moment.
    for id in field(&containers, "Id") {
        remove(format!("/containers/{id}?force=true&v=true"));
    }
    for name in nameless {
        let _ = ask("DELETE", &format!("/volumes/{name}"), None);
    }
    for id in field(&list("/networks?"), "Id") {
        remove(format!("/networks/{id}"));
    }
    for name in field(&list("/volumes?")["Volumes"], "Name") {
        remove(format!("/volumes/{name}?force=true"));
    }
    for image in built(group) {
        remove(format!("/images/{image}?force=true"));
    }
    remove_nameless(|image| text(&image["Config"]["Labels"][BUILT_BY]) == group);
}

/// A label for images of tests: those that a failed build leaves have it too.
pub const BUILT_BY: &str = "e2e.group";

/// Removes images without a name that are like this: what is left of builds that failed, and of stages. An engine that
/// is just giving up a build may hold on to one for a moment.
pub fn remove_nameless(is: impl Fn(&Value) -> bool) {
    let path = format!("/images/json?filters={}", escaped(r#"{"dangling":["true"]}"#));
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let mut left = false;
        for image in ask("GET", &path, None).unwrap_or_default().as_array().into_iter().flatten() {
            let path = format!("/images/{}", text(&image["Id"]));
            // Somebody else may have been quicker.
            if ask("GET", &format!("{path}/json"), None).is_ok_and(|image| is(&image)) {
                left |= ask("DELETE", &path, None).is_err();
            }
        }
        if !left || Instant::now() > until {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// References of the images that were built for a group, sorted.
pub fn built(group: &str) -> Vec<String> {
    let filters = serde_json::json!({"label": [format!("dev.drillmaster.build.group={group}")]});
    let list = ask("GET", &format!("/images/json?filters={}", escaped(&filters.to_string())), None);
    let list = list.unwrap_or_default();
    let tags =
        list.as_array().into_iter().flatten().flat_map(|image| image["RepoTags"].as_array().into_iter().flatten());
    let mut tags: Vec<String> = tags.map(text).filter(|tag| !tag.contains("<none>")).collect();
    tags.sort();
    tags
}
