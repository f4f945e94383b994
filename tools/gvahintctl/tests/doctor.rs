// SPDX-License-Identifier: GPL-2.0
//! `doctor`: each finding, on hosts that have it.

mod common;

use common::fit::ALL;
use common::{squeezed, Host};
use std::fs;

/// A host on which all is well, with a VM that reports.
fn fit() -> Host {
    let host = Host::loaded();
    host.fit();
    host.sysfs("calibration", "passed");
    host.vm(1, 4242, "live", "0.9990");
    host.write(
        "proc/4242/smaps_rollup",
        "Rss:  1000 kB\nAnonHugePages: 0 kB\nPrivate_Hugetlb: 0 kB\n",
    );
    host
}

// Fails if something is found wrong where nothing is.
#[test]
fn all_is_well() {
    let host = fit();
    let ran = host.run(&["doctor"]).exits(0).says(&[
        "Linux 6.12.99-test",
        "Intel with VMX: A CPU",
        "EPT with accessed and dirty bits",
        "INVVPID of an individual address and of a context",
        "KVM has the page ageing hooks",
        "gvahint is loaded",
        "is live",
        "no huge pages behind",
        "0 notes, 0 problems",
    ]);
    assert!(!ran.out.contains("->"), "{ran:#?}");
    let quiet = host.run(&["doctor", "--quiet"]).exits(0);
    assert_eq!(quiet.out.lines().count(), 1, "{quiet:#?}");
    let document = host.run(&["doctor", "--json"]).exits(0).json();
    assert_eq!(document["worst"], "ok");
}

// Fails if it is not said which notifier reclaim ages by, or of MGLRU that huge pages are aged by the other.
#[test]
fn reclaim_ages_by_one_or_by_both() {
    let host = fit();
    for (enabled, due) in [
        (
            "0x0007\n",
            "by clear_young, but huge pages of the host by clear_flush_young when it evicts them: set both",
        ),
        ("0x0000\n", "MGLRU is off: reclaim ages by clear_flush_young"),
        // What it would do, without the main switch.
        ("0x0006\n", "MGLRU is off: reclaim ages by clear_flush_young"),
    ] {
        host.write("sys/kernel/mm/lru_gen/enabled", enabled);
        let told = squeezed(&host.run(&["doctor"]).exits(0).out);
        assert!(told.contains(due), "no {due:?} in {told}");
    }
}

/// What a change to a fit host leads to.
struct Case {
    change: fn(&Host),
    code: i32,
    level: &'static str,
    text: &'static str,
    remedy: &'static str,
}

const fn note(change: fn(&Host), text: &'static str, remedy: &'static str) -> Case {
    Case {
        change,
        code: 7,
        level: "note",
        text,
        remedy,
    }
}

const fn problem(change: fn(&Host), text: &'static str, remedy: &'static str) -> Case {
    Case {
        change,
        code: 1,
        level: "problem",
        text,
        remedy,
    }
}

fn remove(host: &Host, name: &str) {
    let path = host.path(name);
    if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
    .unwrap();
}

fn write(host: &Host, name: &str, content: &str) {
    host.write(name, content);
}

/// A host whose register can't be read: there are only the kernel's flags.
fn by_flags(host: &Host, flags: &str) {
    remove(host, "dev/cpu/0/msr");
    let cpu = format!("vendor_id : GenuineIntel\nflags : vmx\n{flags}");
    host.write("proc/cpuinfo", &cpu);
}

const CASES: &[Case] = &[
    note(
        |host| write(host, "proc/sys/kernel/osrelease", "6.13.0\n"),
        "6.13.0",
        "6.12",
    ),
    problem(
        |host| host.msr(ALL & !(1 << 21)),
        "no accessed bits",
        "Haswell",
    ),
    problem(
        |host| host.msr(ALL & !(1 << 40)),
        "individual address is missing",
        "context or invept",
    ),
    problem(
        |host| host.msr(ALL & !(1 << 32)),
        "INVVPID is missing",
        "flush to invept",
    ),
    note(
        |host| host.msr(ALL & !(1 << 41)),
        "INVVPID of a context is missing",
        "drops all contexts",
    ),
    note(
        |host| host.msr(ALL & !(1 << 25)),
        "INVEPT of a single context is missing",
        "none",
    ),
    note(
        |host| remove(host, "dev/cpu/0/msr"),
        "does not say for single addresses",
        "modprobe msr",
    ),
    problem(
        |host| by_flags(host, "vmx flags : ept vpid invvpid\n"),
        "no accessed bits",
        "Haswell",
    ),
    problem(
        |host| by_flags(host, "vmx flags : ept ept_ad\n"),
        "VPID or INVVPID is missing",
        "flush to invept",
    ),
    note(
        |host| by_flags(host, ""),
        "neither /dev/cpu/0/msr nor the vmx flags",
        "modprobe msr",
    ),
    note(
        |host| write(host, "proc/cpuinfo", "vendor_id : CentaurHauls\n"),
        "not tested",
        "calibrate",
    ),
    note(
        |host| write(host, "proc/cpuinfo", ""),
        "names no vendor",
        "on the host itself",
    ),
    note(
        |host| {
            write(
                host,
                "proc/cpuinfo",
                "vendor_id : GenuineIntel\nflags : vmx hypervisor\n",
            )
        },
        "virtual machine itself",
        "bare metal",
    ),
    problem(
        |host| write(host, "proc/cpuinfo", "vendor_id : AuthenticAMD\n"),
        "SVM",
        "Intel",
    ),
    problem(
        |host| write(host, "proc/cpuinfo", "vendor_id : GenuineIntel\n"),
        "no VMX",
        "firmware",
    ),
    problem(
        |host| remove(host, "sys/module/kvm_intel"),
        "kvm_intel is not loaded",
        "modprobe kvm_intel",
    ),
    problem(
        |host| write(host, "sys/module/kvm_intel/parameters/ept", "N\n"),
        "kvm_intel.ept",
        "ept=1",
    ),
    problem(
        |host| write(host, "sys/module/kvm_intel/parameters/eptad", "N\n"),
        "kvm_intel.eptad",
        "eptad=1",
    ),
    problem(
        |host| write(host, "sys/module/kvm_intel/parameters/vpid", "0\n"),
        "kvm_intel.vpid",
        "vpid=1",
    ),
    problem(
        |host| write(host, "sys/module/kvm/parameters/tdp_mmu", "N\n"),
        "kvm.tdp_mmu",
        "reload kvm",
    ),
    problem(
        |host| {
            remove(host, "sys/kernel/gvahint");
            write(host, "proc/kallsyms", "0 t kvm_age_registered\t[kvm]\n");
        },
        "no page ageing hooks",
        "CONFIG_KVM_AGE_HOOKS=y: see operations.md (/usr/share/doc/gvahint,",
    ),
    problem(
        |host| remove(host, "sys/kernel/gvahint"),
        "gvahint is not loaded",
        "install gvahint-modules-6.12.99-test",
    ),
    problem(
        |host| {
            remove(host, "sys/kernel/gvahint");
            write(
                host,
                "lib/modules/6.12.99-test/modules.dep",
                "updates/gvahint.ko.xz: kernel/kvm.ko\n",
            );
        },
        "gvahint is not loaded",
        "modprobe gvahint",
    ),
    note(
        |host| host.sysfs("clear_young/flush", "none"),
        "look idle",
        "clear_young/flush hint",
    ),
    note(
        |host| host.sysfs("clear_flush_young/flush", "default"),
        "every VM's",
        "clear_flush_young/flush hint",
    ),
    note(
        |host| host.sysfs("calibration", "uncalibrated"),
        "nobody has measured",
        "gvahintctl calibrate",
    ),
    problem(
        |host| host.sysfs("calibration", "failed-invept"),
        "calibration: failed-invept",
        "gain nothing",
    ),
    note(
        |host| {
            write(host, "sys/devices/system/cpu/nohz_full", "2-7\n");
            host.sysfs("max_delay_ms", "0");
        },
        "2-7 have no tick",
        "max_delay_ms 10",
    ),
    problem(
        // 8 * (8192 + 2048 + 512) is one more
        |host| {
            host.sysfs("log_entries", "8192");
            host.sysfs("max_bytes_per_vm", "86015");
        },
        "log_entries 8192 need 86016 bytes a VM, and max_bytes_per_vm is 86015",
        "set max_bytes_per_vm 0",
    ),
    note(
        |host| host.vm(2, 1, "silent", "-"),
        "never said HELLO, said BYE, or was refused",
        "if error_e2big rises there",
    ),
    note(
        |host| host.vm(2, 1, "lapsed", "-"),
        "longer than lease_ms",
        "gvahint_guest",
    ),
    problem(|host| host.vm(2, 1, "degraded", "-"), "canary", "calibrate"),
    note(
        |host| host.vm(2, 1, "no-linear", "-"),
        "is no-linear",
        "guest",
    ),
    note(
        |host| host.vm(2, 1, "calibration-failed", "-"),
        "is calibration-failed",
        "calibrat",
    ),
    note(
        |host| host.vm(2, 1, "newer", "-"),
        "is newer",
        "update gvahintctl",
    ),
    problem(
        |host| host.vm(2, 1, "no-gva-flush", "-"),
        "single addresses",
        "invept",
    ),
    note(
        |host| {
            host.vm(2, 1, "live", "0.5000");
            for (name, value) in [
                ("covered", 600),
                ("uncovered", 600),
                ("uncovered_aged", 600),
            ] {
                host.stat(2, name, value);
            }
        },
        "only 50.0 % of the aged pages were covered, most often by aged",
        "explain --vm 2",
    ),
    note(
        |host| host.stat(1, "sets_refused", 3),
        "found no room",
        "max_bytes_per_vm",
    ),
    note(
        |host| host.stat(1, "sets_shortened", 3),
        "3 sets of reports were kept without their gVAs",
        "max_bytes_per_vm",
    ),
    problem(
        |host| host.sysfs("vms/1/pid", "x"),
        "pid holds \"x\"",
        "version",
    ),
    problem(
        |host| host.sysfs("batch_pages", "0"),
        "batch_pages holds \"0\"",
        "version",
    ),
    note(
        |host| write(host, "proc/sys/kernel/numa_balancing", "1\n"),
        "NUMA balancing is on",
        "numa_balancing=0",
    ),
    note(
        |host| {
            let huge = "Rss: 4096 kB\nAnonHugePages: 2048 kB\nPrivate_Hugetlb: 0 kB\n";
            write(host, "proc/4242/smaps_rollup", huge);
        },
        "2.0 MiB of its 4.0 MiB (50.0 %) are huge pages",
        "4K pages",
    ),
];

// Fails if a change is not found, not with its remedy, or found at another level, if anything that is not
// well has no remedy, or if the exit code does not say the worst.
#[test]
fn each_change_is_found() {
    for case in CASES {
        let host = fit();
        (case.change)(&host);
        let ran = host.run(&["doctor", "--json"]);
        let document = ran.json();
        let found = document["findings"].as_array().unwrap();
        let hit = |finding: &&serde_json::Value| {
            let holds = |key: &str, text| {
                finding[key]
                    .as_str()
                    .is_some_and(|found| found.contains(text))
            };
            holds("level", case.level) && holds("text", case.text) && holds("remedy", case.remedy)
        };
        assert!(
            found.iter().any(|finding| hit(&finding)),
            "{}: {ran:#?}",
            case.text
        );
        let helps = |finding: &serde_json::Value| {
            let remedy = finding["remedy"].as_str().unwrap_or_default();
            finding["level"] == "ok" || !remedy.is_empty()
        };
        assert!(found.iter().all(helps), "{}: {ran:#?}", case.text);
        assert_eq!(ran.code, case.code, "{}: {ran:#?}", case.text);
    }
}

// Fails if an unprivileged user gets no findings at all, or isn't told that they are incomplete.
#[test]
fn without_permission() {
    let host = fit();
    host.mode("version", 0o400);
    host.mode("batch_pages", 0o400);
    let ran = host.run_unprivileged(&["doctor"]).exits(1);
    ran.says(&["cannot read", "-> run it as root", "Intel with VMX"]);
}

// Fails if it takes an empty host for a fit one, or can't be run there.
#[test]
fn an_empty_host() {
    Host::bare()
        .run(&["doctor"])
        .exits(1)
        .says(&["gvahint is not loaded", "kvm_intel is not loaded"]);
}
