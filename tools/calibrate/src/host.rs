// SPDX-License-Identifier: GPL-2.0
//! The host: what it is, whether it can be measured, which CPUs to use.

use crate::refusal::{Kind, Refusal};
use anyhow::{Context, Result};
use gvahint_vm::{age, knobs, sys};
use serde::Serialize;
use std::collections::HashSet;
use std::fs;
use std::path::Path;

/// What a figure belongs to. Holds nothing that tells one machine from another of its sort.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Host {
    /// Name of the CPU.
    pub cpu: String,
    /// CPUID's family.
    pub family: Option<u32>,
    /// CPUID's model.
    pub model: Option<u32>,
    /// CPUID's stepping.
    pub stepping: Option<u32>,
    /// Revision of the microcode.
    pub microcode: Option<String>,
    /// Kinds of CPUs that this host has, of which this is one: nothing is known of the others.
    pub cpu_kinds: usize,
    /// Whether a hypervisor runs below: then its caches are measured, not the CPU's.
    pub nested: bool,
    /// Release of the kernel.
    pub kernel: String,
    /// Version of gvahint.ko.
    pub module: String,
}

impl Host {
    /// Looks, at that CPU. Fails if the host can't be measured.
    pub fn read(cpu: usize) -> Result<Self> {
        let mut host = Self::parse(&sys::read("/proc/cpuinfo")?, cpu);
        let hybrid = ["core", "atom"].map(|kind| format!("/sys/devices/cpu_{kind}"));
        if hybrid.iter().all(|kind| Path::new(kind).exists()) {
            host.cpu_kinds = host.cpu_kinds.max(2);
        }
        host.kernel = sys::read("/proc/sys/kernel/osrelease")?;
        host.module = sys::read(Path::new(knobs::ROOT).join("version"))?;
        Ok(host)
    }

    /// That CPU of /proc/cpuinfo.
    fn parse(cpuinfo: &str, cpu: usize) -> Self {
        let value = |cpu: &str, name: &str| {
            let mut pairs = cpu.lines().filter_map(|line| line.split_once(':'));
            pairs
                .find(|(key, _)| key.trim() == name)
                .map(|(_, value)| value.trim().to_owned())
        };
        let all = || cpuinfo.split("\n\n").filter(|cpu| !cpu.trim().is_empty());
        let number = cpu.to_string();
        let this = all().find(|cpu| value(cpu, "processor").as_ref() == Some(&number));
        let field = |name: &str| value(this.unwrap_or_default(), name);
        let kind = |cpu| KIND.map(|name| value(cpu, name));
        let kinds: HashSet<_> = all().map(kind).collect();
        let number = |name| field(name).and_then(|text| text.parse().ok());
        let flags = field("flags").unwrap_or_default();
        Self {
            cpu: field("model name").unwrap_or_default(),
            family: number("cpu family"),
            model: number("model"),
            stepping: number("stepping"),
            microcode: field("microcode"),
            cpu_kinds: kinds.len(),
            nested: flags.split(' ').any(|flag| flag == "hypervisor"),
            ..Self::default()
        }
    }
}

/// What tells one kind of CPU from another in /proc/cpuinfo.
const KIND: [&str; 5] = ["cpu family", "model", "model name", "stepping", "microcode"];

/// gVAs that calibrate has dropped by one VM entry.
pub(crate) const GVAS_AT_ONCE: u64 = 3;

/// Fails with a remedy if something is missing.
pub fn check() -> Result<()> {
    let refuse = |missing: bool, refusal: Refusal| match missing {
        true => Err(anyhow::Error::new(refusal)),
        false => Ok(()),
    };
    let absent = |path: &str| !Path::new(path).exists();
    refuse(
        absent(knobs::ROOT),
        Refusal::new(
            Kind::NotLoaded,
            format!("gvahint is not loaded: there is no {}", knobs::ROOT),
            "load it: modprobe gvahint",
        ),
    )?;
    refuse(
        !is_root(&sys::read("/proc/self/status")?),
        Refusal::new(
            Kind::Permission,
            "calibrate needs root: it looks at page frames and sets a policy of its own VM",
            "run it as root",
        ),
    )?;
    refuse(
        absent("/dev/kvm"),
        Refusal::unfit(
            "there is no /dev/kvm",
            "switch virtualization (VT-x) on in the firmware, and modprobe kvm_intel",
        ),
    )?;
    refuse(
        absent("/sys/module/kvm_intel"),
        Refusal::unfit(
            "kvm_intel is not loaded",
            "calibrate is about Intel's EPT and VPID; on other CPUs there is nothing to calibrate",
        ),
    )?;
    for (parameter, what) in [
        ("ept", "EPT"),
        ("eptad", "accessed bits in EPT entries"),
        ("vpid", "VPID"),
    ] {
        let path = format!("/sys/module/kvm_intel/parameters/{parameter}");
        let on = sys::read(path).is_ok_and(|value| value == "Y" || value == "1");
        refuse(
            !on,
            Refusal::unfit(
                format!("KVM runs without {what}: gvahint uses no hints here"),
                "if the CPU has it (Haswell and later do), look for kvm_intel options that \
                 switch it off",
            ),
        )?;
    }
    refuse(
        absent(age::BITMAP),
        Refusal::unfit(
            format!("there is no {}", age::BITMAP),
            "the kernel has to be built with CONFIG_IDLE_PAGE_TRACKING=y",
        ),
    )?;
    let max_gvas = sys::read(Path::new(knobs::ROOT).join("max_gvas_per_entry"))?;
    refuse(
        max_gvas.parse::<u64>()? < GVAS_AT_ONCE,
        Refusal::unfit(
            format!("max_gvas_per_entry is {max_gvas}: calibrate drops {GVAS_AT_ONCE} at once"),
            "set it to its default, 512",
        ),
    )
}

/// By the text of /proc/self/status.
fn is_root(status: &str) -> bool {
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    ids.and_then(|ids| ids.split_whitespace().nth(1)) == Some("0")
}

/// Where the ager and the vCPU run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpus {
    /// The ager, and whoever waits.
    pub ager: usize,
    /// The vCPU.
    pub vcpu: usize,
}

impl Cpus {
    /// Chooses; `wanted` is the vCPU's if somebody cares.
    pub fn choose(wanted: Option<usize>) -> Result<Self> {
        let online = list(&sys::read("/sys/devices/system/cpu/online")?);
        let status = sys::read("/proc/self/status")?;
        let allowed = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
            .map(|text| list(text.trim()))
            .context("Cpus_allowed_list in /proc/self/status")?;
        let siblings = |cpu: usize| {
            let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
            fs::read_to_string(path).map_or(vec![cpu], |text| list(text.trim()))
        };
        Ok(pick(wanted, &online, &allowed, siblings)?)
    }
}

/// The vCPU shares its core, and so its TLB, with nothing that we run, if possible.
fn pick(
    wanted: Option<usize>,
    online: &[usize],
    allowed: &[usize],
    siblings: impl Fn(usize) -> Vec<usize>,
) -> std::result::Result<Cpus, Refusal> {
    let vcpu = match wanted {
        Some(cpu) if online.contains(&cpu) => cpu,
        Some(cpu) => {
            let what = format!("there is no CPU {cpu} online");
            let remedy = "see /sys/devices/system/cpu/online";
            return Err(Refusal::unfit(what, remedy));
        }
        None => allowed.last().copied().unwrap_or(0),
    };
    let others = || allowed.iter().copied().filter(|cpu| *cpu != vcpu);
    let core = siblings(vcpu);
    let ager = others().find(|cpu| !core.contains(cpu)).or(others().next());
    ager.map(|ager| Cpus { ager, vcpu }).ok_or_else(|| {
        Refusal::unfit(
            "calibrate needs two CPUs: one for its guest alone",
            "allow it a second one (taskset, cpuset); an isolated one has to be named: --cpu N",
        )
    })
}

/// A list of CPUs as the kernel writes it: `0-2,7`.
fn list(text: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        Some(first..=last)
    };
    text.split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Fails if a CPU is not told from another, or a nested host is not known.
    #[test]
    fn cpuinfo_is_understood() {
        let text = "processor\t: 0\ncpu family\t: 6\nmodel\t\t: 143\n\
                    model name\t: Intel(R) Xeon(R) Platinum 8480+\nstepping\t: 8\n\
                    microcode\t: 0x2b000603\nflags\t\t: fpu vmx hypervisor ept\n\n\
                    processor\t: 1\nmodel name\t: another\n";
        let host = Host::parse(text, 0);
        assert_eq!(Host::parse(text, 1).cpu, "another");
        assert_eq!(host.cpu_kinds, 2);
        assert_eq!(host.cpu, "Intel(R) Xeon(R) Platinum 8480+");
        let numbers = (host.family, host.model, host.stepping);
        assert_eq!(numbers, (Some(6), Some(143), Some(8)));
        assert_eq!(host.microcode.as_deref(), Some("0x2b000603"));
        assert!(host.nested);
        let bare = Host::parse(&text.replace("hypervisor ", "hypervisors "), 0);
        assert!(!bare.nested);
    }

    // Fails if the effective user is not the one that counts.
    #[test]
    fn root_is_the_effective_user() {
        assert!(is_root("Name:\tx\nUid:\t1000\t0\t0\t0\n"));
        assert!(!is_root("Name:\tx\nUid:\t0\t1000\t0\t0\n"));
        assert!(!is_root(""));
    }

    // Fails if the ager runs on the vCPU's CPU, or on its sibling without need.
    #[test]
    fn the_vcpu_is_left_alone() {
        // Two cores with two threads each: 0 and 2, 1 and 3.
        let siblings = |cpu: usize| vec![cpu % 2, cpu % 2 + 2];
        let all = [0, 1, 2, 3];
        let due = |ager, vcpu| Ok(Cpus { ager, vcpu });
        assert_eq!(pick(None, &all, &all, siblings), due(0, 3));
        assert_eq!(pick(Some(0), &all, &all, siblings), due(1, 0));
        assert_eq!(pick(None, &all, &[1, 3], siblings), due(1, 3));
        // An isolated CPU is online and not in the default affinity.
        assert_eq!(pick(Some(3), &all, &[1], siblings), due(1, 3));
        assert!(pick(Some(4), &all, &all, siblings).is_err());
        assert!(pick(None, &[0], &[0], siblings).is_err());
    }

    // Fails if a list is read wrongly.
    #[test]
    fn lists_of_cpus() {
        assert_eq!(list("0-2,7"), [0, 1, 2, 7]);
        assert_eq!(list("5"), [5]);
        assert!(list("").is_empty());
    }
}
