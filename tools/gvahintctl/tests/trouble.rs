// SPDX-License-Identifier: GPL-2.0
//! Each verb without the module, without permission, with a VM that vanishes, with garbage in files.

mod common;

use common::{Host, GARBAGE, NOT_LOADED, NO_VM, PERMISSION};

/// Each verb that reads the module's files, in some way.
const VERBS: [&[&str]; 10] = [
    &["status"],
    &["status", "--json"],
    &["get"],
    &["get", "batch_pages"],
    &["set", "batch_pages", "32"],
    &["explain"],
    &["explain", "--interval", "0.1"],
    &["top", "--once", "--interval", "0.1"],
    &["top", "--once", "--json", "--interval", "0.1"],
    &["export"],
];

// Fails if a verb does not say that the module is missing and how to load it, by text and exit code.
#[test]
fn the_module_is_missing() {
    for verb in VERBS {
        let ran = Host::bare().run(verb).exits(NOT_LOADED);
        ran.complains(&[
            "gvahint is not loaded",
            "modprobe gvahint",
            "gvahintctl doctor",
        ]);
    }
}

// Fails if a verb that may not read takes that for something else, or does not say what to do.
#[test]
fn there_is_no_permission() {
    let host = Host::with_vms();
    for name in ["version", "batch_pages", "vms/1/pid"] {
        host.mode(name, 0o400);
    }
    for verb in VERBS {
        let ran = host.run_unprivileged(verb).exits(PERMISSION);
        ran.complains(&["cannot read", "sys/kernel/gvahint/", "run it as root"]);
    }
    assert_eq!(host.holds("batch_pages"), "64");
    // The same files are no trouble for who may read them.
    host.mode("version", 0o644);
    host.mode("batch_pages", 0o644);
    host.mode("vms/1/pid", 0o644);
    host.run_unprivileged(&["status"]).exits(0);
}

// Fails if a VM that goes between two reads disturbs a list, or the others are missing from it.
#[test]
fn a_vm_vanishes_from_lists() {
    let host = Host::with_vms();
    host.vanished(7);
    for verb in VERBS {
        let ran = host.run(verb).exits(0);
        assert!(ran.err.is_empty(), "{ran:#?}");
        if !["get", "set"].contains(&verb[0]) {
            ran.says(&["4242", "4343"]);
        }
    }
}

// Fails if a VM that was named and is not there is no failure, or the others are not listed.
#[test]
fn a_vm_that_was_named_is_gone() {
    let host = Host::with_vms();
    host.vanished(7);
    for id in ["7", "99"] {
        for verb in [
            &["get", "--vm", id][..],
            &["get", "--vm", id, "clear_young/flush"],
            &["set", "--vm", id, "clear_young/flush", "none"],
            &["explain", "--vm", id],
            &["explain", "--vm", id, "--interval", "0.1"],
        ] {
            let there_is_none = format!("there is no VM {id}");
            host.run(verb)
                .exits(NO_VM)
                .complains(&[&there_is_none, "1, 2", "gvahintctl status"]);
        }
    }
}

// Fails if a VM that goes during the interval is explained all the same, or leaves a puzzle.
#[test]
fn a_vm_vanishes_while_it_is_watched() {
    let host = Host::with_vms();
    let mut explain = host.program(&["explain", "--vm", "1", "--interval", "1"]);
    let explain = explain
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    host.kill(1);
    let ran = common::Ran::from(explain.wait_with_output().unwrap());
    ran.exits(NO_VM).complains(&["there is no VM 1"]);
}

// Fails if a global file's garbage passes for a value, or the message names neither file nor content.
#[test]
fn a_global_file_holds_garbage() {
    for (name, content) in [
        ("clear_young/flush", "flush"),
        ("batch_pages", "4097"),
        ("batch_pages", ""),
        ("log_entries", "\u{7}x"),
    ] {
        let host = Host::with_vms();
        host.sysfs(name, content);
        for verb in [&["status"][..], &["get"], &["explain"], &["export"]] {
            let shown = format!("{name} holds {content:?}");
            host.run(verb).exits(GARBAGE).complains(&[&shown]);
        }
    }
}

// Fails if a VM's garbage passes for a value, hides the other VM, or is not reported.
#[test]
fn a_file_of_a_vm_holds_garbage() {
    for (name, content) in [
        ("pid", "-1"),
        ("state", "Live!"),
        ("coverage", "1.5"),
        ("coverage", "NaN"),
        ("clear_young_flush", "full"),
        ("stats/aged", "12x"),
        ("stats/aged", "18446744073709551616"),
    ] {
        let host = Host::with_vms();
        host.sysfs(&format!("vms/1/{name}"), content);
        let shown = format!("vms/1/{name} holds {content:?}");
        for verb in [
            &["status"][..],
            &["explain"],
            &["export"],
            &["top", "--once", "--interval", "0.1"],
        ] {
            let ran = host
                .run(verb)
                .exits(GARBAGE)
                .complains(&[&shown])
                .says(&["4343"]);
            assert!(!ran.out.contains("4242"), "{ran:#?}");
        }
        host.run(&["explain", "--vm", "1"])
            .exits(GARBAGE)
            .complains(&[&shown]);
        host.run(&["explain", "--vm", "2"]).says(&["VM 2"]);
    }
}

// Fails if bytes that are no text end in a panic, or a long file in a long message.
#[test]
fn a_file_holds_bytes() {
    let host = Host::with_vms();
    std::fs::write(host.path("sys/kernel/gvahint/version"), [0xff, 0xfe]).unwrap();
    host.run(&["status"])
        .exits(GARBAGE)
        .complains(&["version holds", "not text"]);
    let host = Host::with_vms();
    host.sysfs("vms/1/state", &"x".repeat(10_000).to_uppercase());
    let ran = host.run(&["status"]).exits(GARBAGE);
    assert!(ran.err.len() < 1000, "{}", ran.err.len());
}

// Fails if something else than a VM in the list is overlooked.
#[test]
fn the_list_of_vms_holds_garbage() {
    let host = Host::with_vms();
    host.sysfs("vms/none", "x");
    host.run(&["status"])
        .exits(GARBAGE)
        .complains(&["vms holds \"none\""]);
}

// Fails if it is measured first, and then found that the report can't be written; or a file is left behind.
#[test]
fn calibrate_can_write_its_report() {
    let calibrate = |path: &std::path::Path| {
        let mut program = std::process::Command::new(common::PROGRAM);
        program.args(["calibrate", "--json"]).arg(path);
        common::Ran::from(program.output().unwrap())
    };
    calibrate("/nonexistent/calibration.json".as_ref())
        .exits(1)
        .complains(&["cannot write /nonexistent/calibration.json"]);
    let directory = tempfile::tempdir().unwrap();
    calibrate(&directory.path().join("calibration.json")).exits(NOT_LOADED);
    assert_eq!(directory.path().read_dir().unwrap().count(), 0);
}
