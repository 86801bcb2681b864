//! Lease of a group: who may change it, among all controllers that use one engine. Names and rules.
//!
//! The lock file in the state directory is visible to one user on one host. A lease is visible on the engine: an empty
//! volume `<group>.lease.<number>` whose labels name the holder. An engine that is asked to create a volume of an existing
//! name returns that volume with its own labels, so whoever finds its labels in the response has the lease. Labels cannot
//! be changed: to renew its lease, a holder creates the volume of the next number and removes the previous one. The volume
//! with the highest number counts.
//!
//! The clocks of two hosts are never compared. A lease has ended if its holder has exited (known on the same host only), or
//! if another controller has seen the same number for [`EXPIRES_AFTER`] by its own clock. A holder does nothing once
//! [`VALID_FOR`] has passed since its last renewal by its own clock, until it has renewed it. So two of them act at the same
//! time only where a clock runs at less than two thirds of the speed of the other.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::identity::{LEASE, LEASE_HOLDER};

/// Interval of renewals. No number is created sooner after its predecessor.
pub const RENEW_INTERVAL: Duration = Duration::from_secs(10);
/// How long a lease is valid for its holder after the last renewal.
pub const VALID_FOR: Duration = Duration::from_secs(20);
/// How long others must have seen an unchanged lease before they may replace it.
pub const EXPIRES_AFTER: Duration = Duration::from_secs(30);

/// The controller that holds a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Name and id of the user, for messages.
    pub user: String,
    /// Host name, for messages.
    pub host: String,
    pub process: Process,
    /// Command: `up --watch`.
    pub command: String,
    /// When it started, in RFC 3339 with nanoseconds: two holders with the same name and process id differ by it.
    pub since: String,
    /// True for a controller that runs until it is stopped.
    pub watches: bool,
}

/// A process, comparable within one boot of one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Id of the boot and of the namespace of process ids; `None` where the system has none.
    pub scope: Option<(String, String)>,
    pub pid: u32,
    /// Start time, in ticks since the boot.
    pub start: u64,
}

impl Process {
    /// Returns true if this process has exited, for what the system says about its id: its start time, or `None` if there
    /// is no such process. `here` is the own process.
    pub fn has_exited(&self, here: &Process, status: impl FnOnce(u32) -> Found) -> bool {
        if self.scope.is_none() || self.scope != here.scope {
            return false;
        }
        match status(self.pid) {
            Found::Nothing => true,
            Found::Started(at) => at != self.start,
            Found::Unknown => false,
        }
    }
}

/// What the system says about a process id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// There is no such process, or it has exited and its parent has not noticed yet.
    Nothing,
    /// A process that started at this time, in ticks since the boot.
    Started(u64),
    /// There may be such a process.
    Unknown,
}

impl fmt::Display for Holder {
    /// Labels are text of others: control characters are escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.since.split(['.', 'Z']).next().unwrap_or_default().replace('T', " ");
        let (user, host, command) = (self.user.escape_debug(), self.host.escape_debug(), self.command.escape_debug());
        let (pid, since) = (self.process.pid, since.escape_debug());
        write!(f, "{user} on host {host}, pid {pid} (drillmaster {command}, since {since} UTC)")
    }
}

/// A lease as it is on the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Number of the volume.
    pub number: u64,
    /// `None`: its label cannot be read.
    pub holder: Option<Holder>,
    /// Time since its creation by the engine's clock, if known. Only a hint: clocks jump.
    pub age: Option<Duration>,
}

impl Lease {
    /// Reads a volume; `None` if it is no lease of this group.
    pub fn of_volume(
        group: &str,
        name: &str,
        labels: &BTreeMap<String, String>,
        age: Option<Duration>,
    ) -> Option<Lease> {
        let number = name.strip_prefix(group)?.strip_prefix(".lease.")?.parse().ok()?;
        if labels.get(LEASE).is_none_or(|owner| owner != group) {
            return None;
        }
        let holder = labels.get(LEASE_HOLDER).and_then(|holder| serde_json::from_str(holder).ok());
        Some(Lease { number, holder, age })
    }

    /// Returns true if its holder may be at work: it renews its lease more often than that.
    pub fn is_recent(&self) -> bool {
        self.age.is_some_and(|age| age < EXPIRES_AFTER)
    }

    /// Returns true if it is of a watch, which holds it until it is stopped.
    pub fn is_of_watch(&self) -> bool {
        self.holder.as_ref().is_some_and(|holder| holder.watches)
    }
}

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.holder {
            Some(holder) => holder.fmt(f),
            None => f.write_str("another controller"),
        }
    }
}

/// Name of the volume.
pub fn volume_name(group: &str, number: u64) -> String {
    format!("{group}.lease.{number}")
}

/// Labels of the volume.
pub fn labels(group: &str, holder: &Holder) -> BTreeMap<String, String> {
    let holder = serde_json::to_string(holder).unwrap_or_default();
    BTreeMap::from([(LEASE.to_owned(), group.to_owned()), (LEASE_HOLDER.to_owned(), holder)])
}

/// What to do with the leases on the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Create this number. If its labels are ours then, we have the lease, and the numbers in `replaced` are to be removed.
    Create { number: u64, replaced: Vec<u64> },
    /// Another controller has it.
    Held(Lease),
    /// Another controller has replaced it, and has released its own since.
    Replaced,
}

/// Decides about the leases of a group on the engine: the one with the highest number counts. It can be replaced by its
/// own holder, and by others if it `has_ended`. `overdue` is the number of the holder's own lease if others could have
/// replaced it: it is not valid any more.
pub fn decide(
    leases: &[Lease],
    holder: &Holder,
    overdue: Option<u64>,
    has_ended: impl FnOnce(&Lease) -> bool,
) -> Decision {
    let is_gone = overdue.is_some_and(|number| leases.iter().all(|lease| lease.number != number));
    let Some(current) = leases.iter().max_by_key(|lease| lease.number) else {
        return if is_gone { Decision::Replaced } else { Decision::Create { number: 1, replaced: Vec::new() } };
    };
    if current.holder.as_ref() != Some(holder) {
        if !has_ended(current) {
            return Decision::Held(current.clone());
        }
        if is_gone {
            return Decision::Replaced;
        }
    }
    let replaced = leases.iter().map(|lease| lease.number).collect();
    Decision::Create { number: current.number.saturating_add(1), replaced }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(pid: u32) -> Holder {
        let scope = Some(("boot".to_owned(), "pid:[1]".to_owned()));
        Holder {
            user: "ann (uid 1000)".into(),
            host: "box".into(),
            process: Process { scope, pid, start: 7 },
            command: "up --watch".into(),
            since: "2026-11-30T10:02:11.123456789Z".into(),
            watches: true,
        }
    }

    fn lease(number: u64, pid: u32) -> Lease {
        Lease { number, holder: Some(holder(pid)), age: Some(Duration::from_secs(5)) }
    }

    #[test]
    fn holder_whose_overdue_lease_is_gone_has_been_replaced() {
        let me = holder(1);
        let decide = |leases: &[Lease], ended: bool| decide(leases, &me, Some(4), |_| ended);
        assert_eq!(decide(&[], false), Decision::Replaced, "the other one has released its own");
        assert_eq!(decide(&[lease(5, 2)], true), Decision::Replaced, "the other one was killed");
        assert_eq!(decide(&[lease(5, 2)], false), Decision::Held(lease(5, 2)));
        assert_eq!(decide(&[lease(4, 1)], false), Decision::Create { number: 5, replaced: vec![4] });
    }

    #[test]
    fn volume_is_read_as_written() {
        let read = |name: &str, labels| Lease::of_volume("shop", name, &labels, Some(Duration::from_secs(5)));
        assert_eq!(volume_name("shop", 12), "shop.lease.12");
        assert_eq!(read("shop.lease.12", labels("shop", &holder(1))), Some(lease(12, 1)));
        for (name, labels) in [
            ("shop.lease.12", BTreeMap::new()),
            ("shop.lease.12", labels("shop-2", &holder(1))),
            ("shop.lease.x", labels("shop", &holder(1))),
            ("shop-2.lease.12", labels("shop", &holder(1))),
        ] {
            assert_eq!(read(name, labels), None, "{name}");
        }
        let of_another_version = [(LEASE, "shop"), (LEASE_HOLDER, "{}")].map(|(key, text)| (key.into(), text.into()));
        let read = read("shop.lease.1", of_another_version.into()).unwrap();
        assert_eq!((read.holder.is_none(), read.to_string().as_str()), (true, "another controller"));
    }

    #[test]
    fn highest_number_counts() {
        let me = holder(1);
        let create = |number, replaced: &[u64]| Decision::Create { number, replaced: replaced.into() };
        let living = |leases: &[Lease]| decide(leases, &me, None, |_| false);
        let ended = |leases: &[Lease]| decide(leases, &me, None, |_| true);
        assert_eq!(living(&[]), create(1, &[]));
        assert_eq!(living(&[lease(3, 1)]), create(4, &[3]));
        assert_eq!(living(&[lease(9, 2)]), Decision::Held(lease(9, 2)));
        assert_eq!(ended(&[lease(9, 2), lease(8, 3)]), create(10, &[9, 8]));
        // Left behind by a holder that was killed between two requests.
        assert_eq!(living(&[lease(10, 1), lease(9, 2)]), create(11, &[10, 9]));
        // Ours was removed, and another controller has taken its place.
        assert_eq!(living(&[lease(9, 1), lease(10, 2)]), Decision::Held(lease(10, 2)));
    }

    #[test]
    fn lease_without_readable_holder_is_held() {
        let unreadable = Lease { number: 1, holder: None, age: None };
        assert_eq!(decide(std::slice::from_ref(&unreadable), &holder(1), None, |_| false), Decision::Held(unreadable));
    }

    #[test]
    fn only_a_process_of_this_boot_and_namespace_can_be_known_to_have_exited() {
        let here = holder(1).process;
        let other = holder(2).process;
        for (found, exited) in
            [(Found::Nothing, true), (Found::Started(7), false), (Found::Started(8), true), (Found::Unknown, false)]
        {
            assert_eq!(other.has_exited(&here, |_| found), exited, "{found:?}");
        }
        for scope in [None, Some(("boot".into(), "pid:[2]".into())), Some(("boot-2".into(), "pid:[1]".into()))] {
            let elsewhere = Process { scope, ..other.clone() };
            assert!(!elsewhere.has_exited(&here, |_| Found::Nothing), "{elsewhere:?}");
        }
    }

    #[test]
    fn holder_is_named_for_people() {
        let text = "ann (uid 1000) on host box, pid 4 (drillmaster up --watch, since 2026-11-30 10:02:11 UTC)";
        assert_eq!(holder(4).to_string(), text);
        let hostile = Holder { host: "box\u{1b}[2J\n".into(), ..holder(4) };
        assert!(hostile.to_string().contains(r"box\u{1b}[2J\n"), "{hostile}");
    }
}
