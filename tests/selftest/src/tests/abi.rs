// SPDX-License-Identifier: GPL-2.0
//! /sys/kernel/gvahint against its documentation, which is compiled in.

use super::Test;
use crate::scene::{Scene, Setup};
use anyhow::{ensure, Context, Result};
use gvahint_vm::knobs::{Knobs, ROOT};
use gvahint_vm::sys;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

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

const DOCUMENT: &str = include_str!("../../../../docs/abi/sysfs-kernel-gvahint");
/// Name of the directory of any VM.
const VM: &str = "<id>";

/// `a/{b,c}_{d,e}` is `a/b_d`, `a/b_e`, `a/c_d`, `a/c_e`.
fn expand(name: &str) -> Vec<String> {
    let parts = name
        .split_once('{')
        .and_then(|(head, rest)| rest.split_once('}').map(|(list, tail)| (head, list, tail)));
    match parts {
        None => vec![name.to_owned()],
        Some((head, list, tail)) => list
            .split(',')
            .flat_map(|word| expand(&format!("{head}{word}{tail}")))
            .collect(),
    }
}

/// The documented files below [`ROOT`] and whether they can be set. A name may end in `*`.
fn documented() -> BTreeMap<String, bool> {
    let mut all = BTreeMap::new();
    let mut names = Vec::new();
    for line in DOCUMENT.lines() {
        if let Some(path) = line.strip_prefix("What:") {
            names.extend(expand(path.trim().trim_start_matches(ROOT)));
        } else if let Some(text) = line.strip_prefix("Description:") {
            let settable = text.trim().starts_with("(RW)");
            // A directory's name ends in a slash; the counters' names follow.
            names.retain(|name| !name.ends_with(['/', '>']) || name.ends_with("<counter>"));
            let paths = names.drain(..).map(|name| (name, settable));
            all.extend(paths);
        } else if let Some(counters) = line.strip_prefix("\t\t  ") {
            let counters = counters.split('\t').next().unwrap_or_default();
            if all.contains_key("/vms/<id>/stats/<counter>") {
                let counter = |name| (format!("/vms/{VM}/stats/{name}"), false);
                all.extend(counters.split_whitespace().map(counter));
            }
        }
    }
    all.remove("/vms/<id>/stats/<counter>");
    all
}

/// The files that are there below `path`, with their modes; the directory of VM `id` reads `<id>`.
fn existing(path: &Path, id: u64, all: &mut BTreeMap<String, u32>) -> Result<()> {
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        let data = path.symlink_metadata()?;
        if data.is_dir() {
            existing(&path, id, all)?;
            continue;
        }
        let name = path.to_string_lossy();
        let name = name.trim_start_matches(ROOT);
        let name = name.replace(&format!("/vms/{id}/"), &format!("/vms/{VM}/"));
        all.insert(name, data.permissions().mode() & 0o7777);
    }
    Ok(())
}

/// Fails if a file is not documented or a documented one is missing, if its mode isn't what its (RO) or
/// (RW) says, if root can open one that is read-only for writing, or if one can't be read.
fn files() -> Result<()> {
    let scene = Scene::prepare(Setup::quiet(16))?;
    let id = scene.dir()?.id;
    let documented = documented();
    let mut found = BTreeMap::new();
    existing(Path::new(ROOT), id, &mut found)?;
    println!("{} documented, {} there", documented.len(), found.len());
    let mut used = BTreeSet::new();
    for (name, mode) in &found {
        let matches = |known: &&String| match known.strip_suffix('*') {
            None => *known == name,
            Some(start) => name.starts_with(start),
        };
        let known = documented.keys().find(matches);
        let known = known.with_context(|| format!("{name} is not documented"))?;
        used.insert(known);
        let settable = documented[known];
        let due = if settable { 0o600 } else { 0o400 };
        ensure!(*mode == due, "{name} is {mode:o}, not {due:o}");
        let path = format!("{ROOT}{name}").replace(VM, &id.to_string());
        sys::read(&path)?;
        let opened = OpenOptions::new().write(true).open(&path);
        ensure!(
            opened.is_ok() == settable,
            "{name} opened for writing: {opened:?}"
        );
    }
    let missing: Vec<_> = documented
        .keys()
        .filter(|name| !used.contains(name))
        .collect();
    ensure!(missing.is_empty(), "documented, but not there: {missing:?}");
    Ok(())
}

/// What a file takes and some of what it doesn't.
struct Case {
    good: &'static [&'static str],
    bad: &'static [&'static str],
}

/// What no file takes.
const NONSENSE: [&str; 8] = ["\n", "x", " ", "-", "full\0", "none none", "NONE", "1 "];

fn case(name: &str) -> Option<Case> {
    let case = |good, bad| Some(Case { good, bad });
    let age: &[&str] = &["0", "99", "600001", "4294967396", "-100", "0x100", "1e3"];
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
        "linear_alias" => case(&["always", "never", "auto"], &["full", "1", "autos"]),
        "calibration" => case(
            &["passed", "failed-context", "failed-invept", "uncalibrated"],
            &["failed", "pass", "failed-", "failed_invept"],
        ),
        "hint_max_age_ms" | "lease_ms" => case(&["100", "600000", "10000"], age),
        "max_gvas_per_entry" => case(
            &["1", "4096", "512"],
            &["0", "4097", "18446744073709551616"],
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
    let settable = documented().into_iter().filter(|(_, settable)| *settable);
    for (name, _) in settable {
        let Case { good, bad } = case(&name).with_context(|| format!("no case for {name}"))?;
        let path = format!("{ROOT}{name}").replace(VM, &id);
        let of_vm = name.starts_with("/vms/");
        let inherit = ["inherit"];
        // Sets what it holds, so that it gets it back at the end.
        knobs.set_file(&path, &sys::read(&path)?)?;
        let (good, mut bad) = (
            good.iter().chain(&inherit[..usize::from(of_vm)]),
            bad.to_vec(),
        );
        bad.extend(&inherit[usize::from(of_vm)..]);
        for value in good {
            for text in [format!("{value}\n"), (*value).to_owned()] {
                sys::write(&path, &text)?;
                let holds = sys::read(&path)?;
                ensure!(holds == *value, "{name} holds {holds:?} after {text:?}");
            }
            for wrong in bad.iter().chain(&NONSENSE) {
                let mut file = OpenOptions::new().write(true).open(&path)?;
                let answer = file.write(wrong.as_bytes()).map_err(|error| error.kind());
                ensure!(
                    answer == Err(ErrorKind::InvalidInput),
                    "{name} answered {answer:?} to {wrong:?}"
                );
                let holds = sys::read(&path)?;
                ensure!(holds == *value, "{name} holds {holds:?} after {wrong:?}");
                refused += 1;
            }
        }
    }
    println!("{refused} wrong values refused");
    Ok(())
}
