// SPDX-License-Identifier: GPL-2.0
//! Real reclaim: a memory cgroup and compressed swap.

use crate::sys;
use anyhow::{bail, Context, Result};
use std::ffi::CString;
use std::fs::{self, OpenOptions};
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
