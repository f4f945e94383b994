// SPDX-License-Identifier: GPL-2.0

//! Named conversions; the only file in which `as` may stand.
//!
//! The lossless ones are lossless because the crate supports 64-bit machines
//! only, which the assertion below enforces. The others say in their name what they
//! drop.

#![allow(clippy::as_conversions)]

const _: () = assert!(usize::BITS == 64, "gvahint_core needs a 64-bit machine");

/// `u64` to `usize`, lossless.
#[inline]
pub const fn usize_from_u64(value: u64) -> usize {
    value as usize
}

/// `u32` to `usize`, lossless.
#[inline]
pub const fn usize_from_u32(value: u32) -> usize {
    value as usize
}

/// `usize` to `u64`, lossless.
#[inline]
pub const fn u64_from_usize(value: usize) -> u64 {
    value as u64
}

/// `u32` to `u64` in constant context, lossless.
#[inline]
pub const fn u64_from_u32(value: u32) -> u64 {
    value as u64
}

/// The low 32 bits.
#[inline]
pub const fn low_u32(value: u64) -> u32 {
    value as u32
}

/// The high 32 bits.
#[inline]
pub const fn high_u32(value: u64) -> u32 {
    (value >> 32) as u32
}

/// The low 8 bits.
#[inline]
pub const fn low_u8(value: u64) -> u8 {
    value as u8
}

/// The same bits as a signed number.
#[inline]
pub const fn signed(value: u64) -> i64 {
    value as i64
}

/// The same bits as an unsigned number.
#[inline]
pub const fn unsigned(value: i64) -> u64 {
    value as u64
}
