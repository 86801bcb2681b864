//! Takes, renews and releases the lease of a group on the engine. The rules are in [`crate::lease`].

use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::io::Errno;
use rustix::process::{Pid, geteuid, test_kill_process};
use rustix::system::uname;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::event::Event;
use crate::engine::{Engine, EngineError, Mutation};
use crate::identity::LEASE;
use crate::lease::{
    Decision, EXPIRES_AFTER, Found, Holder, Lease, Process, RENEW_INTERVAL, VALID_FOR, decide, labels, volume_name,
};

/// How often a waiting process looks at the lease.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Pause after a failed renewal.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);
/// Limit of one attempt to take or renew the lease.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(10);
/// Attempts after which a controller starts without a lease.
const MAX_ATTEMPTS: usize = 3;
/// How long the end of a run waits for the removal of the volume.
const RELEASE_LIMIT: Duration = Duration::from_secs(5);

/// Result of [`acquire`].
#[derive(Debug)]
pub enum Attempt {
    /// The lease is held, or the engine cannot have one: then with its error.
    Acquired(HeldLease, Option<EngineError>),
    /// It is held by a controller for which the caller does not wait.
    Held(Box<Lease>),
}

/// A lease that is being renewed.
#[derive(Debug)]
pub struct HeldLease {
    monitor: LeaseMonitor,
    release: CancellationToken,
    renewing: JoinHandle<()>,
}

/// What a run sees of its lease.
#[derive(Debug, Clone)]
pub struct LeaseMonitor {
    standing: watch::Receiver<Standing>,
    renew_now: Arc<Notify>,
}

#[derive(Debug, Clone)]
enum Standing {
    /// Held. The time before the last renewal by two clocks: one stands still while the system is suspended, the other may
    /// be set.
    Held((Instant, SystemTime)),
    /// The engine does not renew it, so that nothing keeps others away.
    Unprotected(EngineError),
    /// Another controller has taken it.
    Lost(Box<Lease>),
}

impl Standing {
    /// Returns true if it must be renewed before anything else happens: another controller may have taken it.
    fn is_overdue(&self) -> bool {
        match self {
            Standing::Held((at, time)) => {
                at.elapsed() >= VALID_FOR || time.elapsed().is_ok_and(|elapsed| elapsed >= VALID_FOR)
            }
            Standing::Unprotected(_) | Standing::Lost(_) => false,
        }
    }

    fn event(&self) -> Option<Event> {
        match self {
            Standing::Held(_) => None,
            Standing::Unprotected(error) => Some(Event::LeaseFailed(error.clone())),
            Standing::Lost(lease) => Some(Event::LeaseLost(lease.clone())),
        }
    }
}

impl LeaseMonitor {
    /// Waits until the lease is valid or known to be lost, and returns what has happened to it. Called before each event
    /// is handled: a process that was suspended finds out first whether it is still the only one.
    pub(super) async fn check(&mut self) -> Option<Event> {
        if self.standing.borrow().is_overdue() {
            self.renew_now.notify_one();
            // Fails if the lease has been released: the run is over.
            let _ = self.standing.clone().wait_for(|standing| !standing.is_overdue()).await;
        }
        let standing = self.standing.borrow_and_update();
        standing.has_changed().then(|| standing.event())?
    }

    /// Waits until something happens to the lease. Cancel-safe.
    pub(super) async fn changed(&mut self) -> Event {
        while self.standing.changed().await.is_ok() {
            if let Some(event) = self.standing.borrow_and_update().event() {
                return event;
            }
        }
        std::future::pending().await
    }
}

impl HeldLease {
    /// The lease as a run sees it.
    pub fn monitor(&self) -> LeaseMonitor {
        self.monitor.clone()
    }

    /// Stops renewing and removes the volume.
    pub async fn release(mut self) {
        self.release.cancel();
        // A volume that remains is replaced by the next controller.
        let _ = timeout(RELEASE_LIMIT, &mut self.renewing).await;
    }
}

impl Drop for HeldLease {
    /// A lease that is dropped without being released is that of a process that was killed: it ends by itself.
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

/// Takes the lease of a group. `should_wait` is called whenever another controller is seen to hold it; if it returns
/// false, the lease is not taken. An engine that cannot have a lease must not make a group unmanageable: the run starts
/// without one.
///
/// # Errors
///
/// If the engine cannot be reached.
pub async fn acquire(
    engine: Arc<dyn Engine>,
    group: &str,
    holder: Holder,
    mut should_wait: impl FnMut(&Lease) -> bool,
) -> Result<Attempt, EngineError> {
    let taker = Taker { engine, group: group.to_owned(), holder };
    let mut seen: Option<(Lease, Instant)> = None;
    let mut failures = 0;
    loop {
        let is_expired = |lease: &Lease| {
            let is_same = |seen: &Lease| (seen.number, &seen.holder) == (lease.number, &lease.holder);
            seen.as_ref().is_some_and(|(seen, at)| is_same(seen) && at.elapsed() >= EXPIRES_AFTER)
        };
        match taker.attempt(None, is_expired).await {
            Ok(Taken::Ours(ours)) => return Ok(Attempt::Acquired(taker.keep(Ok(ours)), None)),
            Ok(Taken::Held(lease)) => {
                if !should_wait(&lease) {
                    return Ok(Attempt::Held(lease));
                }
                failures = 0;
                if seen.as_ref().is_none_or(|(seen, _)| (seen.number, &seen.holder) != (lease.number, &lease.holder)) {
                    seen = Some((*lease, Instant::now()));
                }
            }
            Err(error @ EngineError::Unreachable { .. }) => return Err(error),
            Err(error) => {
                failures += 1;
                if failures == MAX_ATTEMPTS {
                    return Ok(Attempt::Acquired(taker.keep(Err(error.clone())), Some(error)));
                }
            }
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// A controller that takes and renews the lease.
struct Taker {
    engine: Arc<dyn Engine>,
    group: String,
    holder: Holder,
}

/// The lease after an attempt.
enum Taken {
    Ours(Ours),
    Held(Box<Lease>),
}

/// Our volume.
struct Ours {
    /// Before the request.
    at: (Instant, SystemTime),
    number: u64,
    /// Numbers that it replaces.
    replaced: Vec<u64>,
}

impl Taker {
    /// Takes or renews the lease, unless another controller holds it.
    async fn attempt(&self, overdue: Option<u64>, is_expired: impl Fn(&Lease) -> bool) -> Result<Taken, EngineError> {
        loop {
            let created = timeout(ATTEMPT_LIMIT, self.create(overdue, &is_expired)).await;
            let attempted = || format!("take the lease of group {}", self.group);
            let timed_out = |_| EngineError::TimedOut { attempted: attempted(), limit: ATTEMPT_LIMIT };
            if let Some(taken) = created.map_err(timed_out)?? {
                return Ok(taken);
            }
        }
    }

    /// Creates the next number; `None`: too late.
    async fn create(
        &self,
        overdue: Option<u64>,
        is_expired: &impl Fn(&Lease) -> bool,
    ) -> Result<Option<Taken>, EngineError> {
        let at = (Instant::now(), SystemTime::now());
        let volumes = self.engine.volumes(LEASE, &self.group).await?;
        let leases = volumes.iter().filter_map(|it| Lease::of_volume(&self.group, &it.name, &it.labels, it.age));
        let leases: Vec<Lease> = leases.collect();
        let has_ended = |lease: &Lease| is_expired(lease) || self.has_exited(lease);
        let (number, replaced) = match decide(&leases, &self.holder, overdue, has_ended) {
            Decision::Held(lease) => return Ok(Some(Taken::Held(Box::new(lease)))),
            Decision::Replaced => {
                let number = overdue.unwrap_or_default();
                return Ok(Some(Taken::Held(Box::new(Lease { number, holder: None, age: None }))));
            }
            Decision::Create { number, replaced } => (number, replaced),
        };
        let name = volume_name(&self.group, number);
        let found = self.engine.create_volume(&name, &labels(&self.group, &self.holder)).await?;
        let Some(lease) = Lease::of_volume(&self.group, &name, &found, None) else {
            let message = "a volume of this name exists that is no lease; remove it".to_owned();
            return Err(EngineError::Conflict { attempted: format!("create volume {name}"), message });
        };
        if lease.holder.as_ref() != Some(&self.holder) {
            return Ok(Some(Taken::Held(Box::new(lease))));
        }
        // In this time, another controller may have taken the lease and renewed it, and this number was free again.
        if at.0.elapsed() >= RENEW_INTERVAL {
            self.remove(&[number]).await;
            return Ok(None);
        }
        Ok(Some(Taken::Ours(Ours { at, number, replaced })))
    }

    fn has_exited(&self, lease: &Lease) -> bool {
        lease.holder.as_ref().is_some_and(|holder| holder.process.has_exited(&self.holder.process, find_process))
    }

    /// Removes volumes. One that cannot be removed is replaced at the next renewal.
    async fn remove(&self, numbers: &[u64]) {
        let remove = async {
            for number in numbers {
                self.engine.apply(&Mutation::RemoveVolume(volume_name(&self.group, *number))).await?;
            }
            Ok::<(), EngineError>(())
        };
        if let Ok(Err(error)) = timeout(ATTEMPT_LIMIT, remove).await {
            tracing::debug!(%error, "cannot remove a previous lease");
        }
    }

    /// Begins to renew.
    fn keep(self, first: Result<Ours, EngineError>) -> HeldLease {
        let standing = match &first {
            Ok(ours) => Standing::Held(ours.at),
            Err(error) => Standing::Unprotected(error.clone()),
        };
        let (sender, standing) = watch::channel(standing);
        let (renew_now, release) = (Arc::new(Notify::new()), CancellationToken::new());
        let renewing = tokio::spawn(self.renew(first.ok(), sender, renew_now.clone(), release.clone()));
        HeldLease { monitor: LeaseMonitor { standing, renew_now }, release, renewing }
    }

    /// Renews the lease until it is released or lost.
    async fn renew(
        self,
        mut ours: Option<Ours>,
        standing: watch::Sender<Standing>,
        renew_now: Arc<Notify>,
        release: CancellationToken,
    ) {
        let mut pause = if ours.is_some() { RENEW_INTERVAL } else { RETRY_INTERVAL };
        loop {
            if let Some(ours) = &mut ours {
                self.remove(&std::mem::take(&mut ours.replaced)).await;
            }
            tokio::select! {
                biased;
                // cancel-safe because a token stays cancelled
                () = release.cancelled() => break,
                // cancel-safe because the renewal that it asks for begins in any case
                () = renew_now.notified() => {}
                // cancel-safe for the same reason
                () = sleep(pause) => {}
            }
            let overdue = ours.as_ref().map(|ours| ours.number).filter(|_| standing.borrow().is_overdue());
            match self.attempt(overdue, |_| false).await {
                Ok(Taken::Ours(renewed)) => {
                    standing.send_replace(Standing::Held(renewed.at));
                    (ours, pause) = (Some(renewed), RENEW_INTERVAL);
                }
                Ok(Taken::Held(lease)) => {
                    standing.send_replace(Standing::Lost(lease));
                    return;
                }
                Err(error) => {
                    // Reported once, when it can no longer be known whether the lease is still ours.
                    let is_overdue = standing.borrow().is_overdue();
                    if is_overdue {
                        standing.send_replace(Standing::Unprotected(error));
                    }
                    pause = RETRY_INTERVAL;
                }
            }
        }
        if let Some(ours) = ours {
            self.remove(&[ours.number]).await;
        }
    }
}

/// A holder with this process, which runs `command`. `watches`: until it is stopped.
pub fn holder(command: &str, watches: bool) -> Holder {
    let name = ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok().filter(|it| !it.is_empty()));
    let uid = geteuid().as_raw();
    Holder {
        user: name.map_or_else(|| format!("uid {uid}"), |name| format!("{name} (uid {uid})")),
        host: uname().nodename().to_string_lossy().into_owned(),
        process: this_process(),
        command: command.to_owned(),
        since: jiff::Timestamp::now().to_string(),
        watches,
    }
}

/// This process. Where there is no `/proc`, it can be told apart from others, but not be known to have exited.
fn this_process() -> Process {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
    let namespace = fs::read_link("/proc/self/ns/pid").ok();
    let scope = boot.zip(namespace).map(|(boot, space)| (boot.trim().to_owned(), space.display().to_string()));
    let pid = std::process::id();
    // `/proc` may be that of another namespace.
    let is_own = fs::read_link("/proc/self").is_ok_and(|own| own.as_os_str() == pid.to_string().as_str());
    match find_process(pid) {
        Found::Started(start) if is_own => Process { scope, pid, start },
        _ => Process { scope: None, pid, start: 0 },
    }
}

/// Looks for a process. The signal comes first: `/proc` may hide the processes of other users.
fn find_process(pid: u32) -> Found {
    let Some(id) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Found::Unknown };
    if test_kill_process(id) == Err(Errno::SRCH) {
        return Found::Nothing;
    }
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(Found::Unknown, |stat| parse_stat(&stat))
}

/// Parses `/proc/<pid>/stat`: after the name in parentheses, which may have any characters, come the state and, 19 fields
/// later, the start time (proc_pid_stat(5)).
fn parse_stat(stat: &str) -> Found {
    let fields = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect::<Vec<_>>()).unwrap_or_default();
    match (fields.first(), fields.get(19).and_then(|start| start.parse().ok())) {
        // A zombie, or dead.
        (Some(&("Z" | "X")), _) => Found::Nothing,
        (_, Some(start)) => Found::Started(start),
        _ => Found::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lost_lease_is_the_first_event_after_a_check() {
        let overdue = Instant::now().checked_sub(VALID_FOR).unwrap();
        let (sender, standing) = watch::channel(Standing::Held((overdue, SystemTime::now())));
        let mut monitor = LeaseMonitor { standing, renew_now: Arc::new(Notify::new()) };
        let renew_now = monitor.renew_now.clone();
        let renewing = tokio::spawn(async move {
            renew_now.notified().await;
            let lease = Lease { number: 2, holder: None, age: None };
            // The task ends with it, and so does its side of the channel.
            sender.send_replace(Standing::Lost(Box::new(lease)));
        });
        assert!(matches!(monitor.check().await, Some(Event::LeaseLost(lease)) if lease.number == 2));
        renewing.await.unwrap();
        assert!(monitor.check().await.is_none(), "reported once");
    }

    #[test]
    fn start_time_is_parsed() {
        let rest = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21";
        for (stat, found) in [
            (format!("12 (sleep) S {rest}"), Found::Started(4711)),
            (format!("12 (a) Z (b) R {rest}"), Found::Started(4711)),
            (format!("12 (sleep) Z {rest}"), Found::Nothing),
            ("12 (sleep) S 1".to_owned(), Found::Unknown),
            (String::new(), Found::Unknown),
        ] {
            assert_eq!(parse_stat(&stat), found, "{stat}");
        }
    }

    #[test]
    fn exited_process_is_found() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let started = find_process(child.id());
        assert!(matches!(started, Found::Started(_)), "{started:?}");
        child.kill().unwrap();
        // The child is a zombie until it is waited for.
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while find_process(child.id()) != Found::Nothing {
            assert!(std::time::Instant::now() < deadline, "a killed process is found");
            std::thread::yield_now();
        }
        child.wait().unwrap();
        let here = holder("up", false).process;
        assert!(here.scope.is_some() && !here.has_exited(&here, find_process), "{here:?}");
    }
}
