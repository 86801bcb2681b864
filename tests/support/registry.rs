//! A registry on a port of this host, with its data in a temporary directory.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};

use super::engine;
use super::project::free_port;
use super::test_group::docker;
use super::{WAIT_TIMEOUT, wait_for};

/// A running registry. It is stopped, and the images that were pushed to it are untagged, when dropped.
pub struct Registry {
    child: Child,
    address: String,
    _data: tempfile::TempDir,
}

impl Registry {
    /// Starts Debian's `docker-registry`, which `dev/images.sh` installs.
    pub fn start() -> Registry {
        let data = tempfile::tempdir().unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let config = data.path().join("config.yml");
        let root = data.path().display();
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {root}}}}}\n\
             http: {{addr: '{address}'}}\n"
        );
        std::fs::write(&config, text).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is missing; run dev/images.sh");
        wait_for("the registry", WAIT_TIMEOUT, || std::net::TcpStream::connect(&address).ok());
        Registry { child, address, _data: data }
    }

    /// Pushes a local image to `name`, e.g. `app:1`. Returns the full reference and its digest, `sha256:…`.
    pub fn push(&self, image: &str, name: &str) -> (String, String) {
        let reference = format!("{}/{name}", self.address);
        docker(&["tag", image, &reference]).unwrap();
        let output = docker(&["push", &reference]).unwrap();
        // Podman 6 does not print it.
        let printed = output.split_whitespace().find(|word| word.starts_with("sha256:")).map(str::to_owned);
        (reference, printed.unwrap_or_else(|| self.digest(name)))
    }

    /// Asks the registry for the digest of an image.
    fn digest(&self, name: &str) -> String {
        let (repository, tag) = name.split_once(':').unwrap();
        let mut stream = std::net::TcpStream::connect(&self.address).unwrap();
        let accept = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";
        write!(stream, "HEAD /v2/{repository}/manifests/{tag} HTTP/1.0\r\nAccept: {accept}\r\n\r\n").unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        let header = response.lines().find_map(|line| line.strip_prefix("Docker-Content-Digest: "));
        header.unwrap_or_else(|| panic!("no digest: {response}")).to_owned()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let images = engine::try_get("/images/json").unwrap_or_default();
        let names = |image: &serde_json::Value| -> Vec<String> {
            let lists = [&image["RepoTags"], &image["RepoDigests"]];
            lists.into_iter().filter_map(|list| list.as_array()).flatten().map(engine::text).collect()
        };
        for name in images.as_array().into_iter().flatten().flat_map(names) {
            if name.starts_with(&self.address) {
                let _ = docker(&["image", "rm", "--force", &name]);
            }
        }
    }
}
