// SPDX-License-Identifier: GPL-2.0

//! Named conversions; the only file in which `as` may stand.
//!
//! The lossless ones are lossless because the crate supports 64-bit machines
//! only, which the assertion below enforces. The others say in their name what they
//! drop.

#![allow(clippy::as_conversions)]

const _: () = assert!(usize::BITS == 64, "gvahint_core needs a 64-bit machine");

/// `u64` to `usize`, lossless.
///
/// ```
/// use gvahint_core::cast;
/// assert_eq!(cast::usize_from_u64(u64::MAX), usize::MAX);
/// ```
#[inline]
pub const fn usize_from_u64(value: u64) -> usize {
    value as usize
}

/// `u32` to `usize`, lossless.
///
/// ```
/// use gvahint_core::cast;
/// // `usize::try_from` is not const.
/// const SLOTS: [u8; cast::usize_from_u32(3)] = [0; 3];
/// assert_eq!(SLOTS.len(), 3);
/// ```
#[inline]
pub const fn usize_from_u32(value: u32) -> usize {
    value as usize
}

/// `usize` to `u64`, lossless.
///
/// ```
/// use gvahint_core::cast;
/// assert_eq!(cast::u64_from_usize(usize::MAX), u64::MAX);
/// ```
#[inline]
pub const fn u64_from_usize(value: usize) -> u64 {
    value as u64
}

/// `u32` to `u64` in constant context, lossless.
///
/// ```
/// use gvahint_core::cast;
/// // `u64::from` is not const.
/// const TOP: u64 = cast::u64_from_u32(u32::MAX) << 32;
/// assert_eq!(TOP, 0xffff_ffff_0000_0000);
/// ```
#[inline]
pub const fn u64_from_u32(value: u32) -> u64 {
    value as u64
}

/// The low 32 bits.
///
/// ```
/// use gvahint_core::cast;
/// // The rest is dropped, not saturated.
/// assert_eq!(cast::low_u32(7 << 32 | 9), 9);
/// assert_eq!(cast::low_u32(1 << 32), 0);
/// ```
#[inline]
pub const fn low_u32(value: u64) -> u32 {
    value as u32
}

/// The high 32 bits.
///
/// ```
/// use gvahint_core::cast;
/// // The session in a hypercall's a1; its sequence number is the low half.
/// assert_eq!(cast::high_u32(7 << 32 | 9), 7);
/// ```
#[inline]
pub const fn high_u32(value: u64) -> u32 {
    (value >> 32) as u32
}

/// The low 8 bits.
///
/// ```
/// use gvahint_core::cast;
/// assert_eq!(cast::low_u8(0x1ff), 0xff);
/// ```
#[inline]
pub const fn low_u8(value: u64) -> u8 {
    value as u8
}

/// The same bits as a signed number.
///
/// ```
/// use gvahint_core::cast;
/// assert_eq!(cast::signed(u64::MAX), -1);
/// ```
#[inline]
pub const fn signed(value: u64) -> i64 {
    value as i64
}

/// The same bits as an unsigned number.
///
/// ```
/// use gvahint_core::cast;
/// // An error as the guest finds it in RAX.
/// assert_eq!(cast::unsigned(-22), 0xffff_ffff_ffff_ffea);
/// ```
#[inline]
pub const fn unsigned(value: i64) -> u64 {
    value as u64
}
