// SPDX-License-Identifier: GPL-2.0

//! The hint table: frame -> the complete set of gVAs, or why there is none.
//!
//! A radix tree over the guest-physical space, of [nodes](crate::node) with
//! 512 words each (`slot.rs`). A word at a level is a hint for all frames that
//! it spans (1G, 2M or one frame), the link to a node of the next level, or 0.
//! So what the guest maps by 2M, or contiguously, costs a word per 2M.
//!
//! | reach of the root | levels |
//! |---|---|
//! | 512 GiB | 1G, 2M, 4K |
//! | 256 TiB | 512G, 1G, 2M, 4K |
//! | 52 bits | 256T, 512G, 1G, 2M, 4K |
//!
//! Several gVAs stand in a cell (`cells.rs`), in nodes of the same memory; so do
//! the linear ranges. A table without hints is the seven words of [`Top`].
//!
//! # Invariants
//!
//! - One writer at a time ([`crate::writer`]), any number of readers, which
//!   never wait and never retry: what changes while it is read is declined.
//! - A node is linked when what it holds is there, and leaves the tree before
//!   anything else is written to it. It is taken back after a grace period: a
//!   reader that still is in it finds what it held, or declines.
//! - A slot that names a cell is replaced before the cell is written again;
//!   so who finds the slot unchanged after reading the cell has read one set.
//! - No node but the root's is empty; an empty root is none.
//!
//! In the examples, `vm` is the storage of a small VM: `tests/doc/vm.rs`.

use crate::addr::{Gfn, Gva, MapSize, PAGE_SIZE};
use crate::cast;
use crate::cells;
use crate::gvas::GvaList;
use crate::linear::Store;
use crate::node::{Nodes, NODE_BITS, NODE_SLOTS};
use crate::plan::Reason;
use crate::policy::LinearAlias;
use crate::slot::{Child, Content, Slot};
use crate::sync::{AtomicU64, Ordering};

mod shape;

pub use shape::{Shape, Top};

/// Levels of the largest table.
pub(crate) const MAX_LEVELS: usize = 5;

/// What a lookup depends on besides the frame.
///
/// ```
/// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
/// use gvahint_core::{addr::Gfn, table::Query};
/// vm.map(5, 0, &[0x7000]);
/// let covers = |now_ms| {
///     let query = Query { now_ms, max_age_ms: 500, ..vm.query() };
///     vm.hints().lookup(Gfn::new(5).unwrap(), &query).is_ok()
/// };
/// // Reported at 1,000 ms; ages are rounded up to 32 ms.
/// assert!(covers(1_471) && !covers(1_472));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// Now, on the clock that writers use.
    pub now_ms: u64,
    /// From this age on a hint does not cover.
    pub max_age_ms: u32,
    /// Whether the linear ranges' gVAs count.
    pub alias: LinearAlias,
}

/// A VM's table, as far as one call needs it.
///
/// ```
/// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
/// use gvahint_core::{addr::Gfn, plan::Reason};
/// vm.report(&[5 | 3 << 46]).answer().unwrap(); // frame 5 is a page table
/// let hints = vm.hints();
/// let found = |gfn| hints.lookup(Gfn::new(gfn).unwrap(), &vm.query()).err();
/// assert_eq!(found(5), Some(Reason::PageTable));
/// assert_eq!(found(6), Some(Reason::NoHint));
/// ```
#[derive(Debug)]
pub struct Hints<'a, N> {
    pub(crate) top: &'a Top,
    pub(crate) nodes: &'a N,
    pub(crate) shape: Shape,
}

impl<N> Clone for Hints<'_, N> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<N> Copy for Hints<'_, N> {}

/// What was found in the tree.
pub(crate) struct Found<'a> {
    place: &'a AtomicU64,
    pub(crate) slot: Slot,
    /// log2 of the frames that it spans.
    shift: u32,
}

impl Found<'_> {
    /// The gVA of a frame that the slot spans, given that of the first.
    #[inline]
    fn later(&self, gfn: Gfn, first: Gva) -> Gva {
        later(
            first,
            gfn.raw() & 1u64.wrapping_shl(self.shift).wrapping_sub(1),
        )
    }
}

impl<'a, N: Nodes> Hints<'a, N> {
    /// The table that starts there; all its nodes come from `nodes`.
    ///
    /// ```
    /// # let vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// use gvahint_core::table::{Hints, Shape, Top};
    /// let (top, shape) = (Top::new(), Shape::new(1 << 20).unwrap());
    /// // A view, not a table: made for each call, copied at will.
    /// let hints = Hints::new(&top, &vm.nodes, shape);
    /// let (one, other) = (hints, hints);
    /// assert_eq!(one.shape(), other.shape());
    /// ```
    pub fn new(top: &'a Top, nodes: &'a N, shape: Shape) -> Self {
        Self { top, nodes, shape }
    }

    /// How far it reaches.
    ///
    /// ```
    /// # let vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// // What sets are to be checked against before they are applied.
    /// assert_eq!(vm.hints().shape().max_gfn(), 1 << 27);
    /// ```
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// The complete set of gVAs of a frame, or why it is uncovered. An empty set
    /// is one that can't be listed: nothing less than the context drops it.
    ///
    /// Lock-free, without a loop longer than the number of levels, of gVAs and
    /// of linear ranges.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// use gvahint_core::{addr::{Gfn, Gva}, plan::Reason, policy::LinearAlias, table::Query};
    /// vm.map(5, 0, &[0x7000, 0x9000]);
    /// vm.report(&[6 | 2 << 46]).answer().unwrap(); // frame 6: KERNEL_ONLY
    /// let query = Query { alias: LinearAlias::Never, ..vm.query() };
    /// let lookup = |gfn| vm.hints().lookup(Gfn::new(gfn).unwrap(), &query);
    /// assert!(lookup(5).unwrap().iter().map(Gva::raw).eq([0x7000, 0x9000]));
    /// assert_eq!(lookup(6).err(), Some(Reason::KernelOnly));
    /// ```
    ///
    /// # Errors
    ///
    /// The reason: [`Reason::NoHint`], `Aged`, `KernelOnly`, `PageTable`,
    /// `NoRoom` or `Race`.
    pub fn lookup(&self, gfn: Gfn, query: &Query) -> Result<GvaList, Reason> {
        match self.few(gfn, MapSize::M4K, query)? {
            Some(few) => Ok(GvaList::of(few)),
            None => self.in_one_epoch(|| self.read(gfn, query)),
        }
    }

    /// The gVAs of a page of that size if its slot says that there is only one,
    /// besides at most one in the linear ranges; `None` if more has to be read. A
    /// list is too large to be made for that.
    #[inline]
    pub(crate) fn few(
        &self,
        gfn: Gfn,
        page: MapSize,
        query: &Query,
    ) -> Result<Option<Few>, Reason> {
        self.in_one_epoch(|| {
            let found = self.find(gfn.raw(), page.order(), query.now_ms)?;
            let (gva, size) = match found.slot.content() {
                Content::One(..) if found.slot.is_older(query.now_ms, query.max_age_ms) => {
                    return Err(Reason::Aged)
                }
                Content::One(gva, size) if size >= page => (found.later(gfn, gva), size),
                _ => return Ok(None),
            };
            let (linear, more) = match (query.alias, page) {
                (LinearAlias::Always, MapSize::M4K) => self.linear().first_gva(gfn),
                // A range may hold a part of a large page, or map it by small ones.
                (LinearAlias::Always, _) => (None, true),
                _ => (None, false),
            };
            Ok((!more).then_some(((gva, size), linear)))
        })
    }

    /// Whether the frame is a page table that is to be kept young: one within
    /// the quota ([`crate::pool::WriterState::set_keep_quota`]), whose hint holds.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// use gvahint_core::addr::Gfn;
    /// vm.state.set_keep_quota(1);
    /// vm.report(&[5 | 3 << 46, 6 | 3 << 46]).answer().unwrap(); // two page tables
    /// let keeps = |gfn| vm.hints().keeps(Gfn::new(gfn).unwrap(), &vm.query());
    /// assert!(keeps(5) && !keeps(6));
    /// ```
    pub fn keeps(&self, gfn: Gfn, query: &Query) -> bool {
        let kept = self.in_one_epoch(|| {
            let slot = self.find(gfn.raw(), 0, query.now_ms)?.slot;
            Ok(slot.is_kept() && !slot.is_older(query.now_ms, query.max_age_ms))
        });
        kept.unwrap_or(false)
    }

    /// Whether one of the 2 MiB that the frame lies in is a page table, within the
    /// quota or not, whose hint holds. Reads one node.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// use gvahint_core::addr::Gfn;
    /// vm.report(&[600 | 3 << 46]).answer().unwrap(); // a page table
    /// let has = |gfn| vm.hints().has_page_table(Gfn::new(gfn).unwrap(), &vm.query());
    /// assert!(has(512) && has(600) && has(1023) && !has(511) && !has(1024));
    /// ```
    pub fn has_page_table(&self, gfn: Gfn, query: &Query) -> bool {
        let holds = |slot: Slot| {
            matches!(slot.content(), Content::PageTable { .. })
                && !slot.is_older(query.now_ms, query.max_age_ms)
        };
        let found = self.in_one_epoch(|| {
            let slot = self.find(gfn.raw(), NODE_BITS, query.now_ms)?.slot;
            let Content::Child(node) = slot.content() else {
                return Ok(holds(slot));
            };
            let mut slots = self.nodes.node(node.id()).into_iter().flatten();
            Ok(!node.is_dead(query.now_ms)
                && slots.any(|slot| holds(Slot(slot.load(Ordering::Acquire)))))
        });
        found.unwrap_or(false)
    }

    /// What is read while not everything changes at once.
    #[inline]
    pub(crate) fn in_one_epoch<T>(
        &self,
        read: impl FnOnce() -> Result<T, Reason>,
    ) -> Result<T, Reason> {
        let epoch = self.top.epoch.load(Ordering::Acquire);
        let result = read();
        // All loads in between are acquire: none of them is later than this one.
        if epoch & 1 != 0 || self.top.epoch.load(Ordering::Acquire) != epoch {
            return Err(Reason::Race);
        }
        result
    }

    pub(crate) fn read(&self, gfn: Gfn, query: &Query) -> Result<GvaList, Reason> {
        let found = self.find(gfn.raw(), 0, query.now_ms)?;
        self.read_slot(gfn, &found, query)
    }

    /// What the slot that was found says of a frame that it spans.
    pub(crate) fn read_slot(
        &self,
        gfn: Gfn,
        found: &Found<'_>,
        query: &Query,
    ) -> Result<GvaList, Reason> {
        if found.slot.is_older(query.now_ms, query.max_age_ms) {
            return Err(Reason::Aged);
        }
        let mut list = GvaList::default();
        let with_linear = match found.slot.content() {
            Content::Empty => return Err(Reason::NoHint),
            Content::Child(_) | Content::Retired => return Err(Reason::Race),
            Content::PageTable { .. } => return Err(Reason::PageTable),
            Content::Anywhere => return Ok(list),
            Content::KernelOnly => query.alias != LinearAlias::Never,
            Content::One(gva, size) => {
                list.push(found.later(gfn, gva), size);
                query.alias == LinearAlias::Always
            }
            Content::Cell { id, .. } => {
                self.push_cell(gfn, id, &mut list);
                if found.place.load(Ordering::Acquire) != found.slot.0 {
                    return Err(Reason::Race);
                }
                query.alias == LinearAlias::Always
            }
        };
        if with_linear && !self.linear().push_gvas(gfn, &mut list) {
            return Ok(GvaList::default());
        }
        if list.is_empty() {
            return Err(Reason::KernelOnly);
        }
        Ok(list)
    }

    /// The hint that spans the frame, or the link to a node of slots that span
    /// less than 2^`until` frames.
    #[inline]
    pub(crate) fn find(&self, gfn: u64, until: u32, now_ms: u64) -> Result<Found<'a>, Reason> {
        let mut shift = self.shape.root_shift();
        if gfn.wrapping_shr(shift) >> NODE_BITS != 0 {
            return Err(Reason::NoRoom);
        }
        let mut link = self.top.root.load(Ordering::Acquire);
        loop {
            let child = Child(link);
            let Some(place) = self.place(child, gfn, shift) else {
                // No node has the number 0.
                return Err(if link == 0 {
                    Reason::NoHint
                } else {
                    Reason::Race
                });
            };
            let slot = Slot(place.load(Ordering::Acquire));
            if slot.is_hint() {
                return if child.is_dead(now_ms) {
                    Err(Reason::Aged)
                } else {
                    Ok(Found { place, slot, shift })
                };
            }
            if shift == until && slot != Slot::EMPTY {
                return Ok(Found { place, slot, shift });
            }
            link = slot.0;
            shift = match shift.checked_sub(NODE_BITS) {
                Some(shift) => shift,
                None => return Err(Reason::NoHint),
            };
        }
    }

    /// The slot of a frame in a node whose slots span 2^`shift` frames each.
    #[inline]
    pub(crate) fn place(&self, child: Child, gfn: u64, shift: u32) -> Option<&'a AtomicU64> {
        let index = cast::usize_from_u64(gfn.wrapping_shr(shift)) & (NODE_SLOTS - 1);
        self.nodes.node(child.id())?.get(index)
    }

    /// The linear ranges.
    pub(crate) fn linear(&self) -> Store<'a> {
        let id = self.top.linear.load(Ordering::Acquire);
        Store::new(self.nodes.node(cast::low_u32(id)))
    }

    /// Adds a cell's gVAs; nothing sensible if it changes meanwhile.
    fn push_cell(&self, gfn: Gfn, id: u32, list: &mut GvaList) {
        let Some([head, gvas @ ..]) = cells::words(self.nodes, id) else {
            return;
        };
        let head = cells::Head(head.load(Ordering::Acquire));
        let page = gfn.raw().wrapping_sub(head.base());
        for word in gvas.iter().take(head.count()) {
            let word = word.load(Ordering::Acquire);
            let size = MapSize::from_order(word & (PAGE_SIZE - 1)).unwrap_or(MapSize::M4K);
            list.push(later(Gva::stored(word & !(PAGE_SIZE - 1)), page), size);
        }
    }
}

/// One gVA with the size of its mapping, and that of the linear ranges.
pub(crate) type Few = ((Gva, MapSize), Option<(Gva, MapSize)>);

/// The gVA `page` pages behind one; that it is good was checked when the set
/// came in.
#[inline]
fn later(gva: Gva, page: u64) -> Gva {
    Gva::stored(gva.raw().wrapping_add(page.wrapping_mul(PAGE_SIZE)))
}
