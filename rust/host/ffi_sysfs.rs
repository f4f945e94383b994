// SPDX-License-Identifier: GPL-2.0
//! Where C calls in for the files of sysfs.
//!
//! Contracts discharged: shim.h, "struct gvahint_sysfs_ops" and gvahint_dir_each().

use crate::kvm::Table;
use crate::vm::Vm;
use crate::{bindings, sysfs};
use kernel::error::from_result;
use kernel::ffi::{c_char, c_void};

/// # Safety
///
/// shim_sysfs.c's alone to call: see shim.h.
unsafe extern "C" fn show(data: *mut c_void, id: u32, buf: *mut c_char, len: usize) -> isize {
    // SAFETY: null, or the contract of `Dir::new`: `try_attach` gave it a `Vm` that outlives it.
    let vm = unsafe { data.cast::<Vm>().as_ref() };
    // SAFETY: shim.h: `len` bytes of sysfs', zeroed, ours alone during the call.
    let page = unsafe { core::slice::from_raw_parts_mut(buf.cast::<u8>(), len) };
    from_result(|| sysfs::show(vm, id, page))
}

/// # Safety
///
/// shim_sysfs.c's alone to call: see shim.h.
unsafe extern "C" fn store(data: *mut c_void, id: u32, buf: *const c_char, len: usize) -> isize {
    // SAFETY: as in `show`.
    let vm = unsafe { data.cast::<Vm>().as_ref() };
    // SAFETY: shim.h: `len` bytes of sysfs', which nobody changes during the call.
    let text = unsafe { core::slice::from_raw_parts(buf.cast::<u8>(), len) };
    from_result(|| {
        match (sysfs::store(vm, id, text)?, vm) {
            (false, _) => (),
            (true, Some(vm)) => vm.catch_up(),
            (true, None) => catch_up_all(),
        }
        Ok(isize::try_from(len)?)
    })
}

/// Something new holds for each VM.  Sleeps.
pub(crate) fn catch_up_all() {
    // SAFETY: shim.h: `catch_up` takes no directory away; each caller may sleep: it writes a file of
    // sysfs, or loads the module.
    unsafe { bindings::gvahint_dir_each(Some(catch_up)) }
}

/// Something new holds for a VM.
///
/// # Safety
///
/// shim_sysfs.c's alone to call: see gvahint_dir_each() in shim.h.
unsafe extern "C" fn catch_up(data: *mut c_void) {
    // SAFETY: as in `show`.
    if let Some(vm) = unsafe { data.cast::<Vm>().as_ref() } {
        vm.catch_up();
    }
}

pub(crate) static SYSFS_OPS: Table<bindings::gvahint_sysfs_ops> =
    Table(bindings::gvahint_sysfs_ops {
        show: Some(show),
        store: Some(store),
    });
