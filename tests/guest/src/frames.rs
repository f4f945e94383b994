// SPDX-License-Identifier: GPL-2.0
//! The host's page frames behind a guest: which of them page_idle treats as one, and what they hold.

use anyhow::{Context, Result};
use gvahint_vm::{LARGE, PAGE};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// In /proc/kpageflags: part of a transparent huge page.
const THP: u64 = 1 << 22;
const PAGES_OF_LARGE: u64 = LARGE / PAGE;

/// What page_idle ages as one: a page, or a huge page by its first frame.
pub struct Unit {
    /// Its first frame.
    pub pfn: u64,
    /// Its pages.
    pub pages: u64,
    /// Indices of the guest pages that lie in it.
    pub members: Range<usize>,
}

/// Files of the host that tell of frames.
pub struct Frames {
    flags: File,
    memory: File,
}

impl Frames {
    /// For root only.
    pub fn open() -> Result<Self> {
        Ok(Self {
            flags: File::open("/proc/kpageflags").context("/proc/kpageflags")?,
            memory: File::open("/dev/mem").context("/dev/mem")?,
        })
    }

    /// Groups pages, whose frames are parts of the same huge page.
    pub fn units(&self, pfns: &[u64]) -> Result<Vec<Unit>> {
        let mut units: Vec<Unit> = Vec::new();
        for (i, pfn) in pfns.iter().enumerate() {
            let mut word = [0; 8];
            self.flags
                .read_exact_at(&mut word, pfn * 8)
                .context("/proc/kpageflags")?;
            let huge = u64::from_ne_bytes(word) & THP != 0;
            let pages = if huge { PAGES_OF_LARGE } else { 1 };
            let head = pfn - pfn % pages;
            match units.last_mut() {
                Some(unit) if unit.pfn == head => unit.members.end = i + 1,
                _ => units.push(Unit {
                    pfn: head,
                    pages,
                    members: i..i + 1,
                }),
            }
        }
        Ok(units)
    }

    /// A sum over the contents of each chosen frame, 0 for the others. The kernel's own mapping is
    /// read: neither accessed bits nor idle flags take notice.
    pub fn contents(&self, pfns: &[u64], chosen: &[bool]) -> Result<Vec<u64>> {
        let mut page = [0; PAGE as usize];
        pfns.iter()
            .zip(chosen)
            .map(|(pfn, chosen)| {
                if !chosen {
                    return Ok(0);
                }
                self.memory
                    .read_exact_at(&mut page, pfn * PAGE)
                    .context("/dev/mem")?;
                let words = page
                    .chunks_exact(8)
                    .map(|word| u64::from_ne_bytes(word.try_into().expect("eight bytes")));
                Ok(words.fold(1, |sum, word| {
                    (sum ^ word)
                        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                        .rotate_left(29)
                }))
            })
            .collect()
    }
}
