// SPDX-License-Identifier: GPL-2.0
//! Random updates over anonymous memory, like GUPS.

use super::Numbers;
use crate::inside::map::Map;
use crate::inside::truth::{Frames, Mailbox};
use crate::inside::Task;
use crate::mailbox::Phase;
use anyhow::{ensure, Context, Result};
use gvahint_vm::sys;
use std::sync::atomic::Ordering;

/// Updates each page about twice a sweep, at random.
pub fn run(task: &Task, mailbox: &Mailbox) -> Result<()> {
    let map = Map::anonymous(task.bytes, task.huge)?;
    let pages = map.pages();
    (0..pages).for_each(|page| map.page(page).store(page as u64, Ordering::Relaxed));
    if task.huge {
        ensure_huge(task.bytes)?;
    }
    let mut frames = Frames::new()?;
    let mut numbers = Numbers::new(1);
    mailbox.phase(Phase::Running);
    let mut chosen = vec![0; 2 * pages];
    while !mailbox.stopped() {
        chosen.fill_with(|| numbers.below(pages));
        frames.touch(mailbox, &map, &chosen, |page| {
            map.page(page).fetch_xor(page as u64, Ordering::Relaxed);
        })?;
        mailbox.swept();
    }
    Ok(())
}

/// Fails unless transparent huge pages map most of so many bytes of this process.
pub fn ensure_huge(bytes: u64) -> Result<()> {
    let text = sys::read("/proc/self/smaps_rollup")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("AnonHugePages:"))
        .context("no AnonHugePages")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    ensure!(kib << 10 >= bytes / 2, "the kernel gave no huge pages");
    Ok(())
}
