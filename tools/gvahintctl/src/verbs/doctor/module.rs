// SPDX-License-Identifier: GPL-2.0
//! The module: loaded or to be had, and its policies.

use super::{Findings, OPERATIONS};
use crate::host::Host;
use crate::knobs::NOTIFIERS;
use crate::snapshot::{policy, Snapshot};

/// Whether it is loaded.
pub fn check(host: &Host, findings: &mut Findings) {
    if host.is_loaded() {
        findings.ok("module", "gvahint is loaded");
        return;
    }
    let release = host.text("/proc/sys/kernel/osrelease").unwrap_or_default();
    let installed = host.text(&format!("/lib/modules/{release}/modules.dep"));
    let installed = installed.is_some_and(|list| list.contains("/gvahint.ko"));
    findings.problem(
        "module",
        "gvahint is not loaded",
        match installed {
            true => "modprobe gvahint; if that fails, the kernel's log says why".to_owned(),
            false => format!(
                "there is none for {release}: install gvahint-modules-{release}, or boot the kernel that one was \
                 built for (make deb KERNEL=1 makes both); see {OPERATIONS}"
            ),
        },
    );
}

/// What is set, and what it does to ages.
pub fn check_policies(host: &Host, snapshot: &Snapshot, findings: &mut Findings) {
    for notifier in NOTIFIERS {
        let text = policy(notifier, |name| &snapshot.knobs[name]);
        let what = match &*snapshot.knobs[&*format!("{notifier}/flush")] {
            "none" => "ageing drops nothing, and pages in use look idle",
            // What KVM does by itself is right for one of the two only.
            "default" if notifier == "clear_young" => {
                "KVM drops nothing, and pages in use look idle"
            }
            "default" => "KVM drops every VM's translations on its CPUs for each call",
            _ => {
                findings.ok("policy", format!("{notifier}: {text}"));
                continue;
            }
        };
        let remedy = format!("gvahintctl set {notifier}/flush hint");
        findings.note("policy", format!("{notifier}: {text}: {what}"), remedy);
    }
    match &*snapshot.calibration {
        "passed" => findings.ok(
            "verdict",
            "calibration passed: single addresses suffice on these CPUs",
        ),
        "uncalibrated" => findings.note(
            "verdict",
            "nobody has measured whether dropping single addresses suffices on these CPUs",
            "gvahintctl calibrate --apply; the verdict is gone when the module is unloaded, also at reboot",
        ),
        verdict => findings.problem(
            "verdict",
            format!(
                "calibration: {verdict}: dropping single addresses does not bring accessed bits back on these \
                 CPUs; `hint` behaves as what does"
            ),
            "hints gain nothing on these CPUs; the verdict is gone when the module is unloaded, also at reboot: set \
             flush to what suffices in /etc/gvahint.conf",
        ),
    }
    room(snapshot, findings);
    tickless(host, snapshot, findings);
}

/// Places that a VM's memory has besides those of its log, 8 bytes each: see Store::fixed_bytes in rust/host.
const PLACES: u64 = 2048 + 512;

/// Whether there is room for the log, before any hint.
fn room(snapshot: &Snapshot, findings: &mut Findings) {
    let number = |name: &str| snapshot.knobs[name].parse().unwrap_or(0);
    let (slots, limit): (u64, u64) = (number("log_entries"), number("max_bytes_per_vm"));
    let needed = 8 * slots.saturating_add(PLACES);
    // What the module chooses for 0 is always enough.
    if limit > 0 && needed > limit {
        findings.problem(
            "room",
            format!(
                "log_entries {slots} need {needed} bytes a VM, and max_bytes_per_vm is {limit}: each HELLO is refused \
                 (E2BIG), and guests stay silent"
            ),
            "gvahintctl set max_bytes_per_vm 0, or more than these bytes and 8 for each page; or lower log_entries",
        );
    }
}

/// vCPUs that never exit wait for nobody if nobody kicks them.
fn tickless(host: &Host, snapshot: &Snapshot, findings: &mut Findings) {
    let cpus = host
        .text("/sys/devices/system/cpu/nohz_full")
        .unwrap_or_default();
    let any = cpus.bytes().any(|b| b.is_ascii_digit());
    let waits = |notifier: &str| snapshot.knobs[&*format!("{notifier}/timing")] != "now";
    if any && snapshot.knobs["max_delay_ms"] == "0" && NOTIFIERS.into_iter().any(waits) {
        findings.note(
            "timing",
            format!("CPUs {cpus} have no tick (nohz_full) and max_delay_ms is 0: a vCPU that never exits there \
                     drops nothing, and its pages look idle"),
            "gvahintctl set max_delay_ms 10",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Fails if the module has more or fewer places than doctor thinks.
    #[test]
    fn places_are_those_of_the_module() {
        let of = |source: &str, name: &str| -> u64 {
            let (_, rest) = source
                .split_once(&format!("const {name}: usize = "))
                .unwrap();
            rest.split(';').next().unwrap().parse().unwrap()
        };
        let store = include_str!("../../../../../rust/host/store.rs");
        let kept = include_str!("../../../../../rust/core/src/kept.rs");
        assert!(store.contains("slots.saturating_add(WANTED).saturating_add(MAX_LEAVES)"));
        assert_eq!(of(store, "WANTED") + of(kept, "MAX_LEAVES"), PLACES);
    }
}
