//! References between the parts of a project, and what excludes each other.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use super::super::locate::closest;
use super::super::node::{Entry, Node};
use super::super::value::quoted;
use super::Problem;
use super::typed::bytes;
use super::values::{Kind, kind, printed, text};

/// Returns the services of which no profile is active. Those that are named are active with their own profiles.
pub(super) fn inactive(root: &Node, profiles: &[String], named: &[String]) -> BTreeSet<String> {
    let services = || root.get("services").into_iter().flat_map(Node::entries);
    let own = |service: &Node| -> Vec<String> {
        service.get("profiles").into_iter().flat_map(Node::items).filter_map(printed).collect()
    };
    let is_active = |service: &Node, active: &[String]| {
        let own = own(service);
        own.is_empty() || active.iter().any(|profile| profile == "*" || own.contains(profile))
    };
    let mut active = profiles.to_vec();
    for entry in services().filter(|entry| named.contains(&entry.key.text)) {
        if !is_active(&entry.value, profiles) {
            active.extend(own(&entry.value));
        }
    }
    let inactive = services().filter(|entry| !is_active(&entry.value, &active));
    inactive.map(|entry| entry.key.text.clone()).collect()
}

/// Checks a tree in long forms, of the project or of an include.
pub(super) fn validate(root: &Node) -> Vec<Problem> {
    let mut problems = Vec::new();
    let section = |name: &str| root.get(name).into_iter().flat_map(Node::entries);
    for Entry { key, value } in section("volumes") {
        check_external(key.text.as_str(), value, &mut problems);
    }
    for (name, keys) in [("configs", &["file", "environment", "content"][..]), ("secrets", &["file", "environment"])] {
        for Entry { key, value } in section(name) {
            check_file_object(&key.span, value, keys, &mut problems);
        }
    }
    for Entry { value: service, .. } in section("services") {
        for port in list(service, "ports") {
            if let Some(address) = port
                .get("host_ip")
                .filter(|node| printed(node).is_none_or(|address| address.parse::<std::net::IpAddr>().is_err()))
            {
                problems.push(Problem::new(&address.span, "expected an IP address"));
            }
        }
        for watch in service.get("develop").into_iter().flat_map(|develop| list(develop, "watch")) {
            if let Some(path) = watch.get("path").filter(|path| text(path) == Some("")) {
                problems.push(Problem::new(&path.span, "the path to watch is empty"));
            }
        }
        let reserved = at(service, &["deploy", "resources", "reservations"]);
        let devices = reserved.into_iter().flat_map(|reserved| list(reserved, "devices"));
        for request in list(service, "gpus").chain(devices) {
            if let (Some(count), Some(ids)) = (request.get("count"), request.get("device_ids")) {
                let problem = Problem::new(&count.span, "`count` and `device_ids` exclude each other");
                problems.push(problem.related(&ids.span, "device_ids"));
            }
        }
    }
    problems
}

fn list<'a>(node: &'a Node, key: &str) -> impl Iterator<Item = &'a Node> {
    node.get(key).into_iter().flat_map(Node::items)
}

fn at<'a>(node: &'a Node, path: &[&str]) -> Option<&'a Node> {
    path.iter().try_fold(node, |node, key| node.get(key))
}

fn is_true(node: Option<&Node>) -> bool {
    node.is_some_and(|node| kind(node) == Kind::Bool(true))
}

fn check_external(name: &str, volume: &Node, problems: &mut Vec<Problem>) {
    if !is_true(volume.get("external")) {
        return;
    }
    for Entry { key, .. } in volume.entries() {
        if !["name", "external"].contains(&key.text.as_str()) && !key.text.starts_with("x-") {
            let message = format!("`external` and `{}` exclude each other in volume {}", key.text, quoted(name));
            problems.push(Problem::new(&key.span, message));
        }
    }
}

fn check_file_object(span: &Range<usize>, object: &Node, keys: &[&str], problems: &mut Vec<Problem>) {
    let given: Vec<&Node> = keys.iter().filter_map(|key| object.get(key)).collect();
    let all = keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(" or ");
    match given.as_slice() {
        [] if object.get("driver").is_none() && object.get("external").is_none() => {
            problems.push(Problem::new(span, format!("{all} is missing")));
        }
        [first, second, ..] => {
            let problem = Problem::new(&second.span, format!("only one of {all} can be given"));
            problems.push(problem.related(&first.span, "the other"));
        }
        _ => {}
    }
}

/// Checks the active services of a normalized tree.
pub(super) fn check(root: &Node, inactive: &BTreeSet<String>) -> Vec<Problem> {
    let services: Vec<&Entry> = root.get("services").into_iter().flat_map(Node::entries).collect();
    let names = ["services", "networks", "volumes", "configs", "secrets", "models"].map(|section| {
        let entries = root.get(section).into_iter().flat_map(Node::entries);
        (section, entries.map(|entry| entry.key.text.as_str()).collect())
    });
    let mut checker = Checker { root, inactive, names: names.into(), problems: Vec::new() };
    let active: Vec<&Entry> = services.into_iter().filter(|entry| !inactive.contains(&entry.key.text)).collect();
    let mut names: HashMap<String, &Entry> = HashMap::new();
    for entry in &active {
        checker.check_service(entry);
        let name = entry.value.get("container_name").filter(|name| text(name) != Some(""));
        let Some(name) = name else { continue };
        if let Some(other) = names.insert(printed(name).unwrap_or_default(), entry) {
            let message = format!("service {} has this `container_name` too", quoted(&other.key.text));
            checker.problems.push(Problem::new(&name.span, message).related(&other.key.span, "the other service"));
        }
    }
    checker.check_cycles(&active);
    checker.problems
}

/// Number of problems after which undefined names are not reported.
const MAX_PROBLEMS: usize = 100;

struct Checker<'a> {
    root: &'a Node,
    inactive: &'a BTreeSet<String>,
    /// Names of services, networks, volumes, …, by section.
    names: HashMap<&'static str, BTreeSet<&'a str>>,
    problems: Vec<Problem>,
}

impl<'a> Checker<'a> {
    fn problem(&mut self, node: &Node, message: impl Into<String>) {
        self.problems.push(Problem::new(&node.span, message));
    }

    /// Reports a reference to something that is not defined.
    fn check_defined(&mut self, span: &Range<usize>, name: &str, section: &str, what: &str) {
        let known = self.names.get(section);
        // Finding similar names takes time.
        if known.is_some_and(|known| known.contains(name)) || self.problems.len() >= MAX_PROBLEMS {
            return;
        }
        let known = known.into_iter().flatten().copied();
        let problem = Problem::new(span, format!("undefined {what} {}", quoted(name)));
        let hint = match closest(name, known) {
            Some(similar) => format!("did you mean `{similar}`?"),
            None => format!("define it in the section `{section}` of the file"),
        };
        self.problems.push(problem.hint(hint));
    }

    fn check_service(&mut self, entry: &'a Entry) {
        let service = &entry.value;
        let is_set = |key: &str| service.get(key).is_some_and(|node| !node.is_null() && text(node) != Some(""));
        if !is_set("image") && !is_set("build") && !is_set("provider") {
            let message = format!("service {} has neither `image` nor `build`", quoted(&entry.key.text));
            self.problems.push(Problem::new(&entry.key.span, message));
        }
        if is_set("build") {
            self.check_build(service);
        }
        if let (true, Some(networks)) = (is_set("network_mode"), service.get("networks"))
            && networks.entries().next().is_some()
        {
            self.problem(networks, "`network_mode` and `networks` exclude each other");
        }
        for network in service.get("networks").into_iter().flat_map(Node::entries) {
            self.check_defined(&network.key.span, &network.key.text, "networks", "network");
        }
        let test = at(service, &["healthcheck", "test"]).and_then(|test| test.items().next());
        if let Some(first) = test
            && !["CMD", "CMD-SHELL", "NONE"].contains(&text(first).unwrap_or_default())
        {
            let problem = Problem::new(&first.span, "a test begins with `CMD`, `CMD-SHELL` or `NONE`");
            self.problems.push(problem.hint("write a text for the shell, or begin the list with `CMD`"));
        }
        self.check_dependencies(service);
        for volume in list(service, "volumes") {
            let source = volume.get("source").filter(|_| volume.get("type").and_then(text) == Some("volume"));
            if let Some(source) = source
                && let Some(name) = text(source).filter(|name| !name.is_empty())
            {
                self.check_defined(&source.span, name, "volumes", "volume");
            }
        }
        for (key, section, what) in [("configs", "configs", "config"), ("secrets", "secrets", "secret")] {
            for mount in list(service, key) {
                if let Some(source) = mount.get("source") {
                    self.check_defined(&source.span, text(source).unwrap_or_default(), section, what);
                }
            }
        }
        for model in service.get("models").into_iter().flat_map(Node::entries) {
            self.check_defined(&model.key.span, &model.key.text, "models", "model");
        }
        self.check_limits(service);
        self.check_targets(service);
        for watch in service.get("develop").into_iter().flat_map(|develop| list(develop, "watch")) {
            let action = watch.get("action").and_then(text).unwrap_or_default();
            if watch.get("target").is_none_or(|target| text(target) == Some(""))
                && !["rebuild", "restart"].contains(&action)
            {
                self.problem(watch, format!("the action {} needs a `target`", quoted(action)));
            }
        }
    }

    fn check_build(&mut self, service: &'a Node) {
        let Some(build) = service.get("build") else { return };
        let filled = |key: &str| build.get(key).filter(|node| text(node).is_some_and(|text| !text.is_empty()));
        if let (Some(inline), Some(file)) = (filled("dockerfile_inline"), filled("dockerfile")) {
            let problem = Problem::new(&inline.span, "`dockerfile` and `dockerfile_inline` exclude each other");
            self.problems.push(problem.related(&file.span, "dockerfile"));
        }
        for context in build.get("additional_contexts").into_iter().flat_map(Node::entries) {
            let Some(name) = text(&context.value).and_then(|value| value.strip_prefix("service:")) else { continue };
            match self.root.get("services").and_then(|services| services.get(name)) {
                Some(other) if other.get("build").is_some() => {}
                Some(_) => self.problem(&context.value, format!("service {} has no `build`", quoted(name))),
                None => self.check_defined(&context.value.span, name, "services", "service"),
            }
        }
        for secret in list(build, "secrets") {
            if let Some(source) = secret.get("source") {
                self.check_defined(&source.span, text(source).unwrap_or_default(), "secrets", "secret");
            }
        }
        let platforms: Vec<String> = list(build, "platforms").filter_map(printed).collect();
        if let Some(platform) = service.get("platform")
            && let Some(name) = text(platform).filter(|name| !name.is_empty())
            && !platforms.is_empty()
            && !platforms.iter().any(|other| other == name)
        {
            self.problem(platform, "the `platforms` of `build` do not include this one");
        }
    }

    fn check_dependencies(&mut self, service: &'a Node) {
        for Entry { key, value } in service.get("depends_on").into_iter().flat_map(Node::entries) {
            let is_inactive = self.inactive.contains(&key.text);
            if !is_inactive {
                self.check_defined(&key.span, &key.text, "services", "service");
            } else if value.get("required").is_none_or(|required| kind(required) != Kind::Bool(false)) {
                let profiles = at(self.root, &["services", &key.text]).into_iter().flat_map(|it| list(it, "profiles"));
                let profiles: Vec<String> = profiles.filter_map(printed).collect();
                let message = format!("service {} is not active", quoted(&key.text));
                let hint = format!("select its profile `{}`, or write `required: false`", profiles.join("`, `"));
                self.problems.push(Problem::new(&key.span, message).hint(hint));
            }
        }
    }

    /// Checks what can be set in two places.
    fn check_limits(&mut self, service: &'a Node) {
        let deploy = service.get("deploy").filter(|deploy| !deploy.is_null());
        let replicas = deploy.and_then(|deploy| deploy.get("replicas"));
        let number = |node: Option<&Node>| node.and_then(printed).and_then(|text| text.parse::<i64>().ok());
        let scale = service.get("scale");
        if let (Some(one), Some(other)) = (scale, replicas)
            && number(scale) != number(replicas)
        {
            let problem = Problem::new(&one.span, "`scale` and `deploy.replicas` differ");
            self.problems.push(problem.related(&other.span, "deploy.replicas"));
        }
        for node in [scale, replicas].into_iter().flatten() {
            if number(Some(node)).is_some_and(|count| count < 0) {
                self.problem(node, "must not be negative");
            }
        }
        if let Some(name) = service.get("container_name").filter(|name| text(name) != Some(""))
            && number(scale.or(replicas)).is_some_and(|count| count > 1)
        {
            let problem = Problem::new(&name.span, "several containers cannot have one name");
            self.problems.push(problem.hint("remove `container_name`, or run one container"));
        }
        let cpus =
            |node: Option<&Node>| node.and_then(printed).and_then(|text| text.parse::<f32>().ok()).unwrap_or(0.0);
        let size = |node: Option<&Node>| node.and_then(size_of).unwrap_or(0);
        let limits = deploy.and_then(|deploy| at(deploy, &["resources", "limits"]));
        let reserved = deploy.and_then(|deploy| at(deploy, &["resources", "reservations"]));
        let limit = |key: &str| limits.and_then(|limits| limits.get(key));
        let differing = [
            (
                "cpus",
                "limits.cpus",
                limits,
                cpus(service.get("cpus")) != 0.0 && cpus(service.get("cpus")) != cpus(limit("cpus")),
            ),
            ("mem_limit", "limits.memory", limits, differ(size(service.get("mem_limit")), size(limit("memory")))),
            (
                "mem_reservation",
                "reservations.memory",
                reserved,
                differ(size(service.get("mem_reservation")), size(reserved.and_then(|it| it.get("memory")))),
            ),
            (
                "pids_limit",
                "limits.pids",
                limits,
                differ(number(service.get("pids_limit")).unwrap_or(0), number(limit("pids")).unwrap_or(0)),
            ),
        ];
        for (key, other, section, is_different) in differing {
            if let (Some(node), Some(section), true) = (service.get(key), section, is_different) {
                let problem = Problem::new(&node.span, format!("`{key}` and `deploy.resources.{other}` differ"));
                self.problems.push(problem.related(&section.span, "deploy.resources"));
            }
        }
    }

    /// Checks that nothing is mounted onto the same path twice.
    fn check_targets(&mut self, service: &'a Node) {
        let mut targets: HashMap<String, &Node> = HashMap::new();
        let tmpfs = list(service, "tmpfs").filter_map(|node| Some((text(node)?.split(':').next()?.to_owned(), node)));
        let volumes =
            list(service, "volumes").filter_map(|node| Some((node.get("target").and_then(text)?.to_owned(), node)));
        for (target, node) in tmpfs.chain(volumes) {
            match targets.get(&target) {
                Some(first) => {
                    let problem = Problem::new(&node.span, format!("{} is mounted twice", quoted(&target)));
                    self.problems.push(problem.related(&first.span, "first here"));
                }
                None => drop(targets.insert(target, node)),
            }
        }
    }

    /// Reports services that wait for each other.
    fn check_cycles(&mut self, active: &[&'a Entry]) {
        let mut waiting: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
        for entry in active {
            let dependencies = entry.value.get("depends_on").into_iter().flat_map(Node::entries);
            waiting.insert(&entry.key.text, dependencies.collect());
        }
        // Remove services that wait for nothing that is left, until only cycles and what waits for them are left.
        loop {
            let before = waiting.len();
            let left: BTreeSet<&str> = waiting.keys().copied().collect();
            waiting.retain(|_, dependencies| dependencies.iter().any(|it| left.contains(it.key.text.as_str())));
            if waiting.len() == before {
                break;
            }
        }
        let Some(first) = waiting.keys().next().copied() else { return };
        let mut path: Vec<&str> = Vec::new();
        let mut place = None;
        let mut name = first;
        while !path.contains(&name) {
            path.push(name);
            let next =
                waiting.get(name).and_then(|all| all.iter().find(|it| waiting.contains_key(it.key.text.as_str())));
            let Some(next) = next else { return };
            place = Some(&next.key.span);
            name = &next.key.text;
        }
        let start = path.iter().position(|it| *it == name).unwrap_or(0);
        let cycle = path[start..].iter().chain([&name]).map(|it| quoted(it)).collect::<Vec<_>>().join(" → ");
        if let Some(span) = place {
            self.problems.push(Problem::new(span, format!("services wait for each other: {cycle}")));
        }
    }
}

/// Returns true if a value is set and differs from the other.
fn differ(value: i64, other: i64) -> bool {
    value != 0 && value != other
}

fn size_of(node: &Node) -> Option<i64> {
    match kind(node) {
        Kind::Text(text) => bytes(text),
        Kind::Int(value) => i64::try_from(value).ok(),
        _ => None,
    }
}
