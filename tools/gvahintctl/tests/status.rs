// SPDX-License-Identifier: GPL-2.0
//! `status`.

mod common;

use common::{Host, NOT_LOADED};

// Fails if a value stands for another, or a state's meaning or a VM's own policy is not told.
#[test]
fn text_shows_modules_and_vms() {
    let host = Host::with_vms();
    host.sysfs("vms/2/clear_young_timing", "now");
    let ran = host.run(&["status"]).exits(0).says(&[
        "gvahint 0.1.0, calibration: uncalibrated\n",
        "clear_young        hint full deferred",
        "clear_flush_young  hint full batched        reclaim without MGLRU, or of huge pages\n",
        "VM 2 is silent: the guest never said HELLO",
        "VM 2 has its own policy for clear_young: hint full now",
    ]);
    let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<_> = ran.out.lines().map(squeezed).collect();
    for due in [
        "VM PID PROCESS STATE COVERAGE HINTS MEMORY INVVPID VPID INVEPT UNCOVERED BY",
        "1 4242 qemu-system-x86 live 99.9 % 262,144 2.1 MiB 1,998 2 7 no_hint 3, aged 1",
        "2 4343 - silent - 0 0 B 0 0 0",
    ] {
        assert!(
            lines.iter().any(|line| line == due),
            "no {due:?} in {ran:#?}"
        );
    }
}

// Fails if the document lacks a value or says another than the file.
#[test]
fn json_has_it_all() {
    let document = Host::with_vms().run(&["status", "--json"]).exits(0).json();
    assert_eq!(document["schema"], 1);
    assert_eq!(document["loaded"], true);
    assert_eq!(document["version"], "0.1.0");
    assert_eq!(document["knobs"]["clear_young/timing"], "deferred");
    let vm = &document["vms"][0];
    assert_eq!(
        (&vm["id"], &vm["pid"], &vm["state"]),
        (&1.into(), &4242.into(), &"live".into())
    );
    assert_eq!(vm["process"], "qemu-system-x86");
    assert_eq!(vm["coverage"], 0.999);
    assert_eq!(vm["stats"]["drained_full"], 7);
    assert_eq!(vm["overrides"]["clear_young/flush"], "inherit");
    let other = &document["vms"][1];
    assert!(
        other["coverage"].is_null() && other["process"].is_null(),
        "{other}"
    );
}

// Fails if programs that read JSON can't tell that the module is missing.
#[test]
fn json_says_that_the_module_is_missing() {
    let ran = Host::bare().run(&["status", "--json"]).exits(NOT_LOADED);
    assert_eq!(
        ran.json(),
        serde_json::json!({"schema": 1, "loaded": false})
    );
}

// Fails if a state of a newer module is taken for garbage.
#[test]
fn a_new_state_is_shown() {
    let host = Host::loaded();
    host.vm(3, 1, "brand-new", "-");
    host.run(&["status"])
        .exits(0)
        .says(&["brand-new", "does not know"]);
}

// Fails if --sysfs is not where the module's files are taken from, or wins over nothing.
#[test]
fn a_saved_copy_can_be_looked_at() {
    let (saved, other) = (Host::with_vms(), Host::bare());
    let copy = saved.path("sys/kernel/gvahint");
    other
        .run(&["status", "--sysfs", copy.to_str().unwrap()])
        .exits(0)
        .says(&["4242"]);
    let ran = other
        .program(&["status"])
        .env("GVAHINT_SYSFS", copy)
        .output()
        .unwrap();
    common::Ran::from(ran).exits(0).says(&["4242"]);
}

// Fails if processes of this machine pass for those of a host whose files were copied.
#[test]
fn a_copy_has_no_processes() {
    let host = Host::loaded();
    host.vm(1, std::process::id().into(), "live", "-");
    let copy = host.path("sys/kernel/gvahint");
    let shown = |arguments: &[&str]| {
        let mut program = std::process::Command::new(common::PROGRAM);
        program.arg("--sysfs").arg(&copy).args(arguments);
        let ran = common::Ran::from(program.output().unwrap());
        ran.json()
    };
    let vm = &shown(&["status", "--json"])["vms"][0];
    assert!(
        vm["pid"] == std::process::id() && vm["process"].is_null(),
        "{vm}"
    );
    let findings = shown(&["doctor", "--json"])["findings"].to_string();
    assert!(!findings.contains("backing"), "{findings}");
}
