// SPDX-License-Identifier: GPL-2.0
//! Files that are in use when what they are about goes away.

use super::files::{documented, Entry, Open};
use crate::scene::{need_cpus, need_profile, Loaded, Scene, Setup, PATIENCE};
use crate::tests::life::Victim;
use anyhow::{ensure, Context, Result};
use gvahint_vm::knobs::{Policy, VmDir, ROOT};
use gvahint_vm::{module, sys};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

const HINT: Policy = Policy::new("hint", "deferred");
const PAGES: u64 = 64;
const VICTIMS: usize = 4;
/// Users of the same open files; at least one is on another CPU than who takes them away.
const USERS: usize = 3;

/// Fails if a file that is open keeps a VM or the module from going, answers anything but ENODEV then,
/// or comes back with the next module; or if a VM beside it notices.
pub fn files_open() -> Result<()> {
    need_cpus(2)?;
    let mut scene = Scene::bare(Setup::quiet(PAGES))?;
    need_profile(&scene.machine, &["combined-only"])?;
    if module::loaded("gvahint") || !module::path("gvahint").exists() {
        crate::tap::skip!("gvahint.ko is loaded, or not there");
    }
    let loaded = Loaded::new()?;
    let global = documented(None)?;
    // The bystander says nothing all the time.
    scene.knobs.set("lease_ms", 600_000)?;
    scene.knobs.policy("clear_young", HINT)?;
    scene.report_user()?;
    scene.start()?;
    let own = scene.dir()?;
    let mut victims = Vec::new();
    for _ in 0..VICTIMS {
        victims.extend(killed(&own)?);
        for (name, due) in [("state", "live"), ("clear_young_flush", "inherit")] {
            let value = own.read(name)?;
            ensure!(value == due, "the bystander's {name} became {value:?}");
        }
        let idle = scene.full_round()?;
        ensure!(idle == 0, "the bystander: {idle} pages are falsely idle");
    }

    let mut opened = open_all(&global)?;
    opened.extend(open_all(&documented(Some(&own))?)?);
    let directory = Directory::open(format!("{ROOT}/vms"))?;
    let uses = taken_away(&opened, || {
        let start = Instant::now();
        drop(loaded);
        ensure!(!module::loaded("gvahint"), "the module did not go");
        println!("rmmod took {} us", start.elapsed().as_micros());
        Ok(())
    })?;
    println!("{uses} uses until the module's files were gone");
    directory.ensure_empty()?;
    ensure!(!Path::new(ROOT).exists(), "{ROOT} is still there");
    victims.iter().try_for_each(Open::ensure_gone)?;
    // Some are closed while there is no module, the others beside the next one.
    drop(victims);
    ensure!(
        scene.full_round()? == PAGES,
        "without the module, something was flushed"
    );

    scene.load()?;
    opened.iter().try_for_each(Open::ensure_gone)?;
    for (now, then) in documented(None)?.iter().zip(&global) {
        let Entry { path, first, .. } = now;
        ensure!(*first == then.first, "{path} of the new module: {first:?}");
    }
    let again = documented(Some(&scene.dir()?))?;
    for file in open_all(&again)? {
        ensure!(file.is_there(0)?, "{} is gone", file.entry.path);
        if file.entry.case.is_some() {
            file.set("inherit")?;
        }
    }
    drop(opened);
    scene.report_user()?;
    scene.knobs.policy("clear_young", HINT)?;
    let idle = scene.full_round()?;
    ensure!(idle == 0, "the new module: {idle} pages are falsely idle");
    Ok(())
}

/// Opens all files of a VM and kills it while they are used, and while something is due in all VMs.
fn killed(bystander: &VmDir) -> Result<Vec<Open>> {
    let mut victim = Victim::start()?;
    let mut dirs = VmDir::all()?.into_iter();
    let dir = dirs.find(|dir| dir != bystander).context("the victim")?;
    let opened = open_all(&documented(Some(&dir))?)?;
    let path = format!("{ROOT}/vms/{}", dir.id);
    let directory = Directory::open(path.clone())?;
    let uses = taken_away(&opened, || {
        victim.0.kill()?;
        while victim.0.try_wait()?.is_none() {
            for verdict in ["failed-invept", "uncalibrated"] {
                sys::write(format!("{ROOT}/calibration"), verdict)?;
            }
        }
        Ok(())
    })?;
    println!("{uses} uses until the VM's files were gone");
    ensure!(!Path::new(&path).exists(), "{path} is still there");
    directory.ensure_empty()?;
    Ok(opened)
}

fn open_all(files: &[Entry]) -> Result<Vec<Open>> {
    files.iter().map(Open::new).collect()
}

/// Has many use `files`, and then `event` take them away; returns how often they were used. Fails if
/// one of the files is still there afterwards.
fn taken_away(files: &[Open], event: impl FnOnce() -> Result<()>) -> Result<usize> {
    let uses = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let used = &uses;
        let spawn = |who| scope.spawn(move || use_until_gone(files, who, used));
        let users: Vec<_> = (0..USERS).map(spawn).collect();
        // Whoever fails ends, and is heard of below.
        let start = Instant::now();
        while uses.load(Ordering::Relaxed) <= files.len() && start.elapsed() < PATIENCE {
            sys::sleep_ms(1);
        }
        let outcome = event();
        for user in users {
            user.join().expect("a user doesn't panic")?;
        }
        outcome
    })?;
    let uses = uses.into_inner();
    ensure!(uses > files.len(), "the files were not in use: {uses}");
    files.iter().try_for_each(Open::ensure_gone)?;
    Ok(uses)
}

/// Reads and writes `files` until all are gone.
fn use_until_gone(files: &[Open], who: usize, uses: &AtomicUsize) -> Result<()> {
    sys::pin(0, who % sys::cpus())?;
    let start = Instant::now();
    let mut gone = vec![false; files.len()];
    for n in who.. {
        for (file, gone) in files.iter().zip(&mut gone) {
            let there = file.is_there(n)?;
            let path = &file.entry.path;
            ensure!(!(there && *gone), "{path} is there again");
            *gone = !there;
            uses.fetch_add(usize::from(there), Ordering::Relaxed);
        }
        if gone.iter().all(|gone| *gone) {
            break;
        }
        ensure!(start.elapsed() < 4 * PATIENCE, "files are still there");
    }
    Ok(())
}

/// A directory that is open.
struct Directory {
    path: String,
    file: File,
}

impl Directory {
    fn open(path: String) -> Result<Self> {
        let file = File::open(&path).with_context(|| path.clone())?;
        Ok(Self { path, file })
    }

    /// Fails if it still lists anything.
    fn ensure_empty(&self) -> Result<()> {
        let listed = fs::read_dir(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        let names = listed.map_or(0, Iterator::count);
        ensure!(names == 0, "{} still lists {names} names", self.path);
        Ok(())
    }
}
