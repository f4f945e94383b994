// SPDX-License-Identifier: GPL-2.0
//! Mappings that come, move and go: mmap, mremap to another address, munmap.

use super::Numbers;
use crate::inside::map::Map;
use crate::inside::truth::{Frames, Mailbox};
use crate::inside::Task;
use crate::mailbox::Phase;
use anyhow::Result;
use gvahint_vm::PAGE;
use std::sync::atomic::Ordering;

/// Mappings at any time.
const MAPPINGS: u64 = 32;
/// Of this many steps one maps anew and one moves; all others touch only.
const STEPS: usize = 8;

/// A sweep is as many steps as there are mappings, times eight.
pub fn run(task: &Task, mailbox: &Mailbox) -> Result<()> {
    let most = (task.bytes / MAPPINGS / PAGE).max(2) as usize;
    let mut numbers = Numbers::new(3);
    let mut fresh = || -> Result<Map> {
        let pages = 1 + numbers.below(most);
        let map = Map::anonymous(pages as u64 * PAGE, task.huge)?;
        (0..pages).for_each(|page| map.page(page).store(1, Ordering::Relaxed));
        Ok(map)
    };
    let mut maps: Vec<Map> = (0..MAPPINGS).map(|_| fresh()).collect::<Result<_>>()?;
    let mut frames = Frames::new()?;
    let mut steps = Numbers::new(4);
    mailbox.phase(Phase::Running);
    while !mailbox.stopped() {
        for _ in 0..MAPPINGS as usize * STEPS {
            let map = maps.swap_remove(steps.below(maps.len()));
            let map = match steps.below(STEPS) {
                0 => {
                    drop(map);
                    fresh()?
                }
                1 => map.relocate()?,
                _ => map,
            };
            let all: Vec<usize> = (0..map.pages()).collect();
            frames.touch(mailbox, &map, &all, |page| {
                map.page(page).fetch_add(1, Ordering::Relaxed);
            })?;
            maps.push(map);
        }
        mailbox.swept();
    }
    Ok(())
}
