// SPDX-License-Identifier: GPL-2.0
//! Mappings of a process in the guest.

use anyhow::{ensure, Result};
use gvahint_vm::{LARGE, PAGE};
use std::fs::File;
use std::ops::Range;
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
    /// Fresh memory.
    pub fn plain(len: u64) -> Result<Self> {
        Self::new(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, None, 0)
    }

    /// The same. `huge` asks for transparent huge pages, and otherwise refuses them.
    pub fn anonymous(len: u64, huge: bool) -> Result<Self> {
        let map = Self::plain(len)?;
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
    pub fn relocate(self) -> Result<Self> {
        let target = Self::plain(self.len)?;
        self.onto(target)
    }

    /// Moves it to where another mapping of the same size is, which goes.
    pub fn onto(mut self, target: Self) -> Result<Self> {
        ensure!(
            target.len == self.len,
            "{} bytes onto {}",
            self.len,
            target.len
        );
        // SAFETY: Nobody has a reference into the target, whose pages are given up.
        unsafe { self.move_to(target.start()) }?;
        // What is at the target's address is this mapping.
        std::mem::forget(target);
        Ok(self)
    }

    /// Moves it to an address. What is there is unmapped.
    ///
    /// # Safety
    /// Nobody has a reference into what is there.
    unsafe fn move_to(&mut self, place: u64) -> Result<()> {
        let len = self.len as usize;
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: The old range is ours, without references because this is exclusive; the new one
        // has none by the contract.
        let base = unsafe {
            libc::mremap(
                self.base.cast(),
                len,
                len,
                flags,
                place as *mut libc::c_void,
            )
        };
        ensure!(
            base != libc::MAP_FAILED,
            "mremap: {}",
            std::io::Error::last_os_error()
        );
        // INVARIANT: What was at the old address is at the new one.
        self.base = base.cast();
        Ok(())
    }

    /// Gives pages back; what is read next is 0.
    pub fn discard(&self, offset: u64, len: u64) -> Result<()> {
        ensure!(offset + len <= self.len, "{offset:#x}+{len:#x}");
        // SAFETY: In bounds.
        let start = unsafe { self.base.add(offset as usize) };
        // SAFETY: The range is part of the mapping, which is accessed by atomics only.
        let rc = unsafe { libc::madvise(start.cast(), len as usize, libc::MADV_DONTNEED) };
        ensure!(rc == 0, "madvise: {}", std::io::Error::last_os_error());
        Ok(())
    }

    /// Has the CPU forget the translations of some pages, and nothing else: they are read-only for a
    /// moment.
    pub fn forget(&self, pages: Range<usize>) -> Result<()> {
        let first: *const AtomicU64 = self.page(pages.start);
        self.page(pages.end - 1);
        let len = pages.len() * PAGE as usize;
        for access in [libc::PROT_READ, libc::PROT_READ | libc::PROT_WRITE] {
            // SAFETY: The pages are part of the mapping; this process has one thread, which does not
            // touch them meanwhile.
            let rc = unsafe { libc::mprotect(first.cast_mut().cast(), len, access) };
            ensure!(rc == 0, "mprotect: {}", std::io::Error::last_os_error());
        }
        Ok(())
    }

    /// First address.
    pub fn start(&self) -> u64 {
        self.base as u64
    }

    /// Number of bytes.
    pub fn len(&self) -> u64 {
        self.len
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

/// Where a [`Swing`] is: far from where the kernel puts mappings by itself.
const PLACES: [u64; 2] = [1 << 36, (1 << 36) + LARGE];

/// Memory that moves to and fro between two places, each at the start of a page table. One at a time.
pub struct Swing {
    map: Map,
    place: usize,
}

impl Swing {
    /// Fresh memory of at most [`LARGE`] bytes.
    pub fn new(len: u64) -> Result<Self> {
        ensure!(len <= LARGE, "{len} bytes do not fit");
        let mut map = Map::plain(len)?;
        // SAFETY: Nothing else is at the places, by their choice.
        unsafe { map.move_to(PLACES[0]) }?;
        Ok(Self { map, place: 0 })
    }

    /// The memory.
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// Moves it to where it is not.
    pub fn swing(&mut self) -> Result<()> {
        self.place ^= 1;
        // SAFETY: As above; the places do not overlap.
        unsafe { self.map.move_to(PLACES[self.place]) }
    }
}
