// SPDX-License-Identifier: GPL-2.0
//! page_idle: the host's ager that marks and asks page by page.

use crate::memory::Memory;
use crate::PAGE;
use anyhow::{bail, Context, Result};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

/// Where frames are marked and asked for, 64 a word.
pub const BITMAP: &str = "/sys/kernel/mm/page_idle/bitmap";
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const PFN: u64 = (1 << 55) - 1;

fn pagemap(hvas: impl IntoIterator<Item = u64>) -> Result<Vec<u64>> {
    let file = File::open("/proc/self/pagemap").context("pagemap")?;
    let entry = |hva| {
        let mut word = [0; 8];
        file.read_exact_at(&mut word, hva / PAGE * 8)
            .context("pagemap")?;
        Ok(u64::from_ne_bytes(word))
    };
    hvas.into_iter().map(entry).collect()
}

/// Page frames behind guest-physical pages; all must be in memory.
pub fn pfns(memory: &Memory, gpas: impl IntoIterator<Item = u64>) -> Result<Vec<u64>> {
    let check = |entry| {
        if entry & PRESENT == 0 || entry & PFN == 0 {
            bail!("no page frame to be seen (entry {entry:#x}): not in memory, or not root");
        }
        Ok(entry & PFN)
    };
    let hvas = gpas.into_iter().map(|gpa| memory.hva(gpa));
    pagemap(hvas)?.into_iter().map(check).collect()
}

/// Which pages of this process are swapped out.
pub fn swapped(hvas: impl IntoIterator<Item = u64>) -> Result<Vec<bool>> {
    let entries = pagemap(hvas)?;
    Ok(entries.iter().map(|entry| entry & SWAPPED != 0).collect())
}

/// The idle bitmap.
pub struct PageIdle {
    bitmap: File,
}

impl PageIdle {
    /// Fails where the kernel has none.
    pub fn open() -> Result<Self> {
        let bitmap = OpenOptions::new()
            .read(true)
            .write(true)
            .open(BITMAP)
            .context(BITMAP)?;
        Ok(Self { bitmap })
    }

    /// Marks frames idle: clears their accessed bits, one notifier call a page.
    pub fn mark(&self, pfns: &[u64]) -> Result<()> {
        for (word, run) in words(pfns) {
            let bits = run.iter().fold(0u64, |bits, pfn| bits | 1 << (pfn % 64));
            self.bitmap
                .write_all_at(&bits.to_ne_bytes(), word * 8)
                .context("mark idle")?;
        }
        Ok(())
    }

    /// Which frames are still idle. Asking ages those that are not, once more.
    pub fn idle(&self, pfns: &[u64]) -> Result<Vec<bool>> {
        let mut idle = Vec::with_capacity(pfns.len());
        for (word, run) in words(pfns) {
            let mut bits = [0; 8];
            self.bitmap
                .read_exact_at(&mut bits, word * 8)
                .context("read idle")?;
            let bits = u64::from_ne_bytes(bits);
            idle.extend(run.iter().map(|pfn| bits >> (pfn % 64) & 1 == 1));
        }
        Ok(idle)
    }

    /// How many of these frames are still idle.
    pub fn count(&self, pfns: &[u64]) -> Result<u64> {
        Ok(self.idle(pfns)?.iter().filter(|idle| **idle).count() as u64)
    }
}

/// Runs of neighbours that share a word of the bitmap.
fn words(pfns: &[u64]) -> impl Iterator<Item = (u64, &[u64])> {
    pfns.chunk_by(|a, b| a / 64 == b / 64)
        .map(|run| (run[0] / 64, run))
}

#[cfg(test)]
mod tests {
    use super::words;

    // Fails if a run is split, or merged over a word's border.
    #[test]
    fn runs_share_a_word() {
        let runs: Vec<_> = words(&[3, 60, 64, 65, 2])
            .map(|(w, r)| (w, r.len()))
            .collect();
        assert_eq!(runs, [(0, 2), (1, 2), (0, 1)]);
    }
}
