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
    tickless(host, snapshot, findings);
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
