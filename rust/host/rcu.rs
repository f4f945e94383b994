// SPDX-License-Identifier: GPL-2.0
//! RCU: a read-side guard, and an owning pointer that is read under it.
//!
//! C header: include/linux/rcupdate.h.  Contracts discharged: shim.h, "time, CPU and RCU".

use crate::bindings;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicPtr, Ordering};
use kernel::prelude::*;

/// A read-side critical section of this task.
pub(crate) struct Guard(PhantomData<*mut ()>);

impl Guard {
    /// Enters a critical section; may nest.
    pub(crate) fn new() -> Self {
        // SAFETY: shim.h: callable anywhere; left in `drop`, by the same task because a guard is
        // not `Send`.
        unsafe { bindings::gvahint_rcu_read_lock() };
        Self(PhantomData)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // SAFETY: shim.h: pairs with the lock in `new`.
        unsafe { bindings::gvahint_rcu_read_unlock() };
    }
}

/// Waits until every section that is under way has ended.  Sleeps.
pub(crate) fn synchronize() {
    // SAFETY: shim.h: sleeps and must be outside of a section.  Only attach, detach, hypercalls
    // and invalidate get here; they may sleep and hold no guard: see the callers of this, of
    // `Slot::take` and of `Removed`.
    unsafe { bindings::gvahint_synchronize_rcu() };
}

/// Owns a `T` or nothing; readers see it under a [`Guard`].
///
/// # Invariants
///
/// The pointer is null or came from [`KBox::into_raw`]; the box is made again only by whoever
/// swapped the pointer out, after a grace period, or with exclusive access to the slot.
pub(crate) struct Slot<T>(AtomicPtr<T>, PhantomData<KBox<T>>);

impl<T: Send + Sync> Slot<T> {
    /// A slot with nothing in it.
    pub(crate) const fn empty() -> Self {
        // INVARIANT: null.
        Self(AtomicPtr::new(core::ptr::null_mut()), PhantomData)
    }

    /// What is there now; stays valid as long as the guard.
    pub(crate) fn get<'g>(&'g self, _guard: &'g Guard) -> Option<&'g T> {
        let ptr = self.0.load(Ordering::Acquire);
        // SAFETY: by the invariant a non-null pointer is a live box, which is not freed before a
        // grace period that ends after this guard has gone.
        unsafe { ptr.as_ref() }
    }

    /// Puts `new` where nothing is; gives it back if something is.
    pub(crate) fn put(&self, new: KBox<T>) -> Option<KBox<T>> {
        let ptr = KBox::into_raw(new);
        // INVARIANT: from `into_raw`; nobody else has it.
        match self.0.compare_exchange(
            core::ptr::null_mut(),
            ptr,
            Ordering::Release,
            Ordering::Relaxed,
        ) {
            Ok(_) => None,
            // SAFETY: came from `into_raw` above and was not published.
            Err(_) => Some(unsafe { KBox::from_raw(ptr) }),
        }
    }

    /// Takes out what is there and waits until no reader has it.  Sleeps; not under a [`Guard`].
    pub(crate) fn take(&self) -> Option<KBox<T>> {
        let ptr = self.0.swap(core::ptr::null_mut(), Ordering::AcqRel);
        if ptr.is_null() {
            return None;
        }
        synchronize();
        // SAFETY: by the invariant from `into_raw`; we swapped it out, and every reader that could
        // have loaded it before has left its section.
        Some(unsafe { KBox::from_raw(ptr) })
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        let ptr = *self.0.get_mut();
        if !ptr.is_null() {
            // SAFETY: by the invariant from `into_raw`; `&mut self` says that there is no reader.
            drop(unsafe { KBox::from_raw(ptr) });
        }
    }
}
