// SPDX-License-Identifier: GPL-2.0
//! /sys/kernel/gvahint used by many at a time, and by those who hold its files open.

mod files;
mod gone;

use super::Test;
use crate::scene::{need_cpus, need_profile, Scene, Setup};
use anyhow::{ensure, Context, Result};
use files::{documented, Answer, Entry, Open};
use gvahint_vm::hints::errno;
use gvahint_vm::knobs::{Knobs, Policy};
use gvahint_vm::sys;
use std::sync::atomic::{AtomicUsize, Ordering};

pub const TESTS: &[Test] = &[
    Test::new(
        "writers",
        "many write and read all files while a guest is aged",
        |_| writers(),
    ),
    Test::new(
        "files_open",
        "files held open while VMs are killed and the module goes",
        |_| gone::files_open(),
    ),
];

/// As many as a policy has knobs, which are one word: each gets a writer of its own.
const WRITERS: usize = 3;
const READERS: usize = 2;
const PASSES: usize = 32;
/// Values for a knob before the next one's turn.
const BURST: usize = 16;
const PAGES: u64 = 64;

/// Fails if a write is lost, a good value refused or a bad one taken, if a read shows anything that
/// nobody wrote, if the guest comes to a halt or can't begin sessions meanwhile, or if what is set
/// afterwards doesn't work.
fn writers() -> Result<()> {
    need_cpus(2)?;
    let mut scene = Scene::prepare(Setup::quiet(PAGES))?;
    need_profile(&scene.machine, &["combined-only"])?;
    scene.report_user()?;
    scene.start()?;
    let mut files = documented(None)?;
    files.extend(documented(Some(&scene.dir()?))?);
    let mut kept = Knobs::new();
    for knob in files.iter().filter(|file| file.case.is_some()) {
        // Sets what it holds, so that it gets it back at the end.
        kept.set_file(&knob.path, &knob.first)?;
    }
    for shared in [false, true] {
        at_once(&mut scene, &files, shared)?;
    }
    drop(kept);
    for knob in files.iter().filter(|file| file.case.is_some()) {
        let value = sys::read(&knob.path)?;
        let Entry { path, first, .. } = knob;
        ensure!(value == *first, "{path} holds {value:?}, not {first:?}");
    }
    scene.report_user()?;
    for (flush, due) in [("none", PAGES), ("hint", 0), ("none", PAGES), ("invept", 0)] {
        scene
            .knobs
            .policy("clear_young", Policy::new(flush, "deferred"))?;
        // A session that begins and some policies flush once; that is not to count.
        scene.settle()?;
        let idle = scene.full_round()?;
        ensure!(
            idle == due,
            "{flush} afterwards: {idle} pages are falsely idle, not {due}"
        );
    }
    Ok(())
}

/// Everybody at once until the writers are through. Each knob has one writer, or all are `shared`.
fn at_once(scene: &mut Scene, files: &[Entry], shared: bool) -> Result<()> {
    let mut reporter = scene.reporter.take().context("a session")?;
    let busy = AtomicUsize::new(WRITERS);
    let busy = &busy;
    let outcome = std::thread::scope(|scope| -> Result<()> {
        let spawn_writer = |who| {
            scope.spawn(move || {
                let done = write(files, who, shared);
                busy.fetch_sub(1, Ordering::Relaxed);
                done
            })
        };
        let spawn_reader = |who| scope.spawn(move || read(files, who, busy));
        let writers: Vec<_> = (0..WRITERS).map(spawn_writer).collect();
        let readers: Vec<_> = (0..READERS).map(spawn_reader).collect();
        let (mut rounds, mut sessions) = (0, 0);
        while busy.load(Ordering::Relaxed) > 0 {
            scene.idle.mark(&scene.pfns)?;
            scene.warm(1)?;
            // The log may just be larger than what a VM may have.
            match reporter.hello(scene.vm.memory())? {
                Ok(_) => sessions += 1,
                Err(errno::E2BIG) => {}
                Err(answer) => anyhow::bail!("HELLO answered {answer}"),
            }
            rounds += 1;
        }
        let (mut written, mut seen) = (0, 0);
        for writer in writers {
            written += writer.join().expect("a writer doesn't panic")?;
        }
        for reader in readers {
            seen += reader.join().expect("a reader doesn't panic")?;
        }
        let knobs = if shared { "shared knobs" } else { "own knobs" };
        println!("{knobs}: {written} writes, {seen} reads, {rounds} rounds, {sessions} sessions");
        ensure!(rounds > 5 && sessions > 0, "the guest was not aged");
        ensure!(seen > files.len(), "nothing was read meanwhile");
        Ok(())
    });
    scene.reporter = Some(reporter);
    outcome
}

/// Writes good and bad values, and sees that each knob of its own holds what it got last.
fn write(files: &[Entry], who: usize, shared: bool) -> Result<usize> {
    sys::pin(0, who % sys::cpus())?;
    let knobs = files.iter().filter(|file| file.case.is_some()).enumerate();
    let mut mine = knobs
        .filter(|(i, _)| shared || i % WRITERS == who)
        .map(|(_, file)| Open::new(file))
        .collect::<Result<Vec<_>>>()?;
    let mut writes = 0;
    // A kernel that looks for bugs takes its time.
    let passes = PASSES / if sys::kernel_looks_for_bugs() { 8 } else { 1 };
    for pass in 0..passes {
        for knob in &mine {
            let path = &knob.entry.path;
            let holds = |due: &str| {
                let value = knob.value()?.with_context(|| format!("{path} is gone"))?;
                ensure!(
                    shared || value == due,
                    "{path} holds {value:?}, its only writer wrote {due:?}"
                );
                Ok(())
            };
            for n in pass * BURST..(pass + 1) * BURST {
                let (good, wrong) = knob.entry.words(who + n).context("a knob")?;
                if let Some((before, _)) = n.checked_sub(1).and_then(|n| knob.entry.words(who + n))
                {
                    holds(before)?;
                }
                for (value, due) in [(good, Answer::Taken), (wrong, Answer::Refused)] {
                    let answer = knob.set(value)?;
                    ensure!(answer == due, "{path} answered {answer:?} to {value:?}");
                    holds(good)?;
                    writes += 1;
                }
            }
        }
        if shared {
            // Now all at the same knob, now each at another, some of them the VM's.
            mine.rotate_left(who * 5);
        }
    }
    Ok(writes)
}

/// Reads all files again and again while there are writers.
fn read(files: &[Entry], who: usize, busy: &AtomicUsize) -> Result<usize> {
    sys::pin(0, who % sys::cpus())?;
    let all = files.iter().map(Open::new).collect::<Result<Vec<_>>>()?;
    let mut reads = 0;
    while busy.load(Ordering::Relaxed) > 0 {
        for file in &all {
            let path = &file.entry.path;
            file.value()?.with_context(|| format!("{path} is gone"))?;
            reads += 1;
        }
    }
    Ok(reads)
}
