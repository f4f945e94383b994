// SPDX-License-Identifier: GPL-2.0
//! A guest page that blocks whoever reads it, by userfaultfd.

use crate::memory::Memory;
use crate::PAGE;
use anyhow::{bail, ensure, Result};
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};
use std::time::Duration;

const API: u64 = 0xc018_aa3f;
const REGISTER: u64 = 0xc020_aa00;
const ZEROPAGE: u64 = 0xc020_aa04;
const MODE_MISSING: u64 = 1;

/// One page of guest memory that is not there until [`Blocked::resolve`].
pub struct Blocked {
    file: File,
    address: u64,
}

impl Blocked {
    /// Drops the page at `gpa` and holds back all that touch it.
    pub fn new(memory: &Memory, gpa: u64) -> Result<Self> {
        // A descriptor that could block can't be polled.
        let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
        // SAFETY: No memory is involved.
        let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, flags) };
        ensure!(fd >= 0, "userfaultfd: {}", std::io::Error::last_os_error());
        // SAFETY: The descriptor is fresh and owned by nobody else.
        let file = unsafe { File::from_raw_fd(i32::try_from(fd)?) };
        let blocked = Self {
            file,
            address: memory.hva(gpa),
        };
        // struct uffdio_api: api, features, ioctls.
        blocked.ioctl(API, &mut [0xaa, 0, 0, 0])?;
        // struct uffdio_register: start, length, mode, ioctls.
        blocked.ioctl(REGISTER, &mut [blocked.address, PAGE, MODE_MISSING, 0])?;
        // SAFETY: The page is guest memory, accessed by atomics only; its contents are given up.
        let rc = unsafe {
            libc::madvise(
                blocked.address as *mut _,
                PAGE as usize,
                libc::MADV_DONTNEED,
            )
        };
        ensure!(rc == 0, "madvise: {}", std::io::Error::last_os_error());
        Ok(blocked)
    }

    /// Waits until somebody is held back.
    pub fn await_fault(&self, limit: Duration) -> Result<()> {
        let mut poll = libc::pollfd {
            fd: self.file.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let ms = i32::try_from(limit.as_millis())?;
        // SAFETY: One entry, which lives over the call.
        let ready = unsafe { libc::poll(&mut poll, 1, ms) };
        ensure!(
            ready == 1 && poll.revents == libc::POLLIN,
            "nobody touched the page"
        );
        Ok(())
    }

    /// Lets all go on, with a page of zeroes.
    pub fn resolve(&self) -> Result<()> {
        // struct uffdio_zeropage: start, length, mode, result.
        self.ioctl(ZEROPAGE, &mut [self.address, PAGE, 0, 0])
    }

    fn ioctl(&self, request: u64, words: &mut [u64; 4]) -> Result<()> {
        // SAFETY: None of the requests reads or writes more than four words.
        let rc = unsafe { libc::ioctl(self.file.as_raw_fd(), request, words.as_mut_ptr()) };
        if rc != 0 {
            bail!(
                "userfaultfd {request:#x}: {}",
                std::io::Error::last_os_error()
            );
        }
        Ok(())
    }
}
