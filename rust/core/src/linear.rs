// SPDX-License-Identifier: GPL-2.0

//! Linear ranges: guest-physical memory that the guest maps by arithmetic,
//! such as its direct map and its kernel image.

use crate::addr::{Gfn, Gva, MapSize, VaBits, GFN_BITS, PAGE_SHIFT, PAGE_SIZE};
use crate::cast;
use crate::gvas::GvaList;
use crate::node::Node;
use crate::sync::{AtomicU64, Ordering};
use crate::wire::{Fault, WireError, MAX_LINEAR};

/// Words of a range on the wire.
const WIRE_WORDS: usize = 4;
/// Words of a range in storage: gfn and page size, pages, gVA.
const WORDS: usize = 3;
/// Words that the ranges of a table take: their number, and the ranges.
const STORE_WORDS: usize = 1 + MAX_LINEAR * WORDS;

/// One linear range.
///
/// ```
/// use gvahint_core::{addr::{Gfn, VaBits}, linear::LinearList};
/// // 4 MiB of memory, mapped by 2 MiB.
/// let words = [0, 0xffff_8880_0000_0000, 4 << 20, 2 << 20];
/// let range = LinearList::parse(&words, VaBits::Bits48).unwrap().iter().next().unwrap();
/// let gva = range.gva(Gfn::new(3).unwrap()).unwrap();
/// assert_eq!(gva.raw(), 0xffff_8880_0000_3000);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearRange {
    gfn: u64,
    pages: u64,
    gva: u64,
    size: MapSize,
}

/// A list of ranges that has been checked.
///
/// ```
/// use gvahint_core::{addr::VaBits, linear::LinearList, wire::{Fault, WireError}};
/// // The second range is longer than the address space behind its gVA.
/// let words = [0, 0, 4096, 4096, 0, 0u64.wrapping_sub(4096), 8192, 4096];
/// let bad = LinearList::parse(&words, VaBits::Bits48).unwrap_err();
/// assert_eq!(bad, WireError::at(5, Fault::GvaOverflow));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct LinearList<'a> {
    words: &'a [u64],
}

impl<'a> LinearList<'a> {
    /// Checks LINEAR's buffer: `struct gvahint_linear`, any number up to the limit.
    ///
    /// ```
    /// use gvahint_core::addr::VaBits;
    /// use gvahint_core::linear::LinearList;
    /// let direct_map = [0, 0xffff_8880_0000_0000, 1 << 30, 1 << 21];
    /// assert_eq!(LinearList::parse(&direct_map, VaBits::Bits48).unwrap().len(), 1);
    /// ```
    ///
    /// # Errors
    ///
    /// The first bad word and what is wrong with it.
    pub fn parse(words: &'a [u64], bits: VaBits) -> Result<Self, WireError> {
        if words.len() % WIRE_WORDS != 0 {
            return Err(WireError::call(Fault::Length));
        }
        if words.len() / WIRE_WORDS > MAX_LINEAR {
            return Err(WireError::call(Fault::TooManyRanges));
        }
        let mut at: usize = 0;
        for range in words.chunks_exact(WIRE_WORDS) {
            if let &[gpa, gva, len, page_size] = range {
                check(gpa, gva, len, page_size, bits)
                    .map_err(|(word, fault)| WireError::at(at.saturating_add(word), fault))?;
            }
            at = at.saturating_add(WIRE_WORDS);
        }
        Ok(Self { words })
    }

    /// How many ranges there are.
    ///
    /// ```
    /// use gvahint_core::{addr::VaBits, linear::LinearList};
    /// // Two ranges of the same memory: the direct map and the kernel's image.
    /// let words = [0, 1 << 46, 4096, 4096, 0, 1 << 45, 4096, 4096];
    /// assert_eq!(LinearList::parse(&words, VaBits::Bits48).unwrap().len(), 2);
    /// ```
    pub const fn len(&self) -> usize {
        self.words.len() / WIRE_WORDS
    }

    /// Whether there is none.
    ///
    /// ```
    /// use gvahint_core::{addr::VaBits, linear::LinearList};
    /// // A guest may declare that it has none.
    /// assert!(LinearList::parse(&[], VaBits::Bits48).unwrap().is_empty());
    /// ```
    pub const fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The ranges.
    ///
    /// ```
    /// use gvahint_core::{addr::{Gfn, VaBits}, linear::LinearList};
    /// let words = [0, 1 << 46, 4096, 4096, 0, 1 << 45, 4096, 4096];
    /// let list = LinearList::parse(&words, VaBits::Bits48).unwrap();
    /// // Every range that holds the frame gives it a gVA.
    /// let gvas = list.iter().filter_map(|range| range.gva(Gfn::new(0)?));
    /// assert!(gvas.map(|gva| gva.raw()).eq([1 << 46, 1 << 45]));
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = LinearRange> + 'a {
        self.words
            .chunks_exact(WIRE_WORDS)
            .filter_map(|range| match *range {
                [gpa, gva, len, page_size] => Some(LinearRange {
                    gfn: gpa >> PAGE_SHIFT,
                    pages: len >> PAGE_SHIFT,
                    gva,
                    size: MapSize::from_bytes(page_size)?,
                }),
                _ => None,
            })
    }
}

/// What is wrong with a range, and with which of its words.
fn check(gpa: u64, gva: u64, len: u64, page_size: u64, bits: VaBits) -> Result<(), (usize, Fault)> {
    let size = MapSize::from_bytes(page_size).ok_or((3, Fault::PageSize))?;
    let low = size.bytes().wrapping_sub(1);
    if gpa & low != 0 {
        return Err((0, Fault::GpaAlign));
    }
    if gva & low != 0 {
        return Err((1, Fault::GvaAlign));
    }
    if len == 0 || len & low != 0 {
        return Err((2, Fault::RangeLen));
    }
    let end = gpa.checked_add(len).ok_or((0, Fault::GpaOverflow))?;
    if end > 1 << (GFN_BITS + PAGE_SHIFT) {
        return Err((0, Fault::GpaOverflow));
    }
    check_gva_range(gva, len, bits).map_err(|fault| (1, fault))
}

/// Checks that `len` bytes (1..=2^52) from `gva` are canonical, all of them.
///
/// Both ends suffice: the hole between the canonical halves is far larger.
pub(crate) fn check_gva_range(gva: u64, len: u64, bits: VaBits) -> Result<(), Fault> {
    let last = gva
        .checked_add(len.wrapping_sub(1))
        .ok_or(Fault::GvaOverflow)?;
    if bits.is_canonical(gva) && bits.is_canonical(last) {
        Ok(())
    } else {
        Err(Fault::NotCanonical)
    }
}

/// The ranges of a table, in a node. Who reads them beside a writer has
/// to find out that they did not change meanwhile: the table's epoch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Store<'a> {
    words: &'a [AtomicU64],
}

impl<'a> Store<'a> {
    /// No node, no ranges.
    pub(crate) fn new(node: Option<&'a Node>) -> Self {
        let words = node.and_then(|node| node.get(..STORE_WORDS));
        Self {
            words: words.unwrap_or_default(),
        }
    }

    fn load(&self) -> impl Iterator<Item = [u64; WORDS]> + 'a {
        let (count, ranges) = match self.words.split_first() {
            Some((count, ranges)) => (count.load(Ordering::Acquire), ranges),
            None => (0, self.words),
        };
        // Not `take`: it leaves a panicking path.
        let words = cast::usize_from_u64(count).saturating_mul(WORDS);
        ranges
            .get(..words)
            .unwrap_or(ranges)
            .chunks_exact(WORDS)
            .map(|range| {
                let mut words = [0; WORDS];
                for (word, cell) in words.iter_mut().zip(range) {
                    *word = cell.load(Ordering::Acquire);
                }
                words
            })
    }

    /// Adds the gVAs that the ranges give a frame; `false` if these are more
    /// than the list holds.
    pub(crate) fn push_gvas(&self, gfn: Gfn, list: &mut GvaList) -> bool {
        self.load().all(|[head, pages, gva]| {
            let range = LinearRange::decode(head, pages, gva);
            range.gva(gfn).is_none_or(|gva| list.push(gva, range.size))
        })
    }

    /// The first gVA that the ranges give a frame, and whether they give more.
    #[inline]
    pub(crate) fn first_gva(&self, gfn: Gfn) -> (Option<(Gva, MapSize)>, bool) {
        let mut gvas = self.load().filter_map(|[head, pages, gva]| {
            let range = LinearRange::decode(head, pages, gva);
            range.gva(gfn).map(|gva| (gva, range.size))
        });
        (gvas.next(), gvas.next().is_some())
    }

    /// Whether a range holds a part of the page of that size, or maps it with
    /// smaller ones.
    pub(crate) fn splits(&self, gfn: Gfn, size: MapSize) -> bool {
        let (start, end) = (gfn.raw(), gfn.raw().saturating_add(size.pages()));
        self.load().any(|[head, pages, gva]| {
            let range = LinearRange::decode(head, pages, gva);
            let range_end = range.gfn.saturating_add(range.pages);
            let apart = range_end <= start || end <= range.gfn;
            !apart && (range.gfn > start || range_end < end || range.size < size)
        })
    }

    /// Whether the ranges are those of the list, in its order.
    pub(crate) fn holds(&self, list: &LinearList<'_>) -> bool {
        // Not `eq`: the library's `take` leaves a panicking path in it.
        let mut ranges = list.iter().map(LinearRange::encode);
        let same = self.load().all(|range| ranges.next() == Some(range));
        same && ranges.next().is_none()
    }

    /// Replaces the ranges.
    pub(crate) fn replace(&self, list: &LinearList<'_>) {
        let Some((count, ranges)) = self.words.split_first() else {
            return;
        };
        for (range, cells) in list.iter().zip(ranges.chunks_exact(WORDS)) {
            for (word, cell) in range.encode().iter().zip(cells) {
                cell.store(*word, Ordering::Release);
            }
        }
        count.store(cast::u64_from_usize(list.len()), Ordering::Release);
    }
}

impl LinearRange {
    /// The gVA of a frame in this range.
    ///
    /// ```
    /// use gvahint_core::{addr::{Gfn, VaBits}, linear::LinearList};
    /// let words = [0x20_0000, 1 << 46, 2 << 20, 2 << 20]; // frames 512 to 1023
    /// let range = LinearList::parse(&words, VaBits::Bits48).unwrap().iter().next().unwrap();
    /// let gva = |gfn| range.gva(Gfn::new(gfn).unwrap()).map(|gva| gva.raw());
    /// assert_eq!((gva(511), gva(512), gva(1024)), (None, Some(1 << 46), None));
    /// ```
    pub fn gva(&self, gfn: Gfn) -> Option<Gva> {
        let page = gfn.raw().checked_sub(self.gfn)?;
        if page >= self.pages {
            return None;
        }
        // In range: the sum was checked for the whole range.
        let offset = page.wrapping_mul(PAGE_SIZE);
        Some(Gva::stored(self.gva.wrapping_add(offset)))
    }

    fn encode(self) -> [u64; WORDS] {
        let order = u64::from(self.size.order());
        [self.gfn | order << GFN_BITS, self.pages, self.gva]
    }

    fn decode(head: u64, pages: u64, gva: u64) -> Self {
        Self {
            gfn: head & ((1 << GFN_BITS) - 1),
            pages,
            gva,
            size: MapSize::from_order(head >> GFN_BITS).unwrap_or(MapSize::M4K),
        }
    }
}
