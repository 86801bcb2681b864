//! The command line, as clap reads it. No logic.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Keeps a directory of service definitions and a Docker engine in agreement.
#[derive(Debug, Parser)]
#[command(name = "drillmaster", version, about, max_term_width = 100, propagate_version = true)]
#[command(after_help = "Exit codes: 0 done (diff: no differences), 1 a service failed (diff: differences), \
2 specs or usage invalid, 3 no engine, 4 another controller holds the group, 130 interrupted.")]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Keeps a command's own options apart from those that every command has.
const HEADING: &str = "Global options";

/// What holds for every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Directory of the specs.
    #[arg(long, global = true, help_heading = HEADING, default_value = "specs", value_name = "DIR")]
    pub specs: PathBuf,
    /// Name of the group, in place of the Group document's or the directory's.
    #[arg(long, global = true, help_heading = HEADING, value_name = "NAME")]
    pub group: Option<String>,
    /// Engine to use: unix:///path or tcp://host:port [default: DOCKER_HOST, else the docker context]
    #[arg(long, global = true, help_heading = HEADING, value_name = "URL")]
    pub host: Option<String>,
    /// Form of the results on stdout.
    #[arg(long, short, global = true, help_heading = HEADING, value_enum, default_value_t, value_name = "FORM")]
    pub output: Output,
    /// When to use colours.
    #[arg(long, global = true, help_heading = HEADING, value_enum, default_value_t, value_name = "WHEN")]
    pub color: Color,
    /// Tell what the engine is asked for; twice: every question too.
    #[arg(long, short, global = true, help_heading = HEADING, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// Tell nothing but results and errors.
    #[arg(long, short, global = true, help_heading = HEADING)]
    pub quiet: bool,
}

/// Form of the results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the engine agree with the specs: create, replace, start and remove what differs; with --watch, keep it so.
    Up(Up),
    /// Remove the containers and the network of the group; volumes and images stay.
    Down(Down),
    /// Start containers that exist, in the order of their dependencies; create none.
    Start(Selection),
    /// Stop containers, dependents first; keep them.
    Stop(Selection),
    /// Say what `up` would do, and why.
    Diff(Diff),
    /// Replace services although they match their specs, and restart the dependents that asked for it.
    Reload(Reload),
    /// Run a job although it has succeeded, and what it needs before; show what it prints.
    Run(Run),
    /// Say how each service is.
    Status(Status),
    /// Show what services print.
    Logs(Logs),
    /// Run a command in the container of a service, with this terminal; ends with its exit code.
    Exec(Exec),
    /// Say who needs whom, in Graphviz's language: `drillmaster graph | dot -Tsvg`; needs no engine.
    Graph,
    /// Check the specs; needs no engine.
    Validate,
    /// Print the specs as YAML, with variables replaced and programs evaluated; needs no engine.
    Render(Render),
    /// Print the JSON Schema of the specs.
    Schema,
}

/// Which services.
#[derive(Debug, Args)]
pub struct Selection {
    /// Services, by name [default: all]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Leave this service out; may be given several times.
    #[arg(long, value_name = "SERVICE", value_delimiter = ',')]
    pub exclude: Vec<String>,
    /// Give up after this time, e.g. 90s or 5m; what is done stays.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub timeout: Option<Duration>,
}

/// `up`.
#[derive(Debug, Args)]
pub struct Up {
    /// Which services; what they depend on comes along.
    #[command(flatten)]
    pub selection: Selection,
    /// When the specs name no service at all, remove every container of the group.
    #[arg(long)]
    pub prune_all: bool,
    /// Stay, and keep the engine in agreement: when specs change, containers end, things are removed by hand. Ctrl-C
    /// ends it, containers stay.
    #[arg(long, conflicts_with = "timeout")]
    pub watch: bool,
}

/// `reload`.
#[derive(Debug, Args)]
pub struct Reload {
    /// Services, by name.
    #[arg(value_name = "SERVICE", required = true)]
    pub services: Vec<String>,
    /// Give up after this time, e.g. 90s or 5m; what is done stays.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub timeout: Option<Duration>,
}

/// `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// The job, by name.
    #[arg(value_name = "JOB")]
    pub job: String,
    /// Give up after this time, e.g. 90s or 5m; what is done stays.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub timeout: Option<Duration>,
}

/// `status`.
#[derive(Debug, Args)]
pub struct Status {
    /// Stay, and show every change, until Ctrl-C.
    #[arg(long)]
    pub watch: bool,
}

/// `down`.
#[derive(Debug, Args)]
pub struct Down {
    /// Leave this service as it is; may be given several times.
    #[arg(long, value_name = "SERVICE", value_delimiter = ',')]
    pub exclude: Vec<String>,
    /// Remove the group's volumes as well, with all that is in them.
    #[arg(long)]
    pub volumes: bool,
    /// Remove the images as well that were built for the group, old ones too.
    #[arg(long)]
    pub images: bool,
    /// Give up after this time, e.g. 90s or 5m; what is done stays.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub timeout: Option<Duration>,
}

/// `diff`.
#[derive(Debug, Args)]
pub struct Diff {
    /// Services, by name; what they depend on comes along [default: all]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Show values of the environment, which may be secret.
    #[arg(long)]
    pub show_values: bool,
}

/// `render`.
#[derive(Debug, Args)]
pub struct Render {
    /// Services, by name [default: all, and the group]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Show values of the environment, which may be secret.
    #[arg(long)]
    pub show_values: bool,
}

/// `logs`.
#[derive(Debug, Args)]
pub struct Logs {
    /// Services, by name [default: all]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Go on showing what comes.
    #[arg(long, short)]
    pub follow: bool,
    /// Only the last so many lines of each.
    #[arg(long, short = 'n', value_name = "LINES")]
    pub tail: Option<u32>,
}

/// `exec`.
#[derive(Debug, Args)]
pub struct Exec {
    /// The service, by name.
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// Of a service with replicas, the container of this number [default: the first that runs]
    #[arg(long, value_name = "NUMBER")]
    pub replica: Option<u32>,
    /// No terminal, also where this is one.
    #[arg(long, short = 'T')]
    pub no_tty: bool,
    /// The command and its arguments.
    #[arg(value_name = "CMD", last = true, required = true)]
    pub command: Vec<String>,
}

fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<crate::spec::value::Period>().map(Duration::from).map_err(|error| error.to_string())
}
