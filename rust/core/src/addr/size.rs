// SPDX-License-Identifier: GPL-2.0

//! Sizes of pages: of an EPT leaf, and of the guest's mapping.

/// The size of an EPT leaf.
///
/// ```
/// use gvahint_core::addr::Level;
/// // Ordered by size.
/// assert!(Level::L4K < Level::L2M && Level::L2M < Level::L1G);
/// ```
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
    ///
    /// ```
    /// use gvahint_core::addr::Level;
    /// assert_eq!(Level::from_kvm(2), Some(Level::L2M));
    /// // Neither "none" nor the 512G level has leaves.
    /// assert_eq!((Level::from_kvm(0), Level::from_kvm(4)), (None, None));
    /// ```
    pub const fn from_kvm(level: i32) -> Option<Self> {
        match level {
            1 => Some(Level::L4K),
            2 => Some(Level::L2M),
            3 => Some(Level::L1G),
            _ => None,
        }
    }

    /// KVM's number.
    ///
    /// ```
    /// use gvahint_core::addr::Level;
    /// assert_eq!(Level::from_kvm(3).map(Level::to_kvm), Some(3));
    /// ```
    pub const fn to_kvm(self) -> u32 {
        match self {
            Level::L4K => 1,
            Level::L2M => 2,
            Level::L1G => 3,
        }
    }

    /// The size of what it maps.
    ///
    /// ```
    /// use gvahint_core::addr::{Gfn, Level};
    /// // The frames of a leaf begin where a mapping of its size does.
    /// let gfn = Gfn::new(600).unwrap();
    /// assert_eq!(gfn.aligned(Level::L2M.size()).raw(), 512);
    /// ```
    pub const fn size(self) -> MapSize {
        match self {
            Level::L4K => MapSize::M4K,
            Level::L2M => MapSize::M2M,
            Level::L1G => MapSize::M1G,
        }
    }

    /// How many 4 KiB pages it spans.
    ///
    /// ```
    /// use gvahint_core::addr::Level;
    /// assert_eq!(Level::L2M.pages(), 512);
    /// assert_eq!(Level::L1G.pages(), 512 * 512);
    /// ```
    pub const fn pages(self) -> u64 {
        self.size().pages()
    }
}

/// With which page size the guest maps a page.
///
/// ```
/// use gvahint_core::addr::MapSize;
/// // Ordered by size: a mapping at least as large as an EPT leaf spans all of it.
/// assert!(MapSize::M1G >= MapSize::M2M);
/// assert!(MapSize::M4K < MapSize::M2M);
/// ```
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
    ///
    /// ```
    /// use gvahint_core::addr::MapSize;
    /// assert_eq!(MapSize::from_order(9), Some(MapSize::M2M));
    /// // Contiguous pages are none: the CPU maps by three sizes only.
    /// assert_eq!(MapSize::from_order(4), None);
    /// ```
    pub const fn from_order(order: u64) -> Option<Self> {
        match order {
            0 => Some(MapSize::M4K),
            9 => Some(MapSize::M2M),
            18 => Some(MapSize::M1G),
            _ => None,
        }
    }

    /// From bytes: 4 KiB, 2 MiB or 1 GiB.
    ///
    /// ```
    /// use gvahint_core::addr::MapSize;
    /// assert_eq!(MapSize::from_bytes(2 << 20), Some(MapSize::M2M));
    /// assert_eq!(MapSize::from_bytes(4 << 20), None); // 32-bit guests'
    /// ```
    pub const fn from_bytes(bytes: u64) -> Option<Self> {
        match bytes {
            0x1000 => Some(MapSize::M4K),
            0x20_0000 => Some(MapSize::M2M),
            0x4000_0000 => Some(MapSize::M1G),
            _ => None,
        }
    }

    /// Log2 of 4 KiB pages.
    ///
    /// ```
    /// use gvahint_core::addr::MapSize;
    /// let size = MapSize::from_order(18).unwrap();
    /// assert_eq!(size.order(), 18);
    /// // Of pages; of bytes it is 12 more.
    /// assert_eq!(size.bytes(), 1 << (size.order() + 12));
    /// ```
    pub const fn order(self) -> u32 {
        match self {
            MapSize::M4K => 0,
            MapSize::M2M => 9,
            MapSize::M1G => 18,
        }
    }

    /// Size in 4 KiB pages.
    ///
    /// ```
    /// use gvahint_core::addr::{Level, MapSize};
    /// assert_eq!(MapSize::M2M.pages(), Level::L2M.pages());
    /// assert_eq!(MapSize::M4K.pages(), 1);
    /// ```
    pub const fn pages(self) -> u64 {
        1 << self.order()
    }

    /// Size in bytes.
    ///
    /// ```
    /// use gvahint_core::addr::MapSize;
    /// assert_eq!(MapSize::M4K.bytes(), 4096);
    /// assert_eq!(MapSize::M1G.bytes(), 1 << 30);
    /// ```
    pub const fn bytes(self) -> u64 {
        match self {
            MapSize::M4K => 0x1000,
            MapSize::M2M => 0x20_0000,
            MapSize::M1G => 0x4000_0000,
        }
    }
}
