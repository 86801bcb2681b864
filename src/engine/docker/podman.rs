//! Requests in which Podman differs from Docker.

use std::collections::BTreeSet;
use std::io::Write as _;

use serde::de::DeserializeOwned;
use tempfile::NamedTempFile;

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerStateStatusEnum, ContainerSummaryStateEnum, HealthConfig,
};

use super::*;
use crate::capabilities::{EngineLocation, HealthChecks};
use crate::observed::Health;

/// Path of Podman's own API, below a version of Docker's.
const LIBPOD: &str = "/libpod";
/// What a security option with a seccomp profile begins with.
const SECCOMP: &str = "seccomp=";

/// Returns true if a container could not be stopped because it is paused. Docker stops it.
pub(super) fn is_paused(error: &BollardError) -> bool {
    status(error) == Some(500) && error.to_string().contains("is running or paused, refusing to clean up")
}

/// A container as Docker would show it. `listed`: health by id.
pub(super) fn adapted(
    mut container: Container,
    capabilities: &Capabilities,
    listed: &HashMap<String, Health>,
) -> Container {
    if capabilities.kind == EngineKind::Docker {
        return container;
    }
    container.image = convert::podman::short_name(&container.image);
    convert::podman::adapt_network_mode(&mut container);
    if let Some(health) = listed.get(container.id.as_str()) {
        container.health = *health;
    }
    if capabilities.health_checks == HealthChecks::Never {
        container.health = Health::None;
    }
    container
}

/// Writes the seccomp profile of a request to a file, and names that instead: Podman expects the path of a file of its
/// host, and reads it when it creates the container.
fn profile_file(
    body: &mut ContainerCreateBody,
    location: &EngineLocation,
) -> std::result::Result<Option<NamedTempFile>, BollardError> {
    let options = body.host_config.as_mut().and_then(|host| host.security_opt.as_mut());
    let is_profile =
        |option: &&mut String| option.strip_prefix(SECCOMP).is_some_and(|profile| profile.starts_with('{'));
    let Some(option) = options.into_iter().flatten().find(is_profile) else { return Ok(None) };
    if let EngineLocation::Remote(host) = location {
        let message = format!("Podman reads seccomp profiles from files of its own host, which is {host}");
        return Err(io::Error::other(message).into());
    }
    let mut file = NamedTempFile::with_prefix("drillmaster-")?;
    file.write_all(option.trim_start_matches(SECCOMP).as_bytes())?;
    *option = format!("{SECCOMP}{}", file.path().display());
    Ok(Some(file))
}

impl Docker {
    /// A response about containers, with Docker's states: bollard fails for others.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> std::result::Result<T, BollardError> {
        let (_, mut value) = fetch(&self.wire, path).await?;
        convert::podman::adapt_states(&mut value);
        Ok(serde_json::from_value(value)?)
    }

    /// A container as Podman's own API shows it; `None` if it does not exist.
    async fn inspect_with_libpod(&self, id: &str) -> std::result::Result<Option<serde_json::Value>, BollardError> {
        match self.get(&format!("{LIBPOD}/containers/{id}/json")).await {
            Ok(container) => Ok(Some(container)),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes a network by its name: by its id, Podman removes it also while containers run in it, and loses track of
    /// their addresses.
    pub(super) async fn remove_network(&self, id: &str) -> std::result::Result<(), BollardError> {
        let network = self.client.inspect_network(id, None::<query::InspectNetworkOptions>).await?;
        self.client.remove_network(network.name.as_deref().unwrap_or(id)).await
    }

    /// Returns true if the container that just exited was stopped or removed on request: no event tells.
    pub(super) async fn was_stopped(&self, id: &str, code: Option<i64>) -> bool {
        let attempted = || format!("inspect container {}", short(id));
        let inspection = async {
            let found = self.inspect_with_libpod(id).await;
            found.map_err(|error| self.fault(&attempted(), error))
        };
        let found = within(Limits::default().read, attempted, inspection).await;
        let Ok(found) = found else { return false };
        // It may have been removed or started again meanwhile.
        let stopped = found.and_then(|found| convert::podman::was_stopped(&found));
        stopped.unwrap_or_else(|| convert::podman::may_be_stop(code))
    }

    /// Past exits of a group, oldest first, and whether they were requested.
    pub(super) async fn past_exits(
        &self,
        events: Vec<EventMessage>,
        group: &str,
        now: i64,
    ) -> std::result::Result<Vec<ContainerExit>, BollardError> {
        let mut exits = convert::podman::ends(events, group, now);
        let ids: BTreeSet<String> = exits.iter().map(|exit| exit.id.clone()).collect();
        let mut stopped = BTreeMap::new();
        for id in ids {
            if let Some(found) = self.inspect_with_libpod(&id).await? {
                stopped.insert(id, convert::podman::was_stopped(&found));
            }
        }
        convert::podman::mark_requested(&mut exits, &stopped);
        Ok(exits)
    }

    /// Shows containers of groups that Podman is about to restart as restarting.
    pub(super) async fn with_restarts(
        &self,
        mut listed: Vec<ContainerSummary>,
    ) -> std::result::Result<Vec<ContainerSummary>, BollardError> {
        for container in &mut listed {
            let managed = container.labels.as_ref().is_some_and(|labels| labels.contains_key(identity::GROUP));
            // `Exited (1) 3 seconds ago`
            let just_now = container.status.as_ref().is_some_and(|status| status.contains("second"));
            let exited = container.state == Some(ContainerSummaryStateEnum::EXITED);
            if let Some(id) = container.id.as_ref().filter(|_| managed && just_now && exited)
                && self.is_restarting(id).await?
            {
                container.state = Some(ContainerSummaryStateEnum::RESTARTING);
            }
        }
        Ok(listed)
    }

    async fn is_restarting(&self, id: &str) -> std::result::Result<bool, BollardError> {
        let found = self.inspect_with_libpod(id).await?;
        Ok(found.is_some_and(|found| convert::podman::is_restarting(&found, self.moment_before_now())))
    }

    /// An inspected container, restarting if Podman is about to restart it.
    pub(super) async fn with_restart(
        &self,
        id: &str,
        mut inspected: ContainerInspectResponse,
    ) -> std::result::Result<ContainerInspectResponse, BollardError> {
        if let Some(state) = &mut inspected.state
            && state.status == Some(ContainerStateStatusEnum::EXITED)
            && self.is_restarting(id).await?
        {
            state.status = Some(ContainerStateStatusEnum::RESTARTING);
        }
        Ok(inspected)
    }

    /// Returns true if an image has a health check: the Docker API of Podman does not show it.
    pub(super) async fn has_healthcheck(&self, image: &str) -> std::result::Result<bool, BollardError> {
        Ok(self.healthcheck(image).await?.is_some())
    }

    /// The health check of an image, if it has one.
    async fn healthcheck(&self, image: &str) -> std::result::Result<Option<HealthConfig>, BollardError> {
        let mut found: serde_json::Value = self.get(&format!("{LIBPOD}/images/{image}/json")).await?;
        let check: Option<HealthConfig> = serde_json::from_value(found["Healthcheck"].take())?;
        let is_enabled = |check: &HealthConfig| {
            let test = check.test.as_deref().unwrap_or_default();
            test.first().is_some_and(|word| word != "NONE")
        };
        Ok(check.filter(is_enabled))
    }

    /// The health of containers, by id, from one list for each status: Podman's list does not show it. Empty for Docker,
    /// and if no health checks run.
    pub(super) async fn health_by_filter(
        &self,
        capabilities: &Capabilities,
    ) -> std::result::Result<HashMap<String, Health>, BollardError> {
        if !self.is_podman() || capabilities.health_checks == HealthChecks::Never {
            return Ok(HashMap::new());
        }
        let with = async |status: &str, health: Health| {
            let filters = Some(HashMap::from([("health".to_owned(), vec![status.to_owned()])]));
            let options = query::ListContainersOptions { filters, ..Default::default() };
            let found = self.client.list_containers(Some(options)).await?;
            Ok::<_, BollardError>(found.into_iter().filter_map(move |container| Some((container.id?, health))))
        };
        let (starting, healthy, unhealthy) = tokio::try_join!(
            with("starting", Health::Starting),
            with("healthy", Health::Healthy),
            with("unhealthy", Health::Unhealthy),
        )?;
        Ok(starting.chain(healthy).chain(unhealthy).collect())
    }

    /// Remembers the address of a container on a network that it is about to leave.
    pub(super) async fn note_address(&self, container: &str, network: &str) -> std::result::Result<(), BollardError> {
        let found: ContainerInspectResponse = match self.get(&format!("/containers/{container}/json")).await {
            Err(error) if status(&error) == Some(404) => return Ok(()),
            found => found?,
        };
        let networks = found.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        let left = networks.into_iter().find(|(name, at)| name == network || at.network_id.as_deref() == Some(network));
        let key = (container.to_owned(), network.to_owned());
        let mut addresses = self.left_addresses.lock().unwrap_or_else(PoisonError::into_inner);
        match left.and_then(|(_, left)| convert::podman::Address::of(left)) {
            Some(address) => addresses.insert(key, address),
            None => addresses.remove(&key),
        };
        Ok(())
    }

    /// Connects a container to a network without aliases, at the address that it had before, if that is free. Docker
    /// assigns the same address again by itself, and clients that resolved a name earlier still reach the container.
    pub(super) async fn reconnect(&self, join: &Join, container: &str) -> std::result::Result<(), BollardError> {
        let request =
            |endpoint| NetworkConnectRequest { container: container.to_owned(), endpoint_config: Some(endpoint) };
        let network = join.network.as_str();
        let endpoint = convert::endpoint(join);
        let key = (container.to_owned(), network.to_owned());
        let address = self.left_addresses.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        if let Some(address) = address {
            match self.client.connect_network(network, request(address.set_in(endpoint.clone()))).await {
                Err(error) if error.to_string().contains("is already allocated") => {}
                result => return result,
            }
        }
        self.client.connect_network(network, request(endpoint)).await
    }

    /// Creates a container, and its volumes before: Podman does not label those that it creates with a container.
    pub(super) async fn create_with_volumes(
        &self,
        options: query::CreateContainerOptions,
        mut body: ContainerCreateBody,
        capabilities: &Capabilities,
    ) -> std::result::Result<String, BollardError> {
        let mut anonymous = Vec::new();
        for (mount, request) in convert::podman::labeled_mounts(&mut body) {
            let name = self.create_missing_volume(request).await?;
            if mount.source.is_none() {
                anonymous.push(name.clone());
                mount.source = Some(name);
            }
        }
        convert::podman::adapt_create(&mut body, &capabilities.limits);
        self.complete_healthcheck(&mut body).await?;
        let profile = profile_file(&mut body, &capabilities.location)?;
        let created = self.client.create_container(Some(options), body).await;
        // Podman has read it.
        drop(profile);
        if created.is_err() {
            for name in anonymous {
                // An unused volume is found by its labels, and a used one is not removed.
                let _ = self.client.remove_volume(&name, None::<query::RemoveVolumeOptions>).await;
            }
        }
        Ok(created?.id)
    }

    /// Podman refuses a health check without a test, which tunes that of the image.
    async fn complete_healthcheck(&self, body: &mut ContainerCreateBody) -> std::result::Result<(), BollardError> {
        let Some(check) = body.healthcheck.as_mut().filter(|check| check.test.as_ref().is_none_or(Vec::is_empty))
        else {
            return Ok(());
        };
        let image = body.image.as_deref().unwrap_or_default();
        let tuned = self.healthcheck(image).await?.map(|of_image| HealthConfig {
            test: of_image.test,
            interval: check.interval.or(of_image.interval),
            timeout: check.timeout.or(of_image.timeout),
            retries: check.retries.or(of_image.retries),
            start_period: check.start_period.or(of_image.start_period),
            start_interval: check.start_interval.or(of_image.start_interval),
        });
        body.healthcheck = tuned;
        Ok(())
    }

    /// Creates a volume unless it exists, and returns its name. Of two requests at the same time, Podman may refuse one.
    async fn create_missing_volume(&self, request: VolumeCreateRequest) -> std::result::Result<String, BollardError> {
        match self.client.create_volume(request.clone()).await {
            Err(error) if error.to_string().contains("volume already exists") => {
                Ok(self.client.create_volume(request).await?.name)
            }
            created => Ok(created?.name),
        }
    }
}
