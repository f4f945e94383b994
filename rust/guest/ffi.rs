// SPDX-License-Identifier: GPL-2.0
//! Where C calls in: the thread, the files of sysfs.  Changes of pages: [`crate::watched`].
//!
//! Each entry point turns its pointers into values that live as long as the call, and passes on.
//! Contracts discharged: shim.h.

use crate::shared::Shared;
use crate::shim::{check_platform, kick, Sleeper, Thread};
use crate::shim_sysfs::Tree;
use crate::{bindings, reporter, sysfs};
use kernel::error::from_result;
use kernel::ffi::{c_char, c_void};
use kernel::prelude::*;

/// What the module's data pointers point to.
///
/// # Safety
///
/// `data` must come from [`start`].
unsafe fn shared_of<'a>(data: *mut c_void) -> Option<&'a Shared> {
    // SAFETY: `start` gave it to the thread and the tree; `Running` keeps it until both are gone.
    unsafe { data.cast::<Shared>().as_ref() }
}

/// # Safety
///
/// [`Thread`]'s alone to call, with what [`start`] gave it.
unsafe extern "C" fn run(data: *mut c_void) {
    // SAFETY: `start` gave it.
    let Some(shared) = (unsafe { shared_of(data) }) else {
        return;
    };
    // SAFETY: this is the thread's function.
    let sleeper = unsafe { Sleeper::new() };
    if let Err(error) = reporter::run(shared, &sleeper) {
        pr_err!("cannot report: {:?}\n", error);
    }
}

/// # Safety
///
/// shim_sysfs.c's alone to call: see shim.h.
unsafe extern "C" fn show(data: *mut c_void, id: u32, buf: *mut c_char, len: usize) -> isize {
    // SAFETY: `start` gave it.
    let shared = unsafe { shared_of(data) };
    // SAFETY: shim.h: `len` bytes of sysfs', zeroed, ours alone during the call.
    let page = unsafe { core::slice::from_raw_parts_mut(buf.cast::<u8>(), len) };
    from_result(|| sysfs::show(shared.ok_or(EINVAL)?, id, page))
}

/// # Safety
///
/// shim_sysfs.c's alone to call: see shim.h.
unsafe extern "C" fn store(data: *mut c_void, id: u32, buf: *const c_char, len: usize) -> isize {
    // SAFETY: `start` gave it.
    let shared = unsafe { shared_of(data) };
    // SAFETY: shim.h: `len` bytes of sysfs', which nobody changes during the call.
    let text = unsafe { core::slice::from_raw_parts(buf.cast::<u8>(), len) };
    from_result(|| {
        sysfs::store(shared.ok_or(EINVAL)?, id, text)?;
        kick();
        Ok(isize::try_from(len)?)
    })
}

static SYSFS_OPS: bindings::gvahint_sysfs_ops = bindings::gvahint_sysfs_ops {
    show: Some(show),
    store: Some(store),
};

/// The module at work.  The order of the fields matters: the files, which kick the thread, go
/// first; the thread, before it ends, waits for those who tell of changes, who kick it as well.
pub(crate) struct Running {
    _tree: Tree,
    _thread: Thread,
    _shared: KBox<Shared>,
}

/// Starts to report.  For the module's init function, which runs once: hence its argument.
pub(crate) fn start(_module: &'static ThisModule) -> Result<Running> {
    check_platform()?;
    let shared = KBox::new(Shared::new(), GFP_KERNEL)?;
    let data = core::ptr::from_ref::<Shared>(&shared)
        .cast_mut()
        .cast::<c_void>();
    // SAFETY: `Running` drops `data` last; `run` returns when it shall; there is no other.
    let thread = unsafe { Thread::start(data, run) }?;
    // SAFETY: once (a second tree would find its name taken); `show` and `store` keep shim.h's
    // contract; `Running` drops `data` last.
    let tree = unsafe { Tree::new(&SYSFS_OPS, data, sysfs::files()) }?;
    Ok(Running {
        _tree: tree,
        _thread: thread,
        _shared: shared,
    })
}
