//! Command line arguments, parsed by clap. No logic.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand, ValueEnum};
use jiff::{SignedDuration, Timestamp};

/// Reconciles a Docker engine with a directory of service specs
#[derive(Debug, Parser)]
#[command(name = "drillmaster", version, about, max_term_width = 100, propagate_version = true)]
#[command(
    after_help = "Exit codes: 0 success (diff: no differences), 1 failure or timeout (diff: differences; export: something was left out), 2 invalid specs or usage, \
3 engine unreachable, 4 group locked by another controller, 130 interrupted. `exec` exits with the exit code of its command, \
`run` and `up --exit-code-from` with the exit code of the job."
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Separates the global options from the options of a command in its help.
const HEADING: &str = "Global options";

/// Global options
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Spec directory, or compose file (repeatable); `-f PATH` for short, except after `logs` and `exec` [default: `specs`,
    /// otherwise the compose files of this directory or one above]
    #[arg(long, visible_alias = "file", global = true, help_heading = HEADING, value_name = "PATH")]
    pub specs: Vec<PathBuf>,
    /// Directory of the project of compose files [default: that of the first file]
    #[arg(long, global = true, help_heading = HEADING, value_name = "DIR")]
    pub project_directory: Option<PathBuf>,
    /// File with variables for the specs, instead of `.env` (repeatable, later files override earlier ones)
    #[arg(long, global = true, help_heading = HEADING, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Activate this profile, `*` for all (repeatable) [default: DRILLMASTER_PROFILES, separated by commas]
    #[arg(long, global = true, help_heading = HEADING, value_name = "NAME", value_delimiter = ',')]
    pub profile: Vec<String>,
    /// Group name [default: name in the Group document, otherwise the directory that contains DIR]
    #[arg(long, global = true, help_heading = HEADING, value_name = "NAME")]
    pub group: Option<String>,
    /// Docker engine, unix:///PATH, tcp://HOST:PORT or ssh://USER@HOST [default: DOCKER_HOST, otherwise the current docker context]
    #[arg(long, global = true, help_heading = HEADING, value_name = "URL")]
    pub host: Option<String>,
    /// Output format
    #[arg(long, short, global = true, help_heading = HEADING, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Output,
    /// Colored output; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, help_heading = HEADING, value_enum, default_value_t, value_name = "WHEN")]
    pub color: Color,
    /// Show every step and log engine API calls (-v: writes and lists, -vv: inspections too)
    #[arg(long, short, global = true, help_heading = HEADING, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// Suppress progress output
    #[arg(long, short, global = true, help_heading = HEADING)]
    pub quiet: bool,
}

/// Output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Output {
    #[default]
    Text,
    Json,
}

/// Use of colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Color {
    #[default]
    Auto,
    Always,
    Never,
}

/// The arguments of this process, with two spellings of compose: `-f DIR` is `--specs DIR`, but `logs -f` follows and the
/// command of `exec` keeps its options; `down -v` is `down --volumes`, not `--verbose`. Repeatable options before the
/// command are moved behind it, because clap forgets them if the command has the same option.
pub fn arguments() -> Vec<OsString> {
    translate(std::env::args_os())
}

fn translate(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let cli = Cli::command();
    let takes_value = |text: &str| option(&cli, text).is_some_and(|option| option.get_action().takes_values());
    let is_repeatable = |text: &str| {
        let name = text.split('=').next().unwrap_or_default();
        option(&cli, name).is_some_and(|option| matches!(option.get_action(), ArgAction::Append))
    };
    let mut command: Option<String> = None;
    let mut is_value = true; // the first argument is the program
    let mut is_moved = false;
    let (mut translated, mut moved) = (Vec::new(), Vec::new());
    for argument in arguments {
        let text = argument.to_str().unwrap_or_default();
        if is_value {
            is_value = false;
            if is_moved { &mut moved } else { &mut translated }.push(argument);
            continue;
        }
        let of = |names: &[&str]| command.as_deref().is_some_and(|command| names.contains(&command));
        let file = text.strip_prefix("-f").filter(|_| !of(&["logs", "exec"]));
        is_value = takes_value(text) || file == Some("");
        let argument = match file {
            Some("") => "--specs".into(),
            Some(directory) => format!("--specs={}", directory.trim_start_matches('=')).into(),
            None if text == "-v" && of(&["down"]) => "--volumes".into(),
            None => {
                if command.is_none() && !text.starts_with('-') {
                    command = Some(text.to_owned());
                    translated.push(argument);
                    translated.append(&mut moved);
                    is_moved = false;
                    continue;
                }
                argument
            }
        };
        is_moved = command.is_none() && argument.to_str().is_some_and(is_repeatable);
        if is_moved { &mut moved } else { &mut translated }.push(argument);
    }
    translated.append(&mut moved);
    translated
}

/// The global option that is written like this: `--group`, `-q`.
fn option<'c>(cli: &'c clap::Command, text: &str) -> Option<&'c clap::Arg> {
    cli.get_arguments().find(|option| {
        let names = option.get_long().into_iter().chain(option.get_all_aliases().unwrap_or_default());
        let long = names.into_iter().any(|long| text.strip_prefix("--") == Some(long));
        let short = |short: char| text.strip_prefix('-').is_some_and(|text| text.chars().eq([short]));
        long || option.get_short().is_some_and(short)
    })
}

/// Command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create, update and remove containers to match the specs
    Up(Up),
    /// Remove the containers and the network of the group; keep volumes and built images
    Down(Down),
    /// Start existing containers in dependency order
    Start(Selection),
    /// Stop containers, dependents first, without removing them
    Stop(Selection),
    /// Stop containers and start them again; they are not replaced, even if their specs have changed
    Restart(Restart),
    /// Build the images of services whose sources have changed, as `up` does; containers stay as they are
    Build(Images),
    /// Pull the images of services, also if they are present; containers stay as they are
    Pull(Images),
    /// Show the changes `up` would make, and why
    Diff(Diff),
    /// Force-recreate services; restart dependents with `restart: true`
    Reload(Reload),
    /// Run a job, even if it has succeeded, after its dependencies are ready; show its output and exit with its exit code
    Run(Run),
    /// Show service status
    #[command(visible_alias = "ps")]
    Status(Status),
    /// Show the processes of running containers
    Top(Top),
    /// Show service logs
    Logs(Logs),
    /// Execute a command in a service's container; exits with its exit code
    Exec(Exec),
    /// Show what the engine is and can do, and what restricts drillmaster on it (no specs needed)
    Doctor,
    /// Show every group on the engine with its directory
    Ls,
    /// Remove the groups whose directory no longer exists
    Prune(Prune),
    /// Print the dependency graph in DOT format: `drillmaster graph | dot -Tsvg` (no engine needed)
    Graph,
    /// Validate the specs (no engine needed)
    Validate,
    /// Print the specs as YAML (alias `config`): programs evaluated, functions named, variables replaced where they are not secret (no
    /// engine needed)
    #[command(alias = "config")]
    Render(Render),
    /// Write specs that say what compose files say, a file for each service (no engine needed)
    Import(Import),
    /// Write the specs as a file of another program (no engine needed)
    #[command(subcommand)]
    Export(Export),
    /// Print the JSON Schema of the specs (no engine needed)
    Schema,
}

/// Kind of file that `export` writes.
#[derive(Debug, Subcommand)]
pub enum Export {
    /// Write a compose file for the same volumes and networks; what it cannot say is a comment at its place, and makes the
    /// exit code 1
    Compose(ExportCompose),
}

/// Arguments of `export compose`.
#[derive(Debug, Args)]
pub struct ExportCompose {
    /// Service names; their dependencies are included [default: all, whatever their profiles, or with --profile the active
    /// ones]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// File to write; paths in it are relative to its directory [default: print it, relative to this directory]
    #[arg(long, value_name = "FILE")]
    pub into: Option<PathBuf>,
    /// Overwrite the file
    #[arg(long, requires = "into")]
    pub force: bool,
}

/// Selected services.
#[derive(Debug, Args)]
pub struct Selection {
    /// Service names [default: all]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Exclude this service (repeatable)
    #[arg(long, value_name = "SERVICE", value_delimiter = ',')]
    pub exclude: Vec<String>,
    /// Timeout (e.g. 90s, 5m); completed steps are kept
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub timeout: Option<Duration>,
}

/// Arguments of `up`.
#[derive(Debug, Args)]
pub struct Up {
    #[command(flatten)]
    pub selection: Selection,
    /// If the specs have no services, remove all containers of the group
    #[arg(long)]
    pub prune_all: bool,
    /// Take over the group from a spec directory that was moved here or from the compose files that the specs were imported
    /// from, or the project from docker compose: its containers are removed, its volumes kept
    #[arg(long)]
    pub adopt: bool,
    /// Do not ask before containers of docker compose are removed
    #[arg(long, short, requires = "adopt")]
    pub yes: bool,
    /// Keep running and reconcile on spec changes, container exits and drift; Ctrl-C stops the watch and leaves
    /// containers running
    #[arg(long, conflicts_with = "timeout")]
    pub watch: bool,
    /// Accepted for those who come from compose: without `--watch`, `up` ends when everything is ready
    #[arg(long, short, hide = true, conflicts_with_all = ["watch", "exit_code_from"])]
    pub detach: bool,
    /// Run this job again, show its output, and exit with its exit code
    #[arg(long, value_name = "JOB", conflicts_with_all = ["watch", "prune_all"])]
    pub exit_code_from: Option<String>,
    /// Take the group down afterwards, as `down` does, whatever the exit code
    #[arg(long, requires = "exit_code_from")]
    pub down: bool,
}

/// Arguments of `build` and `pull`.
#[derive(Debug, Args)]
pub struct Images {
    /// Service names [default: all]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Timeout (e.g. 90s, 5m); completed steps are kept
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub timeout: Option<Duration>,
}

/// Arguments of `top`.
#[derive(Debug, Args)]
pub struct Top {
    /// Service names [default: all]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

/// Arguments of `restart`.
#[derive(Debug, Args)]
pub struct Restart {
    /// Service names [default: all]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Timeout of each of the two parts (e.g. 90s, 5m); completed steps are kept
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub timeout: Option<Duration>,
}

/// Arguments of `reload`.
#[derive(Debug, Args)]
pub struct Reload {
    /// Service names
    #[arg(value_name = "SERVICE", required = true)]
    pub services: Vec<String>,
    /// Start with new anonymous volumes; the old ones stay until `down --volumes`
    #[arg(long)]
    pub renew_volumes: bool,
    /// Timeout (e.g. 90s, 5m); completed steps are kept
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub timeout: Option<Duration>,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Job name
    #[arg(value_name = "JOB")]
    pub job: String,
    /// Timeout (e.g. 90s, 5m); completed steps are kept
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub timeout: Option<Duration>,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct Status {
    /// Show changes until Ctrl-C
    #[arg(long)]
    pub watch: bool,
}

/// Arguments of `down`.
#[derive(Debug, Default, Args)]
pub struct Down {
    /// Exclude this service (repeatable)
    #[arg(long, value_name = "SERVICE", value_delimiter = ',')]
    pub exclude: Vec<String>,
    /// Also remove the volumes of the group and their data
    #[arg(long)]
    pub volumes: bool,
    /// Also remove all images built for the group
    #[arg(long)]
    pub images: bool,
    /// Timeout (e.g. 90s, 5m); completed steps are kept
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub timeout: Option<Duration>,
}

/// Arguments of `prune`.
#[derive(Debug, Args)]
pub struct Prune {
    /// Group names [default: all groups whose directory is gone]
    #[arg(value_name = "GROUP")]
    pub groups: Vec<String>,
    /// Do not ask for confirmation
    #[arg(long, short)]
    pub yes: bool,
    /// Also remove the volumes of these groups and their data
    #[arg(long)]
    pub volumes: bool,
    /// Timeout for each group (e.g. 90s, 5m); completed steps are kept
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub timeout: Option<Duration>,
}

/// Arguments of `diff`.
#[derive(Debug, Args)]
pub struct Diff {
    /// Service names; their dependencies are included [default: all]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Show the values of variables, env files and outputs, which may be secret
    #[arg(long)]
    pub show_values: bool,
    /// Show what `up --adopt` would do
    #[arg(long)]
    pub adopt: bool,
}

/// Arguments of `render`.
#[derive(Debug, Args)]
pub struct Render {
    /// Service names [default: all services and the group]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Show the values of variables, env files and outputs, which may be secret
    #[arg(long)]
    pub show_values: bool,
}

/// Arguments of `import`.
#[derive(Debug, Args)]
pub struct Import {
    /// Compose files [default: those of this directory or one above]
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Directory to write the specs into; it must not have any yet [default: `specs` beside the compose file]
    #[arg(long, value_name = "DIR")]
    pub into: Option<PathBuf>,
}

/// Arguments of `logs`.
#[derive(Debug, Default, Args)]
pub struct Logs {
    /// Service names [default: all]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Follow log output, also of restarted, replaced and new containers, until Ctrl-C
    #[arg(long, short)]
    pub follow: bool,
    /// Number of lines to show from the end of each log, or `all`
    #[arg(long, short = 'n', value_name = "LINES", default_value = "all", value_parser = tail)]
    pub tail: Tail,
    /// Show only lines since this time (e.g. 2026-01-31T09:30:00Z) or duration before now (e.g. 10m)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub since: Option<Moment>,
    /// Show only lines until this time (e.g. 2026-01-31T09:30:00Z) or duration before now (e.g. 10m)
    #[arg(long, value_name = "TIME", value_parser = moment, conflicts_with = "follow")]
    pub until: Option<Moment>,
    /// Show the time of each line
    #[arg(long, short)]
    pub timestamps: bool,
}

/// A moment, as `logs` takes it.
#[derive(Debug, Clone, Copy)]
pub enum Moment {
    /// So long before now.
    Ago(Duration),
    At(Timestamp),
}

impl Moment {
    /// The time, counted back from `now`.
    pub fn before(self, now: Timestamp) -> Timestamp {
        match self {
            Moment::Ago(duration) => now.checked_sub(duration).unwrap_or(Timestamp::MIN),
            Moment::At(time) => time,
        }
    }
}

fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(Moment::At(time));
    }
    if let Ok(seconds) = text.parse::<f64>() {
        let since_1970 = SignedDuration::try_from_secs_f64(seconds).ok();
        let time = since_1970.and_then(|seconds| Timestamp::from_duration(seconds).ok());
        return time.map(Moment::At).ok_or_else(|| "the time is out of range".to_owned());
    }
    match text.contains(['-', ':']) {
        true => Err("expected a time with its zone, e.g. 2026-01-31T09:30:00Z or 2026-01-31T09:30:00+01:00".into()),
        false => duration(text).map(Moment::Ago),
    }
}

/// Number of last lines; `None`: all.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tail(pub Option<u32>);

fn tail(text: &str) -> Result<Tail, String> {
    match text {
        "all" => Ok(Tail(None)),
        number => number.parse().map(|lines| Tail(Some(lines))).map_err(|_| "expected a number, or `all`".to_owned()),
    }
}

/// Arguments of `exec`.
#[derive(Debug, Args)]
pub struct Exec {
    /// Service name
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// Replica index [default: first running]
    #[arg(long, value_name = "INDEX")]
    pub replica: Option<u32>,
    /// Disable pseudo-TTY allocation
    #[arg(long, short = 'T')]
    pub no_tty: bool,
    /// No effect: standard input is always attached (as `docker exec -i`)
    #[arg(long, short, hide = true)]
    pub interactive: bool,
    /// No effect: on a terminal, one is always allocated (as `docker exec -t`)
    #[arg(long, short, hide = true, conflicts_with = "no_tty")]
    pub tty: bool,
    /// Command and arguments
    #[arg(value_name = "CMD", trailing_var_arg = true, required = true)]
    pub command: Vec<String>,
}

fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<crate::spec::value::Period>().map(Duration::from).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_v_after_down_means_volumes() {
        let translated = |line: &str| {
            let words = translate(line.split(' ').map(OsString::from));
            words.into_iter().map(|word| word.into_string().unwrap()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(translated("drillmaster down -v"), "drillmaster down --volumes");
        assert_eq!(translated("drillmaster --group x down -v"), "drillmaster --group x down --volumes");
        assert_eq!(translated("drillmaster --env-file x down -v"), "drillmaster down --env-file x --volumes");
        for unchanged in [
            "drillmaster -v down",
            "drillmaster up -v",
            "drillmaster down -vv",
            "drillmaster exec down ls -v",
            "drillmaster --group down up -v",
        ] {
            assert_eq!(translated(unchanged), unchanged);
        }
    }

    #[test]
    fn short_f_means_the_spec_directory() {
        let parsed = |line: &str| {
            let words = translate(line.split(' ').map(OsString::from));
            let cli = Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
            (cli.global.specs.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" "), cli.command)
        };
        for line in [
            "drillmaster -f dir up",
            "drillmaster up -f dir",
            "drillmaster -fdir up",
            "drillmaster -f=dir up",
            "drillmaster --file dir up",
            "drillmaster up --file=dir",
            "drillmaster -q --group logs -f dir up",
            "drillmaster -f dir logs -f api",
            "drillmaster -f dir exec api tail -f x",
            "drillmaster -f dir down -v",
        ] {
            assert_eq!(parsed(line).0, "dir", "{line}");
        }
        for line in [
            "drillmaster -f a.yaml -fb.yaml up",
            "drillmaster -f a.yaml up -f b.yaml",
            "drillmaster --file=a.yaml -q up web --specs b.yaml",
            "drillmaster up -f a.yaml web -f b.yaml",
        ] {
            assert_eq!(parsed(line).0, "a.yaml b.yaml", "{line}");
        }
        let words = translate("drillmaster --profile a up --profile b,c".split(' ').map(OsString::from));
        assert_eq!(Cli::parse_from(words).global.profile, ["a", "b", "c"]);
        let follows = |line: &str| matches!(parsed(line).1, Command::Logs(logs) if logs.follow);
        assert!(follows("drillmaster logs -f") && follows("drillmaster -f dir logs -f api"));
        assert!(!follows("drillmaster -f dir logs"));
        let command = |line: &str| if let Command::Exec(exec) = parsed(line).1 { exec.command } else { Vec::new() };
        assert_eq!(command("drillmaster exec api tail -f x"), ["tail", "-f", "x"]);
        assert!(matches!(parsed("drillmaster -f dir down -v").1, Command::Down(down) if down.volumes));
    }

    #[test]
    fn exec_takes_the_words_of_docker() {
        let command = |line: &str| match Cli::try_parse_from(line.split(' ')).map(|cli| cli.command) {
            Ok(Command::Exec(exec)) => Some((exec.service, exec.command.join(" "))),
            _ => None,
        };
        let expected = Some(("api".to_owned(), "sh -c -v".to_owned()));
        for line in ["exec api sh -c -v", "exec api -- sh -c -v", "exec -it api sh -c -v", "exec -T api sh -c -v"] {
            assert_eq!(command(&format!("drillmaster {line}")), expected, "{line}");
        }
        assert_eq!(command("drillmaster exec api"), None);
    }
}
