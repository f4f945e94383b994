// SPDX-License-Identifier: GPL-2.0
//! The page cache: a file that is read and written but not mapped, so that the kernel's own map of
//! memory is the only address of its pages.

use super::{shared, Numbers};
use crate::inside::map::Map;
use crate::inside::truth::{Frames, Mailbox};
use crate::inside::Task;
use crate::mailbox::Phase;
use anyhow::{Context, Result};
use gvahint_vm::PAGE;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

const FILE: &str = "/tmp/cache";
const BYTES: usize = 512;

/// Where the file's pages lie. They stay there: nothing swaps or compacts in this guest.
fn frames_of(file: &std::fs::File, bytes: u64) -> Result<Vec<u64>> {
    let map = Map::shared(file, 0, bytes)?;
    (0..map.pages()).for_each(|page| {
        map.page(page).fetch_add(1, Ordering::Relaxed);
    });
    let all = Frames::new()?.all(&map)?;
    all.into_iter()
        .collect::<Option<_>>()
        .context("a page of the file has no frame")
}

/// Reads and writes as many pages a sweep as there are, at random.
pub fn run(task: &Task, mailbox: &Mailbox) -> Result<()> {
    let file = shared::file(FILE, task.bytes)?;
    let gfns = frames_of(&file, task.bytes)?;
    let mut numbers = Numbers::new(7);
    let mut buffer = [0; BYTES];
    mailbox.phase(Phase::Running);
    while !mailbox.stopped() {
        for _ in 0..gfns.len() {
            let page = numbers.below(gfns.len());
            let (generation, position) = (mailbox.generation(), page as u64 * PAGE);
            if numbers.next().is_multiple_of(4) {
                file.write_all_at(&buffer, position)?;
            } else {
                file.read_exact_at(&mut buffer, position)?;
            }
            mailbox.stamp(gfns[page], generation);
        }
        mailbox.swept();
    }
    // A page that moved would have been stamped under its old frame.
    anyhow::ensure!(
        gfns == frames_of(&file, task.bytes)?,
        "pages of the file moved"
    );
    Ok(())
}
