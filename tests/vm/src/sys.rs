// SPDX-License-Identifier: GPL-2.0
//! Small things of the operating system.

use anyhow::{bail, Context, Result};
use std::ffi::CString;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// What looks for forgotten memory, in a kernel that looks for bugs (DEBUG=1).
pub const KMEMLEAK: &str = "/sys/kernel/debug/kmemleak";
/// It does not look at what is younger than 5 s.
pub const KMEMLEAK_MS: u64 = 6_000;

/// Whether the kernel that this runs on looks for bugs, which takes its time.
pub fn kernel_looks_for_bugs() -> bool {
    Path::new(KMEMLEAK).exists()
}

/// Contents of a file of sysfs, procfs or the like, without the line's end.
pub fn read(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    Ok(text.trim_end().to_owned())
}

/// Writes a value to an existing file.
pub fn write(path: impl AsRef<Path>, value: &str) -> Result<()> {
    use std::io::Write;
    let path = path.as_ref();
    let context = || format!("write {value:?} to {}", path.display());
    let mut file = fs::OpenOptions::new()
        .write(true)
        .open(path)
        .with_context(context)?;
    file.write_all(value.as_bytes()).with_context(context)
}

/// Sleeps.
pub fn sleep_ms(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// Number of CPUs that are online.
pub fn cpus() -> usize {
    // SAFETY: No memory is involved.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) }).unwrap_or(1)
}

/// Number of the calling thread.
pub fn gettid() -> i32 {
    // SAFETY: No memory is involved.
    unsafe { libc::gettid() }
}

fn affinity(tid: i32, cpus: impl Iterator<Item = usize>) -> Result<()> {
    // SAFETY: All zeroes is a valid (empty) set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for cpu in cpus {
        // SAFETY: CPU_SET checks the index against the set's size.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    // SAFETY: The set lives over the call and its size is passed.
    if unsafe { libc::sched_setaffinity(tid, std::mem::size_of_val(&set), &set) } != 0 {
        bail!("sched_setaffinity: {}", std::io::Error::last_os_error());
    }
    Ok(())
}

/// Locks a file for this process alone until it is closed; whether nobody else has it.
pub fn lock(file: &fs::File) -> Result<bool> {
    use std::os::fd::AsRawFd;
    // SAFETY: No memory is involved.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Ok(true);
    }
    let error = std::io::Error::last_os_error();
    match error.kind() {
        std::io::ErrorKind::WouldBlock => Ok(false),
        _ => bail!("flock: {error}"),
    }
}

/// Binds a thread (0: the caller) to one CPU.
pub fn pin(tid: i32, cpu: usize) -> Result<()> {
    affinity(tid, std::iter::once(cpu))
}

/// Lets a thread (0: the caller) run on every CPU.
pub fn unpin(tid: i32) -> Result<()> {
    affinity(tid, 0..cpus())
}

/// Sends a thread of this process a signal that only interrupts what it does.
pub fn nudge(tid: i32) -> Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: All zeroes is a valid action: default handling, no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
    // SAFETY: The action lives over the call; its handler touches nothing.
    if unsafe { libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()) } != 0 {
        bail!("sigaction: {}", std::io::Error::last_os_error());
    }
    // SAFETY: No memory is involved.
    if unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), tid, libc::SIGUSR1) } != 0 {
        bail!("tgkill: {}", std::io::Error::last_os_error());
    }
    Ok(())
}

/// Mounts a kernel file system where it is not mounted yet; `probe` is a file in it.
pub fn mount(kind: &str, target: &str, probe: &str) -> Result<()> {
    if Path::new(target).join(probe).exists() {
        return Ok(());
    }
    fs::create_dir_all(target).ok();
    let (kind_c, target_c) = (CString::new(kind)?, CString::new(target)?);
    // SAFETY: All strings are terminated and live over the call; there is no data.
    let rc = unsafe {
        libc::mount(
            kind_c.as_ptr(),
            target_c.as_ptr(),
            kind_c.as_ptr(),
            0,
            std::ptr::null(),
        )
    };
    if rc != 0 {
        bail!(
            "mount {kind} on {target}: {}",
            std::io::Error::last_os_error()
        );
    }
    Ok(())
}
