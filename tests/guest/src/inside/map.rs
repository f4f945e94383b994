// SPDX-License-Identifier: GPL-2.0
//! Mappings of a process in the guest.

use anyhow::{ensure, Result};
use gvahint_vm::PAGE;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// A mapping of whole pages, unmapped on drop.
///
/// # Invariants
/// `base` is the start of a readable and writable mapping of `len` bytes that lives as long as this
/// value. Other processes and the host may access it at any time: it is accessed by atomics only.
pub struct Map {
    base: *mut u8,
    len: u64,
}

impl Map {
    /// Fresh memory. `huge` asks for transparent huge pages, and otherwise refuses them.
    pub fn anonymous(len: u64, huge: bool) -> Result<Self> {
        let map = Self::new(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, None, 0)?;
        let advice = if huge {
            libc::MADV_HUGEPAGE
        } else {
            libc::MADV_NOHUGEPAGE
        };
        // SAFETY: The range is that of the mapping; the advice doesn't change its contents.
        let rc = unsafe { libc::madvise(map.base.cast(), map.len as usize, advice) };
        ensure!(rc == 0, "madvise: {}", std::io::Error::last_os_error());
        Ok(map)
    }

    /// Part of a file, shared.
    pub fn shared(file: &File, offset: u64, len: u64) -> Result<Self> {
        Self::new(len, libc::MAP_SHARED, Some(file), offset)
    }

    fn new(len: u64, flags: i32, file: Option<&File>, offset: u64) -> Result<Self> {
        // SAFETY: A new mapping at an address of the kernel's choice.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                usize::try_from(len)?,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                file.map_or(-1, |file| file.as_raw_fd()),
                libc::off_t::try_from(offset)?,
            )
        };
        ensure!(
            base != libc::MAP_FAILED,
            "mmap: {}",
            std::io::Error::last_os_error()
        );
        // INVARIANT: The kernel just made it.
        Ok(Self {
            base: base.cast(),
            len,
        })
    }

    /// Moves it to another address of the kernel's choice.
    pub fn relocate(mut self) -> Result<Self> {
        let target = Self::new(self.len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, None, 0)?;
        let len = self.len as usize;
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: Both ranges belong to mappings of ours; the target's old pages are given up, and
        // nobody has a reference into either because both are owned here.
        let base = unsafe {
            libc::mremap(
                self.base.cast(),
                len,
                len,
                flags,
                target.base.cast::<libc::c_void>(),
            )
        };
        ensure!(
            base != libc::MAP_FAILED,
            "mremap: {}",
            std::io::Error::last_os_error()
        );
        // What was at the old address is gone; what is at the new one is this mapping.
        std::mem::forget(target);
        self.base = base.cast();
        Ok(self)
    }

    /// First address.
    pub fn start(&self) -> u64 {
        self.base as u64
    }

    /// Number of pages.
    pub fn pages(&self) -> usize {
        (self.len / PAGE) as usize
    }

    /// First word of a page.
    pub fn page(&self, index: usize) -> &AtomicU64 {
        self.word(index as u64 * PAGE)
    }

    /// The aligned word at an offset.
    pub fn word(&self, offset: u64) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset < self.len);
        // SAFETY: Aligned and in bounds, and the mapping outlives the reference.
        unsafe { &*self.base.add(offset as usize).cast() }
    }

    /// The aligned half word at an offset.
    pub fn half(&self, offset: u64) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset < self.len);
        // SAFETY: As above.
        unsafe { &*self.base.add(offset as usize).cast() }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: By the invariant the range is ours, and no reference is left.
        unsafe { libc::munmap(self.base.cast(), self.len as usize) };
    }
}
