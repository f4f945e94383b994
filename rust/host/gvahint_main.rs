// SPDX-License-Identifier: GPL-2.0
//! gvahint.ko: accurate, cheap page ageing for KVM guests.
//!
//! KVM (patches/linux-6.12) tells the module which guest pages it aged; a guest tells it by
//! hypercall under which guest virtual addresses (gVAs) its pages are reached.  The crate
//! `gvahint_core` decides what to drop; this crate carries it out.  Calls go downwards only:
//!
//! | file | what it does | unsafe |
//! |---|---|---|
//! | [`ffi`] | where C calls in: hooks, delayed kick | glue |
//! | [`ffi_sysfs`] | where C calls in for the files of sysfs | glue |
//! | [`sysfs`] | what the files show and take | |
//! | [`hypercall`] | HELLO, LINEAR, REPORT, BYE | |
//! | [`canary`] | CANARY | |
//! | [`vm`] | a VM's state; ageing, draining | |
//! | [`store`] | the memory of a VM: log and table | |
//! | [`grow`] | nodes for the table, and back | |
//! | [`knobs`] | what operators set | |
//! | [`kvm`] | what KVM offers, as safe types | glue |
//! | [`trace`] | what the trace events say | |
//! | [`shim`] | what the shim's C files offer, as safe types | glue |
//! | [`rcu`] | read-side guard, owning pointer | glue |
//! | [`arena`] | the nodes of a table, found by number | glue |
//! | [`bindings`] | bindgen's | glue |
//!
//! `unsafe` stands in the glue files only; scripts/unsafe-audit knows the same list.
//!
//! Locks, outermost first: kvm_age's mutex or kvm->srcu (KVM's) -> `Vm`'s mutex (hypercalls,
//! invalidate) -> mmu_lock (CANARY), memory allocation.  Hooks under mmu_lock, and the drain, take none: they read
//! atomics and what RCU protects.  Writers of sysfs serialise among themselves and touch atomics.

use kernel::prelude::*;

mod arena;
mod bindings;
mod canary;
mod ffi;
mod ffi_sysfs;
mod grow;
mod hypercall;
mod knobs;
mod kvm;
mod rcu;
mod shim;
mod store;
mod sysfs;
mod trace;
mod vm;

module! {
    type: Gvahint,
    name: "gvahint",
    description: "Ages the pages of KVM guests by hints about their virtual addresses",
    license: "GPL",
}

struct Gvahint {
    _running: ffi::Running,
}

impl kernel::Module for Gvahint {
    fn init(module: &'static ThisModule) -> Result<Self> {
        hypercall::begin_sessions();
        let running = ffi::start(module).inspect_err(|&error| explain(error))?;
        pr_info!("version {}; {}\n", sysfs::VERSION, knobs::Summary);
        Ok(Self { _running: running })
    }
}

impl Drop for Gvahint {
    fn drop(&mut self) {
        pr_info!("unloading\n");
    }
}

/// Says what to do about a failure.
fn explain(error: Error) {
    if error == EBUSY {
        pr_err!("another ageing module is registered with KVM: unload it first\n");
    } else if u32::try_from(error.to_errno().wrapping_neg()) == Ok(kernel::bindings::EOPNOTSUPP) {
        pr_err!("KVM has no TDP MMU: load kvm_intel with ept=1, kvm with tdp_mmu=1\n");
    } else {
        pr_err!("cannot start: {:?}\n", error);
    }
}
