// SPDX-License-Identifier: GPL-2.0

//! The atomics that everything else uses, in one place, so that a model
//! checker can put its own in.

pub use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
