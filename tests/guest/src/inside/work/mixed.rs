// SPDX-License-Identifier: GPL-2.0
//! What a database does to memory: a heap of its own, a file that it reads and writes, and one that it
//! maps as well.
//!
//! The pages of the latter have an address in the process and are touched under the kernel's all the
//! same: a hint that leaves out the linear map misses these touches.

use super::cache::Cached;
use super::Numbers;
use crate::inside::map::Map;
use crate::inside::truth::{Frames, Mailbox};
use crate::inside::Task;
use crate::mailbox::Phase;
use anyhow::Result;
use gvahint_vm::PAGE;
use std::sync::atomic::Ordering;

/// A quarter each for the two files, half for the heap. The mapping is read in one sweep of so many.
const MAPPED: u64 = 4;

/// Updates the heap, reads and writes the files, all at random.
pub fn run(task: &Task, mailbox: &Mailbox) -> Result<()> {
    let quarter = task.bytes / 4 / PAGE * PAGE;
    let heap = Map::anonymous(2 * quarter, task.huge)?;
    let pages = heap.pages();
    (0..pages).for_each(|page| heap.page(page).store(page as u64, Ordering::Relaxed));
    let mut read = Cached::new("/tmp/read", quarter, 8)?;
    let mut both = Cached::new("/tmp/both", quarter, 9)?;
    let mapped = both.map()?;
    let all: Vec<usize> = (0..mapped.pages()).collect();
    let mut frames = Frames::new()?;
    let mut numbers = Numbers::new(10);
    let mut chosen = vec![0; pages];
    mailbox.phase(Phase::Running);
    for sweep in 1u64.. {
        if mailbox.stopped() {
            break;
        }
        chosen.fill_with(|| numbers.below(pages));
        frames.touch(mailbox, &heap, &chosen, |page| {
            heap.page(page).fetch_xor(page as u64, Ordering::Relaxed);
        })?;
        read.sweep(mailbox)?;
        both.sweep(mailbox)?;
        if sweep.is_multiple_of(MAPPED) {
            frames.touch(mailbox, &mapped, &all, |page| {
                mapped.page(page).load(Ordering::Relaxed);
            })?;
        }
        mailbox.swept();
    }
    both.check(&mapped)?;
    read.map().map(drop)
}
