// SPDX-License-Identifier: GPL-2.0
//! `explain`.

mod common;

use common::Host;

// Fails if a share is not that of its reason, a meaning or remedy is missing, or a count is another's.
#[test]
fn reasons_have_shares_and_remedies() {
    let host = Host::with_vms();
    host.run(&["explain", "--vm", "1"]).exits(0).says(&[
        "VM 1 (qemu-system-x86, pid 4242) is live",
        "Since it was attached: 2,000 pages aged; 1,998 of 2,002 had a complete hint (99.8 %)",
        "Full flushes (INVEPT): ageing asked for 4, vCPUs executed 7; 5 flushes by KVM itself",
        "75.0 %          3  no_hint: the guest has not reported them",
        "25.0 %          1  aged: their hints are older",
        "-> raise hint_max_age_ms",
        "ageing asked for 0, vCPUs executed 2; 6 pages were covered only so",
        "2  lagged: a vCPU entered so late",
        "-> raise log_entries",
    ]);
    let document = host
        .run(&["explain", "--vm", "1", "--json"])
        .exits(0)
        .json();
    let vm = &document["vms"][0];
    assert_eq!(document["vms"].as_array().unwrap().len(), 1);
    assert!(document["seconds"].is_null());
    assert_eq!(vm["full"], serde_json::json!({"asked": 4, "executed": 7}));
    assert_eq!(vm["reasons"][0]["reason"], "no_hint");
    assert_eq!(vm["reasons"][0]["share"], 0.75);
    assert_eq!(vm["escalations"][0]["reason"], "lagged");
}

// Fails if a VM that does not report is not told apart, or what KVM does instead is not said.
#[test]
fn a_silent_vm_is_explained() {
    let ran = Host::with_vms().run(&["explain", "--vm", "2"]).exits(0);
    ran.says(&[
        "is silent",
        "modprobe gvahint_guest",
        "as without the module",
        "none needed a hint",
    ]);
}

// Fails if a policy that asks for INVEPT, or forbids it, is not named as the cause, for whom it holds.
#[test]
fn policies_are_causes() {
    let host = Host::with_vms();
    host.sysfs("clear_young/flush", "invept");
    host.sysfs("vms/1/clear_flush_young_flush", "none");
    let squeezed = |id| {
        let out = host.run(&["explain", "--vm", id]).exits(0).out;
        out.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let (first, second) = (squeezed("1"), squeezed("2"));
    assert!(
        first.contains("clear_young/flush is invept for all VMs"),
        "{first}"
    );
    assert!(
        first.contains("clear_flush_young/flush is none for this VM"),
        "{first}"
    );
    assert!(
        !second.contains("clear_flush_young/flush is none"),
        "{second}"
    );
}

// Fails if full flushes for pages that may have been page tables are taken for those of HELLO, or not named.
#[test]
fn what_turned_into_data_is_a_cause() {
    let host = Host::with_vms();
    for (name, value) in [("uncovered", 0), ("appended_full", 4), ("turned", 4)] {
        host.stat(1, name, value);
    }
    let explain = || host.run(&["explain", "--vm", "1"]).exits(0);
    let ran = explain().says(&["4 full flushes were for pages", "page tables"]);
    assert!(!ran.out.contains("no page uncovered"), "{ran:#?}");
    host.stat(1, "turned", 1);
    explain().says(&[
        "1 full flush was for",
        "3 full flushes with no page uncovered",
    ]);
}

// Fails if what was counted before the interval is counted, or what happens in it is not.
#[test]
fn an_interval_counts_what_happens_in_it() {
    let host = Host::with_vms();
    let arguments = ["explain", "--vm", "1", "--interval", "2", "--json"];
    let ran = host.run_while(&arguments, |_| {
        for (name, value) in [
            ("uncovered", 14),
            ("uncovered_no_hint", 3),
            ("uncovered_aged", 11),
        ] {
            host.stat(1, name, value);
        }
    });
    let document = ran.exits(0).json();
    let vm = &document["vms"][0];
    assert!(document["seconds"].as_f64().unwrap() >= 2.0);
    assert_eq!((&vm["uncovered"], &vm["covered"]), (&10.into(), &0.into()));
    assert_eq!(vm["reasons"].as_array().unwrap().len(), 1, "{vm}");
    assert_eq!(vm["reasons"][0]["reason"], "aged");
    assert_eq!(vm["reasons"][0]["share"], 1.0);
}

// Fails if what a VM of the module that was there before had counted is taken off from another's with its number.
#[test]
fn a_module_is_reloaded_in_an_interval() {
    for reloaded in [
        // The process is the same, or is another and has counted more already.
        |host: &Host| host.stat(1, "covered", 8),
        |host: &Host| host.sysfs("vms/1/pid", "4244"),
    ] {
        let host = Host::with_vms();
        let ran = host.run_while(&["explain", "--interval", "2", "--json"], |_| {
            reloaded(&host);
            host.stat(1, "uncovered", 14);
            host.stat(1, "uncovered_no_hint", 10);
        });
        let vm = &ran.exits(0).json()["vms"][0];
        let covered: u64 = host.holds("vms/1/stats/covered").parse().unwrap();
        assert_eq!(vm["covered"], covered);
        assert_eq!(vm["uncovered"], 14);
        assert_eq!(vm["reasons"][0]["pages"], 10);
    }
}

// Fails if an interruption ends it without an answer, or only at the interval's end.
#[test]
fn an_interruption_explains_what_was_seen() {
    let host = Host::with_vms();
    let ran = host.run_while(&["explain", "--interval", "600"], |pid| {
        common::signal("INT", &pid.to_string());
    });
    ran.exits(0).says(&["VM 1", "VM 2"]);
}
