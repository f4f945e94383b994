// SPDX-License-Identifier: GPL-2.0
//! /sys/kernel/gvahint against its documentation, which is compiled in.

use super::Test;
use crate::scene::{Scene, Setup};
use anyhow::{Context, Result};
use gvahint_vm::abi;
use gvahint_vm::knobs::{Knobs, ROOT};
use gvahint_vm::sys;

pub const TESTS: &[Test] = &[
    Test::new(
        "abi_files",
        "the files that are documented are there, with their modes",
        |_| files(),
    ),
    Test::new(
        "abi_values",
        "what each file takes, and what it refuses",
        |_| values(),
    ),
];

pub const DOCUMENT: &str = include_str!("../../../../docs/abi/sysfs-kernel-gvahint");
/// Name of the directory of any VM.
pub const VM: &str = "<id>";

/// Fails as [`abi::compare`] does.
fn files() -> Result<()> {
    let scene = Scene::prepare(Setup::quiet(16))?;
    let ours = format!("/vms/{}/", scene.dir()?.id);
    abi::compare(DOCUMENT, ROOT, (&ours, &format!("/vms/{VM}/")))
}

/// What a file takes and some of what it doesn't.
#[derive(Clone)]
pub struct Case {
    pub good: Vec<&'static str>,
    pub bad: Vec<&'static str>,
}

type Words = &'static [&'static str];

/// What no file takes.
const NONSENSE: [&str; 8] = ["\n", "x", " ", "-", "full\0", "none none", "NONE", "1 "];

/// The case of a documented file that can be set, by its name below the root.
pub fn case(name: &str) -> Result<Case> {
    let (good, bad) = words(name).with_context(|| format!("no case for {name}"))?;
    let (mut good, mut bad) = (good.to_vec(), [bad, &NONSENSE].concat());
    // Only what a VM has of its own can be inherited.
    match name.starts_with("/vms/") {
        true => good.push("inherit"),
        false => bad.push("inherit"),
    }
    Ok(Case { good, bad })
}

/// What is particular to a file: good words, bad ones.
fn words(name: &str) -> Option<(Words, Words)> {
    let case = |good: Words, bad: Words| Some((good, bad));
    let age: Words = &["0", "99", "600001", "4294967396", "-100", "0x100", "1e3"];
    let file = name.rsplit('/').next().unwrap_or_default();
    match file
        .trim_start_matches("clear_young_")
        .trim_start_matches("clear_flush_young_")
    {
        "flush" => case(
            &["default", "none", "hint", "context", "invept"],
            &["full", "hin", "hints"],
        ),
        "uncovered" => case(&["full", "none"], &["hint", "now", "ful"]),
        "timing" => case(&["now", "batched", "deferred"], &["none", "no", "0"]),
        "batch_pages" => case(
            &["1", "4096", "64"],
            &["0", "4097", "4294967297", "+1", "1.0"],
        ),
        "max_delay_ms" => case(&["0", "1000", "10"], &["1001", "4294967296", "-1", "10ms"]),
        "linear_alias" => case(&["auto", "never", "always"], &["full", "1", "autos"]),
        "calibration" => case(
            &["passed", "failed-context", "failed-invept", "uncalibrated"],
            &["failed", "pass", "failed-", "failed_invept"],
        ),
        "hint_max_age_ms" | "lease_ms" => case(&["100", "600000", "10000"], age),
        "max_gvas_per_entry" => case(
            &["1", "65536", "512"],
            &["0", "65537", "18446744073709551616"],
        ),
        "log_entries" => case(
            &["256", "65536", "4096"],
            &["0", "128", "257", "4095", "131072"],
        ),
        "max_bytes_per_vm" => case(
            &["65536", "18446744073709551615", "0"],
            &["1", "65535", "18446744073709551616"],
        ),
        _ => None,
    }
}

/// Fails if a file takes a value that it doesn't document, answers anything but EINVAL, changes its
/// value all the same, refuses a good one or one that it holds already, or shows another than it took.
fn values() -> Result<()> {
    let scene = Scene::prepare(Setup::quiet(16))?;
    let id = scene.dir()?.id.to_string();
    let mut knobs = Knobs::new();
    let mut refused = 0;
    let documented = abi::documented(DOCUMENT, ROOT);
    let settable = documented.into_iter().filter(|(_, settable)| *settable);
    for (name, _) in settable {
        let Case { good, bad } = case(&name)?;
        let path = format!("{ROOT}{name}").replace(VM, &id);
        // Sets what it holds, so that it gets it back at the end.
        knobs.set_file(&path, &sys::read(&path)?)?;
        for value in good {
            abi::takes(&path, value)?;
            for wrong in &bad {
                abi::refuses(&path, wrong)?;
                refused += 1;
            }
        }
    }
    println!("{refused} wrong values refused");
    Ok(())
}
