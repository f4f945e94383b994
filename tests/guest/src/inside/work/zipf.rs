// SPDX-License-Identifier: GPL-2.0
//! A hot set: the page of rank r is read with a probability of about 1/r.

use super::Numbers;
use crate::inside::map::Map;
use crate::inside::truth::{Frames, Mailbox};
use crate::inside::Task;
use crate::mailbox::Phase;
use anyhow::Result;
use std::sync::atomic::Ordering;

/// Reads as many pages a sweep as there are, most of them often.
pub fn run(task: &Task, mailbox: &Mailbox) -> Result<()> {
    let map = Map::anonymous(task.bytes, task.huge)?;
    let pages = map.pages();
    (0..pages).for_each(|page| map.page(page).store(1, Ordering::Relaxed));
    let mut numbers = Numbers::new(2);
    // Ranks are spread over memory: neighbours are not equally hot.
    let mut by_rank: Vec<usize> = (0..pages).collect();
    for i in (1..pages).rev() {
        by_rank.swap(i, numbers.below(i + 1));
    }
    let mut frames = Frames::new()?;
    // Everything once, so that the host knows the cold pages, too.
    frames.touch(mailbox, &map, &by_rank, |page| {
        map.page(page).load(Ordering::Relaxed);
    })?;
    mailbox.phase(Phase::Running);
    let mut chosen = vec![0; pages];
    while !mailbox.stopped() {
        // The inverse of the distribution function ln(r) / ln(pages).
        chosen.fill_with(|| by_rank[(pages as f64).powf(numbers.fraction()) as usize - 1]);
        frames.touch(mailbox, &map, &chosen, |page| {
            map.page(page).load(Ordering::Relaxed);
        })?;
        mailbox.swept();
    }
    Ok(())
}
