// SPDX-License-Identifier: GPL-2.0
//! Guest memory: one anonymous mapping of this process.

use crate::reclaim::{self, Advice};
use crate::{GIANT, LARGE, PAGE};
use anyhow::{bail, ensure, Result};
use std::sync::atomic::{AtomicU64, Ordering};

/// What backs guest memory on the host, and so which EPT leaves KVM makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// 4 KiB pages only (MADV_NOHUGEPAGE).
    Small,
    /// Transparent huge pages (MADV_HUGEPAGE).
    Huge,
    /// 1 GiB pages of hugetlbfs; the kernel has to have some (`hugepagesz=1G hugepages=N`).
    Giant,
}

impl Backing {
    /// Guest memory comes in units of so many bytes, aligned to that.
    pub const fn unit(self) -> u64 {
        match self {
            Self::Small | Self::Huge => LARGE,
            Self::Giant => GIANT,
        }
    }
}

/// Guest memory from guest-physical address 0 on.
///
/// # Invariants
/// `base` is the start of a private mapping of `len` bytes, aligned to 2 MiB, that lives as long as
/// this value does; `len` is a multiple of 2 MiB. The guest writes to it at any time, so it is
/// accessed through atomics only.
pub struct Memory {
    base: *mut u8,
    len: u64,
}

// SAFETY: The mapping belongs to the process, not to a thread, and all accesses are atomic.
unsafe impl Send for Memory {}
// SAFETY: As above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Maps `len` bytes (a multiple of the backing's unit); nothing is touched yet.
    pub fn new(len: u64, backing: Backing) -> Result<Self> {
        ensure!(
            len > 0 && len.is_multiple_of(backing.unit()),
            "guest memory comes in units of {} bytes",
            backing.unit()
        );
        let advice = match backing {
            Backing::Small => libc::MADV_NOHUGEPAGE,
            Backing::Huge => libc::MADV_HUGEPAGE,
            Backing::Giant => return Self::giant(len),
        };
        let span = usize::try_from(len + LARGE)?;
        // SAFETY: A fresh private anonymous mapping at an address of the kernel's choice.
        let raw = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                span,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if raw == libc::MAP_FAILED {
            bail!("mmap of guest memory: {}", std::io::Error::last_os_error());
        }
        let raw = raw.cast::<u8>();
        let head = raw.align_offset(LARGE as usize);
        let base = raw.wrapping_add(head);
        // SAFETY: The ranges lie within the mapping just made: `head` < 2 MiB, `len` + 2 MiB in all.
        let rc = unsafe {
            if head > 0 {
                libc::munmap(raw.cast(), head);
            }
            let tail = span - head - len as usize;
            if tail > 0 {
                libc::munmap(base.wrapping_add(len as usize).cast(), tail);
            }
            libc::madvise(base.cast(), len as usize, advice)
        };
        // INVARIANT: What is left starts at an aligned address and is `len` bytes long.
        let memory = Self { base, len };
        ensure!(
            rc == 0,
            "madvise of guest memory: {}",
            std::io::Error::last_os_error()
        );
        Ok(memory)
    }

    /// Maps `len` bytes of 1 GiB pages, which the kernel aligns by itself.
    fn giant(len: u64) -> Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: A fresh private anonymous mapping at an address of the kernel's choice.
        let raw = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                usize::try_from(len)?,
                libc::PROT_READ | libc::PROT_WRITE,
                flags | libc::MAP_HUGETLB | libc::MAP_HUGE_1GB,
                -1,
                0,
            )
        };
        if raw == libc::MAP_FAILED {
            bail!("mmap of 1 GiB pages: {}", std::io::Error::last_os_error());
        }
        // INVARIANT: Aligned to its pages' size, and `len` bytes long.
        Ok(Self {
            base: raw.cast(),
            len,
        })
    }

    /// Bytes of guest memory.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is none; there always is some.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Address in this process of a guest-physical address, which must lie in guest memory.
    pub fn hva(&self, gpa: u64) -> u64 {
        assert!(gpa < self.len, "gpa {gpa:#x} is outside guest memory");
        self.base as u64 + gpa
    }

    /// The aligned word at `gpa`.
    pub fn word(&self, gpa: u64) -> &AtomicU64 {
        assert!(gpa.is_multiple_of(8), "gpa {gpa:#x} is not aligned");
        // SAFETY: In bounds (checked by hva), aligned, and the mapping outlives the reference.
        unsafe { &*(self.hva(gpa) as *const AtomicU64) }
    }

    /// Reads the word at `gpa`.
    pub fn read(&self, gpa: u64) -> u64 {
        self.word(gpa).load(Ordering::Acquire)
    }

    /// Writes the word at `gpa`.
    pub fn write(&self, gpa: u64, value: u64) {
        self.word(gpa).store(value, Ordering::Release);
    }

    /// Writes words from `gpa` on.
    pub fn write_words(&self, gpa: u64, words: &[u64]) {
        for (gpa, word) in (gpa..).step_by(8).zip(words) {
            self.write(gpa, *word);
        }
    }

    /// Copies bytes (the guest's code) to an aligned `gpa`.
    pub fn write_bytes(&self, gpa: u64, bytes: &[u8]) {
        for (gpa, chunk) in (gpa..).step_by(8).zip(bytes.chunks(8)) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write(gpa, u64::from_le_bytes(word));
        }
    }

    /// Touches each of `pages` pages from `gpa` on, so that the host has memory behind them.
    pub fn populate(&self, gpa: u64, pages: u64) {
        for i in 0..pages {
            self.write(gpa + i * PAGE, 1);
        }
    }

    /// Has the kernel put huge pages behind a range that is populated (MADV_COLLAPSE), whatever is set
    /// for the system; they are not to be had everywhere and always.
    pub fn collapse(&self, gpa: u64, len: u64) -> Result<()> {
        self.advise(gpa, len, Advice::Huge)
    }

    /// Tells the kernel that it may take these pages soon (MADV_COLD): they leave the active list, but
    /// what KVM knows of accesses stays.
    pub fn deactivate(&self, gpa: u64, pages: u64) -> Result<()> {
        self.advise(gpa, pages * PAGE, Advice::Cold)
    }

    fn advise(&self, gpa: u64, len: u64, advice: Advice) -> Result<()> {
        let start = self.hva(gpa);
        assert!(gpa + len <= self.len, "beyond guest memory");
        reclaim::advise(start..start + len, advice)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: Nobody holds a reference any more, by the type's invariant the range is ours.
        unsafe { libc::munmap(self.base.cast(), self.len as usize) };
    }
}
