// SPDX-License-Identifier: GPL-2.0
//! Children of a workload.

use super::truth::Mailbox;
use anyhow::{bail, Result};

/// Runs `body` in a child; an error there ends the workload.
pub fn spawn(mailbox: &Mailbox, body: impl FnOnce() -> Result<()>) -> Result<()> {
    // SAFETY: This process has one thread, so that the child may go on as if nothing had happened.
    match unsafe { libc::fork() } {
        -1 => bail!("fork: {}", std::io::Error::last_os_error()),
        0 => {
            let status = match body() {
                Ok(()) => 0,
                Err(error) => {
                    mailbox.fail(&format!("{error:#}"));
                    1
                }
            };
            // SAFETY: Ends the child at once, without running what belongs to its parent.
            unsafe { libc::_exit(status) }
        }
        _ => Ok(()),
    }
}

/// Waits for all children; fails if one of them did.
pub fn wait_all() -> Result<()> {
    loop {
        let mut status = 0;
        // SAFETY: The status lives over the call.
        if unsafe { libc::wait(&mut status) } < 0 {
            let error = std::io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::ECHILD) => return Ok(()),
                Some(libc::EINTR) => continue,
                _ => bail!("wait: {error}"),
            }
        }
        if status != 0 {
            bail!("a child ended with status {status:#x}");
        }
    }
}
