// SPDX-License-Identifier: GPL-2.0
//! Safe wrappers over shim.c and shim_sysfs.c: time, zeroed memory, the delayed kick and the
//! directories in sysfs.
//!
//! Contracts discharged: shim.h.

use crate::bindings;
use core::ptr::NonNull;
use core::sync::atomic::AtomicU64;
use kernel::error::to_result;
use kernel::ffi::c_void;
use kernel::prelude::*;

/// Coarse monotonic time in milliseconds; callable anywhere.
pub(crate) fn now_ms() -> u64 {
    // SAFETY: shim.h: callable anywhere.
    unsafe { bindings::gvahint_now_ms() }
}

/// The CPU that this runs on, or ran on a moment ago; callable anywhere.
pub(crate) fn cpu() -> u32 {
    // SAFETY: shim.h: callable anywhere.
    unsafe { bindings::gvahint_cpu() }
}

/// Lets others run.  Sleeps.
pub(crate) fn relax() {
    // SAFETY: shim.h: in task context with no lock that spins; callers of this sleep anyway.
    unsafe { bindings::gvahint_cond_resched() };
}

/// The largest piece of memory that kvmalloc() gives.
const MAX_BYTES: usize = 0x7fff_ffff;

/// `len` words of zero, charged to the caller's memory cgroup.  Sleeps.  Fails, silently, where
/// memory is short: a guest asks for it.
pub(crate) fn zeroed(len: usize) -> Result<KVVec<AtomicU64>> {
    match len.checked_mul(core::mem::size_of::<AtomicU64>()) {
        Some(bytes) if bytes <= MAX_BYTES => (),
        _ => return Err(E2BIG),
    }
    let flags = GFP_KERNEL_ACCOUNT | __GFP_ZERO | __GFP_NOWARN;
    let mut words = KVVec::with_capacity(len, flags)?;
    // SAFETY: the capacity is at least `len`, and the memory is zeroed, which is a valid AtomicU64.
    unsafe { words.set_len(len) };
    Ok(words)
}

/// A delayed call, at most one of them pending.
///
/// # Invariants
///
/// The pointer came from `gvahint_kicker_new` and was not freed.
pub(crate) struct Kicker(NonNull<bindings::gvahint_kicker>);

// SAFETY: shim.h: a kicker belongs to no task.
unsafe impl Send for Kicker {}
// SAFETY: shim.h: `arm`, the only thing one can do to a shared one, is callable anywhere.
unsafe impl Sync for Kicker {}

impl Kicker {
    /// Makes one that calls `fire(data)`, in task context.  Sleeps.
    ///
    /// # Safety
    ///
    /// `data` must be good for `fire` as long as the kicker lives.
    pub(crate) unsafe fn new(
        data: *mut c_void,
        fire: unsafe extern "C" fn(*mut c_void),
    ) -> Result<Self> {
        // SAFETY: shim.h asks for nothing but what our caller guarantees.
        let ptr = unsafe { bindings::gvahint_kicker_new(data, Some(fire)) };
        // INVARIANT: just made.
        Ok(Self(NonNull::new(ptr).ok_or(ENOMEM)?))
    }

    /// Fires in `ms`, or earlier if that is pending.  Callable anywhere.
    pub(crate) fn arm(&self, ms: u32) {
        // SAFETY: by the invariant alive.
        unsafe { bindings::gvahint_kicker_arm(self.0.as_ptr(), ms) };
    }
}

impl Drop for Kicker {
    /// Waits until it neither runs nor will run.  Sleeps.
    fn drop(&mut self) {
        // SAFETY: by the invariant alive; `&mut self` says that nobody arms it any more.
        unsafe { bindings::gvahint_kicker_free(self.0.as_ptr()) };
    }
}

/// A VM's directory in sysfs.
///
/// # Invariants
///
/// The pointer came from `gvahint_dir_new` and was not freed.
pub(crate) struct Dir(NonNull<bindings::gvahint_dir>);

// SAFETY: shim.h: a directory belongs to no task.
unsafe impl Send for Dir {}
// SAFETY: there is nothing that one can do to a shared one.
unsafe impl Sync for Dir {}

impl Dir {
    /// Makes vms/`id`, whose files pass `data` on.  Sleeps.
    ///
    /// # Safety
    ///
    /// `data` must be good for the [`Tree`]'s operations as long as the directory lives, and a
    /// [`Tree`] must outlive it.
    pub(crate) unsafe fn new(data: *mut c_void, id: u64) -> Result<Self> {
        // SAFETY: shim.h asks for nothing but what our caller guarantees.
        let ptr = unsafe { bindings::gvahint_dir_new(data, id) };
        // INVARIANT: just made.
        Ok(Self(NonNull::new(ptr).ok_or(ENOMEM)?))
    }
}

impl Drop for Dir {
    /// Waits for every reader and writer of its files.  Sleeps.
    fn drop(&mut self) {
        // SAFETY: by the invariant alive.
        unsafe { bindings::gvahint_dir_free(self.0.as_ptr()) };
    }
}

/// /sys/kernel/gvahint without the VMs' directories; there is one.
pub(crate) struct Tree(());

impl Tree {
    /// Makes it, with a file in stats/ for each of `stats`.  Sleeps.
    ///
    /// # Safety
    ///
    /// `ops` must keep shim.h's contract.  Called once in the life of the module.
    pub(crate) unsafe fn new(
        ops: &'static bindings::gvahint_sysfs_ops,
        stats: impl Iterator<Item = &'static str>,
    ) -> Result<Self> {
        for name in stats {
            // SAFETY: shim.h: before gvahint_sysfs_init(); the name is copied.
            to_result(unsafe {
                bindings::gvahint_sysfs_add_stat(name.as_ptr().cast(), name.len())
            })?;
        }
        // SAFETY: `ops` lives as long as the module.
        to_result(unsafe { bindings::gvahint_sysfs_init(ops) })?;
        Ok(Self(()))
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // SAFETY: made in `new`; the VMs' directories are gone by the contract of `Dir::new`.
        unsafe { bindings::gvahint_sysfs_exit() };
    }
}
