// SPDX-License-Identifier: GPL-2.0
//! gvahint_guest.ko: tells the host under which virtual addresses this guest's pages are reached.
//!
//! The kernel (patches/linux-6.12, include/linux/gva_hint.h) finds the addresses of a page and
//! tells when they change; the crate `gvahint_core` decides what is said, and when; this crate
//! carries it out, in one thread.  Calls go downwards only:
//!
//! | file | what it does | unsafe |
//! |---|---|---|
//! | [`ffi`] | where C calls in: the thread, sysfs | glue |
//! | [`sysfs`] | what the files show and take | |
//! | [`reporter`] | the thread: session, reporting, polling | |
//! | [`kernel_map`] | the linear ranges | |
//! | [`shared`] | what the thread shares with sysfs: settings, statistics, where it stands | |
//! | [`watched`] | the bits of all pages, which the kernel clears when one changes | glue |
//! | [`shim`] | what shim.c and gva_hint.h offer, as safe types | glue |
//! | [`shim_sysfs`] | what shim_sysfs.c offers | glue |
//! | [`bindings`] | bindgen's | glue |
//!
//! `unsafe` stands in the glue files only; scripts/unsafe-audit knows the same list.
//!
//! The thread alone talks to the host, so what it says of a page stays in order.  Others touch
//! atomics and wake it up.  One lock, in shim.c: memory does not go offline while the thread looks.

use kernel::prelude::*;

mod bindings;
mod ffi;
mod kernel_map;
mod reporter;
mod shared;
mod shim;
mod shim_sysfs;
mod sysfs;
mod watched;

module! {
    type: GvahintGuest,
    name: "gvahint_guest",
    description: "Tells a KVM host the virtual addresses of this guest's pages",
    license: "GPL",
}

struct GvahintGuest {
    _running: ffi::Running,
}

impl kernel::Module for GvahintGuest {
    fn init(module: &'static ThisModule) -> Result<Self> {
        let running = ffi::start(module).inspect_err(|&error| explain(error))?;
        pr_info!("version {}\n", sysfs::VERSION);
        Ok(Self { _running: running })
    }
}

impl Drop for GvahintGuest {
    fn drop(&mut self) {
        pr_info!("unloading\n");
    }
}

/// Says what to do about a failure.
fn explain(error: Error) {
    if error == ENODEV {
        pr_err!("this is no guest of KVM: there is no host to report to\n");
    } else if u32::try_from(error.to_errno().wrapping_neg()) == Ok(kernel::bindings::EOPNOTSUPP) {
        pr_err!("this guest's memory is encrypted: its host must not know its addresses\n");
    } else {
        pr_err!("cannot start: {:?}\n", error);
    }
}
