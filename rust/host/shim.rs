// SPDX-License-Identifier: GPL-2.0
//! Safe wrappers over the shim: time, zeroed memory, the delayed kick, trace events and the
//! directories in sysfs.
//!
//! Contracts discharged: shim.h.

use crate::bindings;
use core::ptr::{addr_of_mut, NonNull};
use core::sync::atomic::{AtomicI32, AtomicU64, Ordering};
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

/// A number that nobody can guess; callable anywhere.
pub(crate) fn random() -> u32 {
    // SAFETY: shim.h: callable anywhere.
    unsafe { bindings::gvahint_random() }
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

/// What happened, for those who watch.
pub(crate) trait Event {
    /// Whether somebody does; may be out of date at once.
    fn is_watched() -> bool;
    /// Tells them.  Callable anywhere.
    fn tell(&self);
}

/// The count of a static key stands in for its branch, which 6.12's kernel crate cannot patch: a
/// compare with memory that nobody writes.
macro_rules! event {
    ($event:ident, $tracepoint:ident, $tell:ident) => {
        impl Event for bindings::$event {
            #[inline(always)]
            fn is_watched() -> bool {
                let tracepoint = addr_of_mut!(bindings::$tracepoint);
                // SAFETY: a static of shim_trace.c; no reference is made.
                let enabled = unsafe { addr_of_mut!((*tracepoint).key.enabled.counter) };
                // SAFETY: aligned, good as long as the module; C changes it atomically.
                let enabled = unsafe { AtomicI32::from_ptr(enabled) };
                enabled.load(Ordering::Relaxed) != 0
            }

            fn tell(&self) {
                // SAFETY: shim.h: callable anywhere; it reads the event during the call.
                unsafe { bindings::$tell(self) };
            }
        }
    };
}

event!(gvahint_ev_aged, __tracepoint_aged, gvahint_trace_aged);
event!(gvahint_ev_plan, __tracepoint_plan, gvahint_trace_plan);
event!(gvahint_ev_flush, __tracepoint_flush, gvahint_trace_flush);
event!(gvahint_ev_report, __tracepoint_report, gvahint_trace_report);
event!(gvahint_ev_canary, __tracepoint_canary, gvahint_trace_canary);

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
