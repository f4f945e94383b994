// SPDX-License-Identifier: GPL-2.0

//! Which pages are known to the host, and which of these have changed.
//!
//! Two bits a page. *hinted* is shared with the kernel: the reporter sets it
//! before it looks at the page, the kernel clears it when that stops being
//! true, and tells. *told* is the reporter's own: the host may hold a hint. So
//! a page that is told and not hinted is to be revoked, whenever somebody looks:
//! there is no queue of revocations that could overflow. *dirty* says where to
//! look, one bit for 64 pages.
//!
//! Order: the kernel clears *hinted*, then [`Watch::stale`] sets *dirty*, then
//! *kicked*; the reporter clears *kicked*, then *dirty*, then reads *hinted*. All
//! by sequentially consistent read-modify-write operations, so that whatever
//! the reporter misses has kicked it again.

use crate::cast;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Pages in a word, as log2.
const WORD_BITS: u32 = 6;
/// Pages in a word of *dirty*, as log2.
const DIRTY_BITS: u32 = 2 * WORD_BITS;

/// Words of *hinted*, and of *told*, for so many pages.
///
/// ```
/// use gvahint_core::reporter::watch::words_for;
/// assert_eq!([words_for(0), words_for(64), words_for(65)], [0, 1, 2]);
/// ```
pub const fn words_for(pages: u64) -> u64 {
    pages.div_ceil(1 << WORD_BITS)
}

/// Words of *dirty* for so many pages.
///
/// ```
/// use gvahint_core::reporter::watch::dirty_words_for;
/// assert_eq!([dirty_words_for(4096), dirty_words_for(4097)], [1, 2]);
/// ```
pub const fn dirty_words_for(pages: u64) -> u64 {
    pages.div_ceil(1 << DIRTY_BITS)
}

/// The bits of all pages.
///
/// ```
/// use gvahint_core::reporter::watch::Watch;
/// use gvahint_core::sync::{AtomicU32, AtomicU64};
/// let [hinted, told, dirty] = [const { [const { AtomicU64::new(0) }] }; 3];
/// let kicked = AtomicU32::new(0);
/// let watch = Watch::new(&hinted, &told, &dirty, &kicked);
/// assert!(!watch.is_kicked());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Watch<'a> {
    hinted: &'a [AtomicU64],
    told: &'a [AtomicU64],
    dirty: &'a [AtomicU64],
    kicked: &'a AtomicU32,
}

/// The part of a range of pages that lies in one word.
struct Part {
    word: usize,
    mask: u64,
}

/// The parts of `nr` pages from `first`.
fn parts(first: u64, nr: u64) -> impl Iterator<Item = Part> {
    let end = first.saturating_add(nr);
    let words = first >> WORD_BITS..words_for(end);
    words.map(move |word| {
        let base = word << WORD_BITS;
        let low = first.saturating_sub(base);
        let high = end.saturating_sub(base);
        let upto = if high >= 64 {
            u64::MAX
        } else {
            bit(high).wrapping_sub(1)
        };
        Part {
            word: cast::usize_from_u64(word),
            mask: upto & u64::MAX.wrapping_shl(cast::low_u32(low)),
        }
    })
}

/// The bit of that number, modulo 64.
const fn bit(number: u64) -> u64 {
    1u64.wrapping_shl(cast::low_u32(number))
}

fn load(words: &[AtomicU64], word: usize) -> u64 {
    words.get(word).map_or(0, |w| w.load(Ordering::SeqCst))
}

impl<'a> Watch<'a> {
    /// All words are zero when they are new; as many as [`words_for`] and
    /// [`dirty_words_for`] say.
    ///
    /// ```
    /// use gvahint_core::reporter::watch::Watch;
    /// use gvahint_core::sync::{AtomicU32, AtomicU64};
    /// let [hinted, told, dirty] = [const { [const { AtomicU64::new(0) }] }; 3];
    /// let kicked = AtomicU32::new(0);
    /// let watch = Watch::new(&hinted, &told, &dirty, &kicked);
    /// watch.reset();
    /// ```
    pub const fn new(
        hinted: &'a [AtomicU64],
        told: &'a [AtomicU64],
        dirty: &'a [AtomicU64],
        kicked: &'a AtomicU32,
    ) -> Self {
        Self {
            hinted,
            told,
            dirty,
            kicked,
        }
    }

    /// The kernel has cleared bits of *hinted* in that range. Callable anywhere,
    /// lock-free. Returns whether the reporter is to be woken up.
    ///
    /// ```
    /// use gvahint_core::reporter::watch::Watch;
    /// use gvahint_core::sync::{AtomicU32, AtomicU64};
    /// let [hinted, told, dirty] = [const { [const { AtomicU64::new(0) }] }; 3];
    /// let kicked = AtomicU32::new(0);
    /// let watch = Watch::new(&hinted, &told, &dirty, &kicked);
    /// assert!(watch.stale(5, 1));
    /// // Once is enough, until somebody looks.
    /// assert!(!watch.stale(6, 1));
    /// ```
    pub fn stale(&self, first: u64, nr: u64) -> bool {
        let words = first >> WORD_BITS;
        let nr = words_for(first.saturating_add(nr)).saturating_sub(words);
        for part in parts(words, nr) {
            if let Some(dirty) = self.dirty.get(part.word) {
                if dirty.load(Ordering::SeqCst) & part.mask != part.mask {
                    dirty.fetch_or(part.mask, Ordering::SeqCst);
                }
            }
        }
        self.kicked.load(Ordering::SeqCst) == 0 && self.kicked.swap(1, Ordering::SeqCst) == 0
    }

    /// Whether somebody wants to wake the reporter up.
    ///
    /// ```
    /// use gvahint_core::reporter::watch::Watch;
    /// use gvahint_core::sync::{AtomicU32, AtomicU64};
    /// let [hinted, told, dirty] = [const { [const { AtomicU64::new(0) }] }; 3];
    /// let kicked = AtomicU32::new(0);
    /// let watch = Watch::new(&hinted, &told, &dirty, &kicked);
    /// watch.stale(5, 1);
    /// assert!(watch.is_kicked());
    /// ```
    pub fn is_kicked(&self) -> bool {
        self.kicked.load(Ordering::SeqCst) != 0
    }

    /// Sets the bits of a range: from now on the kernel tells.
    pub(crate) fn set_hinted(&self, first: u64, nr: u64) {
        for part in parts(first, nr) {
            if let Some(word) = self.hinted.get(part.word) {
                word.fetch_or(part.mask, Ordering::SeqCst);
            }
        }
    }

    /// Clears the bits of a range: the kernel need not tell.
    pub(crate) fn clear_hinted(&self, first: u64, nr: u64) {
        for part in parts(first, nr) {
            if let Some(word) = self.hinted.get(part.word) {
                word.fetch_and(!part.mask, Ordering::SeqCst);
            }
        }
    }

    /// Whether nothing has changed in all of a range.
    pub(crate) fn all_hinted(&self, first: u64, nr: u64) -> bool {
        parts(first, nr).all(|part| load(self.hinted, part.word) & part.mask == part.mask)
    }

    /// The host is told of the range.
    pub(crate) fn set_told(&self, first: u64, nr: u64) {
        for part in parts(first, nr) {
            if let Some(word) = self.told.get(part.word) {
                word.fetch_or(part.mask, Ordering::SeqCst);
            }
        }
    }

    /// The host is told that it does not know anything of the range; returns
    /// whether it needs to be.
    pub(crate) fn clear_told(&self, first: u64, nr: u64) -> bool {
        let mut any = 0;
        for part in parts(first, nr) {
            if let Some(word) = self.told.get(part.word) {
                any |= word.fetch_and(!part.mask, Ordering::SeqCst) & part.mask;
            }
        }
        any != 0
    }

    /// Whether the host may hold a hint for that page.
    pub(crate) fn is_told(&self, pfn: u64) -> bool {
        parts(pfn, 1).all(|part| load(self.told, part.word) & part.mask != 0)
    }

    /// The host has forgotten everything, and so does the reporter.
    ///
    /// ```
    /// use gvahint_core::reporter::watch::{Revocations, Watch};
    /// use gvahint_core::sync::{AtomicU32, AtomicU64};
    /// let [hinted, dirty] = [const { [const { AtomicU64::new(0) }] }; 2];
    /// // The host knows of page 5, which the kernel tells has changed.
    /// let told = [AtomicU64::new(1 << 5)];
    /// let kicked = AtomicU32::new(0);
    /// let watch = Watch::new(&hinted, &told, &dirty, &kicked);
    /// watch.stale(5, 1);
    /// watch.reset();
    /// assert_eq!(Revocations::start(&watch).next(&watch), None);
    /// ```
    pub fn reset(&self) {
        for words in [self.hinted, self.told, self.dirty] {
            for word in words {
                word.store(0, Ordering::SeqCst);
            }
        }
    }
}

/// A range that is to be revoked.
///
/// ```
/// use gvahint_core::reporter::watch::{Range, Revocations, Watch};
/// use gvahint_core::sync::{AtomicU32, AtomicU64};
/// let [hinted, dirty] = [const { [const { AtomicU64::new(0) }] }; 2];
/// // The host knows of page 5, which the kernel tells has changed.
/// let told = [AtomicU64::new(1 << 5)];
/// let kicked = AtomicU32::new(0);
/// let watch = Watch::new(&hinted, &told, &dirty, &kicked);
/// watch.stale(5, 1);
/// let revoked = Revocations::start(&watch).next(&watch);
/// assert_eq!(revoked, Some(Range { first: 5, order: 0 }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First page.
    pub first: u64,
    /// log2 of the pages, at most 6.
    pub order: u32,
}

/// One look at all that changed.
///
/// ```
/// use gvahint_core::reporter::watch::{Revocations, Watch};
/// use gvahint_core::sync::{AtomicU32, AtomicU64};
/// let [hinted, dirty] = [const { [const { AtomicU64::new(0) }] }; 2];
/// // The host knows of page 5, which the kernel tells has changed.
/// let told = [AtomicU64::new(1 << 5)];
/// let kicked = AtomicU32::new(0);
/// let watch = Watch::new(&hinted, &told, &dirty, &kicked);
/// watch.stale(5, 1);
/// let mut revocations = Revocations::start(&watch);
/// assert_eq!(revocations.next(&watch).map(|range| range.first), Some(5));
/// assert_eq!(revocations.next(&watch), None);
/// ```
#[derive(Debug, Default)]
pub struct Revocations {
    /// The next word of *dirty*.
    next: usize,
    /// What was in the one before, as far as that is not done.
    dirty: u64,
    /// Pages of the word that is being done.
    gone: u64,
    /// The number of that word.
    word: u64,
}

impl Revocations {
    /// Starts a look.
    ///
    /// ```
    /// use gvahint_core::reporter::watch::{Revocations, Watch};
    /// use gvahint_core::sync::{AtomicU32, AtomicU64};
    /// let [hinted, dirty] = [const { [const { AtomicU64::new(0) }] }; 2];
    /// // The host knows of page 5, which the kernel tells has changed.
    /// let told = [AtomicU64::new(1 << 5)];
    /// let kicked = AtomicU32::new(0);
    /// let watch = Watch::new(&hinted, &told, &dirty, &kicked);
    /// watch.stale(5, 1);
    /// Revocations::start(&watch);
    /// assert!(!watch.is_kicked());
    /// ```
    pub fn start(watch: &Watch<'_>) -> Self {
        watch.kicked.swap(0, Ordering::SeqCst);
        Self::default()
    }

    /// The next range to revoke. The host is told of it from now on.
    ///
    /// ```
    /// use gvahint_core::reporter::watch::{Revocations, Watch};
    /// use gvahint_core::sync::{AtomicU32, AtomicU64};
    /// let [hinted, dirty] = [const { [const { AtomicU64::new(0) }] }; 2];
    /// // The host knows of page 5, which the kernel tells has changed.
    /// let told = [AtomicU64::new(1 << 5)];
    /// let kicked = AtomicU32::new(0);
    /// let watch = Watch::new(&hinted, &told, &dirty, &kicked);
    /// watch.stale(5, 1);
    /// let mut revocations = Revocations::start(&watch);
    /// assert!(revocations.next(&watch).is_some());
    /// // The host has been told: not again.
    /// assert!(Revocations::start(&watch).next(&watch).is_none());
    /// ```
    pub fn next(&mut self, watch: &Watch<'_>) -> Option<Range> {
        while self.gone == 0 {
            while self.dirty == 0 {
                let dirty = watch.dirty.get(self.next)?;
                if dirty.load(Ordering::SeqCst) != 0 {
                    self.dirty = dirty.swap(0, Ordering::SeqCst);
                }
                self.next = self.next.saturating_add(1);
            }
            let base = cast::u64_from_usize(self.next.saturating_sub(1)) << WORD_BITS;
            self.word = base | u64::from(self.dirty.trailing_zeros());
            self.dirty &= self.dirty.wrapping_sub(1);
            let word = cast::usize_from_u64(self.word);
            self.gone = load(watch.told, word) & !load(watch.hinted, word);
        }
        let (at, order) = largest_block(self.gone);
        let first = self.word << WORD_BITS | u64::from(at);
        let nr = 1u64.wrapping_shl(order);
        self.gone &= !block(at, order);
        watch.clear_told(first, nr);
        Some(Range { first, order })
    }
}

/// The bits of a block.
const fn block(at: u32, order: u32) -> u64 {
    if order >= WORD_BITS {
        u64::MAX
    } else {
        let pages = 1u64.wrapping_shl(order);
        bit(pages).wrapping_sub(1).wrapping_shl(at)
    }
}

/// The largest aligned block of set bits that starts at the lowest one.
fn largest_block(bits: u64) -> (u32, u32) {
    let at = bits.trailing_zeros();
    let fits = |order: &u32| {
        let pages = 1u32.wrapping_shl(*order);
        at & pages.wrapping_sub(1) == 0 && bits & block(at, *order) == block(at, *order)
    };
    let order = (1..=WORD_BITS).take_while(fits).last();
    (at, order.unwrap_or(0))
}

#[cfg(all(test, not(loom)))]
mod interrupted;
