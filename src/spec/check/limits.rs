//! Limits, logging, devices: values that the engine does not accept or that have no effect, and reserved labels.

use crate::spec::document::Document;
use crate::spec::locate::Diagnostic;
use crate::spec::model::{Check, Healthcheck, Kind, MemorySwap, Service};
use crate::spec::node::Node;
use crate::spec::value::{Microseconds, quoted};

/// Minimum memory limit that the engine accepts, in bytes.
const MIN_MEMORY: u64 = 6 * 1024 * 1024;

/// Range of the periods of CPU quotas, in microseconds.
const CPU_PERIODS: std::ops::RangeInclusive<u32> = 1_000..=1_000_000;

/// Range of the weights of block devices.
const BLKIO_WEIGHTS: std::ops::RangeInclusive<u16> = 10..=1000;

/// Diagnostics of one service.
struct Report<'a> {
    service: &'a Document<Service>,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl Report<'_> {
    /// Adds an error about a field, by its keys; those of list items are their indexes.
    fn add(&mut self, path: &[&str], message: impl Into<String>, hint: &str) {
        let service = self.service;
        let node = path.iter().try_fold(&service.root, |node, key| match key.parse() {
            Ok(index) => node.items().nth(index),
            Err(_) => node.get(key),
        });
        let location = service.location(node.map_or(&service.root.span, |node| &node.span));
        let hint = (!hint.is_empty()).then(|| hint.to_owned());
        self.diagnostics.push(Diagnostic::at(location, message.into()).hint(hint));
    }
}

pub(super) fn check(service: &Document<Service>, diagnostics: &mut Vec<Diagnostic>) {
    let mut report = Report { service, diagnostics };
    resources(&mut report);
    kernel(&mut report);
    blkio(&mut report);
    gpus(&mut report);
    logging(&mut report);
    health(&mut report);
    own_labels(service, &service.root, "a container", report.diagnostics);
}

fn resources(report: &mut Report<'_>) {
    let resources = &report.service.spec.container.resources;
    let below_minimum = |size: &crate::spec::value::ByteSize| size.bytes() < MIN_MEMORY;
    if let Some(memory) = resources.memory.filter(below_minimum) {
        report.add(&["resources", "memory"], format!("{memory} of memory is below the engine's minimum of 6m"), "");
    }
    if resources.pids == Some(0) {
        report.add(&["resources", "pids"], "`pids` must be at least 1", "remove `pids` for no limit");
    }
    if let Some(reserved) = resources.memory_reservation {
        let path = ["resources", "memory_reservation"];
        if below_minimum(&reserved) {
            report.add(&path, format!("a reservation of {reserved} is below the engine's minimum of 6m"), "");
        }
        if let Some(memory) = resources.memory.filter(|memory| *memory < reserved) {
            report.add(&path, format!("the reservation of {reserved} is above the limit of {memory} (`memory`)"), "");
        }
    }
    if let Some(swap) = resources.memory_swap {
        let path = ["resources", "memory_swap"];
        match (swap, resources.memory) {
            (_, None) => report.add(&path, "`memory_swap` needs a limit of memory", "add `memory`"),
            (MemorySwap::Size(swap), Some(memory)) if swap < memory => {
                let message = format!("{swap} for memory and swap together is less than {memory} of memory");
                report.add(&path, message, "the value includes the memory: the same as `memory` means no swap");
            }
            _ => {}
        }
    }
    if resources.cpu_shares.is_some_and(|shares| shares < 2) {
        report.add(&["resources", "cpu_shares"], "`cpu_shares` must be at least 2", "the default is 1024");
    }
    let is_period = |period: &Microseconds| CPU_PERIODS.contains(&period.get());
    if resources.cpu_period.is_some_and(|period| !is_period(&period)) {
        report.add(&["resources", "cpu_period"], "`cpu_period` goes from 1ms to 1s", "the default is 100ms");
    }
    if resources.cpu_quota.is_some_and(|quota| quota.get() < *CPU_PERIODS.start()) {
        report.add(&["resources", "cpu_quota"], "`cpu_quota` must be at least 1ms", "a number is in microseconds");
    }
    for (field, is_set) in
        [("cpu_quota", resources.cpu_quota.is_some()), ("cpu_period", resources.cpu_period.is_some())]
    {
        if is_set && resources.cpus.is_some() {
            let message = format!("`{field}` and `cpus` both limit CPU time");
            report.add(&["resources", field], message, "remove one of them");
            return;
        }
    }
}

fn kernel(report: &mut Report<'_>) {
    let fields = &report.service.spec.container;
    if fields.mem_swappiness.is_some_and(|swappiness| swappiness > 100) {
        report.add(&["mem_swappiness"], "`mem_swappiness` goes from 0 to 100", "");
    }
    if fields.oom_score_adj.is_some_and(|score| !(-1000..=1000).contains(&score)) {
        report.add(&["oom_score_adj"], "`oom_score_adj` goes from -1000 to 1000", "");
    }
}

fn blkio(report: &mut Report<'_>) {
    let Some(blkio) = &report.service.spec.container.blkio_config else { return };
    let message = "a weight goes from 10 to 1000";
    if blkio.weight.is_some_and(|weight| !BLKIO_WEIGHTS.contains(&weight)) {
        report.add(&["blkio_config", "weight"], message, "");
    }
    for (index, device) in blkio.weight_device.iter().enumerate() {
        if !BLKIO_WEIGHTS.contains(&device.weight) {
            report.add(&["blkio_config", "weight_device", &index.to_string(), "weight"], message, "");
        }
    }
}

fn gpus(report: &mut Report<'_>) {
    let Some(gpus) = &report.service.spec.container.gpus else { return };
    for (index, request) in gpus.0.iter().enumerate() {
        if request.count.is_some() && !request.device_ids.is_empty() {
            let path = ["gpus", &index.to_string(), "count"];
            report.add(&path, "`count` and `device_ids` both choose devices", "remove one of them");
        }
    }
}

/// Rejects pings and outputs that read the output of a container that keeps none.
fn logging(report: &mut Report<'_>) {
    let spec = &report.service.spec;
    let Some(logging) = spec.container.logging.as_ref().filter(|logging| logging.is_unreadable()) else { return };
    let driver = logging.driver.as_ref().map(ToString::to_string).unwrap_or_default();
    let why = format!("the output of `{}` cannot be read: `logging` has the driver `{driver}`", spec.container.name);
    if spec.ping.as_ref().is_some_and(|ping| matches!(ping.check, Check::Log(_))) {
        let hint = "use another ping, such as `tcp` or `exec`, or a driver such as `local`";
        report.add(&["ping"], format!("a `log` ping never succeeds: {why}"), hint);
    }
    if spec.kind != Kind::Service && spec.capture.is_some() {
        let hint = "write the output to the file named by `$DRILLMASTER_OUTPUT`, or use a driver such as `local`";
        report.add(&["capture"], format!("nothing can be captured: {why}"), hint);
    }
}

fn health(report: &mut Report<'_>) {
    let spec = &report.service.spec;
    if spec.healthcheck.as_ref().is_some_and(Healthcheck::is_empty) {
        let hint = "without `healthcheck`, the image's own health check applies";
        report.add(&["healthcheck"], "the `healthcheck` is empty", hint);
    }
    if let Some(health) = &spec.health {
        if health.retries == Some(0) {
            report.add(&["health", "retries"], "`retries` must be at least 1", "");
        }
        if health.interval.is_some_and(|interval| interval.get().is_zero()) {
            report.add(&["health", "interval"], "`interval` must be more than 0", "");
        }
    }
}

/// Rejects labels that drillmaster uses itself. `noun`: what has the labels.
pub(super) fn own_labels<T>(document: &Document<T>, of: &Node, noun: &str, diagnostics: &mut Vec<Diagnostic>) {
    let labels = of.get("labels").into_iter().flat_map(Node::entries);
    for label in labels.filter(|entry| entry.key.text.starts_with("drillmaster.")) {
        let message = format!("the label {} is reserved for drillmaster", quoted(&label.key.text));
        let hint = format!("labels that begin with `drillmaster.` record which group owns {noun}");
        diagnostics.push(Diagnostic::at(document.location(&label.key.span), message).hint(hint));
    }
}
