//! Comparison of what runs: each stack under docker compose and then under drillmaster, by `docker inspect` of its
//! containers, networks and volumes, key by key. Run by `dev/compose-inspect.sh`.
//!
//! Nothing of the stack itself runs: `stand_in` writes an override with a small image in place of its images.

mod snapshot;
mod stand_in;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use drillmaster::spec::compose::translate::translate;
use drillmaster::spec::compose::{Project, Request, load};
use serde_json::Value;
use tempfile::TempDir;

use crate::compare::{Stack, absolute, explanation};
use crate::config;
use crate::disk::Disk;
use snapshot::{Owner, snapshot};
use stand_in::{Machine, StandIn};

/// Time limit of each command, in seconds.
const LIMIT: &str = "300";

/// Differences that are meant: patterns in which `*` stands for any text, with the reason.
const EXPLAINED: &[(&str, &str)] = &[
    ("containers.*.Config.Hostname: *", "the host name is the name of the service, not the id of the container"),
    ("containers.*.Config.AttachStd*: nothing instead of true", "what `up` of docker compose attaches to"),
    ("containers.*.Config.Env.DRILLMASTER_OUTPUT=*", "a job may give outputs"),
    ("containers.*.HostConfig.RestartPolicy: {\"Name\":\"no\"} instead of nothing", "both mean no restart"),
    ("containers.*.HostConfig.RestartPolicy.*: * instead of *", "a job is not restarted"),
    (
        "containers.*.HostConfig.SecurityOpt.no-new-privileges*",
        "`no-new-privileges` and `no-new-privileges:true` are the same",
    ),
    ("containers.*.HostConfig.Binds*", "mounts are requested in another way; `Mounts` is compared"),
    ("containers.*.HostConfig.Mounts*", "mounts are requested in another way; `Mounts` is compared"),
    ("containers.*.Mounts.*.Mode: nothing instead of \"rw\"", "mounts are writable anyway"),
    ("containers.*.Mounts.*.Mode: \"z\" instead of \"rw,z\"", "mounts are writable anyway"),
    ("containers.*.Mounts.*.Mode: \"Z\" instead of \"rw,Z\"", "mounts are writable anyway"),
    ("containers.*.Mounts.*.Mode: \"z\" instead of *", "volumes are shared between SELinux contexts"),
    ("containers.*.Mounts*: nothing instead of *\"Type\":\"tmpfs\"*", "tmpfs mounts are requested in another way"),
    ("containers.*.HostConfig.Tmpfs*: * instead of nothing", "tmpfs mounts are requested in another way"),
    (
        "containers.*.settings.Aliases.*.inspect-*: true instead of nothing",
        "services are also called `<service>.<group>`",
    ),
    (
        "containers.*.settings.Aliases.inspect-*-1: true instead of nothing",
        "services with `container_name` are also called `<project>-<service>-1`",
    ),
];

/// A copy of a stack, to run under a name of its own.
struct Running {
    /// The copy is below it: missing directories are made there.
    home: TempDir,
    directory: PathBuf,
    files: Vec<String>,
    name: String,
    compose: String,
}

impl Running {
    fn new(stack: &Stack, compose: &str) -> Running {
        let home = tempfile::tempdir().unwrap();
        let base = stack.directory.file_name().unwrap().to_str().unwrap();
        let directory = home.path().join(base);
        output(Command::new("cp").arg("-R").arg(&stack.directory).arg(&directory)).unwrap();
        let files = stack.files.iter().map(|file| {
            let relative = Path::new(file).strip_prefix(&stack.directory).unwrap();
            directory.join(relative).to_str().unwrap().to_owned()
        });
        let name = format!("inspect-{}", base.to_lowercase());
        Running { files: files.collect(), home, directory, name, compose: compose.to_owned() }
    }

    /// Variables that both sides see.
    fn environment(&self) -> BTreeMap<String, String> {
        let home = self.home.path().to_str().unwrap();
        let mut variables: BTreeMap<String, String> =
            [("HOME", home), ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("XDG_STATE_HOME", home)]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into();
        variables.extend(env::var("DOCKER_HOST").map(|host| ("DOCKER_HOST".to_owned(), host)));
        variables
    }

    fn load(&self) -> Result<Project, String> {
        let environment = self.environment();
        let loaded = load(&Request {
            files: &self.files,
            env_files: &[],
            profiles: &[],
            services: &[],
            name: Some(&self.name),
            directory: None,
            working_directory: self.directory.to_str().unwrap(),
            home: environment.get("HOME").map(String::as_str),
            environment: &environment,
            lenient: false,
            access: &Disk,
        });
        loaded.project.expect("there are no compose files").map_err(|errors| errors[0].to_string())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("timeout");
        command.args([LIMIT, program]).current_dir(&self.directory).env_clear().envs(self.environment());
        let files = self.files.iter().flat_map(|file| ["-f", file]);
        command.args(files);
        command
    }

    fn docker_compose(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(&self.compose);
        command.args(["-p", &self.name]).args(arguments);
        command
    }

    fn drillmaster(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_drillmaster"));
        command.args(["--group", &self.name]).args(arguments);
        command
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for command in [&mut self.docker_compose(&REMOVE), &mut self.drillmaster(&["down", "--volumes"])] {
            let _ = output(command);
        }
    }
}

const REMOVE: [&str; 4] = ["down", "--volumes", "--timeout", "1"];

/// Runs a command and returns its standard output, or what it says if it fails.
fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    if output.status.success() {
        return Ok(stdout);
    }
    let lines: Vec<&str> = stderr.lines().filter(|line| !line.starts_with("time=")).collect();
    let last = lines[lines.len().saturating_sub(10)..].join("\n");
    Err(format!("{command:?}: {}\n{last}", output.status))
}

/// What runs under docker compose, and then under drillmaster; or what failed.
fn run_both(stack: &Stack, compose: &str, machine: &Machine) -> Result<(Value, Value), String> {
    let mut running = Running::new(stack, compose);
    let project = running.load()?;
    if project.active_services().next().is_none() {
        return Err("no service is active".to_owned());
    }
    let services: BTreeMap<String, String> = translate(&project).services;
    let ranges: BTreeSet<String> = stand_in::networks_with_ranges(&project, &running.name);
    let stand_in = StandIn::new(&project, &running.directory, machine);
    running.files = project.files.clone();
    let file = running.directory.join("compose.stand-in.yaml");
    std::fs::write(&file, &stand_in.text).unwrap();
    running.files.push(file.to_str().unwrap().to_owned());
    let _external: Vec<stand_in::External> = stand_in.external.into_iter().map(stand_in::External::create).collect();

    output(&mut running.docker_compose(&["up", "--detach", "--no-build", "--quiet-pull"]))?;
    let theirs = snapshot(&Owner::Compose, &running.name, &ranges);
    output(&mut running.docker_compose(&REMOVE))?;
    output(&mut running.drillmaster(&["up"]))?;
    let ours = snapshot(&Owner::Drillmaster(services), &running.name, &ranges);
    output(&mut running.drillmaster(&["down", "--volumes"]))?;
    Ok((ours, theirs))
}

#[test]
#[ignore = "dev/compose-inspect.sh runs it"]
fn containers_are_the_same() {
    let compose = env::var("DRILLMASTER_COMPOSE").unwrap();
    let stacks = env::var("DRILLMASTER_STACKS").unwrap();
    let machine = Machine::new();
    let mut explained: BTreeMap<&str, usize> = BTreeMap::new();
    let mut problems = 0;
    for argument in stacks.split_whitespace() {
        let stack = Stack::parse(absolute(argument).to_str().unwrap());
        let (ours, theirs) = match run_both(&stack, &compose, &machine) {
            Ok(snapshots) => snapshots,
            Err(failure) => {
                println!("{argument}: failed\n{failure}");
                problems += 1;
                continue;
            }
        };
        let mut found = Vec::new();
        config::differences(&ours, &theirs, "", &mut found);
        let mut left = Vec::new();
        for difference in found {
            match explanation(EXPLAINED, &difference) {
                Some(reason) => *explained.entry(reason).or_default() += 1,
                None => left.push(difference),
            }
        }
        let count = |section: &str| theirs[section].as_object().unwrap().len();
        println!(
            "{argument}: {} containers, {} networks, {} volumes, {} differences",
            count("containers"),
            count("networks"),
            count("volumes"),
            left.len()
        );
        left.iter().for_each(|difference| println!("    {difference}"));
        problems += left.len();
    }
    for (reason, count) in explained {
        println!("explained, {count} times: {reason}");
    }
    assert_eq!(problems, 0, "unexplained differences or failures");
}
