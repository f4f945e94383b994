// SPDX-License-Identifier: GPL-2.0

//! Which pages are known to the host, and which of these have changed.
//!
//! Four bits a page. Two are shared with the kernel: the reporter sets them
//! before it looks at the page, the kernel clears them when that stops being
//! true, and tells. *hinted*: its gVAs are known. *data*: it is no page table;
//! that outlasts the former, also when the page is freed and another process
//! has it. Two are the reporter's own. *told*: the host may hold a hint. *exact*:
//! one that takes *hinted*, or else `Anywhere` or `TooMany`, which take *data*. So what is to
//! be said of a page that has changed shows whenever somebody looks: there is no
//! queue of revocations that could overflow. *dirty* says where to look, one bit
//! for 64 pages.
//!
//! Order: the kernel clears a bit, then [`Watch::stale`] sets *dirty*, then
//! *kicked*; the reporter clears *kicked*, then *dirty*, then reads the bits. All
//! by sequentially consistent read-modify-write operations, so that whatever
//! the reporter misses has kicked it again.

use super::batch::Header;
use super::bitmap::{bit, words, Bitmap, WORD_BITS};
use crate::cast;
use crate::report::Kind;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Words of each of the four maps, for so many pages.
///
/// ```
/// use gvahint_core::reporter::watch::words_for;
/// assert_eq!([words_for(0), words_for(64), words_for(65)], [0, 1, 2]);
/// ```
pub const fn words_for(pages: u64) -> u64 {
    words(pages)
}

/// Words of *dirty* for so many pages.
///
/// ```
/// use gvahint_core::reporter::watch::dirty_words_for;
/// assert_eq!([dirty_words_for(4096), dirty_words_for(4097)], [1, 2]);
/// ```
pub const fn dirty_words_for(pages: u64) -> u64 {
    words(words(pages))
}

/// The bits of all pages.
///
/// ```
/// use gvahint_core::reporter::watch::Watch;
/// use gvahint_core::sync::{AtomicU32, AtomicU64};
/// let maps = [const { [const { AtomicU64::new(0) }] }; 4];
/// let (dirty, kicked) = ([const { AtomicU64::new(0) }], AtomicU32::new(0));
/// let watch = Watch::new(maps.each_ref().map(|map| &map[..]), &dirty, &kicked);
/// assert!(!watch.is_kicked());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Watch<'a> {
    pub(super) hinted: Bitmap<'a>,
    pub(super) data: Bitmap<'a>,
    told: Bitmap<'a>,
    exact: Bitmap<'a>,
    dirty: Bitmap<'a>,
    kicked: &'a AtomicU32,
}

/// What was true of pages when the reporter began to look at them.
#[derive(Clone, Copy)]
pub(super) struct Before {
    hinted: bool,
    pub(super) data: bool,
    /// The host was told of one, and it may have been a page table since.
    pub(super) lost: bool,
}

impl<'a> Watch<'a> {
    /// *hinted*, *data*, *told* and *exact*; *dirty*; *kicked*. All words are zero
    /// when they are new; as many as [`words_for`] and [`dirty_words_for`] say.
    ///
    /// ```
    /// use gvahint_core::reporter::watch::Watch;
    /// use gvahint_core::sync::{AtomicU32, AtomicU64};
    /// let maps = [const { [const { AtomicU64::new(0) }] }; 4];
    /// let (dirty, kicked) = ([const { AtomicU64::new(0) }], AtomicU32::new(0));
    /// let watch = Watch::new(maps.each_ref().map(|map| &map[..]), &dirty, &kicked);
    /// watch.reset();
    /// ```
    pub const fn new(
        maps: [&'a [AtomicU64]; 4],
        dirty: &'a [AtomicU64],
        kicked: &'a AtomicU32,
    ) -> Self {
        let [hinted, data, told, exact] = maps;
        Self {
            hinted: Bitmap(hinted),
            data: Bitmap(data),
            told: Bitmap(told),
            exact: Bitmap(exact),
            dirty: Bitmap(dirty),
            kicked,
        }
    }

    /// The kernel has cleared bits in that range. Callable anywhere, lock-free.
    /// Returns whether the reporter is to be woken up.
    ///
    /// ```
    /// # let bits = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/watch.rs"));
    /// let watch = bits.watch();
    /// assert!(watch.stale(5, 1));
    /// // Once is enough, until somebody looks.
    /// assert!(!watch.stale(6, 1));
    /// ```
    pub fn stale(&self, first: u64, nr: u64) -> bool {
        let word = first >> WORD_BITS;
        let nr = words(first.saturating_add(nr)).saturating_sub(word);
        self.dirty.mark(word, nr);
        self.kicked.load(Ordering::SeqCst) == 0 && self.kicked.swap(1, Ordering::SeqCst) == 0
    }

    /// Whether somebody wants to wake the reporter up.
    ///
    /// ```
    /// # let bits = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/watch.rs"));
    /// let watch = bits.watch();
    /// watch.stale(5, 1);
    /// assert!(watch.is_kicked());
    /// ```
    pub fn is_kicked(&self) -> bool {
        self.kicked.load(Ordering::SeqCst) != 0
    }

    /// From now on the kernel tells of changes in that range.
    pub(super) fn begin(&self, first: u64, nr: u64) -> Before {
        let hinted = self.hinted.set(first, nr);
        let (data, lost) = self.data.set_beside(first, nr, &self.told);
        Before { hinted, data, lost }
    }

    /// Whether nothing has changed that takes a hint of that kind.
    pub(super) fn holds(&self, kind: Kind, first: u64, nr: u64) -> bool {
        if lists_nothing(kind) {
            self.data.all(first, nr)
        } else {
            self.hinted.all(first, nr)
        }
    }

    /// The host is told of the range, and the kernel need not tell of anything else.
    pub(super) fn tell(&self, kind: Kind, first: u64, nr: u64) {
        self.told.set(first, nr);
        if lists_nothing(kind) {
            self.exact.clear(first, nr);
            self.hinted.clear(first, nr);
        } else {
            self.exact.set(first, nr);
        }
        if kind == Kind::PageTable {
            self.data.clear(first, nr);
        }
    }

    /// Nothing is known of the range; returns whether the host needs to be told.
    pub(super) fn forget(&self, first: u64, nr: u64) -> bool {
        self.hinted.clear(first, nr);
        self.data.clear(first, nr);
        self.told.clear(first, nr)
    }

    /// Whether the host holds a hint of that page that was true before, and is unless the kernel tells.
    /// The bits are what they were.
    pub(super) fn resume(&self, pfn: u64, before: Before) -> bool {
        let exact = self.exact.all(pfn, 1);
        let valid = self.told.all(pfn, 1) && if exact { before.hinted } else { before.data };
        if valid && !before.hinted {
            self.hinted.clear(pfn, 1);
        }
        if valid && !before.data {
            self.data.clear(pfn, 1);
        }
        valid
    }

    /// The host has forgotten everything, and so does the reporter.
    ///
    /// ```
    /// use gvahint_core::reporter::watch::Revocations;
    /// # let bits = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/watch.rs"));
    /// bits.changed(5);
    /// let watch = bits.watch();
    /// watch.reset();
    /// assert_eq!(Revocations::start(&watch).next(&watch), None);
    /// ```
    pub fn reset(&self) {
        for map in [self.hinted, self.data, self.told, self.exact, self.dirty] {
            map.reset();
        }
    }
}

/// Whether a flush of the context drops what leads to such a page, wherever that is.
const fn lists_nothing(kind: Kind) -> bool {
    matches!(kind, Kind::Anywhere | Kind::TooMany)
}

/// One look at all that changed.
///
/// ```
/// use gvahint_core::report::Kind;
/// use gvahint_core::reporter::watch::Revocations;
/// # let bits = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/watch.rs"));
/// bits.changed(5);
/// let watch = bits.watch();
/// let mut revocations = Revocations::start(&watch);
/// let set = revocations.next(&watch).unwrap();
/// assert_eq!((set.gfn, set.order, set.kind), (5, 0, Kind::Revoked));
/// assert_eq!(revocations.next(&watch), None);
/// ```
#[derive(Debug, Default)]
pub struct Revocations {
    /// The next word of *dirty*.
    next: usize,
    /// What was in the one before, as far as that is not done.
    dirty: u64,
    /// Pages of the word that is being done, of which nothing is known.
    gone: u64,
    /// The same, of which it is known that they are no page tables.
    data: u64,
    /// The number of that word.
    word: u64,
}

impl Revocations {
    /// Starts a look.
    ///
    /// ```
    /// use gvahint_core::reporter::watch::Revocations;
    /// # let bits = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/watch.rs"));
    /// let watch = bits.watch();
    /// watch.stale(5, 1);
    /// Revocations::start(&watch);
    /// assert!(!watch.is_kicked());
    /// ```
    pub fn start(watch: &Watch<'_>) -> Self {
        watch.kicked.swap(0, Ordering::SeqCst);
        Self::default()
    }

    /// The next set to send, of at most 64 pages: `Revoked`, or `Anywhere` where
    /// that is still true. The host is told of it from now on.
    ///
    /// ```
    /// use gvahint_core::reporter::watch::Revocations;
    /// # let bits = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/watch.rs"));
    /// bits.changed(5);
    /// let watch = bits.watch();
    /// let mut revocations = Revocations::start(&watch);
    /// assert!(revocations.next(&watch).is_some());
    /// // The host has been told: not again.
    /// assert!(Revocations::start(&watch).next(&watch).is_none());
    /// ```
    pub fn next(&mut self, watch: &Watch<'_>) -> Option<Header> {
        while self.gone | self.data == 0 {
            while self.dirty == 0 {
                self.dirty = watch.dirty.take(self.next)?;
                self.next = self.next.saturating_add(1);
            }
            let base = cast::u64_from_usize(self.next.saturating_sub(1)) << WORD_BITS;
            self.word = base | u64::from(self.dirty.trailing_zeros());
            self.dirty &= self.dirty.wrapping_sub(1);
            let word = cast::usize_from_u64(self.word);
            let (told, exact) = (watch.told.word(word), watch.exact.word(word));
            let (hinted, data) = (watch.hinted.word(word), watch.data.word(word));
            let changed = told & !(exact & hinted);
            self.gone = changed & !data;
            self.data = changed & data & exact;
        }
        let (pages, kind) = match self.gone {
            0 => (&mut self.data, Kind::Anywhere),
            _ => (&mut self.gone, Kind::Revoked),
        };
        let (at, order) = largest_block(*pages);
        *pages &= !block(at, order);
        let first = self.word << WORD_BITS | u64::from(at);
        let nr = 1u64.wrapping_shl(order);
        watch.exact.clear(first, nr);
        if kind == Kind::Revoked {
            watch.told.clear(first, nr);
        }
        Some(Header {
            gfn: first,
            order,
            kind,
        })
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
