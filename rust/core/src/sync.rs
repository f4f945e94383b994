// SPDX-License-Identifier: GPL-2.0

//! The atomics that everything else uses, in one place, so that others can be
//! put in: the crate's own tests take atomics that can be interrupted.

#[cfg(not(test))]
pub use core::sync::atomic::{AtomicU32, AtomicU64};

#[cfg(test)]
pub use step::{AtomicU32, AtomicU64};

pub use core::sync::atomic::Ordering;

#[cfg(test)]
pub(crate) mod step;
