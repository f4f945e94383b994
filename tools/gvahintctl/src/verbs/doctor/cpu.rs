// SPDX-License-Identifier: GPL-2.0
//! What the CPU can do: vendor, EPT, its accessed bits, VPID, INVVPID.

use super::Findings;
use crate::host::Host;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// IA32_VMX_EPT_VPID_CAP (Intel SDM volume 3D, "Reporting Capability", "VPID and EPT Capabilities").
const EPT_VPID_CAP: u64 = 0x48c;
const EPT_ACCESSED_DIRTY: u64 = 1 << 21;
const INVEPT_SINGLE: u64 = 1 << 25;
const INVVPID: u64 = 1 << 32;
const INVVPID_ADDRESS: u64 = 1 << 40;
const INVVPID_CONTEXT: u64 = 1 << 41;

/// What the CPU and the host are.
pub fn check(host: &Host, findings: &mut Findings) {
    let info = host.text("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'));
        line.map(str::trim).unwrap_or_default()
    };
    let has = |field: &str, flag: &str| field.split_whitespace().any(|word| word == flag);
    let flags = field("flags");
    let model = field("model name");
    match field("vendor_id") {
        "GenuineIntel" if has(flags, "vmx") => {
            findings.ok("cpu", format!("Intel with VMX: {model}"))
        }
        "GenuineIntel" => findings.problem(
            "cpu",
            format!("{model} shows no VMX"),
            "switch virtualisation on in the firmware, or in the hypervisor that this host runs on",
        ),
        "AuthenticAMD" | "HygonGenuine" => findings.problem(
            "cpu",
            format!(
                "{model}: SVM cannot drop nested-page translations alone; hints were made for VMX"
            ),
            "set both flush knobs to default here, or use a host with Intel CPUs",
        ),
        "" => findings.note(
            "cpu",
            "/proc/cpuinfo names no vendor",
            "run it on the host itself",
        ),
        other => findings.note(
            "cpu",
            format!("{other} {model}: not tested"),
            "run `gvahintctl calibrate`",
        ),
    }
    if has(flags, "hypervisor") {
        findings.note(
            "cpu",
            "this host is a virtual machine itself: its hypervisor shadows the EPT, and INVVPID may drop more or \
             less than on the CPU; what is seen here proves nothing for bare metal",
            "trust ages and calibration on bare metal only",
        );
    }
    match capabilities(host) {
        Some(word) => by_register(word, findings),
        None => by_flags(|flag| has(field("vmx flags"), flag), findings),
    }
}

/// The register of the first CPU, if it may be read.
fn capabilities(host: &Host) -> Option<u64> {
    let file = File::open(host.path("/dev/cpu/0/msr")).ok()?;
    let mut word = [0; 8];
    file.read_exact_at(&mut word, EPT_VPID_CAP).ok()?;
    Some(u64::from_le_bytes(word))
}

const NO_AD: &str = "EPT has no accessed bits on this CPU: KVM makes aged entries not-present instead, which hints \
                     do not cover";
const INVEPT_REMEDY: &str = "none on this CPU: set clear_young/flush to context or invept";

/// The same where a context can't be dropped either.
const ALONE_REMEDY: &str = "none on this CPU: set clear_young/flush to invept";

fn by_register(word: u64, findings: &mut Findings) {
    let has = |bit: u64| word & bit != 0;
    match has(EPT_ACCESSED_DIRTY) {
        true => findings.ok("ept", "EPT with accessed and dirty bits"),
        false => findings.problem(
            "ept",
            NO_AD,
            "use a CPU from Haswell on; here the module changes nothing",
        ),
    }
    if !has(INVEPT_SINGLE) {
        findings.note(
            "ept",
            "INVEPT of a single context is missing: each full flush drops every VM's",
            "none",
        );
    }
    match (has(INVVPID), has(INVVPID_ADDRESS), has(INVVPID_CONTEXT)) {
        (true, true, true) => {
            findings.ok("vpid", "INVVPID of an individual address and of a context")
        }
        (true, true, false) => findings.note(
            "vpid",
            "INVVPID of a context is missing",
            "none: INVVPID drops all contexts instead",
        ),
        (true, false, _) => findings.problem(
            "vpid",
            "INVVPID of an individual address is missing: every VM's state is no-gva-flush",
            INVEPT_REMEDY,
        ),
        (false, ..) => findings.problem("vpid", "INVVPID is missing", ALONE_REMEDY),
    }
}

/// Less exactly, by what the kernel shows: no types of INVVPID.
fn by_flags(has: impl Fn(&str) -> bool, findings: &mut Findings) {
    let msr = "to know exactly: modprobe msr, and run this as root";
    if !has("ept") {
        let text = "neither /dev/cpu/0/msr nor the vmx flags of /proc/cpuinfo say what EPT and VPID can do";
        findings.note("ept", text, msr);
        return;
    }
    match has("ept_ad") {
        true => findings.ok("ept", "EPT with accessed and dirty bits"),
        false => findings.problem(
            "ept",
            NO_AD,
            "use a CPU from Haswell on; here the module changes nothing",
        ),
    }
    match has("vpid") && has("invvpid") {
        true => findings.note(
            "vpid",
            "INVVPID is there; /proc/cpuinfo does not say for single addresses",
            msr,
        ),
        false => findings.problem("vpid", "VPID or INVVPID is missing", ALONE_REMEDY),
    }
}
