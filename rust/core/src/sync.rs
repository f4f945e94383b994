// SPDX-License-Identifier: GPL-2.0

//! The atomics that everything else uses, in one place, so that others can be
//! put in: the crate's own tests take atomics that can be interrupted, its
//! models (`--cfg loom`) take loom's, which know what weak ordering allows.

#[cfg(not(any(test, loom)))]
pub use core::sync::atomic::{AtomicU32, AtomicU64};

#[cfg(loom)]
pub use model::{AtomicU32, AtomicU64};
#[cfg(all(test, not(loom)))]
pub use step::{AtomicU32, AtomicU64};

pub use core::sync::atomic::Ordering;

#[cfg(loom)]
mod model;
#[cfg(all(test, not(loom)))]
pub(crate) mod step;
