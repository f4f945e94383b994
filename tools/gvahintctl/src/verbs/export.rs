// SPDX-License-Identifier: GPL-2.0
//! `export`: the counters as Prometheus text.

use super::{complain, print};
use crate::counters::{Counter, COUNTERS, LEVELS, UNCOVERED_BY};
use crate::failure::{Kind, Result};
use crate::host::Host;
use crate::knobs::{Takes, KNOBS, NOTIFIERS, POLICY};
use crate::newfile::NewFile;
use crate::snapshot::{Snapshot, Vm};
use crate::words::STATES;
use clap::Args;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Print the counters as Prometheus text, for node_exporter's textfile collector
///
/// Metrics: gvahint_up (1 if the module is loaded), gvahint_info{version, calibration}, gvahint_policy_info{notifier, flush,
/// uncovered, timing}, gvahint_knob{knob} (numbers), gvahint_vms; of each VM, with the labels vm and pid:
/// gvahint_vm_info{process}, gvahint_vm_policy_info{notifier, flush, uncovered, timing}, gvahint_vm_state{state}
/// (1 for the one it is in, 0 for the others), gvahint_vm_coverage_ratio (since the VM was attached; rates of the
/// counters covered and uncovered tell more), the levels gvahint_vm_hints, gvahint_vm_kept_pages and
/// gvahint_vm_bytes, gvahint_vm_uncovered_by_reason_total{reason}, and gvahint_vm_NAME_total for every other
/// counter NAME of the module. If the module is not loaded there is only gvahint_up 0, and the exit code is 3.
///
/// --output writes a new file beside FILE and renames it, so that no half file is ever read; others may read it.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  gvahintctl export
  gvahintctl export --output /var/lib/prometheus/node-exporter/gvahint.prom")]
pub struct Arguments {
    /// Write this file instead
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Arguments {
    /// Prints or writes them.
    pub fn run(self, host: &Host) -> Result<ExitCode> {
        let (text, exit) = match Snapshot::take(host) {
            Ok(snapshot) => (metrics(&snapshot), Ok(complain(&snapshot.complaints))),
            // What was exported before must not look current.
            Err(failure) if failure.kind == Kind::NotLoaded => (up(false), Err(failure)),
            Err(failure) => return Err(failure),
        };
        match &self.output {
            None => print(&text)?,
            Some(path) => NewFile::beside(path)?.replace(&text)?,
        }
        exit
    }
}

/// The text under construction.
struct Text(String);

impl Text {
    /// Begins a metric.
    fn metric(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// One value of it.
    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let labels: Vec<_> = labels
            .iter()
            .map(|(key, value)| format!("{key}=\"{}\"", escaped(value)))
            .collect();
        let labels = labels.join(",");
        let braces = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{labels}}}")
        };
        let _ = writeln!(self.0, "{name}{braces} {value}");
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn up(is: bool) -> String {
    let mut text = Text(String::new());
    text.metric("gvahint_up", "gauge", "Whether the module is loaded.");
    text.value("gvahint_up", &[], u8::from(is));
    text.0
}

fn metrics(snapshot: &Snapshot) -> String {
    let mut text = Text(up(true));
    text.metric(
        "gvahint_info",
        "gauge",
        "The module, and what is known of these CPUs.",
    );
    let module = [
        ("version", snapshot.version.as_str()),
        ("calibration", &snapshot.calibration),
    ];
    text.value("gvahint_info", &module, 1);
    text.metric("gvahint_policy_info", "gauge", "Policy of each notifier.");
    for notifier in NOTIFIERS {
        let labels = policy_labels(notifier, |name| &snapshot.knobs[name]);
        text.value("gvahint_policy_info", &labels, 1);
    }
    text.metric("gvahint_knob", "gauge", "Knobs that are numbers.");
    for knob in KNOBS
        .iter()
        .filter(|knob| matches!(knob.takes, Takes::Number { .. }))
    {
        text.value(
            "gvahint_knob",
            &[("knob", knob.name)],
            &snapshot.knobs[knob.name],
        );
    }
    text.metric("gvahint_vms", "gauge", "VMs that the module knows.");
    text.value("gvahint_vms", &[], snapshot.vms.len());
    of_vms(&mut text, snapshot);
    text.0
}

fn policy_labels<'a>(
    notifier: &'a str,
    value: impl Fn(&str) -> &'a str,
) -> Vec<(&'a str, &'a str)> {
    let knobs = POLICY.map(|knob| (knob, value(&format!("{notifier}/{knob}"))));
    [("notifier", notifier)].into_iter().chain(knobs).collect()
}

/// The labels of one VM's values, and more.
fn labels<'a>(ids: &'a [String; 2], more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let [vm, pid] = ids;
    [("vm", vm.as_str()), ("pid", pid.as_str())]
        .into_iter()
        .chain(more.iter().copied())
        .collect()
}

/// What there is of each VM, a metric at a time, as the format wants it.
fn of_vms(text: &mut Text, snapshot: &Snapshot) {
    let ids = |vm: &Vm| [vm.id.to_string(), vm.pid.to_string()];
    let vms: Vec<(&Vm, [String; 2])> = snapshot.vms.iter().map(|vm| (vm, ids(vm))).collect();
    text.metric("gvahint_vm_info", "gauge", "The VM's process.");
    for (vm, ids) in &vms {
        let process = vm.process.as_deref().unwrap_or_default();
        text.value("gvahint_vm_info", &labels(ids, &[("process", process)]), 1);
    }
    text.metric(
        "gvahint_vm_policy_info",
        "gauge",
        "Policy in force for the VM.",
    );
    for (vm, ids) in &vms {
        for notifier in NOTIFIERS {
            let policy = policy_labels(notifier, |name| snapshot.effective(vm, name));
            text.value("gvahint_vm_policy_info", &labels(ids, &policy), 1);
        }
    }
    text.metric(
        "gvahint_vm_state",
        "gauge",
        "Whether the VM's hints are used, or why not.",
    );
    for (vm, ids) in &vms {
        let known = STATES.iter().map(|state| state.name);
        let new = (!known.clone().any(|name| name == vm.state)).then_some(vm.state.as_str());
        for state in known.chain(new) {
            let is = u8::from(state == vm.state);
            text.value("gvahint_vm_state", &labels(ids, &[("state", state)]), is);
        }
    }
    let name = "gvahint_vm_coverage_ratio";
    text.metric(name, "gauge", "Share of aged pages with a complete hint.");
    for (vm, ids) in &vms {
        if let Some(share) = vm.coverage {
            text.value(name, &labels(ids, &[]), share);
        }
    }
    counters(text, &vms);
}

/// Everything under `stats/`, also what this version doesn't know.
fn counters(text: &mut Text, vms: &[(&Vm, [String; 2])]) {
    let names: BTreeSet<&str> = vms
        .iter()
        .flat_map(|(vm, _)| vm.stats.keys())
        .map(String::as_str)
        .collect();
    let help = |known: &[Counter], name: &str| {
        known
            .iter()
            .find(|counter| counter.name == name)
            .map(|counter| counter.about)
    };
    let (reasons, names): (Vec<_>, Vec<_>) = names
        .into_iter()
        .partition(|name| name.starts_with(UNCOVERED_BY));
    for counter in names {
        let level = help(LEVELS, counter);
        let (name, kind) = match level {
            Some(_) => (format!("gvahint_vm_{counter}"), "gauge"),
            None => (format!("gvahint_vm_{counter}_total"), "counter"),
        };
        let about = level.or(help(COUNTERS, counter));
        text.metric(
            &name,
            kind,
            about.unwrap_or("A counter that this gvahintctl does not know."),
        );
        for (vm, ids) in vms.iter().filter(|(vm, _)| vm.stats.contains_key(counter)) {
            text.value(&name, &labels(ids, &[]), vm.stat(counter));
        }
    }
    let name = "gvahint_vm_uncovered_by_reason_total";
    text.metric(
        name,
        "counter",
        "Pages aged without a complete hint, by reason.",
    );
    for (vm, ids) in vms {
        for counter in &reasons {
            let reason = counter.trim_start_matches(UNCOVERED_BY);
            text.value(name, &labels(ids, &[("reason", reason)]), vm.stat(counter));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Fails if a label's value could end its quotes.
    #[test]
    fn labels_are_escaped() {
        let mut text = Text(String::new());
        text.value("m", &[("process", "a\"b\\c\n")], 1);
        assert_eq!(text.0, "m{process=\"a\\\"b\\\\c\\n\"} 1\n");
    }
}
