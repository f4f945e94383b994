// SPDX-License-Identifier: GPL-2.0
//! A scan from the first page to the last, over and over.

use crate::inside::map::Map;
use crate::inside::truth::{Frames, Mailbox};
use crate::inside::Task;
use crate::mailbox::Phase;
use anyhow::Result;
use std::sync::atomic::Ordering;

/// Pages between two looks at the page tables.
const CHUNK: usize = 256;

/// Reads each cache line's first word in order.
pub fn run(task: &Task, mailbox: &Mailbox) -> Result<()> {
    let map = Map::anonymous(task.bytes, task.huge)?;
    let all: Vec<usize> = (0..map.pages()).collect();
    all.iter()
        .for_each(|page| map.page(*page).store(1, Ordering::Relaxed));
    let mut frames = Frames::new()?;
    mailbox.phase(Phase::Running);
    while !mailbox.stopped() {
        for chunk in all.chunks(CHUNK) {
            frames.touch(mailbox, &map, chunk, |page| {
                let first = page as u64 * 4096;
                for offset in (first..first + 4096).step_by(64) {
                    map.word(offset).load(Ordering::Relaxed);
                }
            })?;
        }
        mailbox.swept();
    }
    Ok(())
}
