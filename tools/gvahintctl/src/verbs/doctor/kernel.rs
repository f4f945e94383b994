// SPDX-License-Identifier: GPL-2.0
//! The kernel and KVM: version, hooks, parameters.

use super::{Findings, OPERATIONS};
use crate::host::Host;
use std::fs::File;
use std::io::{BufRead, BufReader};

/// What the patches were made for.
const SERIES: &str = "6.12.";
/// KVM's function that the module registers by.
const HOOK: &[u8] = b" kvm_age_register";

/// The running kernel.
pub fn check(host: &Host, findings: &mut Findings) {
    match host.text("/proc/sys/kernel/osrelease") {
        Some(release) if release.starts_with(SERIES) => {
            findings.ok("kernel", format!("Linux {release}"))
        }
        Some(release) => findings.note(
            "kernel",
            format!("Linux {release}: the patches are made for and tested on {SERIES}y"),
            "run a 6.12 kernel with patches/linux-6.12 applied",
        ),
        None => findings.note(
            "kernel",
            "/proc/sys/kernel/osrelease can't be read",
            "run it on the host itself",
        ),
    }
}

/// KVM: loaded, patched, its parameters.
pub fn check_kvm(host: &Host, findings: &mut Findings) {
    if !host.has("/sys/module/kvm_intel") {
        if host.has("/sys/module/kvm_amd") {
            return;
        }
        findings.problem(
            "kvm",
            "kvm_intel is not loaded",
            "modprobe kvm_intel, and look at the kernel's log",
        );
        return;
    }
    hooks(host, findings);
    let off = |module: &str, name: &str| {
        let value = host.text(&format!("/sys/module/{module}/parameters/{name}"));
        value.is_some_and(|value| ["N", "0"].contains(&value.as_str()))
    };
    let mut wrong = false;
    for (module, name, why) in [
        ("kvm_intel", "ept", "without EPT there is nothing to hint"),
        (
            "kvm_intel",
            "eptad",
            "KVM does not use EPT's accessed bits, so that hints do not count",
        ),
        (
            "kvm_intel",
            "vpid",
            "without VPID each VM exit drops everything anyway",
        ),
        ("kvm", "tdp_mmu", "the hooks are in the TDP MMU"),
    ] {
        if off(module, name) {
            wrong = true;
            findings.problem(
                "kvm",
                format!("{module}.{name} is off: {why}"),
                format!(
                    "stop the VMs and reload {module} with {name}=1 (look for it in /etc/modprobe.d and on the \
                     kernel's command line); if it stays off, the CPU lacks it"
                ),
            );
        }
    }
    if !wrong {
        findings.ok(
            "kvm",
            "kvm_intel with EPT, its accessed bits and VPID; TDP MMU on",
        );
    }
}

/// Whether KVM has the hooks.
fn hooks(host: &Host, findings: &mut Findings) {
    if host.is_loaded() || has_hook(host) == Some(true) {
        findings.ok("kvm", "KVM has the page ageing hooks");
    } else if has_hook(host) == Some(false) {
        findings.problem(
            "kvm",
            "KVM has no page ageing hooks (no kvm_age_register in /proc/kallsyms)",
            format!(
                "boot a kernel with patches/linux-6.12 applied and CONFIG_KVM_AGE_HOOKS=y: see {OPERATIONS}"
            ),
        );
    } else {
        findings.note(
            "kvm",
            "/proc/kallsyms can't be read, so nothing says whether KVM has the hooks",
            "run it as root",
        );
    }
}

fn has_hook(host: &Host) -> Option<bool> {
    let mut lines = BufReader::new(File::open(host.path("/proc/kallsyms")).ok()?);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).ok()? > 0 {
        // A module's name follows the symbol's.
        let symbol = line.split(|b| *b == b'\t' || *b == b'\n').next();
        if symbol.is_some_and(|symbol| symbol.ends_with(HOOK)) {
            return Some(true);
        }
        line.clear();
    }
    Some(false)
}
