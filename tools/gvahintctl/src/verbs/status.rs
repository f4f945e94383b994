// SPDX-License-Identifier: GPL-2.0
//! `status`: the module, its policies and the VMs, once.

use super::{complain, json_line, print};
use crate::failure::{Kind, Result};
use crate::host::Host;
use crate::knobs::NOTIFIERS;
use crate::numbers::{bytes, grouped, percent};
use crate::paint::Paint;
use crate::snapshot::{policy, reasons, Snapshot, Vm};
use crate::table::{lines, Side};
use crate::words;
use clap::Args;
use serde::Serialize;
use std::process::ExitCode;

/// How many reasons a VM's line shows.
const REASONS: usize = 2;

/// Show the module, its policies, and each VM with its state
///
/// Counts are those since the VM was attached: INVVPID = addresses that vCPUs dropped singly, VPID = drops
/// of a vCPU's whole VPID, INVEPT = drops of everything below the EPT. COVERAGE is the share of aged pages
/// that had a complete hint.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  gvahintctl status
  gvahintctl status --json | jq '.vms[] | {id, state, coverage}'")]
pub struct Arguments {
    /// Print JSON, with all counters
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Loaded {
    loaded: bool,
    #[serde(flatten)]
    snapshot: Option<Snapshot>,
}

impl Arguments {
    /// Prints it.
    pub fn run(self, host: &Host) -> Result<ExitCode> {
        let snapshot = match Snapshot::take(host) {
            Err(failure) if self.json && failure.kind == Kind::NotLoaded => {
                let (loaded, snapshot) = (false, None);
                print(&json_line(Loaded { loaded, snapshot })?)?;
                return Err(failure);
            }
            taken => taken?,
        };
        let complaints = snapshot.complaints.clone();
        match self.json {
            true => {
                let (loaded, snapshot) = (true, Some(snapshot));
                print(&json_line(Loaded { loaded, snapshot })?)?;
            }
            false => print(&text(&snapshot, &Paint::of(&std::io::stdout())))?,
        }
        Ok(complain(&complaints))
    }
}

fn text(snapshot: &Snapshot, paint: &Paint) -> String {
    let Snapshot {
        version,
        calibration,
        ..
    } = snapshot;
    let mut text = format!("gvahint {version}, calibration: {calibration}\n");
    let whose = [
        "page_idle, DAMON, MGLRU",
        "reclaim without MGLRU, or of huge pages",
    ];
    for (notifier, whose) in NOTIFIERS.into_iter().zip(whose) {
        let policy = policy(notifier, |name| &snapshot.knobs[name]);
        text += &format!("  {notifier:18} {policy:24} {whose}\n");
    }
    if snapshot.vms.is_empty() {
        return text + "no VMs\n";
    }
    text.push('\n');
    let mut table = lines(HEADING, &snapshot.vms.iter().map(cells).collect::<Vec<_>>());
    table[0] = paint.bold(&table[0]);
    text += &(table.join("\n") + "\n");
    let notes: String = snapshot
        .vms
        .iter()
        .map(|vm| notes(snapshot, vm, paint))
        .collect();
    if !notes.is_empty() {
        text += &format!("\n{notes}");
    }
    text
}

const HEADING: &[(&str, Side)] = &[
    ("VM", Side::Right),
    ("PID", Side::Right),
    ("PROCESS", Side::Left),
    ("STATE", Side::Left),
    ("COVERAGE", Side::Right),
    ("HINTS", Side::Right),
    ("MEMORY", Side::Right),
    ("INVVPID", Side::Right),
    ("VPID", Side::Right),
    ("INVEPT", Side::Right),
    ("UNCOVERED BY", Side::Left),
];

fn cells(vm: &Vm) -> Vec<String> {
    let mut most: Vec<String> = Vec::new();
    for (name, pages) in reasons(&vm.stats).into_iter().take(REASONS) {
        most.push(format!("{name} {}", grouped(pages)));
    }
    vec![
        vm.id.to_string(),
        vm.pid.to_string(),
        vm.process.clone().unwrap_or_else(|| "-".to_owned()),
        vm.state.clone(),
        vm.coverage.map_or("-".to_owned(), percent),
        grouped(vm.stat("hints")),
        bytes(vm.stat("bytes")),
        grouped(vm.stat("drained_gva")),
        grouped(vm.stat("drained_context")),
        grouped(vm.stat("drained_full")),
        most.join(", "),
    ]
}

/// What the table has no room for: what a state means, and policies of the VM's own.
fn notes(snapshot: &Snapshot, vm: &Vm, paint: &Paint) -> String {
    let mut text = String::new();
    if vm.state != "live" {
        let state = paint.yellow(&vm.state);
        text += &format!("VM {} is {state}: {}\n", vm.id, words::state(&vm.state));
    }
    for notifier in vm.own_policies() {
        let policy = policy(notifier, |name| snapshot.effective(vm, name));
        text += &format!("VM {} has its own policy for {notifier}: {policy}\n", vm.id);
    }
    text
}
