// SPDX-License-Identifier: GPL-2.0
//! Safe wrappers over what KVM offers to the module.
//!
//! A hook gets its VM or vCPU as a value that lives as long as the hook's call; what may be done
//! with it in that hook is what its type offers: [`Kvm`] everywhere, [`Entry`] directly before a
//! VM entry, [`Memslots`] where `kvm->srcu` is held.
//!
//! C header: include/linux/kvm_age.h.  Contracts discharged: the comments there, and shim.h,
//! "KVM's fields".

use crate::bindings;
use core::marker::PhantomData;
use core::ptr::{addr_of_mut, NonNull};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use gvahint_core::addr::{Gfn, Gva, VaBits};
use gvahint_core::cast;
use gvahint_core::log::Flusher;
use kernel::error::to_result;
use kernel::ffi::c_void;
use kernel::prelude::*;

/// A VM.
///
/// # Invariants
///
/// Points to a VM that lives for `'a`.
#[derive(Clone, Copy)]
pub(crate) struct Kvm<'a>(NonNull<bindings::kvm>, PhantomData<&'a ()>);

/// The three words of `struct kvm_age` that the log is made of.
pub(crate) struct LogWords<'a> {
    /// Entries ever reserved.
    pub(crate) head: &'a AtomicU64,
    /// 1 + position of the last full flush.
    pub(crate) full: &'a AtomicU64,
    /// 1 + position of the last context flush.
    pub(crate) context: &'a AtomicU64,
}

impl<'a> Kvm<'a> {
    /// # Safety
    ///
    /// `kvm` must point to a VM that lives for `'a`.
    pub(crate) unsafe fn from_raw(kvm: *mut bindings::kvm) -> Option<Self> {
        // INVARIANT: what our caller guarantees.
        NonNull::new(kvm).map(|kvm| Self(kvm, PhantomData))
    }

    pub(crate) fn as_ptr(self) -> *mut bindings::kvm {
        self.0.as_ptr()
    }

    fn age(self) -> *mut bindings::kvm_age {
        // SAFETY: alive by the invariant; shim.h: what it returns lives as long as the VM.
        unsafe { bindings::gvahint_kvm_age(self.as_ptr()) }
    }

    /// The VM's log.
    pub(crate) fn log_words(self) -> LogWords<'a> {
        let age = self.age();
        // SAFETY: `age` is good for `'a`; no reference is made.
        let head = unsafe { addr_of_mut!((*age).head) };
        // SAFETY: as above.
        let full = unsafe { addr_of_mut!((*age).full) };
        // SAFETY: as above.
        let context = unsafe { addr_of_mut!((*age).context) };
        LogWords {
            // SAFETY: aligned, good for `'a`; KVM only reads it, once and in one piece.
            head: unsafe { AtomicU64::from_ptr(head) },
            // SAFETY: aligned, good for `'a`; KVM does not touch it.
            full: unsafe { AtomicU64::from_ptr(full) },
            // SAFETY: aligned, good for `'a`; KVM does not touch it.
            context: unsafe { AtomicU64::from_ptr(context) },
        }
    }

    /// The module's pointer of this VM.  Null: the VM is not attached.
    pub(crate) fn private(self) -> &'a AtomicPtr<c_void> {
        let age = self.age();
        // SAFETY: `age` is good for `'a`; no reference is made.
        let private = unsafe { addr_of_mut!((*age).priv_) };
        // SAFETY: aligned, good for `'a`; kvm_age.h: KVM only compares it with NULL.
        unsafe { AtomicPtr::from_ptr(private) }
    }

    /// Whether KVM asks keep() before it clears the accessed bit of a page of this VM.
    pub(crate) fn set_keep(self, keep: bool) {
        let age = self.age();
        // SAFETY: `age` is good for `'a`; no reference is made.
        let flag = unsafe { addr_of_mut!((*age).keep) };
        // SAFETY: aligned, good for `'a`; KVM reads it in one piece, and writes it only when the
        // VM is detached.
        let flag = unsafe { AtomicBool::from_ptr(flag) };
        if flag.load(Ordering::Relaxed) != keep {
            flag.store(keep, Ordering::Relaxed);
        }
    }

    /// Whether the accessed bit of a page is set, which `op` changes then; `None`: there is no
    /// leaf of 4K for it.  Not under mmu_lock.
    pub(crate) fn leaf(self, gfn: Gfn, op: LeafOp) -> Option<bool> {
        let op = match op {
            LeafOp::Test => bindings::KVM_AGE_LEAF_TEST,
            LeafOp::Clear => bindings::KVM_AGE_LEAF_CLEAR,
            LeafOp::Set => bindings::KVM_AGE_LEAF_SET,
        };
        // SAFETY: alive by the invariant; kvm_age.h: task context; only hypercalls get here.
        match unsafe { bindings::kvm_age_leaf(self.as_ptr(), gfn.raw(), op) } {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// Makes every vCPU that is in guest mode leave it; waits for none.
    pub(crate) fn kick(self) {
        // SAFETY: alive by the invariant; kvm_age.h: task context or under mmu_lock, which is
        // where flush() and the delayed work run.
        unsafe { bindings::kvm_age_kick(self.as_ptr()) };
    }

    /// Process of the VM's owner.
    pub(crate) fn pid(self) -> i32 {
        // SAFETY: alive by the invariant.
        unsafe { bindings::kvm_age_pid(self.as_ptr()) }
    }
}

/// What [`Kvm::leaf`] does.
#[derive(Clone, Copy)]
pub(crate) enum LeafOp {
    Test,
    Clear,
    Set,
}

/// A VM that the module is attached to, kept from attach() to detach().
///
/// # Invariants
///
/// Points to a VM that lives as long as this value.
pub(crate) struct AttachedKvm(NonNull<bindings::kvm>);

// SAFETY: what can be done with a VM does not depend on the task.
unsafe impl Send for AttachedKvm {}
// SAFETY: KVM serialises inside what a `Kvm` offers.
unsafe impl Sync for AttachedKvm {}

impl AttachedKvm {
    /// # Safety
    ///
    /// The value must be dropped before the hook detach() of this VM returns.
    pub(crate) unsafe fn new(kvm: Kvm<'_>) -> Self {
        // INVARIANT: a VM outlives its detach().
        Self(kvm.0)
    }

    /// The VM.
    pub(crate) fn get(&self) -> Kvm<'_> {
        // INVARIANT: alive as long as `self`.
        Kvm(self.0, PhantomData)
    }
}

/// Whether this host can drop one guest virtual address.
pub(crate) fn can_flush_gva() -> bool {
    // SAFETY: callable anywhere.
    unsafe { bindings::kvm_age_can_flush_gva() }
}

/// How wide the addresses are that this host's CPUs take; `None`: neither 48 nor 57 bits.
pub(crate) fn va_bits() -> Option<VaBits> {
    // SAFETY: callable anywhere.
    match unsafe { bindings::kvm_age_va_bits() } {
        48 => Some(VaBits::Bits48),
        57 => Some(VaBits::Bits57),
        _ => None,
    }
}

/// The memslots of a VM, while they can't change.
///
/// # Invariants
///
/// `kvm->srcu` is held for `'a`.
#[derive(Clone, Copy)]
pub(crate) struct Memslots<'a>(Kvm<'a>);

impl<'a> Memslots<'a> {
    /// # Safety
    ///
    /// `kvm->srcu` must be held for `'a`.
    pub(crate) unsafe fn new(kvm: Kvm<'a>) -> Self {
        // INVARIANT: what our caller guarantees.
        Self(kvm)
    }

    /// Is all of a range memory of the guest's?
    pub(crate) fn contain(self, gfn: u64, pages: u64) -> bool {
        // SAFETY: alive; kvm->srcu is held by the invariant; kvm_age.h: any numbers.
        unsafe { bindings::kvm_age_gfns_valid(self.0.as_ptr(), gfn, pages) }
    }

    /// 4 KiB pages of all.
    pub(crate) fn pages(self) -> u64 {
        // SAFETY: alive; kvm->srcu is held by the invariant.
        unsafe { bindings::kvm_age_nr_pages(self.0.as_ptr()) }
    }

    /// In the hook hypercall(), for its vCPU: whether an answer in the guest's buffer can reach it.
    pub(crate) fn take_answer(self, vcpu: Vcpu<'_>) -> bool {
        let ours = |kvm: Kvm<'_>| kvm.as_ptr() == self.0.as_ptr();
        if !vcpu.kvm().is_some_and(ours) {
            return false;
        }
        // SAFETY: alive by the invariant; of our VM, whose kvm->srcu is held by ours.
        unsafe { bindings::gvahint_vcpu_takes_answer(vcpu.0.as_ptr()) }
    }

    /// First gfn after the last of them.
    pub(crate) fn end(self) -> u64 {
        // SAFETY: alive; kvm->srcu is held by the invariant.
        unsafe { bindings::kvm_age_max_gfn(self.0.as_ptr()) }
    }
}

/// A vCPU that a hook was called for, by its own thread.
///
/// # Invariants
///
/// Points to a vCPU that lives for `'a`; we run in its thread.
#[derive(Clone, Copy)]
pub(crate) struct Vcpu<'a>(NonNull<bindings::kvm_vcpu>, PhantomData<&'a ()>);

impl<'a> Vcpu<'a> {
    /// # Safety
    ///
    /// `vcpu` must point to a vCPU that lives for `'a`, and this must be its own thread.
    pub(crate) unsafe fn from_raw(vcpu: *mut bindings::kvm_vcpu) -> Option<Self> {
        // INVARIANT: what our caller guarantees.
        NonNull::new(vcpu).map(|vcpu| Self(vcpu, PhantomData))
    }

    /// Its VM.
    pub(crate) fn kvm(self) -> Option<Kvm<'a>> {
        // SAFETY: alive by the invariant.
        let kvm = unsafe { bindings::gvahint_vcpu_kvm(self.0.as_ptr()) };
        // SAFETY: a VM outlives its vCPUs.
        unsafe { Kvm::from_raw(kvm) }
    }

    /// What userspace numbered it.
    pub(crate) fn id(self) -> u32 {
        // SAFETY: alive by the invariant.
        unsafe { bindings::gvahint_vcpu_id(self.0.as_ptr()) }
    }

    /// How far it has served the log.
    pub(crate) fn cursor(self) -> &'a AtomicU64 {
        // SAFETY: alive by the invariant.
        let cursor = unsafe { bindings::gvahint_vcpu_cursor(self.0.as_ptr()) };
        // SAFETY: aligned, good for `'a`; all accesses are this thread's, through the log.
        unsafe { AtomicU64::from_ptr(cursor) }
    }
}

/// A vCPU directly before a VM entry: its translations can be dropped.
///
/// # Invariants
///
/// IRQs are off, the vCPU is loaded, neither in guest mode nor in SMM.
pub(crate) struct Entry<'a>(Vcpu<'a>);

impl<'a> Entry<'a> {
    /// # Safety
    ///
    /// Only in the hook drain(), for its vCPU.
    pub(crate) unsafe fn new(vcpu: Vcpu<'a>) -> Self {
        // INVARIANT: kvm_age.h's promise to drain().
        Self(vcpu)
    }

    /// The vCPU.
    pub(crate) fn vcpu(&self) -> Vcpu<'a> {
        self.0
    }
}

impl Flusher for Entry<'_> {
    fn gva(&mut self, gva: Gva) -> bool {
        // SAFETY: by the invariant where kvm_age.h allows it; it checks the address itself.
        unsafe { bindings::kvm_age_flush_gva(self.0 .0.as_ptr(), cast::usize_from_u64(gva.raw())) }
    }

    fn context(&mut self) {
        // SAFETY: by the invariant where kvm_age.h allows it.
        unsafe { bindings::kvm_age_flush_context(self.0 .0.as_ptr()) };
    }

    fn full(&mut self) {
        // SAFETY: by the invariant where kvm_age.h allows it.
        unsafe { bindings::kvm_age_flush_root(self.0 .0.as_ptr()) };
    }
}

/// A table of functions that C reads.
pub(crate) struct Table<T>(pub(crate) T);

// SAFETY: nobody writes to such a table; its pointers are to functions and to the module itself.
unsafe impl Sync for Table<bindings::kvm_age_ops> {}
// SAFETY: as above.
unsafe impl Sync for Table<bindings::gvahint_sysfs_ops> {}

/// The module is KVM's ageing module as long as this lives.
///
/// # Invariants
///
/// The operations are registered.
pub(crate) struct Registration(&'static Table<bindings::kvm_age_ops>);

impl Registration {
    /// Registers; attaches every living VM before it returns.  Sleeps.
    ///
    /// # Safety
    ///
    /// `ops` must keep kvm_age.h's contract.
    pub(crate) unsafe fn new(ops: &'static Table<bindings::kvm_age_ops>) -> Result<Self> {
        // SAFETY: `ops` lives as long as the module, and does what our caller guarantees.
        to_result(unsafe { bindings::kvm_age_register(&ops.0) })?;
        // INVARIANT: just registered.
        Ok(Self(ops))
    }
}

impl Drop for Registration {
    /// Detaches every VM; no hook runs any more when it returns.  Sleeps.
    fn drop(&mut self) {
        // SAFETY: registered by the invariant.
        unsafe { bindings::kvm_age_unregister(&self.0 .0) };
    }
}
