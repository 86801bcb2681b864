//! Adapter for the Docker Engine API, through bollard.
//!
//! Sends each request once and explains errors. It decides and retries nothing; deadlines are [`super::deadline`]'s.

mod error;
mod events;
mod exec;
mod image;
mod podman;

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
    ContainerSummary, CreateImageInfo, EventMessage, NetworkConnectRequest, NetworkCreateRequest,
    NetworkDisconnectRequest, SystemInfo, VolumeCreateRequest,
};
use bollard::query_parameters as query;
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker as Client};
use docker_credential::DockerCredential;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use http_body_util::{BodyExt, Either};
use hyper::HeaderMap;
use tokio::sync::oneshot;

use self::error::{fault, is_no_container, reached, status};
use self::events::clock_difference;
use self::exec::{is_stderr, pieces};
use super::build::{self, BuildError, Builder};
use super::deadline::{Limits, within};
use super::lines::Lines;
use super::location;
use super::registry::{self, Credentials, PullTracker, Reference};
use super::target::{Endpoint, EngineConfig};
use super::transport::{Wire, WireError};
use super::{
    Attached, BuildProgress, BuildRequest, ContainerEvent, ContainerExit, ContainerSpec, Engine, EngineError,
    EngineEvent, EngineFuture, EngineInfo, EngineStream, Exec, LabeledVolume, LogLine, LogOptions, Mutation, Processes,
    PullProgress, Result, convert, short,
};
use crate::capabilities::{ApiVersion, Capabilities, EngineKind};
use crate::desired::{Join, Network};
use crate::identity;
use crate::observed::{Container, ImageFacts, Observed};

/// The oldest supported API version: Docker 20.10.
const OLDEST_API: ApiVersion = ApiVersion(1, 41);
/// The newest supported API version: the one this bollard was written for.
const NEWEST_API: ApiVersion = ApiVersion(1, 53);
/// bollard has one timeout for all calls, which would end long ones; deadlines are in `deadline.rs`.
const NEVER: u64 = 365 * 24 * 3600;

/// A Docker engine.
pub struct Docker {
    client: Client,
    wire: Arc<Wire>,
    endpoint: Endpoint,
    config_dir: Option<PathBuf>,
    buildkit: Option<bool>,
    /// What it says of itself.
    info: EngineInfo,
    /// Addresses that containers had on the networks they left, by container and network. Podman only.
    left_addresses: Mutex<HashMap<(String, String), convert::podman::Address>>,
    /// How far the engine's clock is ahead of ours, in nanoseconds; a lower bound.
    clock: AtomicI64,
}

impl Docker {
    /// Connects, asks the engine what it is and negotiates the API version with one request, within the deadline of a
    /// read: no deadline wraps the engine yet.
    pub async fn connect(target: &EngineConfig) -> Result<Docker> {
        let attempted = || format!("connect to {}", target.endpoint);
        within(Limits::default().read, attempted, Docker::negotiate(target)).await
    }

    async fn negotiate(target: &EngineConfig) -> Result<Docker> {
        let wire = Wire::new(target.endpoint.clone());
        let client = client(&wire, None).map_err(|error| fault(&target.endpoint, "connect", error))?;
        let attempted = format!("talk to the engine at {}", target.endpoint);
        let explain = |error| fault(&target.endpoint, &attempted, error);
        let (headers, info) = fetch(&wire, "/info").await.map_err(explain)?;
        let info: SystemInfo = serde_json::from_value(info).map_err(|error| explain(error.into()))?;
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let version = info.server_version.as_deref().unwrap_or("of unknown version");
        let api = agree(version, header("api-version").unwrap_or_default());
        let api = api.map_err(|message| EngineError::Refused { attempted: attempted.clone(), message })?;
        wire.speak(api.to_string());
        let is_podman = header("libpod-api-version").is_some();
        let kind = if is_podman { EngineKind::Podman } else { EngineKind::Docker };
        let clock = info.system_time.as_deref().and_then(clock_difference).unwrap_or_default();
        let location = location::locate(&target.endpoint, convert::has_virtual_network(&info)).await;
        let capabilities = convert::capabilities(kind, api, &info, location);
        let id = if is_podman { convert::podman::engine_id(&info) } else { info.id.unwrap_or_default() };
        Ok(Docker {
            client,
            wire,
            endpoint: target.endpoint.clone(),
            config_dir: target.config_dir.clone(),
            buildkit: target.buildkit,
            info: EngineInfo { capabilities, id, warnings: info.warnings.unwrap_or_default() },
            left_addresses: Mutex::default(),
            clock: AtomicI64::new(clock),
        })
    }

    fn fault(&self, attempted: &str, error: BollardError) -> EngineError {
        fault(&self.endpoint, attempted, error)
    }

    /// What Podman can do; `None` for Docker.
    fn podman(&self) -> Option<&Capabilities> {
        Some(&self.info.capabilities).filter(|_| self.is_podman())
    }

    fn is_podman(&self) -> bool {
        self.info.capabilities.kind == EngineKind::Podman
    }

    async fn list_all(&self, group: &str, volumes: bool) -> Result<Observed> {
        let capabilities = &self.info.capabilities;
        let (containers, networks, mut images, volumes, health) = tokio::try_join!(
            self.containers(),
            self.client.list_networks(None),
            // Manifests came with API 1.47; earlier versions and the classic store have none.
            self.client.list_images(Some(query::ListImagesOptions { manifests: true, ..Default::default() })),
            async {
                if !volumes {
                    return Ok(Vec::new());
                }
                let found = self.client.list_volumes(None::<query::ListVolumesOptions>).await?;
                Ok(found.volumes.unwrap_or_default())
            },
            self.health_by_filter(capabilities),
        )
        .map_err(|error| self.fault("list what it has", error))?;
        if self.is_podman() {
            convert::podman::add_short_names(&mut images);
        }
        let networks = networks.into_iter().filter_map(convert::network);
        let volumes = volumes.into_iter().map(convert::volume);
        let mut observed = Observed {
            networks: networks.map(|network| (network.id.clone(), network)).collect(),
            built: convert::built(&images, group),
            equal_images: convert::equal_images(&containers, &images),
            labeled_images: convert::labeled(&images),
            image_platforms: convert::image_platforms(&images),
            images: convert::images(images),
            volumes: volumes.map(|volume| (volume.name.clone(), volume)).collect(),
            capabilities: capabilities.clone(),
            ..Default::default()
        };
        let containers = containers.into_iter().filter_map(convert::container);
        containers
            .map(|container| podman::adapted(container, capabilities, &health))
            .for_each(|container| observed.insert(container));
        Ok(observed)
    }

    async fn containers(&self) -> std::result::Result<Vec<ContainerSummary>, BollardError> {
        match self.is_podman() {
            true => self.with_restarts(self.get("/containers/json?all=true").await?).await,
            false => {
                let all = query::ListContainersOptions { all: true, ..Default::default() };
                self.client.list_containers(Some(all)).await
            }
        }
    }

    async fn inspect_container(&self, id: &str) -> Result<Option<Container>> {
        let found = match self.is_podman() {
            true => match self.get(&format!("/containers/{id}/json")).await {
                Ok(found) => self.with_restart(id, found).await,
                Err(error) => Err(error),
            },
            false => self.client.inspect_container(id, None::<query::InspectContainerOptions>).await,
        };
        match found {
            Ok(response) => {
                let capabilities = &self.info.capabilities;
                let adapt = |container| podman::adapted(container, capabilities, &HashMap::new());
                Ok(convert::inspected(response).map(adapt))
            }
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(self.fault(&format!("inspect container {}", short(id)), error)),
        }
    }

    async fn inspect_image(&self, reference: &str) -> Result<Option<ImageFacts>> {
        let attempted = || format!("inspect image {reference}");
        match self.client.inspect_image(reference).await {
            Ok(image) => {
                let mut facts = convert::facts(image);
                if self.is_podman() {
                    let known = self.has_healthcheck(reference).await;
                    facts.healthcheck = known.map_err(|error| self.fault(&attempted(), error))?;
                }
                Ok(Some(facts))
            }
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(self.fault(&attempted(), error)),
        }
    }

    async fn labeled_volumes(&self, label: &str, value: &str) -> Result<Vec<LabeledVolume>> {
        let filters = Some(HashMap::from([("label".into(), vec![format!("{label}={value}")])]));
        let found = self.client.list_volumes(Some(query::ListVolumesOptions { filters })).await;
        let found = found.map_err(|error| self.fault("list volumes", error))?;
        let now = self.moment_before_now();
        Ok(found.volumes.unwrap_or_default().into_iter().map(|volume| convert::labeled_volume(volume, now)).collect())
    }

    async fn volume(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
        let labels = Some(labels.clone().into_iter().collect());
        let request = VolumeCreateRequest { name: Some(name.to_owned()), labels, ..Default::default() };
        let created = self.client.create_volume(request).await;
        let created = created.map_err(|error| self.fault(&format!("create volume {name}"), error))?;
        Ok(created.labels.into_iter().collect())
    }

    async fn carry_out(&self, mutation: &Mutation) -> Result<Option<String>> {
        match self.call(mutation).await {
            Ok(id) => Ok(id),
            Err(error) if reached(mutation, &error) => Ok(None),
            Err(error) => Err(self.fault(&mutation.describe(), error)),
        }
    }

    /// Sends the request of a mutation.
    async fn call(&self, mutation: &Mutation) -> std::result::Result<Option<String>, BollardError> {
        let client = &self.client;
        match mutation {
            Mutation::Create(spec) => return self.create(spec).await.map(Some),
            Mutation::CreateNetwork { name, labels, network } => {
                return self.create_network(name, labels, network).await.map(Some);
            }
            Mutation::Start(id) => client.start_container(id, None::<query::StartContainerOptions>).await?,
            Mutation::FirstStart { id, files } => {
                let options = query::UploadToContainerOptions { path: "/".into(), ..Default::default() };
                let archive = convert::archive(files)?;
                client.upload_to_container(id, Some(options), bollard::body_full(archive.into())).await?;
                client.start_container(id, None::<query::StartContainerOptions>).await?;
            }
            Mutation::Stop { id, timeout } => {
                let t = timeout.map(whole_seconds);
                let stop = || client.stop_container(id, Some(query::StopContainerOptions { t, ..Default::default() }));
                match stop().await {
                    Err(error) if podman::is_paused(&error) => {
                        client.unpause_container(id).await?;
                        stop().await?;
                    }
                    result => result?,
                }
            }
            Mutation::Unpause(id) => client.unpause_container(id).await?,
            Mutation::Signal { id, signal } => {
                client.kill_container(id, Some(query::KillContainerOptions { signal: signal.clone() })).await?;
            }
            Mutation::Rename { id, name } => {
                client.rename_container(id, query::RenameContainerOptions { name: name.clone() }).await?;
            }
            Mutation::Update { id, resources, restart } => {
                let mut body = convert::update_body(resources, *restart);
                if let Some(podman) = self.podman() {
                    convert::podman::adapt_update(&mut body, &podman.limits);
                }
                client.update_container(id, body).await?;
            }
            Mutation::Remove { id, volumes } => {
                let options = query::RemoveContainerOptions { force: true, v: *volumes, link: false };
                client.remove_container(id, Some(options)).await?;
            }
            Mutation::RemoveNetwork(id) if self.is_podman() => self.remove_network(id).await?,
            Mutation::RemoveNetwork(id) => client.remove_network(id).await?,
            Mutation::Connect { container, join } if self.is_podman() && join.names.is_empty() => {
                self.reconnect(join, container).await?;
            }
            Mutation::Connect { container, join } => {
                let endpoint_config = Some(convert::endpoint(join));
                let request = NetworkConnectRequest { container: container.clone(), endpoint_config };
                client.connect_network(&join.network, request).await?;
            }
            Mutation::Disconnect { network, container } => {
                if self.is_podman() {
                    self.note_address(container, network).await?;
                }
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
        let platform = spec.config.platform.clone().unwrap_or_default();
        let options = query::CreateContainerOptions { name: Some(spec.name.clone()), platform };
        let mut body = convert::create_body(spec);
        if let Some(check) = body.healthcheck.as_mut().filter(|_| self.info.capabilities.api < convert::START_INTERVAL)
        {
            check.start_interval = None;
        }
        if let Some(podman) = self.podman() {
            return self.create_with_volumes(options, body, podman).await;
        }
        let client = match &spec.config.mac_address {
            Some(address) if self.info.capabilities.api < convert::ENDPOINT_MAC_ADDRESS => {
                self.with_body(&convert::with_mac_address(&body, address))
            }
            _ => self.client.clone(),
        };
        Ok(client.create_container(Some(options), body).await?.id)
    }

    /// A client that sends this body: for fields that bollard does not have.
    fn with_body(&self, body: &serde_json::Value) -> Client {
        let body = body.to_string();
        let own_body = move |mut request: BollardRequest| {
            *request.body_mut() = bollard::body_full(body.clone().into());
            request
        };
        self.client.clone().with_request_modifier(own_body)
    }

    async fn create_network(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
        network: &Network,
    ) -> std::result::Result<String, BollardError> {
        let client = self.with_body(&convert::network_body(name, labels, network));
        Ok(client.create_network(NetworkCreateRequest::default()).await?.id)
    }

    /// The engine returns files as a tar archive.
    async fn read_file(&self, id: &str, path: &str, most: usize) -> Result<Option<Vec<u8>>> {
        // Headers and padding of a tar archive with one file.
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
}

impl Engine for Docker {
    fn about(&self) -> EngineFuture<'_, EngineInfo> {
        Box::pin(std::future::ready(Ok(self.info.clone())))
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

    fn volumes<'a>(&'a self, label: &'a str, value: &'a str) -> EngineFuture<'a, Vec<LabeledVolume>> {
        Box::pin(self.labeled_volumes(label, value))
    }

    fn create_volume<'a>(
        &'a self,
        name: &'a str,
        labels: &'a BTreeMap<String, String>,
    ) -> EngineFuture<'a, BTreeMap<String, String>> {
        Box::pin(self.volume(name, labels))
    }

    fn pull<'a>(
        &'a self,
        image: &'a str,
        platform: Option<&'a str>,
        progress: &'a (dyn Fn(PullProgress) + Send + Sync),
    ) -> EngineFuture<'a, ()> {
        Box::pin(self.pull_image(image, platform, progress))
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

    fn top<'a>(&'a self, id: &'a str) -> EngineFuture<'a, Processes> {
        Box::pin(async move {
            let found = self.client.top_processes(id, None).await;
            let attempted = format!("list the processes of container {}", short(id));
            let found = found.map_err(|error| self.fault(&attempted, error))?;
            Ok(Processes { titles: found.titles.unwrap_or_default(), rows: found.processes.unwrap_or_default() })
        })
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
                        let complete = match options.timestamps {
                            true => lines.take_stamped(is_stderr(&piece), piece.as_ref()),
                            false => pieces(&mut lines, &piece),
                        };
                        Some((complete.into_iter().map(Ok).collect(), Some((output, lines))))
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

/// A bollard client on our own connections. `on_response` is called when the first response head arrives.
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
            // Only on success; bollard turns other responses into errors.
            let heard =
                heard.lock().unwrap_or_else(PoisonError::into_inner).take().filter(|_| response.status().is_success());
            if let Some(heard) = heard {
                // The receiver may have been dropped.
                let _ = heard.send(());
            }
            Ok(response)
        }
    };
    // A placeholder: the transport has the real address.
    Client::connect_with_custom_transport(transport, Some("http://docker"), NEVER, API_DEFAULT_VERSION)
}

/// Sends a request to read something, and returns the headers and the value of the response.
async fn fetch(wire: &Arc<Wire>, path: &str) -> std::result::Result<(HeaderMap, serde_json::Value), BollardError> {
    let mut request = BollardRequest::new(Either::Left(Default::default()));
    *request.uri_mut() =
        path.parse().map_err(|error: hyper::http::uri::InvalidUri| BollardError::from(io::Error::other(error)))?;
    let response = wire.clone().send(request).await.map_err(|error| match error {
        WireError::Io(error) => BollardError::from(error),
        WireError::Http(error) => BollardError::from(error),
    })?;
    let (status_code, headers) = (response.status(), response.headers().clone());
    let body = response.into_body().collect().await?.to_bytes();
    let value: serde_json::Value = serde_json::from_slice(&body)?;
    if !status_code.is_success() {
        let message = value["message"].as_str().unwrap_or_default().to_owned();
        return Err(BollardError::DockerResponseServerError { status_code: status_code.as_u16(), message });
    }
    Ok((headers, value))
}

/// The API version that both sides support, or an error for the user. `spoken`: the newest one of the engine, which
/// every response names. What an engine is too new for, it refuses itself, with the versions.
fn agree(engine: &str, spoken: &str) -> std::result::Result<ApiVersion, String> {
    let newest: ApiVersion = spoken
        .parse()
        .map_err(|_| format!("it does not say which API it speaks ({spoken:?}); is it a Docker engine?"))?;
    if newest < OLDEST_API {
        return Err(format!("Docker {engine} speaks API {spoken}; Docker 20.10 (API 1.41) or later is needed"));
    }
    Ok(newest.min(NEWEST_API))
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

/// The content of the first file in a tar archive, at most `most` bytes.
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

#[cfg(test)]
mod tests;
