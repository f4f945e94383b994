// SPDX-License-Identifier: GPL-2.0
//! Safe wrapper over shim_sysfs.c.
//!
//! Contracts discharged: shim.h.

use crate::bindings;
use kernel::error::to_result;
use kernel::ffi::c_void;
use kernel::prelude::*;

/// A file in sysfs, before there are any.
pub(crate) struct File {
    pub(crate) name: &'static str,
    pub(crate) writable: bool,
    pub(crate) stat: bool,
}

/// /sys/kernel/gvahint_guest.
///
/// # Invariants
///
/// It is there.
pub(crate) struct Tree(());

impl Tree {
    /// Makes it with those files, whose numbers are their places.  Sleeps.
    ///
    /// # Safety
    ///
    /// `ops` must keep shim.h's contract for `data`, which must be good as long as this lives.
    /// Called once in the life of the module.
    pub(crate) unsafe fn new(
        ops: &'static bindings::gvahint_sysfs_ops,
        data: *mut c_void,
        files: impl Iterator<Item = File>,
    ) -> Result<Self> {
        for file in files {
            let (name, len) = (file.name.as_ptr().cast(), file.name.len());
            // SAFETY: shim.h: before gvahint_sysfs_init(); the name is copied.
            let id = unsafe { bindings::gvahint_sysfs_add(name, len, file.writable, file.stat) };
            to_result(id.min(0))?;
        }
        // SAFETY: both are good for long enough by our contract.
        to_result(unsafe { bindings::gvahint_sysfs_init(ops, data) })?;
        // INVARIANT: just made.
        Ok(Self(()))
    }
}

impl Drop for Tree {
    /// Waits for every reader and writer.  Sleeps.
    fn drop(&mut self) {
        // SAFETY: by the invariant it is there.
        unsafe { bindings::gvahint_sysfs_exit() };
    }
}
