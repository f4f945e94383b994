// SPDX-License-Identifier: GPL-2.0
//! Moving pages by userfaultfd (UFFDIO_MOVE, Linux 6.8; Documentation/admin-guide/mm/userfaultfd.rst).

use super::map::Map;
use anyhow::{bail, ensure, Context, Result};
use std::io::{Error, ErrorKind};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

// include/uapi/linux/userfaultfd.h
const UFFD_API: u64 = 0xaa;
const UFFD_FEATURE_MOVE: u64 = 1 << 16;
const UFFDIO_REGISTER_MODE_MISSING: u64 = 1;
const UFFDIO_API: libc::Ioctl = libc::_IOWR::<Api>(UFFD_API as u32, 0x3f);
const UFFDIO_REGISTER: libc::Ioctl = libc::_IOWR::<Register>(UFFD_API as u32, 0x00);
const UFFDIO_MOVE: libc::Ioctl = libc::_IOWR::<Move>(UFFD_API as u32, 0x05);

#[repr(C)]
struct Api {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct Register {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

#[repr(C)]
struct Move {
    dst: u64,
    src: u64,
    len: u64,
    mode: u64,
    moved: i64,
}

/// A page may be on its way to a list for a moment.
const TRIES: u32 = 1_000;

/// Moves pages from one mapping to another.
pub struct Uffd(OwnedFd);

impl Uffd {
    /// Fails if the kernel can't move pages.
    pub fn new() -> Result<Self> {
        // SAFETY: It makes a file descriptor, or fails.
        let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) };
        ensure!(fd >= 0, "userfaultfd: {}", Error::last_os_error());
        // SAFETY: It was just opened and nobody else has it.
        let uffd = Self(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd)?) });
        let mut api = Api {
            api: UFFD_API,
            features: UFFD_FEATURE_MOVE,
            ioctls: 0,
        };
        // SAFETY: The argument is what UFFDIO_API takes.
        unsafe { uffd.ioctl(UFFDIO_API, &mut api) }.context("UFFDIO_API with UFFD_FEATURE_MOVE")?;
        Ok(uffd)
    }

    /// Moves all pages of a mapping, each of which is there, to a mapping that is as long and empty.
    /// The first one goes.
    pub fn hand(&self, from: Map, to: Map) -> Result<Map> {
        let len = from.len();
        ensure!(to.len() == len, "{len} bytes to {}", to.len());
        let mut register = Register {
            start: to.start(),
            len,
            mode: UFFDIO_REGISTER_MODE_MISSING,
            ioctls: 0,
        };
        // SAFETY: The argument is what UFFDIO_REGISTER takes.
        unsafe { self.ioctl(UFFDIO_REGISTER, &mut register) }.context("UFFDIO_REGISTER")?;
        let mut done = 0;
        for _ in 0..TRIES {
            let mut order = Move {
                dst: to.start() + done,
                src: from.start() + done,
                len: len - done,
                mode: 0,
                moved: 0,
            };
            // SAFETY: The argument is what UFFDIO_MOVE takes. Both ranges are of mappings that are ours
            // and are accessed by atomics only.
            match unsafe { self.ioctl(UFFDIO_MOVE, &mut order) } {
                Ok(()) => return Ok(to),
                Err(error) if is_passing(&error) => done += order.moved.max(0).cast_unsigned(),
                Err(error) => return Err(error).context("UFFDIO_MOVE"),
            }
        }
        bail!("UFFDIO_MOVE: {done} of {len} bytes after {TRIES} tries")
    }

    /// # Safety
    /// `argument` is of the type that the request takes, and the request may be carried out.
    unsafe fn ioctl<T>(&self, request: libc::Ioctl, argument: &mut T) -> std::io::Result<()> {
        // SAFETY: By the contract; the argument lives over the call.
        let rc = unsafe { libc::ioctl(self.0.as_raw_fd(), request, argument) };
        if rc < 0 {
            return Err(Error::last_os_error());
        }
        Ok(())
    }
}

fn is_passing(error: &Error) -> bool {
    error.kind() == ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::EBUSY)
}
