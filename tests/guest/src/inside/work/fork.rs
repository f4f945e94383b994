// SPDX-License-Identifier: GPL-2.0
//! Processes that come and go: children read what they share with their parent, and copy some of it
//! by writing.

use crate::inside::map::Map;
use crate::inside::process::{spawn, wait_all};
use crate::inside::truth::{Frames, Mailbox};
use crate::inside::Task;
use crate::mailbox::Phase;
use anyhow::Result;
use std::sync::atomic::Ordering;

/// Of this many pages a child writes one.
const COPIED: usize = 8;

/// A sweep is one generation of children, which read everything between them.
pub fn run(task: &Task, mailbox: &Mailbox) -> Result<()> {
    let map = Map::anonymous(task.bytes, task.huge)?;
    let pages = map.pages();
    (0..pages).for_each(|page| map.page(page).store(1, Ordering::Relaxed));
    mailbox.phase(Phase::Running);
    while !mailbox.stopped() {
        for child in 0..task.processes {
            spawn(mailbox, || {
                touch(
                    &map,
                    mailbox,
                    child * pages / task.processes,
                    pages / task.processes,
                )
            })?;
        }
        wait_all()?;
        mailbox.swept();
    }
    Ok(())
}

fn touch(map: &Map, mailbox: &Mailbox, first: usize, count: usize) -> Result<()> {
    let mut frames = Frames::new()?;
    let read: Vec<usize> = (first..first + count).collect();
    frames.touch(mailbox, map, &read, |page| {
        map.page(page).load(Ordering::Relaxed);
    })?;
    let written: Vec<usize> = read.into_iter().step_by(COPIED).collect();
    // The first write moves the page to a frame of the child's own; the second one finds it there.
    for value in 2..4 {
        frames.touch(mailbox, map, &written, |page| {
            map.page(page).store(value, Ordering::Relaxed);
        })?;
    }
    Ok(())
}
