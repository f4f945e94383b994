// SPDX-License-Identifier: GPL-2.0
//! The VMs: who reports, who does not and why, whose hints do not suffice.

use super::Findings;
use crate::numbers::{bytes, counted, percent};
use crate::snapshot::{reasons, Snapshot, Vm};
use crate::words::{self, STATES};

/// Below this share of covered pages a look is worth it.
const COVERED: f64 = 0.9;
/// So many pages say something.
const ENOUGH: u64 = 1000;

/// Each VM.
pub fn check(snapshot: &Snapshot, findings: &mut Findings) {
    for failure in &snapshot.complaints {
        let remedy = failure.remedy.as_deref();
        let remedy = remedy.unwrap_or("look again: gvahintctl status");
        findings.problem("guests", failure.what.clone(), remedy);
    }
    if snapshot.vms.is_empty() {
        findings.ok(
            "guests",
            "no VM runs, or none that the module could attach to",
        );
    }
    for vm in &snapshot.vms {
        state(vm, findings);
        if vm.state == "live" {
            coverage(vm, findings);
        }
        for (name, what) in [
            ("sets_refused", "malformed or found no room"),
            ("sets_shortened", "kept without their gVAs for lack of room"),
        ] {
            let sets = vm.stat(name);
            if sets > 0 {
                findings.note(
                    "guests",
                    format!(
                        "{}: {} {what}; it holds {}",
                        vm.called(),
                        counted(sets, "set of a report was", "sets of reports were"),
                        bytes(vm.stat("bytes")),
                    ),
                    "if that is near the limit: gvahintctl set max_bytes_per_vm N (from the guest's next HELLO on)",
                );
            }
        }
    }
}

fn state(vm: &Vm, findings: &mut Findings) {
    let text = format!(
        "{} is {}: {}",
        vm.called(),
        vm.state,
        words::state(&vm.state)
    );
    let remedy = words::find(STATES, &vm.state).and_then(|word| word.remedy);
    match (vm.state.as_str(), remedy) {
        ("live", _) => findings.ok("guests", text),
        ("degraded" | "no-gva-flush", Some(remedy)) => findings.problem("guests", text, remedy),
        (_, remedy) => findings.note("guests", text, remedy.unwrap_or("update gvahintctl")),
    }
}

fn coverage(vm: &Vm, findings: &mut Findings) {
    let asked = vm.stat("covered") + vm.stat("uncovered");
    let Some(share) = vm
        .coverage
        .filter(|share| *share < COVERED && asked >= ENOUGH)
    else {
        return;
    };
    let why = reasons(&vm.stats);
    let why = why
        .first()
        .map_or(String::new(), |(name, _)| format!(", most often by {name}"));
    findings.note(
        "guests",
        format!(
            "{}: only {} of the aged pages were covered{why}",
            vm.called(),
            percent(share)
        ),
        format!("gvahintctl explain --vm {} --interval 10", vm.id),
    );
}
