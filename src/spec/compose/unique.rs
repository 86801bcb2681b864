//! Lists in which a later item replaces an earlier one with the same key.

use std::collections::HashMap;

use super::super::node::{Node, Value};
use super::Problem;
use super::short::volume;
use super::values::{Kind, kind, printed};

/// What identifies an item.
#[derive(Clone, Copy)]
enum Index {
    /// The text before `=`.
    Key,
    /// The target of a volume.
    Volume,
    /// The target of a device.
    Device,
    /// The target of a config or secret; the text is the directory of its default.
    Mount(&'static str),
    /// The whole port: address, published port, target and protocol.
    Port,
    /// The path of an env file.
    EnvFile,
    /// The text of a number or text.
    Printed,
}

fn index_of(path: &[&str]) -> Option<Index> {
    Some(match path {
        ["networks", _, "labels"] => Index::Key,
        ["services", _, field] => match *field {
            "annotations" | "cap_add" | "cap_drop" | "dns" | "dns_opt" | "dns_search" | "environment" | "labels"
            | "links" | "profiles" | "sysctls" | "tmpfs" => Index::Key,
            "devices" => Index::Device,
            "configs" => Index::Mount(""),
            "secrets" => Index::Mount("/run/secrets"),
            "env_file" => Index::EnvFile,
            "expose" => Index::Printed,
            "ports" => Index::Port,
            "volumes" => Index::Volume,
            _ => return None,
        },
        ["services", _, "build", "args" | "additional_contexts" | "tags" | "labels"] => Index::Key,
        ["services", _, "deploy", "labels"] => Index::Key,
        ["services", _, "networks", _, "aliases" | "link_local_ips"] => Index::Key,
        _ => return None,
    })
}

/// Removes items that later ones replace.
pub(super) fn enforce(root: &mut Node) -> Vec<Problem> {
    let mut problems = Vec::new();
    walk(root, &mut Vec::new(), &mut problems);
    problems
}

fn walk(node: &mut Node, path: &mut Vec<String>, problems: &mut Vec<Problem>) {
    match &mut node.value {
        // The lists are at most at this depth.
        Value::Map(entries) if path.len() < 5 => {
            for entry in entries {
                path.push(entry.key.text.clone());
                walk(&mut entry.value, path, problems);
                path.pop();
            }
        }
        Value::Seq(items) => {
            let parts: Vec<&str> = path.iter().map(String::as_str).collect();
            if let Some(index) = index_of(&parts) {
                keep_last(items, index, problems);
            }
        }
        _ => {}
    }
}

fn keep_last(items: &mut Vec<Node>, index: Index, problems: &mut Vec<Problem>) {
    let mut kept: Vec<Node> = Vec::with_capacity(items.len());
    let mut places: HashMap<String, usize> = HashMap::new();
    for item in items.drain(..) {
        match key(&item, index) {
            Ok(key) => match places.get(&key).and_then(|at| kept.get_mut(*at)) {
                Some(earlier) => *earlier = item,
                None => {
                    places.insert(key, kept.len());
                    kept.push(item);
                }
            },
            Err(message) => {
                problems.push(Problem::new(&item.span, message));
                kept.push(item);
            }
        }
    }
    *items = kept;
}

/// Returns the key of an item.
fn key(item: &Node, index: Index) -> Result<String, String> {
    let field = |name: &str| item.get(name).and_then(printed);
    let target = || field("target");
    match (index, kind(item)) {
        (Index::Key, Kind::Text(text)) => Ok(text.split('=').next().unwrap_or_default().to_owned()),
        (Index::Volume, Kind::Text(text)) => Ok(volume::parse(text).map_or_else(|_| text.to_owned(), |it| it.target)),
        (Index::Volume, Kind::Map) => target().ok_or_else(|| "the `target` of the volume is missing".to_owned()),
        (Index::Device, Kind::Text(text)) => {
            let mut parts = text.split(':');
            let source = parts.next().unwrap_or_default();
            Ok(parts.next().unwrap_or(source).to_owned())
        }
        (Index::Device, Kind::Map) => target().ok_or_else(|| "the `target` of the device is missing".to_owned()),
        (Index::Mount(directory), Kind::Text(text)) => Ok(format!("{directory}/{text}")),
        (Index::Mount(directory), Kind::Map) => {
            Ok(target().unwrap_or_else(|| format!("{directory}/{}", field("source").unwrap_or_default())))
        }
        (Index::Port, Kind::Map) => {
            let target = target().ok_or_else(|| "the `target` of the port is missing".to_owned())?;
            let host = field("host_ip").unwrap_or_else(|| "0.0.0.0".to_owned());
            let protocol = field("protocol").unwrap_or_else(|| "tcp".to_owned());
            Ok(format!("{host}:{}:{target}/{protocol}", field("published").unwrap_or_default()))
        }
        (Index::EnvFile, Kind::Map) => field("path").ok_or_else(|| "the `path` of the env file is missing".to_owned()),
        // Other shapes are reported later.
        _ => Ok(printed(item).unwrap_or_else(|| format!("{:?}", item.span))),
    }
}
