// SPDX-License-Identifier: GPL-2.0

//! Address types without arithmetic operators.
//!
//! A value of these types has been checked once, where it came in.

use crate::cast;

/// Bytes in a page as log2.
pub const PAGE_SHIFT: u32 = 12;
/// Bytes in a page.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;
/// Bits of a guest frame number: those of a 52-bit guest-physical address.
pub const GFN_BITS: u32 = 40;

/// How wide the virtual addresses are that the CPU takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VaBits {
    /// 4-level paging.
    Bits48,
    /// 5-level paging.
    Bits57,
}

impl VaBits {
    /// The number of bits.
    pub const fn bits(self) -> u32 {
        match self {
            VaBits::Bits48 => 48,
            VaBits::Bits57 => 57,
        }
    }

    /// Whether all bits from the top one of the width on are equal.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gpa(u64);

impl Gpa {
    /// Checks the width.
    pub const fn new(raw: u64) -> Option<Self> {
        if raw >> (GFN_BITS + PAGE_SHIFT) == 0 {
            Some(Self(raw))
        } else {
            None
        }
    }

    /// The address as a number.
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The frame that the address lies in.
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
    #[inline]
    pub const fn new(raw: u64) -> Option<Self> {
        if raw >> GFN_BITS == 0 {
            Some(Self(raw))
        } else {
            None
        }
    }

    /// The frame number as a number.
    #[inline]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The first frame of the page of that size that this one lies in.
    #[inline]
    pub const fn aligned(self, size: MapSize) -> Self {
        Self(self.0 & !(size.pages().wrapping_sub(1)))
    }

    /// The address of the frame's first byte.
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
    #[inline]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The address of the first byte of its page.
    #[inline]
    pub const fn page(self) -> Self {
        Self(self.0 & !(PAGE_SIZE - 1))
    }
}

/// The size of an EPT leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// 4 KiB.
    L4K,
    /// 2 MiB.
    L2M,
    /// 1 GiB.
    L1G,
}

impl Level {
    /// From KVM's number: 1, 2 or 3.
    pub const fn from_kvm(level: i32) -> Option<Self> {
        match level {
            1 => Some(Level::L4K),
            2 => Some(Level::L2M),
            3 => Some(Level::L1G),
            _ => None,
        }
    }

    /// The size of what it maps.
    pub const fn size(self) -> MapSize {
        match self {
            Level::L4K => MapSize::M4K,
            Level::L2M => MapSize::M2M,
            Level::L1G => MapSize::M1G,
        }
    }

    /// How many 4 KiB pages it spans.
    pub const fn pages(self) -> u64 {
        self.size().pages()
    }
}

/// With which page size the guest maps a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MapSize {
    /// 4 KiB, order 0.
    M4K,
    /// 2 MiB, order 9.
    M2M,
    /// 1 GiB, order 18.
    M1G,
}

impl MapSize {
    /// From log2 of 4 KiB pages: 0, 9 or 18.
    pub const fn from_order(order: u64) -> Option<Self> {
        match order {
            0 => Some(MapSize::M4K),
            9 => Some(MapSize::M2M),
            18 => Some(MapSize::M1G),
            _ => None,
        }
    }

    /// From bytes: 4 KiB, 2 MiB or 1 GiB.
    pub const fn from_bytes(bytes: u64) -> Option<Self> {
        match bytes {
            0x1000 => Some(MapSize::M4K),
            0x20_0000 => Some(MapSize::M2M),
            0x4000_0000 => Some(MapSize::M1G),
            _ => None,
        }
    }

    /// Log2 of 4 KiB pages.
    pub const fn order(self) -> u32 {
        match self {
            MapSize::M4K => 0,
            MapSize::M2M => 9,
            MapSize::M1G => 18,
        }
    }

    /// Size in 4 KiB pages.
    pub const fn pages(self) -> u64 {
        1 << self.order()
    }

    /// Size in bytes.
    pub const fn bytes(self) -> u64 {
        match self {
            MapSize::M4K => 0x1000,
            MapSize::M2M => 0x20_0000,
            MapSize::M1G => 0x4000_0000,
        }
    }
}
