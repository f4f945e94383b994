// SPDX-License-Identifier: GPL-2.0

//! REPORT: from words to sets, and from sets into the table.
//!
//! In the examples, `vm` is the storage of a small VM: `tests/doc/vm.rs`.

use crate::addr::{Gfn, Gva, MapSize, VaBits, PAGE_SHIFT, PAGE_SIZE};
use crate::cast;
use crate::linear::check_gva_range;
use crate::wire::{self, Fault, WireError, MAX_ORDER, MAX_SET_GVAS};

mod apply;
pub use apply::{apply, Applied};

/// What a set says of its range.
///
/// ```
/// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
/// use gvahint_core::plan::Reason;
/// vm.map(5, 0, &[0x7000]);
/// // To take a hint back is a set like any other: kind 5, REVOKED.
/// assert_eq!(vm.report(&[5 | 5 << 46]).answer(), Ok(1));
/// assert_eq!(vm.lookup(5), Err(Reason::NoHint));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Reached under the listed gVAs.
    Mapped,
    /// Reached through the linear ranges only.
    KernelOnly,
    /// The CPU's own walks touch it.
    PageTable,
    /// More gVAs than a set holds.
    TooMany,
    /// What was reported is no longer the whole truth.
    Revoked,
    /// Reached under gVAs that can't be told, but no page table.
    Anywhere,
}

impl Kind {
    /// From the number on the wire.
    ///
    /// ```
    /// use gvahint_core::report::Kind;
    /// assert_eq!(Kind::from_wire(1), Some(Kind::Mapped));
    /// // So a header of zeroes is refused.
    /// assert_eq!((Kind::from_wire(0), Kind::from_wire(7)), (None, None));
    /// ```
    pub const fn from_wire(number: u64) -> Option<Self> {
        match number {
            1 => Some(Kind::Mapped),
            2 => Some(Kind::KernelOnly),
            3 => Some(Kind::PageTable),
            4 => Some(Kind::TooMany),
            5 => Some(Kind::Revoked),
            6 => Some(Kind::Anywhere),
            _ => None,
        }
    }
}

/// A set that has been checked: all of its range and all of its gVAs.
///
/// ```
/// use gvahint_core::{addr::VaBits, report::{Kind, Limits, Sets}};
/// let limits = Limits { bits: VaBits::Bits48, max_gfn: 1 << 27 };
/// // Frames 8 to 11, order 2, are KERNEL_ONLY, kind 2.
/// let words = [8 | 2 << 40 | 2 << 46];
/// let set = Sets::new(&words, limits).next(&mut |_, _| true).unwrap().unwrap();
/// assert_eq!((set.gfn().raw(), set.pages(), set.kind()), (8, 4, Kind::KernelOnly));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Set<'a> {
    gfn: Gfn,
    order: u32,
    kind: Kind,
    gvas: &'a [u64],
}

impl<'a> Set<'a> {
    /// First frame of the range.
    ///
    /// ```
    /// use gvahint_core::{addr::VaBits, report::{Limits, Sets}, wire::Fault};
    /// let limits = Limits { bits: VaBits::Bits48, max_gfn: 1 << 27 };
    /// let first = |header| {
    ///     let words = [header];
    ///     let set = Sets::new(&words, limits).next(&mut |_, _| true).unwrap();
    ///     set.map(|set| set.gfn().raw()).map_err(|bad| bad.fault)
    /// };
    /// // It is aligned to the range, not rounded.
    /// assert_eq!(first(512 | 9 << 40 | 2 << 46), Ok(512));
    /// assert_eq!(first(600 | 9 << 40 | 2 << 46), Err(Fault::GpaAlign));
    /// ```
    pub const fn gfn(&self) -> Gfn {
        self.gfn
    }

    /// log2 of the frames in the range.
    ///
    /// ```
    /// use gvahint_core::{addr::VaBits, report::{Limits, Sets}, wire::Fault};
    /// let limits = Limits { bits: VaBits::Bits48, max_gfn: 1 << 27 };
    /// let order = |header| {
    ///     let words = [header];
    ///     let set = Sets::new(&words, limits).next(&mut |_, _| true).unwrap();
    ///     set.map(|set| set.order()).map_err(|bad| bad.fault)
    /// };
    /// // Any up to that of 1G, not only those that the CPU maps by.
    /// assert_eq!(order(3 << 40 | 2 << 46), Ok(3));
    /// assert_eq!(order(19 << 40 | 2 << 46), Err(Fault::OrderTooLarge));
    /// ```
    pub const fn order(&self) -> u32 {
        self.order
    }

    /// Frames in the range.
    ///
    /// ```
    /// use gvahint_core::{addr::VaBits, report::{Limits, Sets}};
    /// let limits = Limits { bits: VaBits::Bits48, max_gfn: 1 << 27 };
    /// let words = [18 << 40 | 2 << 46];
    /// let set = Sets::new(&words, limits).next(&mut |_, _| true).unwrap().unwrap();
    /// assert_eq!(set.pages() << 12, 1 << 30);
    /// ```
    pub const fn pages(&self) -> u64 {
        1u64.wrapping_shl(self.order)
    }

    /// What is said of it.
    ///
    /// ```
    /// use gvahint_core::{addr::VaBits, report::{Kind, Limits, Sets}};
    /// let limits = Limits { bits: VaBits::Bits48, max_gfn: 1 << 27 };
    /// let words = [5 | 4 << 46];
    /// let set = Sets::new(&words, limits).next(&mut |_, _| true).unwrap().unwrap();
    /// // The guest's walk found more than a set can list: no gVA is listed then.
    /// assert_eq!((set.kind(), set.gvas().len()), (Kind::TooMany, 0));
    /// ```
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The gVAs of the first frame, and with which page size the guest maps
    /// each; the other frames follow contiguously.
    ///
    /// ```
    /// use gvahint_core::{addr::{MapSize, VaBits}, report::{Limits, Sets}};
    /// let limits = Limits { bits: VaBits::Bits48, max_gfn: 1 << 27 };
    /// // Frame 5 in the middle of a 2M page, and in a page of its own.
    /// let words = [5 | 1 << 46 | 2 << 50, 0x4000_5000 | 9, 0x7000];
    /// let set = Sets::new(&words, limits).next(&mut |_, _| true).unwrap().unwrap();
    /// let gvas = set.gvas().map(|(gva, size)| (gva.raw(), size));
    /// assert!(gvas.eq([(0x4000_5000, MapSize::M2M), (0x7000, MapSize::M4K)]));
    /// ```
    pub fn gvas(&self) -> impl ExactSizeIterator<Item = (Gva, MapSize)> + 'a {
        self.gvas.iter().map(|word| {
            let size = MapSize::from_order(word & ORDER_MASK).unwrap_or(MapSize::M4K);
            (Gva::stored(word & !ORDER_MASK), size)
        })
    }
}

const ORDER_MASK: u64 = (1 << wire::GVA_ORDER_BITS) - 1;

/// What sets are checked against.
///
/// ```
/// use gvahint_core::{addr::VaBits, report::{Limits, Sets}, wire::{Fault, WireError}};
/// // A gVA of a 5-level guest is refused where the CPU has 4 levels.
/// let words = [5 | 1 << 46 | 1 << 50, 1 << 50];
/// for (bits, bad) in [(VaBits::Bits48, Some(Fault::NotCanonical)), (VaBits::Bits57, None)] {
///     let mut sets = Sets::new(&words, Limits { bits, max_gfn: 1 << 27 });
///     let set = sets.next(&mut |_, _| true).unwrap();
///     assert_eq!(set.err(), bad.map(|fault| WireError::at(1, fault)));
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Width of the host's virtual addresses.
    pub bits: VaBits,
    /// First gfn for which there is no room.
    pub max_gfn: u64,
}

/// The sets of a REPORT's buffer, one after the other. It ends at the first
/// bad one.
///
/// ```
/// use gvahint_core::{addr::VaBits, report::{Limits, Sets}, wire::{Fault, WireError}};
/// let limits = Limits { bits: VaBits::Bits48, max_gfn: 1 << 27 };
/// // A good set of two words, a bad one, and one that is never looked at.
/// let words = [5 | 1 << 46 | 1 << 50, 0x7000, 0, 6 | 2 << 46];
/// let mut sets = Sets::new(&words, limits);
/// assert!(sets.next(&mut |_, _| true).unwrap().is_ok());
/// let bad = sets.next(&mut |_, _| true).unwrap();
/// assert_eq!(bad.err(), Some(WireError::at(2, Fault::Kind)));
/// assert!(sets.next(&mut |_, _| true).is_none());
/// ```
#[derive(Debug)]
pub struct Sets<'a> {
    words: &'a [u64],
    at: usize,
    /// In the ranges so far.
    frames: u64,
    limits: Limits,
}

impl<'a> Sets<'a> {
    /// Starts at the first word.
    ///
    /// ```
    /// use gvahint_core::{addr::VaBits, report::{Limits, Sets}};
    /// let limits = Limits { bits: VaBits::Bits48, max_gfn: 1 << 27 };
    /// // An empty buffer is fine: it renews the lease.
    /// assert!(Sets::new(&[], limits).next(&mut |_, _| true).is_none());
    /// ```
    pub const fn new(words: &'a [u64], limits: Limits) -> Self {
        Self {
            words,
            at: 0,
            frames: 0,
            limits,
        }
    }

    /// Whether there is no further set, or there were enough.
    ///
    /// ```
    /// use gvahint_core::{addr::VaBits, report::{Limits, Sets}};
    /// let limits = Limits { bits: VaBits::Bits48, max_gfn: 1 << 27 };
    /// // Two sets of 1G: the first is as much as one call looks for in the memslots.
    /// let words = [18 << 40 | 2 << 46, 1 << 18 | 18 << 40 | 2 << 46];
    /// let mut sets = Sets::new(&words, limits);
    /// assert!(sets.next(&mut |_, _| true).unwrap().is_ok());
    /// assert!(sets.is_done());
    /// ```
    pub const fn is_done(&self) -> bool {
        self.at >= self.words.len() || self.frames >= MAX_FRAMES
    }

    /// The next set; `None` at the buffer's end. `valid(gfn, pages)` tells
    /// whether all of a range lies in the memslots.
    ///
    /// ```
    /// use gvahint_core::{addr::VaBits, report::{Limits, Sets}, wire::{Fault, WireError}};
    /// let limits = Limits { bits: VaBits::Bits48, max_gfn: 1 << 27 };
    /// // Frames 8 to 15, and a memslot that ends before 12.
    /// let words = [8 | 3 << 40 | 2 << 46];
    /// let set = Sets::new(&words, limits).next(&mut |gfn, pages| gfn + pages <= 12);
    /// assert_eq!(set.unwrap().err(), Some(WireError::at(0, Fault::Memslot)));
    /// ```
    pub fn next(
        &mut self,
        valid: &mut impl FnMut(u64, u64) -> bool,
    ) -> Option<Result<Set<'a>, WireError>> {
        let rest = self.words.get(self.at..)?;
        let (header, rest) = rest.split_first()?;
        let set = self.parse(*header, rest, valid);
        self.at = match &set {
            Ok(set) => {
                self.frames = self.frames.saturating_add(set.pages());
                self.at.saturating_add(1).saturating_add(set.gvas.len())
            }
            Err(_) => usize::MAX,
        };
        Some(set)
    }

    fn parse(
        &self,
        header: u64,
        rest: &'a [u64],
        valid: &mut impl FnMut(u64, u64) -> bool,
    ) -> Result<Set<'a>, WireError> {
        let bad = |fault| WireError::at(self.at, fault);
        let gfn = field(header, 0, wire::SET_GFN_BITS);
        let order = field(header, wire::SET_ORDER_SHIFT, wire::SET_ORDER_BITS);
        let kind = field(header, wire::SET_KIND_SHIFT, wire::SET_KIND_BITS);
        let count = field(header, wire::SET_COUNT_SHIFT, wire::SET_COUNT_BITS);

        let kind = Kind::from_wire(kind).ok_or(bad(Fault::Kind))?;
        match (kind, count) {
            (Kind::Mapped, 0) => return Err(bad(Fault::NoGva)),
            (Kind::Mapped, _) | (_, 0) => {}
            (_, _) => return Err(bad(Fault::UnexpectedGva)),
        }
        if count > cast::u64_from_usize(MAX_SET_GVAS) {
            return Err(bad(Fault::TooManyGvas));
        }
        if order > u64::from(MAX_ORDER) {
            return Err(bad(Fault::OrderTooLarge));
        }
        let order = cast::low_u32(order);
        let gvas = rest
            .get(..cast::usize_from_u64(count))
            .ok_or(bad(Fault::Truncated))?;

        let pages = 1u64.wrapping_shl(order);
        if gfn & pages.wrapping_sub(1) != 0 {
            return Err(bad(Fault::GpaAlign));
        }
        // Aligned and below 2^40: the end cannot overflow.
        if !valid(gfn, pages) {
            return Err(bad(Fault::Memslot));
        }
        if gfn.saturating_add(pages) > self.limits.max_gfn {
            return Err(bad(Fault::BeyondTable));
        }
        let gfn = Gfn::new(gfn).ok_or(bad(Fault::BeyondTable))?;
        let mut at = self.at;
        for word in gvas {
            at = at.saturating_add(1);
            self.check_gva(*word, order)
                .map_err(|fault| WireError::at(at, fault))?;
        }
        Ok(Set {
            gfn,
            order,
            kind,
            gvas,
        })
    }

    /// Checks a gVA word of a set of that order.
    #[inline]
    fn check_gva(&self, word: u64, order: u32) -> Result<(), Fault> {
        let size = MapSize::from_order(word & ORDER_MASK).ok_or(Fault::MapOrder)?;
        let gva = word & !ORDER_MASK;
        let aligned = PAGE_SIZE.wrapping_shl(order.min(size.order()));
        if gva & aligned.wrapping_sub(1) != 0 {
            return Err(Fault::GvaAlign);
        }
        check_gva_range(
            gva,
            1u64.wrapping_shl(order.wrapping_add(PAGE_SHIFT)),
            self.limits.bits,
        )
    }
}

const fn field(word: u64, shift: u32, bits: u32) -> u64 {
    word.wrapping_shr(shift) & 1u64.wrapping_shl(bits).wrapping_sub(1)
}

/// Frames that one REPORT speaks of at most, unless its first set does of
/// more: what was known of each has to be let go of. The guest resends the rest.
const MAX_FRAMES: u64 = 1 << 18;
