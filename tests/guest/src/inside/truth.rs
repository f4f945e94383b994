// SPDX-License-Identifier: GPL-2.0
//! The guest's side of the mailbox, and touching pages in a way that the host can rely on.

use super::map::Map;
use crate::mailbox::{self, Phase};
use anyhow::{Context, Result};
use gvahint_vm::PAGE;
use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

const PRESENT: u64 = 1 << 63;
const FRAME: u64 = (1 << 55) - 1;

/// The mailbox as the guest sees it; shared with all children.
pub struct Mailbox(Map);

impl Mailbox {
    /// Maps it from where the host said that it is.
    pub fn open(gpa: u64) -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/mem")
            .context("/dev/mem")?;
        Ok(Self(Map::shared(&file, gpa, mailbox::SIZE)?))
    }

    /// Tells the host what the guest is at.
    pub fn phase(&self, phase: Phase) {
        let word = self.0.word(mailbox::PHASE);
        word.store(phase as u64, Ordering::Release);
        let magic = self.0.word(mailbox::MAGIC);
        magic.store(mailbox::READY, Ordering::Release);
    }

    /// Tells the host how many CPUs run.
    pub fn cpus(&self, cpus: usize) {
        let word = self.0.word(mailbox::CPUS);
        word.store(cpus as u64, Ordering::Relaxed);
    }

    /// Ends with an explanation; the first one stays.
    pub fn fail(&self, why: &str) {
        if self.0.word(mailbox::PHASE).load(Ordering::Relaxed) == Phase::Failed as u64 {
            return;
        }
        self.put_text(mailbox::TEXT..mailbox::TEXT_END, why);
        self.phase(Phase::Failed);
    }

    /// Text that ends where its range does, or at a 0.
    fn put_text(&self, range: Range<u64>, text: &str) {
        let mut bytes = text.bytes();
        for offset in range.step_by(8) {
            let word = [(); 8].map(|()| bytes.next().unwrap_or(0));
            let word = u64::from_le_bytes(word);
            self.0.word(offset).store(word, Ordering::Relaxed);
        }
    }

    fn order_number(&self) -> u64 {
        self.0.word(mailbox::ORDER).load(Ordering::Acquire)
    }

    /// What the host ordered before this kernel was booted is done, or was in vain.
    pub fn forget_orders(&self) {
        let done = self.0.word(mailbox::ORDER_DONE);
        done.store(self.order_number(), Ordering::Release);
    }

    /// The host's order, if there is one that was not answered.
    pub fn order(&self) -> Option<String> {
        let done = self.0.word(mailbox::ORDER_DONE).load(Ordering::Relaxed);
        (self.order_number() != done).then(|| {
            let words = (mailbox::ORDER_TEXT..mailbox::ANSWER).step_by(8);
            mailbox::text(words.map(|offset| self.0.word(offset).load(Ordering::Relaxed)))
        })
    }

    /// Says what came of it.
    pub fn answer(&self, done: Result<String>) {
        let failed = self.0.word(mailbox::ORDER_FAILED);
        failed.store(u64::from(done.is_err()), Ordering::Relaxed);
        let text = done.unwrap_or_else(|error| format!("{error:#}"));
        self.put_text(mailbox::ANSWER..mailbox::STAMPS, &text);
        self.forget_orders();
    }

    /// Whether the host wants an end.
    pub fn stopped(&self) -> bool {
        self.0.word(mailbox::STOP).load(Ordering::Acquire) != 0
    }

    /// The generation of the moment: to be read before a touch.
    pub fn generation(&self) -> u32 {
        self.0.word(mailbox::GENERATION).load(Ordering::Acquire) as u32
    }

    /// States that a page was touched after `generation` was read.
    pub fn stamp(&self, gfn: u64, generation: u32) {
        if let Some(offset) = mailbox::stamp(gfn) {
            self.0.half(offset).store(generation, Ordering::Release);
            let touches = self.0.word(mailbox::TOUCHES);
            touches.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a completed sweep.
    pub fn swept(&self) {
        let sweeps = self.0.word(mailbox::SWEEPS);
        sweeps.fetch_add(1, Ordering::Release);
    }

    /// How often the host has asked for what the workload does on demand.
    pub fn asked(&self) -> u64 {
        self.0.word(mailbox::ASKED).load(Ordering::Acquire)
    }

    /// Tells the host a figure.
    pub fn figure(&self, index: usize, value: u64) {
        let word = self.0.word(mailbox::FIGURES + index as u64 * 8);
        word.store(value, Ordering::Relaxed);
    }

    fn moved(&self) {
        let moved = self.0.word(mailbox::MOVED);
        moved.fetch_add(1, Ordering::Relaxed);
    }
}

/// Frames behind a mapping of this process, by /proc/self/pagemap.
pub struct Frames {
    pagemap: File,
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Frames {
    /// Of the calling process: a child needs its own.
    pub fn new() -> Result<Self> {
        Ok(Self {
            pagemap: File::open("/proc/self/pagemap").context("pagemap")?,
            before: Vec::new(),
            after: Vec::new(),
        })
    }

    /// Touches pages `chosen` of a mapping by `touch`, and stamps those that lay in the same frame
    /// before and after.
    pub fn touch(
        &mut self,
        mailbox: &Mailbox,
        map: &Map,
        chosen: &[usize],
        touch: impl Fn(usize),
    ) -> Result<()> {
        let Some(first) = chosen.iter().min().copied() else {
            return Ok(());
        };
        let last = chosen.iter().max().copied().unwrap_or(first);
        let position = (map.start() / PAGE + first as u64) * 8;
        let bytes = (last - first + 1) * 8;
        self.before.resize(bytes, 0);
        self.after.resize(bytes, 0);
        self.pagemap.read_exact_at(&mut self.before, position)?;
        let generation = mailbox.generation();
        chosen.iter().for_each(|page| touch(*page));
        self.pagemap.read_exact_at(&mut self.after, position)?;
        for page in chosen {
            let at = (page - first) * 8;
            let (old, new) = (frame(&self.before, at), frame(&self.after, at));
            match new {
                Some(gfn) if old == new => mailbox.stamp(gfn, generation),
                _ => mailbox.moved(),
            }
        }
        Ok(())
    }

    /// Frames of all pages of a mapping that are there.
    pub fn all(&self, map: &Map) -> Result<Vec<Option<u64>>> {
        let mut entries = vec![0; map.pages() * 8];
        let position = map.start() / PAGE * 8;
        self.pagemap.read_exact_at(&mut entries, position)?;
        Ok((0..map.pages()).map(|i| frame(&entries, i * 8)).collect())
    }
}

/// The frame that an entry of pagemap names.
pub fn frame(entries: &[u8], at: usize) -> Option<u64> {
    let bytes = entries.get(at..at + 8)?.try_into().ok()?;
    let entry = u64::from_le_bytes(bytes);
    (entry & PRESENT != 0 && entry & FRAME != 0).then_some(entry & FRAME)
}
