//! Identity of images: containers follow the content of an image, not what else its id covers.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::engine::{self, BUILT_BY};
use crate::support::project::{BUSYBOX, Project, sleeper};
use crate::support::test_group::docker;

/// An archive as of `docker save`, for engines with either image store.
struct Archive {
    tar: tar::Builder<File>,
    path: PathBuf,
}

impl Archive {
    fn create(path: PathBuf) -> Archive {
        Archive { tar: tar::Builder::new(File::create(&path).unwrap()), path }
    }

    fn file(&mut self, name: &str, content: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        self.tar.append_data(&mut header, name, content).unwrap();
    }

    /// Adds a blob and returns its descriptor.
    fn blob(&mut self, kind: &str, content: &[u8]) -> Value {
        let digest = digest(content);
        self.file(&blob_path(&digest), content);
        json!({"mediaType": kind, "digest": digest, "size": content.len()})
    }

    /// Adds an index with one manifest, as BuildKit makes it: its attestations, and so its digest, differ each time.
    fn image(mut self, name: &str, layer: &[u8], config: &Value, built: &str) -> PathBuf {
        let layer = self.blob("application/vnd.oci.image.layer.v1.tar", layer);
        let config = self.blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let paths = [&config, &layer].map(|blob| blob_path(&engine::text(&blob["digest"])));
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer]});
        let mut manifest = self.blob(kind, manifest.to_string().as_bytes());
        manifest["platform"] = json!({"os": "linux", "architecture": architecture()});
        let kind = "application/vnd.oci.image.index.v1+json";
        let annotations = json!({"built": built});
        let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": [manifest], "annotations": annotations});
        let mut index = self.blob(kind, index.to_string().as_bytes());
        index["annotations"] = json!({"io.containerd.image.name": format!("docker.io/library/{name}")});
        let list = json!({"schemaVersion": 2, "mediaType": kind, "manifests": [index]});
        self.file("index.json", list.to_string().as_bytes());
        self.file("oci-layout", br#"{"imageLayoutVersion": "1.0.0"}"#);
        let [config, layer] = paths;
        let list = json!([{"Config": config, "RepoTags": [name], "Layers": [layer]}]);
        self.file("manifest.json", list.to_string().as_bytes());
        self.tar.into_inner().unwrap();
        self.path
    }
}

fn digest(content: &[u8]) -> String {
    let digest = Sha256::digest(content);
    digest.iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Returns the files of the usual image as a layer.
fn layer() -> Vec<u8> {
    let container = docker(&["create", BUSYBOX]).unwrap();
    let mut export = Command::new("docker");
    let run = export.args(["export", &container]).env("DOCKER_HOST", engine::host()).output().unwrap();
    docker(&["rm", &container]).unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    run.stdout
}

fn load(archive: &Path) {
    docker(&["load", "--quiet", "--input", archive.to_str().unwrap()]).unwrap();
}

#[test]
fn rebuild_without_a_change_replaces_nothing() {
    let project = Project::new("rebuilt");
    let (name, layer) = (format!("{}:1", project.group), layer());
    let image = |value: &str, built: &str| {
        let config = json!({
            "architecture": architecture(), "os": "linux", "created": "2026-01-01T00:00:00Z",
            "config": {"Env": [format!("VALUE={value}")], "Labels": {BUILT_BY: project.group}},
            "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
        });
        load(&Archive::create(project.home.path().join("image.tar")).image(&name, &layer, &config, built));
        docker(&["image", "inspect", "--format", "{{.Id}}", &name]).unwrap()
    };
    let first = image("one", "today");
    project.write("app.yaml", &sleeper("app", "").replace(BUSYBOX, &name));
    project.up();
    let old = project.id("app");
    let again = image("one", "tomorrow");
    // With the classic image store, the id is that of the config.
    let is_index = docker(&["info", "--format", "{{json .DriverStatus}}"]).unwrap().contains("containerd");
    assert_eq!(first != again, is_index, "{first} {again}");
    assert_eq!(project.differences(), Vec::<String>::new());
    project.up().stdout_contains("nothing to do");
    assert_eq!(project.id("app"), old);
    image("two", "tomorrow");
    assert_eq!(project.differences(), ["app replace image"]);
    project.up().stdout_contains("(1 replaced)");
    project.assert_settled(&["app"]);
    project.run(&["down"]).exits(0);
    docker(&["image", "rm", &name]).unwrap();
}
