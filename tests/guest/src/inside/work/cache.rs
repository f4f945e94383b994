// SPDX-License-Identifier: GPL-2.0
//! The page cache: a file that is read and written but not mapped, so that the kernel's own map of
//! memory is the only address of its pages; or one that is mapped as well, but not touched there.

use super::{shared, Numbers};
use crate::inside::map::Map;
use crate::inside::truth::{Frames, Mailbox};
use crate::inside::Task;
use crate::mailbox::Phase;
use anyhow::{ensure, Context, Result};
use gvahint_vm::PAGE;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

const FILE: &str = "/tmp/cache";
const BYTES: usize = 512;

/// A file and where its pages lie. They stay there: nothing swaps or compacts in this guest.
pub struct Cached {
    file: File,
    bytes: u64,
    gfns: Vec<u64>,
    numbers: Numbers,
}

impl Cached {
    /// A new file in memory.
    pub fn new(path: &str, bytes: u64, seed: u64) -> Result<Self> {
        let file = shared::file(path, bytes)?;
        Ok(Self {
            gfns: frames_of(&Map::shared(&file, 0, bytes)?)?,
            file,
            bytes,
            numbers: Numbers::new(seed),
        })
    }

    /// Maps it as well.
    pub fn map(&self) -> Result<Map> {
        let map = Map::shared(&self.file, 0, self.bytes)?;
        self.check(&map)?;
        Ok(map)
    }

    /// Reads and writes as many pages as there are, at random.
    pub fn sweep(&mut self, mailbox: &Mailbox) -> Result<()> {
        let mut buffer = [0; BYTES];
        for _ in 0..self.gfns.len() {
            let page = self.numbers.below(self.gfns.len());
            let (generation, position) = (mailbox.generation(), page as u64 * PAGE);
            if self.numbers.next().is_multiple_of(4) {
                self.file.write_all_at(&buffer, position)?;
            } else {
                self.file.read_exact_at(&mut buffer, position)?;
            }
            mailbox.stamp(self.gfns[page], generation);
        }
        Ok(())
    }

    /// Fails if a page moved: it would have been stamped under its old frame.
    pub fn check(&self, map: &Map) -> Result<()> {
        ensure!(self.gfns == frames_of(map)?, "pages of the file moved");
        Ok(())
    }
}

/// Touches all pages of a mapping, and says where they are.
fn frames_of(map: &Map) -> Result<Vec<u64>> {
    (0..map.pages()).for_each(|page| {
        map.page(page).fetch_add(1, Ordering::Relaxed);
    });
    let all = Frames::new()?.all(map)?;
    all.into_iter()
        .collect::<Option<_>>()
        .context("a page of the file has no frame")
}

/// One file, never mapped while it is aged.
pub fn run(task: &Task, mailbox: &Mailbox) -> Result<()> {
    let mut file = Cached::new(FILE, task.bytes, 7)?;
    work(&mut file, mailbox)?;
    file.map().map(drop)
}

/// One file that is mapped all the time: its pages have an address that nobody uses.
pub fn run_mapped(task: &Task, mailbox: &Mailbox) -> Result<()> {
    let mut file = Cached::new(FILE, task.bytes, 11)?;
    let map = file.map()?;
    work(&mut file, mailbox)?;
    file.check(&map)
}

fn work(file: &mut Cached, mailbox: &Mailbox) -> Result<()> {
    mailbox.phase(Phase::Running);
    while !mailbox.stopped() {
        file.sweep(mailbox)?;
        mailbox.swept();
    }
    Ok(())
}
