// SPDX-License-Identifier: GPL-2.0

//! Atomics that run something else before their n-th access, for tests: every
//! place at which an operation can be interrupted once, one after the other
//! and without luck. Sequentially consistent, so no word on weak ordering.

extern crate std;

use core::sync::atomic::{self, Ordering};
use std::boxed::Box;
use std::cell::RefCell;
use std::thread_local;

type Interrupt = (u32, Box<dyn FnOnce()>);

thread_local! {
    static NEXT: RefCell<Option<Interrupt>> = const { RefCell::new(None) };
}

/// Runs `inner` before the atomic access number `at` (from 0) of `outer`.
/// `false` if `outer` ended before; `inner` did not run then.
pub(crate) fn interrupt(at: u32, inner: impl FnOnce() + 'static, outer: impl FnOnce()) -> bool {
    NEXT.set(Some((at, Box::new(inner))));
    outer();
    NEXT.take().is_none()
}

/// An access is about to happen.
fn step() {
    let due = NEXT.with_borrow_mut(|next| match next.take() {
        Some((0, inner)) => Some(inner),
        Some((n, inner)) => {
            *next = Some((n.wrapping_sub(1), inner));
            None
        }
        None => None,
    });
    if let Some(inner) = due {
        inner();
    }
}

macro_rules! interruptible {
    ($Name:ident, $value:ty) => {
        /// An atomic word that can be interrupted.
        #[derive(Debug)]
        pub struct $Name(atomic::$Name);

        #[allow(missing_docs, dead_code)]
        impl $Name {
            pub const fn new(value: $value) -> Self {
                Self(atomic::$Name::new(value))
            }

            pub fn load(&self, order: Ordering) -> $value {
                step();
                self.0.load(order)
            }

            pub fn store(&self, value: $value, order: Ordering) {
                step();
                self.0.store(value, order);
            }

            pub fn swap(&self, value: $value, order: Ordering) -> $value {
                step();
                self.0.swap(value, order)
            }

            pub fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                step();
                self.0.fetch_add(value, order)
            }

            pub fn fetch_or(&self, value: $value, order: Ordering) -> $value {
                step();
                self.0.fetch_or(value, order)
            }

            pub fn fetch_and(&self, value: $value, order: Ordering) -> $value {
                step();
                self.0.fetch_and(value, order)
            }

            pub fn fetch_max(&self, value: $value, order: Ordering) -> $value {
                step();
                self.0.fetch_max(value, order)
            }

            pub fn compare_exchange(
                &self,
                old: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                step();
                self.0.compare_exchange(old, new, success, failure)
            }
        }
    };
}

interruptible!(AtomicU32, u32);
interruptible!(AtomicU64, u64);
