// SPDX-License-Identifier: GPL-2.0
//! `calibrate`, as far as it comes without a CPU to measure. Its troubles are in trouble.rs, its verdicts in
//! tests/selftest.

mod common;

use common::table::host;
use common::{Host, Ran, FAILED, NOT_LOADED, PERMISSION, USAGE};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

// Fails if a made-up host passes for the one that is measured, or the usage that is left is not said.
#[test]
fn it_measures_this_machine() {
    host()
        .run(&["calibrate"])
        .exits(USAGE)
        .complains(&["measures this machine", "--root or --sysfs"]);
    let copy = host();
    let mut program = Command::new(common::PROGRAM);
    program.arg("calibrate").arg("--sysfs");
    let ran = program.arg(copy.path("sys/kernel/gvahint")).output();
    Ran::from(ran.unwrap()).exits(USAGE);
}

// Fails if costs that were not measured, or roughly only, set a number.
#[test]
fn rough_costs_set_nothing() {
    for other in ["--quick", "--no-costs"] {
        host()
            .run(&["calibrate", "--apply", "--set-max-gvas", other])
            .exits(USAGE)
            .complains(&["cannot be used with", "--set-max-gvas", other]);
    }
}

// Fails if it is measured first, and then found that the report can't be written; or a file is left behind.
#[test]
fn it_can_write_its_report() {
    let calibrate = |path: &Path| {
        let mut program = Command::new(common::PROGRAM);
        program.args(["calibrate", "--json"]).arg(path);
        Ran::from(program.output().unwrap())
    };
    calibrate("/nonexistent/calibration.json".as_ref())
        .exits(FAILED)
        .complains(&["cannot write /nonexistent/calibration.json"]);
    let directory = tempfile::tempdir().unwrap();
    calibrate(&directory.path().join("calibration.json")).exits(NOT_LOADED);
    assert_eq!(directory.path().read_dir().unwrap().count(), 0);
}

// Fails if it is not told apart that the report may not be written.
#[test]
fn it_may_not_write_its_report() {
    let host = Host::with_vms();
    let file = host.write("closed/calibration.json", "old");
    let closed = Permissions::from_mode(0o555);
    fs::set_permissions(host.path("closed"), closed).unwrap();
    host.run_unprivileged(&["calibrate", "--json", file.to_str().unwrap()])
        .exits(PERMISSION)
        .complains(&["cannot write", "closed/calibration.json"]);
    assert_eq!(fs::read_to_string(file).unwrap(), "old");
}
