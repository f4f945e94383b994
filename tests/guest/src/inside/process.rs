// SPDX-License-Identifier: GPL-2.0
//! Children of a workload.

use super::truth::Mailbox;
use anyhow::{bail, ensure, Result};
use std::ffi::CStr;

/// Runs `body` in a child, and returns its number; an error there ends the workload.
pub fn spawn(mailbox: &Mailbox, body: impl FnOnce() -> Result<()>) -> Result<i32> {
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
        child => Ok(child),
    }
}

/// Kills a child.
pub fn kill(child: i32) -> Result<()> {
    // SAFETY: Numbers only.
    if unsafe { libc::kill(child, libc::SIGKILL) } != 0 {
        bail!("kill {child}: {}", std::io::Error::last_os_error());
    }
    Ok(())
}

/// Buries children that have ended, without waiting; fails if one of them did, unless it was killed.
/// Whether any is left.
pub fn reap() -> Result<bool> {
    loop {
        let mut status = 0;
        // SAFETY: The status lives over the call.
        match unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) } {
            -1 => return Ok(false),
            0 => return Ok(true),
            _ if status == 0 || status == libc::SIGKILL => {}
            _ => bail!("a child ended with status {status:#x}"),
        }
    }
}

/// Runs `body` in a child, which then ends, and waits for it.
pub fn child(body: impl FnOnce()) -> Result<()> {
    // SAFETY: This process has one thread, so that the child may go on as if nothing had happened.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        body();
        // SAFETY: Ends the child at once, without running what belongs to its parent.
        unsafe { libc::_exit(0) }
    }
    ensure!(pid > 0, "fork: {}", std::io::Error::last_os_error());
    let mut status = 0;
    // SAFETY: The status lives over the call.
    let ended = unsafe { libc::waitpid(pid, &mut status, 0) };
    ensure!(
        ended == pid && status == 0,
        "child {pid}: {ended}, status {status:#x}"
    );
    Ok(())
}

/// Becomes this program anew, under a name that it goes by. Ends the process if that can't be.
pub fn exec(name: &CStr) {
    let arguments = [name.as_ptr(), std::ptr::null()];
    let environment = [std::ptr::null()];
    // SAFETY: Both lists end with a null pointer, and live over the call, as do the strings.
    unsafe { libc::execve(c"/init".as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    // SAFETY: Ends the process at once; its parent sees the status.
    unsafe { libc::_exit(127) }
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
