// SPDX-License-Identifier: GPL-2.0
//! Loading and unloading kernel modules.

use anyhow::{bail, Context, Result};
use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Where modules lie in the machine.
pub const DIRECTORY: &str = "/lib/gvahint";

/// File of a module.
pub fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{name}.ko"))
}

/// Whether a module is loaded.
pub fn loaded(name: &str) -> bool {
    Path::new("/sys/module")
        .join(name.replace('-', "_"))
        .join("initstate")
        .exists()
}

/// Loads a module.
pub fn insert(name: &str) -> Result<()> {
    let path = path(name);
    let file = File::open(&path).with_context(|| format!("{}", path.display()))?;
    // SAFETY: The descriptor is open and the parameter string is terminated.
    let rc = unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), c"".as_ptr(), 0) };
    if rc != 0 {
        bail!("insmod {name}: {}", std::io::Error::last_os_error());
    }
    Ok(())
}

/// Loads a module unless it is there.
pub fn provide(name: &str) -> Result<()> {
    if loaded(name) {
        return Ok(());
    }
    insert(name)
}

/// Unloads a module; fails at once if it is in use.
pub fn remove(name: &str) -> Result<()> {
    let name_c = CString::new(name.replace('-', "_"))?;
    // SAFETY: The name is terminated and lives over the call.
    let rc = unsafe { libc::syscall(libc::SYS_delete_module, name_c.as_ptr(), libc::O_NONBLOCK) };
    if rc != 0 {
        bail!("rmmod {name}: {}", std::io::Error::last_os_error());
    }
    Ok(())
}
