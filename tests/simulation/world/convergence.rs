//! Convergence of a run: the state agrees with the specs, and stays so.

use super::*;

impl World {
    /// Waits until the state has converged. Services that have failed permanently may need a reconcile request.
    pub(super) async fn await_convergence(&mut self) -> Result<(), String> {
        if self.converges_within(CONVERGES_WITHIN).await? {
            return Ok(());
        }
        let left = self.difference().unwrap_or_default();
        if self.invariants().given_up.is_empty() {
            return Err(format!("does not converge, although no service has failed permanently: {left}"));
        }
        self.invariants().log(&format!("** still different: {left}; sending a reconcile request"));
        self.invariants().record_external_change();
        self.ask(RequestKind::Reconcile);
        if self.converges_within(AFTER_REQUEST).await? {
            self.invariants().requests_needed += 1;
            return Ok(());
        }
        Err(format!("does not converge: {}", self.difference().unwrap_or_default()))
    }

    pub(super) async fn converges_within(&mut self, bound: Duration) -> Result<bool, String> {
        let began = tokio::time::Instant::now();
        while began.elapsed() < bound {
            // The state must remain converged for a while.
            if self.difference().is_none() {
                tokio::time::sleep(Duration::from_secs(5)).await;
                if self.difference().is_none() {
                    self.check().await?;
                    return Ok(true);
                }
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.check().await?;
        }
        Ok(false)
    }

    /// Checks that nothing is done once the state has converged.
    pub(super) async fn stays_converged(&mut self) -> Result<(), String> {
        // Wait for a resync, in case an event was lost.
        tokio::time::sleep(RESYNC).await;
        let before = self.sim.calls().len();
        tokio::time::sleep(QUIET).await;
        self.check().await?;
        let calls = self.sim.calls().split_off(before);
        let busy: Vec<String> = calls.into_iter().filter(|call| call != "list" && !call.starts_with("exec ")).collect();
        if !busy.is_empty() {
            return Err(format!("converged, but continues with {busy:?}"));
        }
        match self.difference() {
            None => Ok(()),
            Some(difference) => Err(format!("no longer converged: {difference}")),
        }
    }

    /// Returns a difference between the desired and the observed state.
    pub(super) fn difference(&self) -> Option<String> {
        let observed = self.sim.snapshot();
        let names: BTreeSet<String> = observed.of_group(GROUP).map(|container| container.name.clone()).collect();
        let expected: BTreeSet<String> = self.good.services.keys().map(|name| format!("shop-{name}")).collect();
        if names != expected {
            return Some(format!("there are {names:?} instead of {expected:?}"));
        }
        if let Some(kept) = self.invariants().not_reloaded(&observed) {
            return Some(format!("{kept} was not replaced"));
        }
        for container in observed.of_group(GROUP) {
            let name = &container.name;
            let service = container.service_of(GROUP).and_then(|name| self.good.services.get(name))?;
            let identity = container.identity.as_ref()?;
            if container.state != State::Running || !matches!(container.health, Health::None | Health::Healthy) {
                return Some(format!("{name} is {} ({:?})", container.state, container.health));
            }
            let same = identity.spec_hash == service.fingerprint.spec_hash
                && identity.env_hash == service.fingerprint.env_hash
                && observed.images.get(&service.config.image) == Some(&identity.image_id);
            if !same {
                return Some(format!("{name} does not match its spec"));
            }
            if let Some(difference) = difference_of_networks(container, service, &observed) {
                return Some(format!("{name} {difference}"));
            }
        }
        let again = forecast(&self.good, &observed, &LocalState::new(StateDirectory::at(self.state.path())).memory());
        (!again.steps.is_empty())
            .then(|| format!("{:?}", again.steps.iter().map(ToString::to_string).collect::<Vec<_>>()))
    }
}

/// A container is on the networks of its spec, which exist once, and on each under its name.
fn difference_of_networks(container: &Container, service: &Service, observed: &Observed) -> Option<String> {
    let on: BTreeMap<&str, &String> =
        container.networks.iter().map(|it| (it.network.as_str(), &it.network_id)).collect();
    let wanted: BTreeSet<&str> = service.config.network.endpoints().into_iter().map(|(name, _)| name).collect();
    if on.keys().copied().collect::<BTreeSet<_>>() != wanted {
        return Some(format!("is on {:?} instead of {wanted:?}", on.keys()));
    }
    on.into_iter().find_map(|(network, id)| {
        let mut same = observed.networks.values().filter(|it| it.name == network);
        if same.next().map(|it| &it.id) != Some(id) || same.next().is_some() {
            return Some(format!("is not on the only network {network}"));
        }
        let names = container.details.as_ref().and_then(|details| details.names.get(id));
        (!names.is_some_and(|names| names.contains(&service.service))).then(|| format!("has no DNS name on {network}"))
    })
}
