//! Pulling and building images, with credentials.

use super::error::reason;
use super::*;

/// How long a credential helper may take; then the pull goes on without credentials.
const HELPER_TIMEOUT: Duration = Duration::from_secs(10);

impl Docker {
    pub(super) async fn pull_image(
        &self,
        image: &str,
        platform: Option<&str>,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<()> {
        let reference = Reference::parse(image);
        let attempted = format!("pull {image}");
        let (credentials, trouble) = match self.credentials(reference.credentials_key()).await {
            Ok(credentials) => (credentials, None),
            // Public images need no credentials: the pull shows whether it matters.
            Err(trouble) => (None, Some(trouble)),
        };
        let options = query::CreateImageOptions {
            from_image: Some(reference.repository.to_owned()),
            tag: Some(reference.version.to_owned()),
            platform: platform.unwrap_or_default().to_owned(),
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
            // Also if nothing has changed: deadlines are measured from the last progress.
            progress(tally.progress());
        }
        Ok(())
    }

    pub(super) async fn build_image(
        &self,
        request: &BuildRequest,
        progress: &(dyn Fn(BuildProgress) + Send + Sync),
    ) -> Result<()> {
        let trouble = |trouble| self.build_trouble(&request.image, trouble);
        let builder = self.builder().await.map_err(trouble)?;
        let mut credentials = BTreeMap::new();
        let dockerfile = build::dockerfile(&request.build.tree.dockerfile).await;
        for registry in build::registries(&dockerfile) {
            // Public images need no credentials: the build shows whether it matters.
            if let Ok(Some(found)) = self.credentials(&registry).await {
                credentials.extend(serde_json::to_value(found).ok().map(|found| (registry, found)));
            }
        }
        build::build(&self.wire, builder, request, &credentials, progress).await.map_err(trouble)
    }

    /// Returns true if images are built with BuildKit: as `DOCKER_BUILDKIT` says, otherwise as the engine prefers.
    pub async fn builds_with_buildkit(&self) -> Result<bool> {
        let builder = self.builder().await;
        let trouble = |trouble| self.build_trouble("images", trouble);
        Ok(builder.map_err(trouble)? == Builder::BuildKit)
    }

    async fn builder(&self) -> std::result::Result<Builder, BuildError> {
        match self.buildkit {
            Some(true) => Ok(Builder::BuildKit),
            Some(false) => Ok(Builder::Classic),
            None => build::preferred(&self.wire).await,
        }
    }

    fn build_trouble(&self, image: &str, trouble: BuildError) -> EngineError {
        let attempted = format!("build {image}");
        let reason = match trouble {
            BuildError::Sources(message) => return EngineError::Invalid { attempted, message },
            BuildError::Failed(message) => return EngineError::Refused { attempted, message },
            // The files may be replaced at this moment.
            BuildError::Files(message) => return EngineError::Conflict { attempted, message },
            BuildError::Wire(WireError::Io(error)) => reason(&self.endpoint, &error),
            BuildError::Wire(WireError::Http(error)) => reason(&self.endpoint, &error),
        };
        EngineError::Unreachable { endpoint: self.endpoint.to_string(), reason }
    }

    /// Credentials for a registry. May run a credential helper.
    async fn credentials(&self, key: &str) -> std::result::Result<Option<DockerCredentials>, String> {
        let Some(directory) = self.config_dir.clone() else {
            return Ok(None);
        };
        let server = key.to_owned();
        let look_up = async {
            let configured = tokio::task::spawn_blocking(move || registry::credentials(&directory, &server));
            match configured.await.map_err(|error| error.to_string())?? {
                Credentials::None => Ok(None),
                Credentials::Found(credential) => Ok(Some(credential)),
                Credentials::Helper(program) => registry::ask_helper(&program, key).await,
            }
        };
        let timed_out = |_| format!("the credential helper did not answer within {} s", HELPER_TIMEOUT.as_secs());
        let found = tokio::time::timeout(HELPER_TIMEOUT, look_up).await.map_err(timed_out)??;
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
}

fn note(tally: &mut PullTracker, message: &CreateImageInfo) {
    let current = message.progress_detail.as_ref().and_then(|detail| detail.current);
    let current = current.and_then(|bytes| u64::try_from(bytes).ok());
    tally.note(message.id.as_deref(), message.status.as_deref().unwrap_or_default(), current);
}

/// Shortens the engine's message about an unreachable registry.
fn explained(error: EngineError, registry: &str) -> EngineError {
    changed(error, |message| registry::trouble(registry, &message))
}

fn amended(error: EngineError, addition: &str) -> EngineError {
    changed(error, |message| message + addition)
}

fn changed(mut error: EngineError, change: impl FnOnce(String) -> String) -> EngineError {
    if let Some(message) = error.message_mut() {
        *message = change(std::mem::take(message));
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_response_of_the_engine_is_amended() {
        for status_code in [400, 403, 404, 409, 500] {
            let response = BollardError::DockerResponseServerError { status_code, message: "no".into() };
            let endpoint = Endpoint::Unix("/run/docker.sock".into());
            let error =
                amended(super::super::error::fault(&endpoint, "pull a", response), "; no credentials were sent");
            assert_eq!(error.to_string(), "cannot pull a: no; no credentials were sent", "{status_code}");
        }
    }
}
