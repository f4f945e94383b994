// SPDX-License-Identifier: GPL-2.0
//! Operations of which the host counts the instructions: see crate::tax.

use crate::inside::map::{Map, Swing};
use crate::inside::marks::Marks;
use crate::inside::process;
use crate::inside::reporter;
use crate::inside::truth::Mailbox;
use crate::inside::Task;
use crate::mailbox::Phase;
use crate::tax::{BARE_MARKS, BLOCKS, NOTHING, OPERATIONS, SETTINGS, WORKS};
use anyhow::{bail, Context, Result};
use gvahint_vm::{sys, LARGE, PAGE};
use std::sync::atomic::Ordering;

/// Pages that are touched and then given back at once.
const FAULTS: u64 = 1_024;
/// Pages of what is mapped, moved, or has a process around it.
const SOME: u64 = 16;

/// Does an operation as often as told.
type Operation = Box<dyn FnMut(u64) -> Result<()>>;

/// Each operation in each of the workload's settings.
pub fn run(task: &Task, mailbox: &Mailbox) -> Result<()> {
    let work = WORKS.iter().find(|(name, _)| *name == task.work);
    let (_, settings) = work.context("no such workload")?;
    let marks = Marks::open()?;
    mailbox.phase(Phase::Running);
    // Nothing between them: what a mark itself costs.
    (0..BARE_MARKS).try_for_each(|_| marks.make())?;
    for setting in &SETTINGS[..*settings] {
        match *setting {
            "disabled" => {
                reporter::load()?;
                reporter::enable(false)?;
                reporter::await_state("off")?;
            }
            "quiet" => {
                reporter::enable(true)?;
                reporter::await_state("steady")?;
            }
            _ => (),
        }
        marks.make()?;
        operations(&marks)?;
    }
    while !mailbox.stopped() {
        sys::sleep_ms(10);
    }
    Ok(())
}

/// Each operation in blocks of equal size, a mark after each block; the first of them is to warm up.
fn operations(marks: &Marks) -> Result<()> {
    for (name, count) in OPERATIONS {
        let mut operation = find(name)?;
        for _ in 0..=BLOCKS {
            operation(count)?;
            marks.make()?;
        }
    }
    Ok(())
}

fn find(name: &str) -> Result<Operation> {
    Ok(match name {
        "page_fault" => page_fault()?,
        "fork_exit" => fork_exit()?,
        "mmap_touch_munmap" => Box::new(mmap_touch_munmap),
        "mremap" => mremap(SOME * PAGE)?,
        "mremap_table" => mremap(LARGE)?,
        "exec" => Box::new(exec),
        _ => bail!("there is no operation {name}"),
    })
}

fn touch(map: &Map) {
    (0..map.pages()).for_each(|page| map.page(page).store(1, Ordering::Relaxed));
}

/// The first touch of an anonymous page, and its share of giving many back.
fn page_fault() -> Result<Operation> {
    let map = Map::plain(FAULTS * PAGE)?;
    Ok(Box::new(move |count| {
        for _ in 0..count / FAULTS {
            touch(&map);
            map.discard(0, FAULTS * PAGE)?;
        }
        Ok(())
    }))
}

/// A child that ends at once. The parent has some memory besides its own.
fn fork_exit() -> Result<Operation> {
    let map = Map::plain(SOME * PAGE)?;
    touch(&map);
    Ok(Box::new(move |count| {
        let _ = &map;
        (0..count).try_for_each(|_| process::child(|| ()))
    }))
}

fn mmap_touch_munmap(count: u64) -> Result<()> {
    for _ in 0..count {
        touch(&Map::plain(SOME * PAGE)?);
    }
    Ok(())
}

/// Moves memory that is there to another address: entry by entry, or as a whole table.
fn mremap(len: u64) -> Result<Operation> {
    let mut swing = Swing::new(len)?;
    touch(swing.map());
    Ok(Box::new(move |count| {
        (0..count).try_for_each(|_| swing.swing())
    }))
}

/// A child that becomes a program, which ends at once.
fn exec(count: u64) -> Result<()> {
    (0..count).try_for_each(|_| process::child(|| process::exec(NOTHING)))
}
