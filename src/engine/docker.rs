//! A Docker engine, spoken to through bollard.
//!
//! Carries out what it is asked, once, and says in people's words what went wrong. It retries nothing, waits for
//! nothing but the answer (deadlines are [`super::deadline`]'s) and decides nothing.

use std::collections::{BTreeMap, HashMap};
use std::error::Error as StdError;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::auth::DockerCredentials;
use bollard::container::LogOutput;
use bollard::errors::Error as BollardError;
use bollard::exec::{CreateExecOptions, ResizeExecOptions, StartExecOptions, StartExecResults};
use bollard::models::{
    CreateImageInfo, EventMessage, NetworkConnectRequest, NetworkCreateRequest, NetworkDisconnectRequest, SystemInfo,
    SystemVersion,
};
use bollard::query_parameters as query;
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker as Client};
use docker_credential::DockerCredential;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use tokio::sync::oneshot;

use super::build::{self, BuildError, Builder};
use super::deadline::{Limits, within};
use super::lines::Lines;
use super::registry::{self, PullTracker, Reference};
use super::target::{Endpoint, EngineConfig};
use super::transport::{Wire, WireError};
use super::{
    Attached, BuildProgress, BuildRequest, ContainerExit, ContainerSpec, Engine, EngineError, EngineEvent,
    EngineFuture, EngineInfo, EngineStream, Exec, LogLine, LogOptions, Mutation, PullProgress, Result, convert, short,
};
use crate::identity;
use crate::observed::{Container, ImageFacts, Observed};

/// The oldest API that is spoken: Docker 20.10.
const OLDEST_API: (u32, u32) = (1, 41);
/// The newest one: what the bollard in use was made for.
const NEWEST_API: (u32, u32) = (1, 53);
/// bollard has one deadline for all calls, which would cut the long ones; ours are in `deadline.rs`.
const NEVER: u64 = 365 * 24 * 3600;

/// A Docker engine.
pub struct Docker {
    client: Client,
    wire: Arc<Wire>,
    endpoint: Endpoint,
    config_dir: Option<PathBuf>,
    buildkit: Option<bool>,
    version: String,
    api: String,
    /// How far the engine's clock is ahead of ours at least, in nanoseconds.
    clock: AtomicI64,
}

impl Docker {
    /// Connects, and agrees on a version of the API: one request. It has the deadline of a read, since nothing bounds
    /// an engine that does not exist yet.
    pub async fn connect(target: &EngineConfig) -> Result<Docker> {
        let attempted = || format!("connect to {}", target.endpoint);
        within(Limits::default().read, attempted, Docker::negotiate(target)).await
    }

    async fn negotiate(target: &EngineConfig) -> Result<Docker> {
        let wire = Wire::new(target.endpoint.clone());
        let client = client(&wire, None).map_err(|error| fault(&target.endpoint, "connect", error))?;
        let attempted = format!("talk to the engine at {}", target.endpoint);
        let version = client.version().await.map_err(|error| fault(&target.endpoint, &attempted, error))?;
        let api = agree(&version).map_err(|message| EngineError::Refused { attempted, message })?;
        wire.speak(api.clone());
        Ok(Docker {
            client,
            wire,
            endpoint: target.endpoint.clone(),
            config_dir: target.config_dir.clone(),
            buildkit: target.buildkit,
            version: version.version.unwrap_or_default(),
            api,
            clock: AtomicI64::new(0),
        })
    }

    fn fault(&self, attempted: &str, error: BollardError) -> EngineError {
        fault(&self.endpoint, attempted, error)
    }

    async fn ask_about(&self) -> Result<EngineInfo> {
        let info = self.client.info().await.map_err(|error| self.fault("ask what it is", error))?;
        if let Some(ahead) = info.system_time.as_deref().and_then(clock_difference) {
            self.clock.store(ahead, Ordering::Relaxed);
        }
        Ok(EngineInfo {
            reaches_containers: self.reaches_containers(&info),
            id: info.id.unwrap_or_default(),
            version: self.version.clone(),
            api: self.api.clone(),
        })
    }

    /// Rootless engines and those of Docker Desktop have their networks where we are not.
    fn reaches_containers(&self, info: &SystemInfo) -> bool {
        let rootless = info.security_options.iter().flatten().any(|option| option.contains("name=rootless"));
        let virtual_machine = info.operating_system.as_deref().is_some_and(|name| name.contains("Docker Desktop"));
        cfg!(target_os = "linux") && matches!(self.endpoint, Endpoint::Unix(_)) && !rootless && !virtual_machine
    }

    async fn list_all(&self, group: &str, volumes: bool) -> Result<Observed> {
        let (containers, networks, images, volumes) = tokio::try_join!(
            self.client.list_containers(Some(query::ListContainersOptions { all: true, ..Default::default() })),
            self.client.list_networks(None),
            self.client.list_images(None::<query::ListImagesOptions>),
            async {
                if !volumes {
                    return Ok(Vec::new());
                }
                let filters = Some(HashMap::from([("label".into(), vec![format!("{}={group}", identity::GROUP)])]));
                let found = self.client.list_volumes(Some(query::ListVolumesOptions { filters })).await?;
                Ok(found.volumes.unwrap_or_default())
            },
        )
        .map_err(|error| self.fault("list what it has", error))?;
        let containers = containers.into_iter().filter_map(convert::container);
        let networks = networks.into_iter().filter_map(convert::network);
        let volumes = volumes.into_iter().filter_map(convert::volume);
        Ok(Observed {
            containers: containers.map(|container| (container.id.clone(), container)).collect(),
            networks: networks.map(|network| (network.id.clone(), network)).collect(),
            built: convert::built(&images, group),
            images: convert::images(images),
            volumes: volumes.map(|volume| (volume.name.clone(), volume)).collect(),
            ..Default::default()
        })
    }

    async fn inspect_container(&self, id: &str) -> Result<Option<Container>> {
        match self.client.inspect_container(id, None::<query::InspectContainerOptions>).await {
            Ok(response) => Ok(convert::inspected(response)),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(self.fault(&format!("inspect container {}", short(id)), error)),
        }
    }

    async fn inspect_image(&self, reference: &str) -> Result<Option<ImageFacts>> {
        match self.client.inspect_image(reference).await {
            Ok(image) => Ok(Some(convert::facts(image))),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(self.fault(&format!("inspect image {reference}"), error)),
        }
    }

    async fn carry_out(&self, mutation: &Mutation) -> Result<Option<String>> {
        match self.call(mutation).await {
            Ok(id) => Ok(id),
            Err(error) if reached(mutation, &error) => Ok(None),
            Err(error) => Err(self.fault(&mutation.describe(), error)),
        }
    }

    /// One deed, one request.
    async fn call(&self, mutation: &Mutation) -> std::result::Result<Option<String>, BollardError> {
        let client = &self.client;
        match mutation {
            Mutation::Create(spec) => return self.create(spec).await.map(Some),
            Mutation::CreateNetwork { name, labels } => return self.create_network(name, labels).await.map(Some),
            Mutation::Start(id) => client.start_container(id, None::<query::StartContainerOptions>).await?,
            Mutation::Stop { id, timeout } => {
                let t = timeout.map(whole_seconds);
                client.stop_container(id, Some(query::StopContainerOptions { t, ..Default::default() })).await?;
            }
            Mutation::Unpause(id) => client.unpause_container(id).await?,
            Mutation::Rename { id, name } => {
                client.rename_container(id, query::RenameContainerOptions { name: name.clone() }).await?;
            }
            Mutation::Update { id, resources, restart } => {
                client.update_container(id, convert::update_body(resources, *restart)).await?;
            }
            Mutation::Remove { id, volumes } => {
                let options = query::RemoveContainerOptions { force: true, v: *volumes, link: false };
                client.remove_container(id, Some(options)).await?;
            }
            Mutation::RemoveNetwork(id) => client.remove_network(id).await?,
            Mutation::Connect { network, container, aliases } => {
                let endpoint_config = Some(convert::endpoint(network, aliases));
                let request = NetworkConnectRequest { container: container.clone(), endpoint_config };
                client.connect_network(network, request).await?;
            }
            Mutation::Disconnect { network, container } => {
                let request = NetworkDisconnectRequest { container: container.clone(), force: Some(true) };
                client.disconnect_network(network, request).await?;
            }
            Mutation::RemoveVolume(name) => client.remove_volume(name, None::<query::RemoveVolumeOptions>).await?,
            Mutation::RemoveImage(reference) => {
                client.remove_image(reference, None::<query::RemoveImageOptions>, None).await?;
            }
        }
        Ok(None)
    }

    async fn create(&self, spec: &ContainerSpec) -> std::result::Result<String, BollardError> {
        let options = query::CreateContainerOptions { name: Some(spec.name.clone()), ..Default::default() };
        Ok(self.client.create_container(Some(options), convert::create_body(spec)).await?.id)
    }

    async fn create_network(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> std::result::Result<String, BollardError> {
        let body = convert::network_body(name, labels).to_string();
        let own_body = move |mut request: BollardRequest| {
            *request.body_mut() = bollard::body_full(body.clone().into());
            request
        };
        let client = self.client.clone().with_request_modifier(own_body);
        Ok(client.create_network(NetworkCreateRequest::default()).await?.id)
    }

    async fn pull_image(&self, image: &str, progress: &(dyn Fn(PullProgress) + Send + Sync)) -> Result<()> {
        let reference = Reference::parse(image);
        let attempted = format!("pull {image}");
        let (credentials, trouble) = match self.credentials(reference.credentials_key()).await {
            Ok(credentials) => (credentials, None),
            // Public images need none, so the pull decides whether it matters.
            Err(trouble) => (None, Some(trouble)),
        };
        let options = query::CreateImageOptions {
            from_image: Some(reference.repository.to_owned()),
            tag: Some(reference.version.to_owned()),
            ..Default::default()
        };
        let mut messages = self.client.create_image(Some(options), None, credentials).boxed();
        let mut tally = PullTracker::default();
        while let Some(message) = messages.next().await {
            let message = message.map_err(|error| {
                let error = explained(self.fault(&attempted, error), reference.registry);
                match &trouble {
                    Some(trouble) => amended(error, &format!("; no credentials were sent: {trouble}")),
                    None => error,
                }
            })?;
            note(&mut tally, &message);
            // Also where nothing has changed: it is the sign of life that deadlines are measured by.
            progress(tally.progress());
        }
        Ok(())
    }

    async fn build_image(
        &self,
        request: &BuildRequest,
        progress: &(dyn Fn(BuildProgress) + Send + Sync),
    ) -> Result<()> {
        let trouble = |trouble| self.build_trouble(&request.image, trouble);
        let builder = match self.buildkit {
            Some(true) => Builder::BuildKit,
            Some(false) => Builder::Classic,
            None => build::preferred(&self.wire).await.map_err(trouble)?,
        };
        let mut credentials = BTreeMap::new();
        let dockerfile = build::dockerfile(request.build.tree.dockerfile.as_ref()).await;
        for registry in build::registries(&dockerfile) {
            // Public images need none, so the build decides whether it matters that they cannot be had.
            if let Ok(Some(found)) = self.credentials(&registry).await {
                credentials.extend(serde_json::to_value(found).ok().map(|found| (registry, found)));
            }
        }
        build::build(&self.wire, builder, request, &credentials, progress).await.map_err(trouble)
    }

    fn build_trouble(&self, image: &str, trouble: BuildError) -> EngineError {
        let attempted = format!("build {image}");
        let reason = match trouble {
            BuildError::Failed(message) => return EngineError::Refused { attempted, message },
            // They may be back in a moment.
            BuildError::Files(message) => return EngineError::Conflict { attempted, message },
            BuildError::Wire(WireError::Io(error)) => reason(&self.endpoint, &error),
            BuildError::Wire(WireError::Http(error)) => reason(&self.endpoint, &error),
        };
        EngineError::Unreachable { endpoint: self.endpoint.to_string(), reason }
    }

    /// Credentials for a registry; a helper may have to be run for them, which blocks.
    async fn credentials(&self, key: &str) -> std::result::Result<Option<DockerCredentials>, String> {
        let Some(directory) = self.config_dir.clone() else {
            return Ok(None);
        };
        let server = key.to_owned();
        let looked_up = tokio::task::spawn_blocking(move || registry::credentials(&directory, &server)).await;
        let found = looked_up.map_err(|error| error.to_string())??;
        let serveraddress = Some(key.to_owned());
        Ok(found.map(|credential| match credential {
            DockerCredential::IdentityToken(token) => {
                DockerCredentials { identitytoken: Some(token), serveraddress, ..Default::default() }
            }
            DockerCredential::UsernamePassword(username, password) => DockerCredentials {
                username: Some(username),
                password: Some(password),
                serveraddress,
                ..Default::default()
            },
        }))
    }

    /// The engine gives files as an archive.
    async fn read_file(&self, id: &str, path: &str, most: usize) -> Result<Option<Vec<u8>>> {
        // Headers and padding of an archive with one file.
        const FRAME: usize = 64 * 1024;
        let attempted = || format!("read {path} in container {}", short(id));
        let options = query::DownloadFromContainerOptions { path: path.to_owned() };
        let mut pieces = self.client.download_from_container(id, Some(options)).boxed();
        let mut archive = Vec::new();
        while let Some(piece) = pieces.next().await {
            match piece {
                Ok(piece) => archive.extend_from_slice(&piece),
                Err(error) if status(&error) == Some(404) && !is_no_container(&error) => return Ok(None),
                Err(error) => return Err(self.fault(&attempted(), error)),
            }
            if archive.len() > most + FRAME {
                break;
            }
        }
        first_file(&archive, most)
            .map_err(|error| EngineError::Refused { attempted: attempted(), message: format!("not a file: {error}") })
    }

    async fn run(&self, id: &str, exec: &Exec, heard: &mut (dyn FnMut(LogLine) + Send)) -> Result<i64> {
        let attempted = format!("run a command in container {}", short(id));
        self.run_to_the_end(id, exec, heard).await.map_err(|error| self.fault(&attempted, error))
    }

    async fn run_to_the_end(
        &self,
        id: &str,
        exec: &Exec,
        heard: &mut (dyn FnMut(LogLine) + Send),
    ) -> std::result::Result<i64, BollardError> {
        let options = CreateExecOptions {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(exec.command.clone()),
            env: Some(exec.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
            ..Default::default()
        };
        let exec = self.client.create_exec(id, options).await?.id;
        // What a child keeps open that was left behind, the engine closes 2 s after the end of the command itself.
        if let StartExecResults::Attached { mut output, .. } = self.client.start_exec(&exec, None).await? {
            let mut lines = Lines::default();
            while let Some(piece) = output.next().await {
                pieces(&mut lines, &piece?).into_iter().for_each(&mut *heard);
            }
            lines.rest().into_iter().for_each(&mut *heard);
        }
        self.exit_code(&exec).await
    }

    /// Begins a command in a container, its input and output attached; with `tty` it has a terminal.
    pub async fn attach(&self, id: &str, command: &[String], tty: bool) -> Result<Attached> {
        let attempted = format!("run {} in container {}", command.join(" "), short(id));
        let begin = async {
            let options = CreateExecOptions {
                attach_stdin: Some(true),
                attach_stdout: Some(true),
                attach_stderr: Some(true),
                tty: Some(tty),
                cmd: Some(command.to_vec()),
                ..Default::default()
            };
            let exec = self.client.create_exec(id, options).await?.id;
            let started = self.client.start_exec(&exec, None::<StartExecOptions>).await?;
            Ok((exec, started))
        };
        let begin = async { begin.await.map_err(|error| self.fault(&attempted, error)) };
        match within(Limits::default().change, || attempted.clone(), begin).await? {
            (exec, StartExecResults::Attached { output, input }) => {
                let endpoint = self.endpoint.clone();
                let output = output.map(move |piece| match piece {
                    Ok(piece) => Ok((matches!(piece, LogOutput::StdErr { .. }), piece.into_bytes().to_vec())),
                    Err(error) => Err(fault(&endpoint, &attempted, error)),
                });
                Ok(Attached { exec, output: output.boxed(), input })
            }
            (_, StartExecResults::Detached) => {
                Err(EngineError::Refused { attempted, message: "its output was not attached".into() })
            }
        }
    }

    /// Tells the terminal of such a command its size.
    pub async fn resize(&self, exec: &str, rows: u16, columns: u16) -> Result<()> {
        let attempted = || "resize the terminal of a command".to_owned();
        let resize = async {
            let options = ResizeExecOptions { height: rows, width: columns };
            self.client.resize_exec(exec, options).await.map_err(|error| self.fault(&attempted(), error))
        };
        within(Limits::default().change, attempted, resize).await
    }

    /// The exit code of such a command, whose output has ended.
    pub async fn ended_with(&self, exec: &str) -> Result<i64> {
        let attempted = || "say how a command ended".to_owned();
        let code = async { self.exit_code(exec).await.map_err(|error| self.fault(&attempted(), error)) };
        within(Limits::default().change, attempted, code).await
    }

    /// The exit code of a command whose output has ended. The engine learns of the end a little later than of the end
    /// of the output, and a program may close its output and go on; there is no event for this exec alone.
    async fn exit_code(&self, exec: &str) -> std::result::Result<i64, BollardError> {
        let mut pause = Duration::from_millis(2);
        loop {
            let found = self.client.inspect_exec(exec).await?;
            if let (Some(code), Some(false)) = (found.exit_code, found.running) {
                return Ok(code);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }

    async fn ended_within(&self, group: &str, span: Duration) -> Result<Vec<ContainerExit>> {
        // The engine waits for a moment that lies in its future, so its clock has to be known.
        self.ask_about().await?;
        let now = self.moment_before_now();
        let since = now.saturating_sub(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)).max(0);
        let filter = |key: &str, values: &[&str]| (key.to_owned(), values.iter().map(|&v| v.to_owned()).collect());
        let options = query::EventsOptions {
            since: Some(timestamp(since)),
            until: Some(timestamp(now)),
            filters: Some(HashMap::from([
                filter("type", &["container"]),
                filter("event", &["kill", "die"]),
                filter("label", &[&format!("{}={group}", identity::GROUP)]),
            ])),
        };
        let events: Vec<EventMessage> = self
            .client
            .events(Some(options))
            .try_collect()
            .await
            .map_err(|error| self.fault("say what ended lately", error))?;
        Ok(convert::ends(events, group, now))
    }

    /// Where to begin with events so that none is missed, in nanoseconds since 1970 by the engine's clock. An engine
    /// sends the head of its response just before it subscribes, so the head alone leaves a gap; what happened in it is
    /// repeated from this moment on. Too early does no harm, for an event is but a hint.
    fn moment_before_now(&self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
        now.saturating_add(self.clock.load(Ordering::Relaxed)).max(0)
    }

    fn subscribe<'a>(&'a self, group: &'a str) -> EngineStream<'a, EngineEvent> {
        let (heard, head) = oneshot::channel();
        let client = match client(&self.wire, Some(heard)) {
            Ok(client) => client,
            Err(error) => return stream::iter([Err(self.fault(EVENTS, error))]).boxed(),
        };
        let kinds = ["container", "network"].map(str::to_owned).to_vec();
        let options = query::EventsOptions {
            since: Some(timestamp(self.moment_before_now())),
            // A label filter would hold for both kinds, and events of networks carry no labels.
            filters: Some(HashMap::from([("type".into(), kinds)])),
            ..Default::default()
        };
        let events = client.events(Some(options)).boxed();
        let subscription = Subscription { events, head: Some(head), first: None };
        stream::unfold(Some(subscription), move |subscription| async move {
            subscription?.next(self, group).await.map(|(item, rest)| (item, Some(rest)))
        })
        .boxed()
    }
}

const EVENTS: &str = "report events";

type Events = BoxStream<'static, std::result::Result<EventMessage, BollardError>>;

/// A stream of events whose first item says that it has begun.
struct Subscription {
    events: Events,
    /// Told when the head of the response has come; `None`: that was said.
    head: Option<oneshot::Receiver<()>>,
    /// An event that came with the head.
    first: Option<EventMessage>,
}

impl Subscription {
    async fn next(mut self, engine: &Docker, group: &str) -> Option<(Result<EngineEvent>, Subscription)> {
        if let Some(head) = self.head.take() {
            let begun = self.begin(head).await?;
            return Some((begun.map_err(|error| engine.fault(EVENTS, error)), self));
        }
        loop {
            let event = match self.first.take() {
                Some(event) => Ok(event),
                None => self.events.next().await?,
            };
            match event.map(|event| convert::event(event, group)) {
                Ok(None) => {}
                Ok(Some(event)) => return Some((Ok(event), self)),
                Err(error) => return Some((Err(engine.fault(EVENTS, error)), self)),
            }
        }
    }

    async fn begin(&mut self, head: oneshot::Receiver<()>) -> Option<std::result::Result<EngineEvent, BollardError>> {
        tokio::select! {
            biased;
            // Cancel-safe because it is looked at no more when an event was first.
            Ok(()) = head => {}
            // Cancel-safe because the stream lives on in `self`. It has to be polled for the request to be sent.
            event = self.events.next() => match event? {
                Ok(event) => self.first = Some(event),
                Err(error) => return Some(Err(error)),
            },
        }
        Some(Ok(EngineEvent::Subscribed))
    }
}

impl Engine for Docker {
    fn about(&self) -> EngineFuture<'_, EngineInfo> {
        Box::pin(self.ask_about())
    }

    fn list<'a>(&'a self, group: &'a str, volumes: bool) -> EngineFuture<'a, Observed> {
        Box::pin(self.list_all(group, volumes))
    }

    fn inspect<'a>(&'a self, id: &'a str) -> EngineFuture<'a, Option<Container>> {
        Box::pin(self.inspect_container(id))
    }

    fn image<'a>(&'a self, reference: &'a str) -> EngineFuture<'a, Option<ImageFacts>> {
        Box::pin(self.inspect_image(reference))
    }

    fn apply<'a>(&'a self, mutation: &'a Mutation) -> EngineFuture<'a, Option<String>> {
        Box::pin(self.carry_out(mutation))
    }

    fn pull<'a>(&'a self, image: &'a str, progress: &'a (dyn Fn(PullProgress) + Send + Sync)) -> EngineFuture<'a, ()> {
        Box::pin(self.pull_image(image, progress))
    }

    fn read<'a>(&'a self, id: &'a str, path: &'a str, most: usize) -> EngineFuture<'a, Option<Vec<u8>>> {
        Box::pin(self.read_file(id, path, most))
    }

    fn build<'a>(
        &'a self,
        request: &'a BuildRequest,
        progress: &'a (dyn Fn(BuildProgress) + Send + Sync),
    ) -> EngineFuture<'a, ()> {
        Box::pin(self.build_image(request, progress))
    }

    fn exec<'a>(
        &'a self,
        id: &'a str,
        exec: &'a Exec,
        heard: &'a mut (dyn FnMut(LogLine) + Send),
    ) -> EngineFuture<'a, i64> {
        Box::pin(self.run(id, exec, heard))
    }

    fn logs<'a>(&'a self, id: &'a str, options: LogOptions) -> EngineStream<'a, LogLine> {
        let output = self.client.logs(id, Some(log_options(options))).boxed();
        let attempted = format!("read the output of container {}", short(id));
        let state = Some((output, Lines::default()));
        let pieces = stream::unfold(state, move |state| {
            let attempted = attempted.clone();
            async move {
                let (mut output, mut lines) = state?;
                match output.next().await {
                    Some(Ok(piece)) => {
                        let complete = pieces(&mut lines, &piece).into_iter().map(Ok).collect();
                        Some((complete, Some((output, lines))))
                    }
                    Some(Err(error)) => Some((vec![Err(self.fault(&attempted, error))], None)),
                    None => Some((lines.rest().into_iter().map(Ok).collect(), None)),
                }
            }
        });
        pieces.flat_map(stream::iter).boxed()
    }

    fn recent_exits<'a>(&'a self, group: &'a str, span: Duration) -> EngineFuture<'a, Vec<ContainerExit>> {
        Box::pin(self.ended_within(group, span))
    }

    fn events<'a>(&'a self, group: &'a str) -> EngineStream<'a, EngineEvent> {
        self.subscribe(group)
    }
}

/// A bollard on our own connections. `heard` is told when the head of the first response has come.
fn client(wire: &Arc<Wire>, heard: Option<oneshot::Sender<()>>) -> std::result::Result<Client, BollardError> {
    let wire = wire.clone();
    let heard = Arc::new(Mutex::new(heard));
    let transport = move |request: BollardRequest| {
        let (wire, heard) = (wire.clone(), heard.clone());
        async move {
            let response = wire.send(request).await.map_err(|error| match error {
                WireError::Io(error) => BollardError::from(error),
                WireError::Http(error) => BollardError::from(error),
            })?;
            // Only success is a beginning; bollard makes an error of the rest.
            let heard =
                heard.lock().unwrap_or_else(PoisonError::into_inner).take().filter(|_| response.status().is_success());
            if let Some(heard) = heard {
                // Whoever asked may have gone.
                let _ = heard.send(());
            }
            Ok(response)
        }
    };
    // The address only has to be one: the wire knows the real one.
    Client::connect_with_custom_transport(transport, Some("http://docker"), NEVER, API_DEFAULT_VERSION)
}

/// The version of the API that both sides speak, or why there is none.
fn agree(version: &SystemVersion) -> std::result::Result<String, String> {
    let engine = version.version.as_deref().unwrap_or("of unknown version");
    let spoken = version.api_version.as_deref().unwrap_or_default();
    let newest = api(spoken)
        .ok_or_else(|| format!("it does not say which API it speaks ({spoken:?}); is it a Docker engine?"))?;
    if newest < OLDEST_API {
        return Err(format!("Docker {engine} speaks API {spoken}; Docker 20.10 (API 1.41) or later is needed"));
    }
    let oldest = version.min_api_version.as_deref().and_then(api).unwrap_or(OLDEST_API);
    if oldest > NEWEST_API {
        let (major, minor) = oldest;
        return Err(format!(
            "Docker {engine} speaks API {major}.{minor} and later; this drillmaster speaks up to 1.53 and must be upgraded"
        ));
    }
    let (major, minor) = newest.min(NEWEST_API);
    Ok(format!("{major}.{minor}"))
}

fn api(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// How far the engine's clock is ahead, in nanoseconds: at least, since its answer took a while to come.
fn clock_difference(engine: &str) -> Option<i64> {
    let (seconds, nanoseconds) = convert::since_epoch(engine)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let now = i64::try_from(now.as_nanos()).ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(i64::from(nanoseconds))?.checked_sub(now)
}

/// A moment as requests for events take it.
fn timestamp(nanoseconds: i64) -> String {
    format!("{}.{:09}", nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000)
}

fn whole_seconds(duration: Duration) -> i32 {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    i32::try_from(seconds).unwrap_or(i32::MAX)
}

fn log_options(options: LogOptions) -> query::LogsOptions {
    query::LogsOptions {
        follow: options.follow,
        stdout: true,
        stderr: true,
        since: i32::try_from(options.since).unwrap_or(i32::MAX),
        until: 0,
        timestamps: options.timestamps,
        tail: options.tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string()),
    }
}

fn pieces(lines: &mut Lines, piece: &LogOutput) -> Vec<LogLine> {
    lines.take(matches!(piece, LogOutput::StdErr { .. }), piece.as_ref())
}

fn note(tally: &mut PullTracker, message: &CreateImageInfo) {
    let current = message.progress_detail.as_ref().and_then(|detail| detail.current);
    let current = current.and_then(|bytes| u64::try_from(bytes).ok());
    tally.note(message.id.as_deref(), message.status.as_deref().unwrap_or_default(), current);
}

/// Whether an error says that there was nothing left to do.
fn reached(mutation: &Mutation, error: &BollardError) -> bool {
    let BollardError::DockerResponseServerError { status_code, message } = error else {
        return false;
    };
    match mutation {
        Mutation::Remove { .. } => {
            *status_code == 404 || (*status_code == 409 && message.contains("already in progress"))
        }
        Mutation::RemoveNetwork(_) | Mutation::RemoveVolume(_) | Mutation::RemoveImage(_) => *status_code == 404,
        Mutation::Rename { .. } => message.contains("same name as its current name"),
        Mutation::Unpause(_) => message.contains("is not paused"),
        // An id in the message is of a network that is gone: the container may still be attached by its name.
        Mutation::Disconnect { network, .. } => {
            message.contains("is not connected to")
                && (short(network) == network || !message.contains(network.as_str()))
        }
        // An engine answers 304 to what runs or rests already, and bollard takes that for success.
        Mutation::Start(_) | Mutation::Stop { .. } => false,
        Mutation::Create(_) | Mutation::Update { .. } | Mutation::CreateNetwork { .. } | Mutation::Connect { .. } => {
            false
        }
    }
}

/// Whether it is the container that does not exist, and not something in it.
fn is_no_container(error: &BollardError) -> bool {
    error.to_string().contains("No such container:")
}

/// The content of the first file in an archive, as far as `most` bytes.
fn first_file(archive: &[u8], most: usize) -> io::Result<Option<Vec<u8>>> {
    for entry in tar::Archive::new(archive).entries()? {
        let entry = entry?;
        if entry.header().entry_type().is_file() {
            let mut content = Vec::new();
            entry.take(most as u64).read_to_end(&mut content)?;
            return Ok(Some(content));
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "there is something else under its name"))
}

fn status(error: &BollardError) -> Option<u16> {
    match error {
        BollardError::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

fn fault(endpoint: &Endpoint, attempted: &str, error: BollardError) -> EngineError {
    let attempted = attempted.to_owned();
    match error {
        BollardError::DockerResponseServerError { status_code, message } => match status_code {
            404 => EngineError::NotFound { attempted, message },
            403 | 409 => EngineError::Conflict { attempted, message },
            _ => EngineError::Refused { attempted, message },
        },
        BollardError::DockerStreamError { error } => EngineError::Refused { attempted, message: error },
        BollardError::RequestTimeoutError => EngineError::TimedOut { attempted, limit: Duration::from_secs(NEVER) },
        BollardError::IOError { .. } | BollardError::HyperResponseError { .. } => {
            EngineError::Unreachable { endpoint: endpoint.to_string(), reason: reason(endpoint, &error) }
        }
        error => EngineError::Refused { attempted, message: error.to_string() },
    }
}

/// What a connection failed of, in people's words.
fn reason(endpoint: &Endpoint, error: &(dyn StdError + 'static)) -> String {
    let mut cause = Some(error);
    let mut last = error.to_string();
    while let Some(error) = cause {
        if let Some(reason) = known_reason(endpoint, error) {
            return reason.to_owned();
        }
        last = error.to_string();
        cause = error.source();
    }
    last
}

fn known_reason(endpoint: &Endpoint, error: &(dyn StdError + 'static)) -> Option<&'static str> {
    const CLOSED: &str = "the engine closed the connection";
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        return (error.is_incomplete_message() || error.is_canceled() || error.is_closed()).then_some(CLOSED);
    }
    let error = match error.downcast_ref::<BollardError>() {
        Some(BollardError::IOError { err }) => err,
        _ => error.downcast_ref::<io::Error>()?,
    };
    // Of what breaks a stream bollard keeps but the text.
    if error.kind() == io::ErrorKind::Other && error.to_string().contains("reading a body from connection") {
        return Some(CLOSED);
    }
    let local = matches!(endpoint, Endpoint::Unix(_));
    match error.kind() {
        io::ErrorKind::NotFound if local => Some("no such socket"),
        io::ErrorKind::ConnectionRefused if local => {
            Some("connection refused (the socket is there, but no engine listens)")
        }
        io::ErrorKind::ConnectionRefused => Some("connection refused"),
        io::ErrorKind::PermissionDenied => Some("permission denied (is your user in the group docker?)"),
        io::ErrorKind::TimedOut => Some("no answer"),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => Some(CLOSED),
        _ => None,
    }
}

/// Shortens what an engine says about a registry that it did not reach.
fn explained(error: EngineError, registry: &str) -> EngineError {
    changed(error, |message| registry::trouble(registry, &message))
}

fn amended(error: EngineError, addition: &str) -> EngineError {
    changed(error, |message| message + addition)
}

fn changed(error: EngineError, change: impl FnOnce(String) -> String) -> EngineError {
    match error {
        EngineError::NotFound { attempted, message } => EngineError::NotFound { attempted, message: change(message) },
        EngineError::Conflict { attempted, message } => EngineError::Conflict { attempted, message: change(message) },
        EngineError::Refused { attempted, message } => EngineError::Refused { attempted, message: change(message) },
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(version: &str, newest: &str, oldest: &str) -> SystemVersion {
        SystemVersion {
            version: Some(version.into()),
            api_version: Some(newest.into()),
            min_api_version: Some(oldest.into()),
            ..Default::default()
        }
    }

    #[test]
    fn both_sides_agree_on_a_version() {
        assert_eq!(agree(&version("20.10.24", "1.41", "1.12")).as_deref(), Ok("1.41"));
        assert_eq!(agree(&version("29.0.0", "1.52", "1.44")).as_deref(), Ok("1.52"));
        assert_eq!(agree(&version("40.0.0", "1.99", "1.50")).as_deref(), Ok("1.53"));
        let old = agree(&version("19.03.15", "1.40", "1.12")).unwrap_err();
        assert_eq!(old, "Docker 19.03.15 speaks API 1.40; Docker 20.10 (API 1.41) or later is needed");
        let new = agree(&version("50.0.0", "1.99", "1.60")).unwrap_err();
        assert!(new.contains("up to 1.53"), "{new}");
        assert!(agree(&SystemVersion::default()).unwrap_err().contains("is it a Docker engine?"));
    }

    #[test]
    fn a_goal_that_is_reached_is_no_error() {
        let error = |status_code, message: &str| BollardError::DockerResponseServerError {
            status_code,
            message: message.into(),
        };
        let id = "3f2a91bc77d0".repeat(5) + "3f2a";
        let network = "0123456789ab".repeat(5) + "0123";
        let remove = Mutation::Remove { id: id.clone(), volumes: false };
        assert!(reached(&remove, &error(404, "No such container: x")));
        assert!(reached(&remove, &error(409, "removal of container x is already in progress")));
        assert!(!reached(&remove, &error(500, "device busy")));
        assert!(!reached(&Mutation::Start(id.clone()), &error(404, "No such container: x")));
        let by_id = Mutation::Disconnect { network: network.clone(), container: id.clone() };
        assert!(reached(&by_id, &error(500, "container x is not connected to network shop")));
        let gone = format!("container x is not connected to the network {network}");
        assert!(!reached(&by_id, &error(500, &gone)), "it may be attached by name");
        let by_name = Mutation::Disconnect { network: "shop".into(), container: id };
        assert!(reached(&by_name, &error(500, "container x is not connected to the network shop")));
    }

    #[test]
    fn a_failed_connection_is_said_in_words() {
        let unix = Endpoint::Unix("/run/docker.sock".into());
        let said = |kind: io::ErrorKind| match fault(&unix, "start", BollardError::from(io::Error::from(kind))) {
            EngineError::Unreachable { endpoint, reason } => {
                assert_eq!(endpoint, "unix:///run/docker.sock");
                reason
            }
            error => panic!("{error:?}"),
        };
        assert_eq!(said(io::ErrorKind::PermissionDenied), "permission denied (is your user in the group docker?)");
        assert_eq!(said(io::ErrorKind::NotFound), "no such socket");
        assert_eq!(said(io::ErrorKind::BrokenPipe), "the engine closed the connection");
    }

    /// An engine that answers each request with the next of these bodies, and gives the heads of what it was asked.
    async fn fake(bodies: &'static [&'static str]) -> (tempfile::TempDir, tokio::task::JoinHandle<Vec<String>>) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let directory = tempfile::tempdir().unwrap();
        let listener = tokio::net::UnixListener::bind(directory.path().join("docker.sock")).unwrap();
        let served = tokio::spawn(async move {
            let mut heads = Vec::new();
            for body in bodies {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                heads.push(String::from_utf8(head).unwrap());
                let length = body.len();
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            heads
        });
        (directory, served)
    }

    fn target_in(directory: &tempfile::TempDir) -> EngineConfig {
        let socket = directory.path().join("docker.sock");
        EngineConfig { endpoint: Endpoint::Unix(socket), config_dir: Some(directory.path().to_owned()), buildkit: None }
    }

    const VERSION: &str = r#"{"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12"}"#;

    #[tokio::test]
    async fn a_pull_sends_credentials_and_tells_its_progress() {
        const PULL: &str = concat!(
            r#"{"status": "Pulling from shop/api", "id": "1"}"#,
            "\n",
            r#"{"status": "Pulling fs layer", "progressDetail": {}, "id": "aa"}"#,
            "\n",
            r#"{"status": "Downloading", "progressDetail": {"current": 10, "total": 20}, "id": "aa"}"#,
            "\n",
            r#"{"status": "Pull complete", "progressDetail": {}, "id": "aa"}"#,
            "\n"
        );
        let (directory, served) = fake(&[VERSION, PULL]).await;
        // ann:??>>~~ is the kind of password whose encoding differs in the two base64s.
        let config = r#"{"auths": {"reg:5000": {"auth": "YW5uOj8/Pj5+fg=="}}}"#;
        std::fs::write(directory.path().join("config.json"), config).unwrap();
        let engine = Docker::connect(&target_in(&directory)).await.unwrap();
        let seen = Mutex::new(Vec::new());
        engine.pull("reg:5000/shop/api", &|progress| seen.lock().unwrap().push(progress)).await.unwrap();
        assert_eq!(seen.into_inner().unwrap().last(), Some(&PullProgress { done: 1, total: 1, bytes: 10 }));
        let head = served.await.unwrap().remove(1);
        assert!(head.starts_with("POST /v1.41/images/create?fromImage=reg%3A5000%2Fshop%2Fapi&tag=latest"), "{head}");
        let auth = head.lines().find_map(|line| line.strip_prefix("x-registry-auth: ")).unwrap();
        assert!(!auth.contains(['+', '/']) && auth.contains(['-', '_']), "{auth}");
    }

    #[tokio::test]
    async fn a_pull_that_fails_midway_says_why() {
        const PULL: &str = concat!(
            r#"{"status": "Pulling from library/nope", "id": "1"}"#,
            "\n",
            r#"{"errorDetail": {"message": "manifest for nope:1 not found"}, "error": "manifest for nope:1 not found"}"#,
            "\n"
        );
        let (directory, _served) = fake(&[VERSION, PULL]).await;
        let engine = Docker::connect(&target_in(&directory)).await.unwrap();
        let error = engine.pull("nope:1", &|_| {}).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot pull nope:1: manifest for nope:1 not found");
        assert!(matches!(error, EngineError::Refused { .. }));
    }

    /// A directory with a Dockerfile, and what asks for an image of it.
    fn to_build(dockerfile: &str) -> (tempfile::TempDir, BuildRequest) {
        let context = tempfile::tempdir().unwrap();
        std::fs::write(context.path().join("Dockerfile"), dockerfile).unwrap();
        let place = build::tree::ContextPaths::new(context.path(), ".", None);
        let tree = build::tree::look(&place, &Default::default()).0.unwrap();
        let args = BTreeMap::from([("A".to_owned(), "b&c".to_owned())]);
        let build = crate::desired::Build { tree, target: Some("x".into()), args, labels: BTreeMap::new() };
        let labels = BTreeMap::from([("l".to_owned(), "m".to_owned())]);
        (context, BuildRequest { image: "shop-api:1".into(), build, labels })
    }

    #[tokio::test]
    async fn a_build_goes_to_the_classic_builder_where_no_other_is_offered_with_what_registries_want() {
        const BUILD: &str =
            "{\"stream\": \"Step 1/1 : FROM reg:5000/base\\n\"}\r\n{\"aux\": {\"ID\": \"sha256:1\"}}\r\n";
        let (directory, served) = fake(&[VERSION, "OK", BUILD]).await;
        let config = r#"{"auths": {"reg:5000": {"auth": "YW5uOj8/Pj5+fg=="}, "other": {"auth": "YW5uOj8/Pj5+fg=="}}}"#;
        std::fs::write(directory.path().join("config.json"), config).unwrap();
        let engine = Docker::connect(&target_in(&directory)).await.unwrap();
        let (_context, request) = to_build("FROM reg:5000/base\n");
        let seen = Mutex::new(Vec::new());
        let progress = |news| {
            if let BuildProgress::Line(line) = news {
                seen.lock().unwrap().push(line);
            }
        };
        engine.build(&request, &progress).await.unwrap();
        assert_eq!(seen.into_inner().unwrap(), ["Step 1/1 : FROM reg:5000/base"]);
        let heads = served.await.unwrap();
        assert!(heads[1].starts_with("GET /v1.41/_ping"), "{}", heads[1]);
        let expected = "POST /v1.41/build?t=shop-api%3A1&dockerfile=Dockerfile&version=1&rm=1&forcerm=1&target=x\
                        &buildargs=%7B%22A%22%3A%22b%26c%22%7D&labels=%7B%22l%22%3A%22m%22%7D HTTP/1.1";
        assert_eq!(heads[2].lines().next(), Some(expected));
        let config = heads[2].lines().find_map(|line| line.strip_prefix("x-registry-config: ")).unwrap();
        let config = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE, config).unwrap();
        let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        assert_eq!(config["reg:5000"]["username"], "ann");
        assert_eq!(config.as_object().unwrap().len(), 1, "what is not needed is not sent");
    }

    #[tokio::test]
    async fn a_build_whose_files_have_changed_is_no_build_of_the_engines() {
        let (directory, _served) = fake(&[VERSION, "OK", ""]).await;
        let engine = Docker::connect(&target_in(&directory)).await.unwrap();
        let (context, request) = to_build("FROM debian\n");
        std::fs::write(context.path().join("new"), "new").unwrap();
        let error = engine.build(&request, &|_| {}).await.unwrap_err();
        let said = "cannot build shop-api:1: its sources have changed since they were read; run it again";
        assert_eq!(error.to_string(), said);
        assert!(matches!(error, EngineError::Conflict { .. }));
    }

    #[tokio::test]
    async fn an_engine_that_is_too_old_is_told_so() {
        let (directory, _served) = fake(&[r#"{"Version": "18.09.1", "ApiVersion": "1.39"}"#]).await;
        let error = Docker::connect(&target_in(&directory)).await.err().unwrap().to_string();
        assert!(
            error.ends_with("Docker 18.09.1 speaks API 1.39; Docker 20.10 (API 1.41) or later is needed"),
            "{error}"
        );
    }
}
