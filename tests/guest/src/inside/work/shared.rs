// SPDX-License-Identifier: GPL-2.0
//! A file that several processes map, each at an address of its own.

use super::Numbers;
use crate::inside::map::Map;
use crate::inside::process::{spawn, wait_all};
use crate::inside::truth::{Frames, Mailbox};
use crate::inside::Task;
use crate::mailbox::Phase;
use anyhow::{Context, Result};
use gvahint_vm::LARGE;
use std::fs::{File, OpenOptions};
use std::sync::atomic::Ordering;

const FILE: &str = "/tmp/shared";

/// A file of that size in memory.
pub fn file(path: &str, bytes: u64) -> Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .with_context(|| path.to_owned())?;
    file.set_len(bytes)?;
    Ok(file)
}

/// Each process touches half of the pages a sweep, at random.
pub fn run(task: &Task, mailbox: &Mailbox) -> Result<()> {
    let file = file(FILE, task.bytes)?;
    for child in 0..task.processes {
        spawn(mailbox, || touch(task, mailbox, &file, child))?;
    }
    mailbox.phase(Phase::Running);
    wait_all()
}

fn touch(task: &Task, mailbox: &Mailbox, file: &File, child: usize) -> Result<()> {
    // What lies before the mapping differs, and so does its address.
    let _gap = Map::anonymous((2 * child as u64 + 1) * LARGE, false)?;
    let map = Map::shared(file, 0, task.bytes)?;
    let pages = map.pages();
    (0..pages).for_each(|page| {
        map.page(page).fetch_add(1, Ordering::Relaxed);
    });
    let mut frames = Frames::new()?;
    let mut numbers = Numbers::new(child as u64 + 5);
    let mut chosen = vec![0; pages / 2];
    while !mailbox.stopped() {
        chosen.fill_with(|| numbers.below(pages));
        frames.touch(mailbox, &map, &chosen, |page| {
            map.page(page).fetch_add(1, Ordering::Relaxed);
        })?;
        mailbox.swept();
    }
    Ok(())
}
