// SPDX-License-Identifier: GPL-2.0
//! Real reclaim: a memory cgroup and compressed swap.

use crate::sys;
use anyhow::{bail, ensure, Context, Result};
use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

const CGROUP: &str = "/sys/fs/cgroup";
const ZRAM: &str = "/sys/block/zram0";
const DEVICE: &str = "/dev/zram0";
const PAGE: u64 = 4096;

/// Swap on zram, switched off when this is dropped.
pub struct Swap(());

impl Swap {
    /// Makes and enables swap of `bytes` bytes.
    pub fn new(bytes: u64) -> Result<Self> {
        sys::write(format!("{ZRAM}/reset"), "1")?;
        sys::write(format!("{ZRAM}/disksize"), &bytes.to_string())?;
        let device = OpenOptions::new()
            .write(true)
            .open(DEVICE)
            .context(DEVICE)?;
        // union swap_header: version and last page at 1024, the magic at the page's end.
        let mut header = vec![0u8; PAGE as usize];
        header[1024..1028].copy_from_slice(&1u32.to_ne_bytes());
        header[1028..1032].copy_from_slice(&u32::try_from(bytes / PAGE - 1)?.to_ne_bytes());
        header[4086..].copy_from_slice(b"SWAPSPACE2");
        device.write_all_at(&header, 0).context("swap header")?;
        device.sync_all()?;
        drop(device);
        let path = CString::new(DEVICE)?;
        // SAFETY: The path is terminated and lives over the call.
        if unsafe { libc::swapon(path.as_ptr(), 0) } != 0 {
            bail!("swapon: {}", std::io::Error::last_os_error());
        }
        Ok(Self(()))
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        if let Ok(path) = CString::new(DEVICE) {
            // SAFETY: The path is terminated and lives over the call.
            let rc = unsafe { libc::swapoff(path.as_ptr()) };
            if rc != 0 {
                eprintln!("# swapoff: {}", std::io::Error::last_os_error());
            }
        }
        sys::write(format!("{ZRAM}/reset"), "1").ok();
    }
}

/// A memory cgroup that this process lives in until it is dropped.
pub struct Memcg {
    path: PathBuf,
}

impl Memcg {
    /// Creates the group and moves this process there: memory touched from now on belongs to it.
    pub fn enter(name: &str) -> Result<Self> {
        sys::mount("cgroup2", CGROUP, "cgroup.controllers")?;
        sys::write(format!("{CGROUP}/cgroup.subtree_control"), "+memory")?;
        let path = PathBuf::from(CGROUP).join(name);
        fs::create_dir_all(&path).with_context(|| format!("{}", path.display()))?;
        sys::write(path.join("cgroup.procs"), "0")?;
        Ok(Self { path })
    }

    /// Its path, as the kernel shows it.
    pub fn name(&self) -> String {
        let name = self.path.strip_prefix(CGROUP).unwrap_or(&self.path);
        format!("/{}", name.display())
    }

    /// Reclaims up to `bytes`; true if the kernel got that much.
    pub fn reclaim(&self, bytes: u64) -> Result<bool> {
        match sys::write(self.path.join("memory.reclaim"), &bytes.to_string()) {
            Ok(()) => Ok(true),
            Err(error) => match error.downcast_ref::<std::io::Error>() {
                Some(io) if io.raw_os_error() == Some(libc::EAGAIN) => Ok(false),
                _ => Err(error),
            },
        }
    }

    /// One line of memory.stat.
    pub fn stat(&self, name: &str) -> Result<u64> {
        let text = sys::read(self.path.join("memory.stat"))?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line
            .with_context(|| format!("no {name} in memory.stat"))?
            .parse()?)
    }
}

impl Drop for Memcg {
    fn drop(&mut self) {
        sys::write(format!("{CGROUP}/cgroup.procs"), "0").ok();
        fs::remove_dir(&self.path).ok();
    }
}

/// What the kernel may think of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// They may be taken soon (MADV_COLD): they lose their places on the LRU lists, but what KVM knows
    /// of accesses stays.
    Cold,
    /// They must be in memory, and are read from swap (MADV_POPULATE_READ).
    Needed,
    /// They shall lie in huge pages (MADV_COLLAPSE), which are not to be had everywhere and always.
    Huge,
}

/// Advises on whole pages of this process.
pub fn advise(hvas: Range<u64>, advice: Advice) -> Result<()> {
    let advice = match advice {
        Advice::Cold => libc::MADV_COLD,
        Advice::Needed => libc::MADV_POPULATE_READ,
        Advice::Huge => libc::MADV_COLLAPSE,
    };
    let len = usize::try_from(hvas.end - hvas.start)?;
    // SAFETY: None of this changes the contents of any memory, mapped or not.
    let rc = unsafe { libc::madvise(hvas.start as *mut _, len, advice) };
    ensure!(rc == 0, "madvise: {}", std::io::Error::last_os_error());
    Ok(())
}

/// Keeps what is in memory of these pages of this process there, for good: reclaim passes it by.
pub fn lock(hvas: Range<u64>) -> Result<()> {
    let len = usize::try_from(hvas.end - hvas.start)?;
    // SAFETY: Locking does not change the contents of any memory, mapped or not.
    let rc = unsafe { libc::mlock2(hvas.start as *const _, len, libc::MLOCK_ONFAULT) };
    ensure!(rc == 0, "mlock2: {}", std::io::Error::last_os_error());
    Ok(())
}

/// One line of /proc/vmstat.
pub fn vmstat(name: &str) -> Result<u64> {
    let text = sys::read("/proc/vmstat")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(line
        .with_context(|| format!("no {name} in /proc/vmstat"))?
        .parse()?)
}
