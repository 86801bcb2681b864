//! Requests in which Podman differs from Docker.

use http_body_util::{BodyExt, Either};
use serde::de::DeserializeOwned;

use bollard::models::ContainerCreateBody;

use super::*;
use crate::capabilities::{Capabilities, HealthChecks};
use crate::observed::Health;

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
    if let Some(health) = listed.get(container.id.as_str()) {
        container.health = *health;
    }
    if capabilities.health_checks == HealthChecks::Never {
        container.health = Health::None;
    }
    container
}

impl Docker {
    /// A response about containers, with Docker's states: bollard fails for others.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> std::result::Result<T, BollardError> {
        let mut request = BollardRequest::new(Either::Left(Default::default()));
        *request.uri_mut() =
            path.parse().map_err(|error: hyper::http::uri::InvalidUri| BollardError::from(io::Error::other(error)))?;
        let response = self.wire.clone().send(request).await.map_err(|error| match error {
            WireError::Io(error) => BollardError::from(error),
            WireError::Http(error) => BollardError::from(error),
        })?;
        let status_code = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        let mut value: serde_json::Value = serde_json::from_slice(&body)?;
        if !status_code.is_success() {
            let message = value["message"].as_str().unwrap_or_default().to_owned();
            return Err(BollardError::DockerResponseServerError { status_code: status_code.as_u16(), message });
        }
        convert::podman::adapt_states(&mut value);
        Ok(serde_json::from_value(value)?)
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

    /// Creates a container, and its volumes before: Podman does not label those that it creates with a container.
    pub(super) async fn create_with_volumes(
        &self,
        options: query::CreateContainerOptions,
        mut body: ContainerCreateBody,
    ) -> std::result::Result<String, BollardError> {
        let mut anonymous = Vec::new();
        for (mount, labels) in convert::podman::labeled_mounts(&mut body) {
            let request =
                VolumeCreateRequest { name: mount.source.clone(), labels: Some(labels), ..Default::default() };
            let name = self.client.create_volume(request).await?.name;
            if mount.source.is_none() {
                anonymous.push(name.clone());
                mount.source = Some(name);
            }
        }
        let created = self.client.create_container(Some(options), body).await;
        if created.is_err() {
            for name in anonymous {
                // An unused volume is found by its labels, and a used one is not removed.
                let _ = self.client.remove_volume(&name, None::<query::RemoveVolumeOptions>).await;
            }
        }
        Ok(created?.id)
    }
}
