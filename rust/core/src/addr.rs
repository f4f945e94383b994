// SPDX-License-Identifier: GPL-2.0

//! Address types without arithmetic operators.
//!
//! A value of these types has been checked once, where it came in.

use crate::cast;

mod size;
pub use size::{Level, MapSize};

/// Bytes in a page as log2.
pub const PAGE_SHIFT: u32 = 12;
/// Bytes in a page.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;
/// Bits of a guest frame number: those of a 52-bit guest-physical address.
pub const GFN_BITS: u32 = 40;

/// How wide the virtual addresses are that the CPU takes.
///
/// ```
/// use gvahint_core::addr::{Gva, VaBits};
/// // 2^47 is good for a CPU with 5-level paging only.
/// assert_eq!(Gva::new(1 << 47, VaBits::Bits48), None);
/// assert!(Gva::new(1 << 47, VaBits::Bits57).is_some());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VaBits {
    /// 4-level paging.
    Bits48,
    /// 5-level paging.
    Bits57,
}

impl VaBits {
    /// The number of bits.
    ///
    /// ```
    /// use gvahint_core::addr::VaBits::Bits48;
    /// // The top one is the sign: the lower half is half as wide.
    /// assert!(Bits48.is_canonical((1 << (Bits48.bits() - 1)) - 1));
    /// assert!(!Bits48.is_canonical(1 << (Bits48.bits() - 1)));
    /// ```
    pub const fn bits(self) -> u32 {
        match self {
            VaBits::Bits48 => 48,
            VaBits::Bits57 => 57,
        }
    }

    /// Whether all bits from the top one of the width on are equal.
    ///
    /// ```
    /// use gvahint_core::addr::VaBits::{Bits48, Bits57};
    /// let gva = 0xff00_0000_0000_0000; // bits 56 to 63
    /// assert!(Bits57.is_canonical(gva));
    /// assert!(!Bits48.is_canonical(gva));
    /// ```
    #[inline]
    pub const fn is_canonical(self, raw: u64) -> bool {
        let unused = match self {
            VaBits::Bits48 => 16,
            VaBits::Bits57 => 7,
        };
        cast::unsigned(cast::signed(raw << unused) >> unused) == raw
    }
}

/// A guest-physical address below 2^52.
///
/// ```
/// use gvahint_core::addr::Gpa;
/// // Through its frame an address loses the offset in the page.
/// let gpa = Gpa::new(0x5123).unwrap();
/// assert_eq!(gpa.gfn().gpa().raw(), 0x5000);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gpa(u64);

impl Gpa {
    /// Checks the width.
    ///
    /// ```
    /// use gvahint_core::addr::Gpa;
    /// assert!(Gpa::new((1 << 52) - 1).is_some());
    /// assert_eq!(Gpa::new(1 << 52), None);
    /// ```
    pub const fn new(raw: u64) -> Option<Self> {
        if raw >> (GFN_BITS + PAGE_SHIFT) == 0 {
            Some(Self(raw))
        } else {
            None
        }
    }

    /// The address as a number.
    ///
    /// ```
    /// use gvahint_core::addr::Gpa;
    /// // Not cut down to its page.
    /// assert_eq!(Gpa::new(0x5123).map(Gpa::raw), Some(0x5123));
    /// ```
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The frame that the address lies in.
    ///
    /// ```
    /// use gvahint_core::addr::Gpa;
    /// let gfn = |raw| Gpa::new(raw).unwrap().gfn().raw();
    /// assert_eq!((gfn(0x5fff), gfn(0x6000)), (5, 6));
    /// ```
    pub const fn gfn(self) -> Gfn {
        Gfn(self.0 >> PAGE_SHIFT)
    }
}

/// A guest frame number below 2^40.
///
/// ```
/// use gvahint_core::addr::Gfn;
/// assert_eq!(Gfn::new(5).map(Gfn::raw), Some(5));
/// assert!(Gfn::new(1 << 40).is_none());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gfn(u64);

impl Gfn {
    /// Checks the width.
    ///
    /// ```
    /// use gvahint_core::addr::Gfn;
    /// // The last frame is that of the last gpa of 52 bits.
    /// let last = Gfn::new((1 << 40) - 1).unwrap();
    /// assert_eq!(last.gpa().raw(), (1 << 52) - 4096);
    /// ```
    #[inline]
    pub const fn new(raw: u64) -> Option<Self> {
        if raw >> GFN_BITS == 0 {
            Some(Self(raw))
        } else {
            None
        }
    }

    /// The frame number as a number.
    ///
    /// ```
    /// use gvahint_core::addr::Gfn;
    /// // Arithmetic is done on numbers, and what comes out is checked again.
    /// let last = Gfn::new((1 << 40) - 1).unwrap();
    /// assert_eq!(Gfn::new(last.raw() + 1), None);
    /// ```
    #[inline]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The first frame of the page of that size that this one lies in.
    ///
    /// ```
    /// use gvahint_core::addr::{Gfn, MapSize};
    /// let gfn = Gfn::new(0x4_03ff).unwrap();
    /// assert_eq!(gfn.aligned(MapSize::M4K), gfn);
    /// assert_eq!(gfn.aligned(MapSize::M2M).raw(), 0x4_0200);
    /// assert_eq!(gfn.aligned(MapSize::M1G).raw(), 0x4_0000);
    /// ```
    #[inline]
    pub const fn aligned(self, size: MapSize) -> Self {
        Self(self.0 & !(size.pages().wrapping_sub(1)))
    }

    /// The address of the frame's first byte.
    ///
    /// ```
    /// use gvahint_core::addr::Gfn;
    /// assert_eq!(Gfn::new(5).map(|gfn| gfn.gpa().raw()), Some(0x5000));
    /// ```
    pub const fn gpa(self) -> Gpa {
        Gpa(self.0 << PAGE_SHIFT)
    }
}

/// A canonical guest virtual address.
///
/// ```
/// use gvahint_core::addr::{Gva, VaBits};
/// let top = 0xffff_8000_0000_0000;
/// assert!(Gva::new(top, VaBits::Bits48).is_some());
/// assert!(Gva::new(top - 1, VaBits::Bits48).is_none());
/// assert!(Gva::new(top - 1, VaBits::Bits57).is_some());
/// assert!(Gva::new(1 << 56, VaBits::Bits57).is_none());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gva(u64);

impl Gva {
    /// Checks that the address is canonical for that width.
    ///
    /// ```
    /// use gvahint_core::addr::{Gva, VaBits};
    /// assert!(Gva::new(0x7123, VaBits::Bits48).is_some());
    /// // A pointer with a tag is refused, not stripped of it.
    /// assert_eq!(Gva::new(1 << 62 | 0x7123, VaBits::Bits48), None);
    /// ```
    #[inline]
    pub const fn new(raw: u64, bits: VaBits) -> Option<Self> {
        if bits.is_canonical(raw) {
            Some(Self(raw))
        } else {
            None
        }
    }

    /// For words that hold an address which was a `Gva` when it went in.
    #[inline]
    pub(crate) const fn stored(raw: u64) -> Self {
        Self(raw)
    }

    /// The address as a number.
    ///
    /// ```
    /// use gvahint_core::addr::{Gva, VaBits};
    /// // The kernel's half keeps its sign bits.
    /// let raw = 0xffff_8880_0000_5123;
    /// assert_eq!(Gva::new(raw, VaBits::Bits48).map(Gva::raw), Some(raw));
    /// ```
    #[inline]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The address of the first byte of its page.
    ///
    /// ```
    /// use gvahint_core::addr::{Gva, VaBits};
    /// let gva = Gva::new(u64::MAX, VaBits::Bits48).unwrap();
    /// assert_eq!(gva.page().raw(), 0xffff_ffff_ffff_f000);
    /// ```
    #[inline]
    pub const fn page(self) -> Self {
        Self(self.0 & !(PAGE_SIZE - 1))
    }
}
