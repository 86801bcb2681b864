//! A separate group for each adapter test on the real engine, removed when dropped.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use drillmaster::identity::GROUP;

/// A group whose containers, networks and volumes are removed when dropped.
pub struct TestGroup {
    /// Unique group name.
    pub name: String,
}

impl TestGroup {
    /// Generates a unique group name and creates no objects. Panics if the engine is unreachable.
    pub fn new(purpose: &str) -> TestGroup {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("test-{purpose}-{:x}-{time:x}-{number}", std::process::id());
        assert!(docker(&["version"]).is_ok(), "cannot reach an engine at {}", socket().display());
        TestGroup { name }
    }

    /// Returns the labels for all objects of the group.
    pub fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(GROUP.to_owned(), self.name.clone())])
    }

    fn owned(&self, list: &[&str]) -> Vec<String> {
        let filter = format!("label={GROUP}={}", self.name);
        let arguments: Vec<&str> = list.iter().copied().chain(["--filter", &filter]).collect();
        docker(&arguments).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    fn remove(&self, list: &[&str], remove: &[&str]) {
        let owned = self.owned(list);
        if !owned.is_empty() {
            let arguments: Vec<&str> = remove.iter().copied().chain(owned.iter().map(String::as_str)).collect();
            let _ = docker(&arguments);
        }
    }
}

impl Drop for TestGroup {
    fn drop(&mut self) {
        self.remove(&["ps", "-aq", "--no-trunc"], &["rm", "-f", "-v"]);
        self.remove(&["network", "ls", "-q", "--no-trunc"], &["network", "rm"]);
        self.remove(&["volume", "ls", "-q"], &["volume", "rm", "-f"]);
    }
}

/// Runs the docker CLI against the engine under test; returns stdout, or stderr as the error.
pub fn docker(arguments: &[&str]) -> Result<String, String> {
    let host = format!("unix://{}", socket().display());
    let run =
        Command::new("docker").args(arguments).env("DOCKER_HOST", host).output().map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if run.status.success() { Ok(text(&run.stdout)) } else { Err(text(&run.stderr)) }
}

/// Returns the socket of the engine under test: `DOCKER_HOST`, or the default socket.
pub fn socket() -> PathBuf {
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    host.strip_prefix("unix://").unwrap_or("/var/run/docker.sock").into()
}

/// Sends a request that API clients no longer support, and returns the full response.
pub fn post(path: &str, body: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(socket()).unwrap();
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}
