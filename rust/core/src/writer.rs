// SPDX-License-Identifier: GPL-2.0

//! Changing the hint table, by one writer at a time.
//!
//! Nodes come from outside: see [`WriterState::wanted`]. Each change that
//! readers can see is one store: of a slot, or of the link to a node that is
//! complete.
//!
//! In the examples, `vm` is the storage of a small VM: `tests/doc/vm.rs`.

use crate::cast;
use crate::cells;
use crate::linear::{LinearList, Store};
use crate::node::{Nodes, NODE_BITS, NODE_SLOTS};
use crate::path::Path;
use crate::pool::WriterState;
use crate::report::{Kind, Set};
use crate::slot::{Child, Content, Slot};
use crate::sync::Ordering;
use crate::table::Hints;
use crate::wire::Fault;

mod debts;
mod remove;

/// Exclusive access to a table.
///
/// ```
/// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
/// use gvahint_core::plan::Reason;
/// vm.map(5, 0, &[0x7000]);
/// vm.map(6, 0, &[0x8000]);
/// // A memslot goes.
/// vm.writer().revoke(6, 1);
/// assert_eq!(vm.lookup(5), Ok(vec![0x7000]));
/// assert_eq!(vm.lookup(6), Err(Reason::NoHint));
/// ```
#[derive(Debug)]
pub struct Writer<'a, N> {
    hints: Hints<'a, N>,
    state: &'a mut WriterState,
    /// A path to a frame's own slot; nothing on it has changed since.
    near: Option<(u64, Path<'a>)>,
    /// Whether a flush of everything is due for what this has made data.
    turned: bool,
}

impl<'a, N: Nodes> Writer<'a, N> {
    /// `state` must be that of the table.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// use gvahint_core::{table::{Hints, Shape}, writer::Writer};
    /// // Readers may hold views of the same table meanwhile.
    /// let hints = Hints::new(&vm.top, &vm.nodes, Shape::new(1 << 27).unwrap());
    /// let writer = Writer::new(hints, &mut vm.state);
    /// assert_eq!((writer.hints(), hints.shape().max_gfn()), (0, 1 << 27));
    /// ```
    pub fn new(hints: Hints<'a, N>, state: &'a mut WriterState) -> Self {
        Self {
            hints,
            state,
            near: None,
            turned: false,
        }
    }

    /// What is known of the table.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// // Whether it is worth to allocate before the next set.
    /// assert_eq!(vm.writer().state().wanted(), 0);
    /// ```
    pub fn state(&mut self) -> &mut WriterState {
        self.state
    }

    /// Replaces what was known of the set's range.
    ///
    /// Never leaves a part: if there is no room for the new set, the range is
    /// uncovered, because what was known is no longer the whole truth; if there
    /// is none for several gVAs alone, it counts as mapped anywhere. A set within
    /// a larger one splits that; if there is no room for the split, the larger
    /// one is uncovered as a whole.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// use gvahint_core::{addr::VaBits, report::{Limits, Sets}};
    /// vm.map(512, 9, &[0x4000_0000 | 9]);
    /// let limits = Limits { bits: VaBits::Bits48, max_gfn: 1 << 27 };
    /// let words = [600 | 1 << 46 | 1 << 50, 0x7000];
    /// let set = Sets::new(&words, limits).next(&mut |_, _| true).unwrap().unwrap();
    /// // Of the large page one frame is mapped elsewhere now; the rest holds.
    /// assert_eq!(vm.writer().replace(&set, 1_000), Ok(()));
    /// assert_eq!(vm.lookup(600), Ok(vec![0x7000]));
    /// assert_eq!(vm.lookup(601), Ok(vec![0x4000_0000 + (89 << 12)]));
    /// ```
    ///
    /// # Errors
    ///
    /// [`Fault::BeyondTable`] (nothing changed) or [`Fault::NoRoom`].
    pub fn replace(&mut self, set: &Set<'_>, now_ms: u64) -> Result<(), Fault> {
        let gfn = set.gfn().raw();
        let end = gfn.saturating_add(set.pages());
        if end > self.hints.shape.max_gfn() {
            return Err(Fault::BeyondTable);
        }
        if set.kind() == Kind::Revoked {
            self.revoke(gfn, set.pages());
            return Ok(());
        }
        let replaced = self.write(set, now_ms);
        if replaced.is_none() {
            self.revoke(gfn, set.pages());
        }
        replaced.ok_or(Fault::NoRoom)
    }

    fn write(&mut self, set: &Set<'_>, now_ms: u64) -> Option<()> {
        // The slots that span the range: at most 256, or 1.
        let shift = match set.order() {
            0..9 => 0,
            9..18 => NODE_BITS,
            _ => 2 * NODE_BITS,
        };
        let slots = set.pages().wrapping_shr(shift);
        let content = self.content(set, slots, now_ms);
        let gfn = set.gfn().raw();
        let mut path = match self.near(gfn, shift) {
            Some(path) => path,
            None => {
                self.near = None;
                let Some(path) = self.reach(gfn, shift, now_ms) else {
                    // Nobody will name the cell.
                    for _ in 0..slots {
                        self.release(content);
                    }
                    return None;
                };
                self.near = (shift == 0).then_some((gfn, path));
                path
            }
        };
        self.clean(&path, gfn, now_ms);
        let first = Slot::new(content, now_ms);
        for n in 0..slots {
            let pages = n.wrapping_shl(shift);
            path.step(&self.hints, gfn.wrapping_add(pages))?;
            match content {
                Content::PageTable { .. } => self.put_page_table(&path, first),
                _ => self.put(&path, first.piece(pages)),
            }
        }
        if set.kind() == Kind::Mapped && content == Content::Anywhere {
            self.state.shortened = self.state.shortened.saturating_add(1);
        }
        Some(())
    }

    /// A path to a slot in the node that the frame's is in, if that is the one
    /// written to last: guests report what lies together.
    #[inline]
    fn near(&self, gfn: u64, shift: u32) -> Option<Path<'a>> {
        let (last, path) = self.near?;
        (shift == 0 && (last ^ gfn) >> NODE_BITS == 0).then_some(path)
    }

    /// Writes a slot for page tables: its frames are kept young while all of
    /// them fit into the quota.
    fn put_page_table(&mut self, path: &Path<'a>, slot: Slot) {
        let frames = 1u64.wrapping_shl(path.shift());
        // To renew one is one store, so that it is kept without a gap.
        let less = if path.slot().is_kept() { frames } else { 0 };
        let kept = self.state.may_keep(frames, less);
        self.put(path, slot.with_kept(kept));
        // What it replaced were smaller pieces, and some of these made room.
        if !kept && self.state.may_keep(frames, 0) {
            self.state.keep(frames);
            path.store(slot.with_kept(true));
        }
    }

    /// What to write for a set. If there is no cell, the range's own are given
    /// up and tried once more; without its gVAs, the page is one that is no
    /// page table, for which a flush of the context serves.
    fn content(&mut self, set: &Set<'_>, slots: u64, now_ms: u64) -> Content {
        match set.kind() {
            Kind::Revoked => Content::Empty,
            Kind::KernelOnly => Content::KernelOnly,
            Kind::PageTable => Content::PageTable { kept: false },
            Kind::TooMany | Kind::Anywhere => Content::Anywhere,
            Kind::Mapped => {
                let mut gvas = set.gvas();
                match (gvas.next(), gvas.len()) {
                    (Some((gva, size)), 0) => Content::One(gva, size),
                    _ => self
                        .new_cell(set, slots, now_ms)
                        .unwrap_or(Content::Anywhere),
                }
            }
        }
    }

    fn new_cell(&mut self, set: &Set<'_>, slots: u64, now_ms: u64) -> Option<Content> {
        let version = self.state.next_version()?;
        let id = match cells::take(self.hints.nodes, self.state, set, slots) {
            Some(id) => id,
            None => {
                self.give_up_cells(set.gfn().raw(), set.pages(), now_ms);
                cells::take(self.hints.nodes, self.state, set, slots)?
            }
        };
        Some(Content::Cell { id, version })
    }

    /// The path to a frame's slot of that span, made where it is missing.
    /// `None`, and nothing is left of it, if there is no node for it.
    fn reach(&mut self, gfn: u64, shift: u32, now_ms: u64) -> Option<Path<'a>> {
        let mut path = Path::new(&self.hints);
        while path.shift() > shift {
            if !matches!(path.slot().content(), Content::Child(_)) {
                // A hint that is dead is not worth a split.
                self.clean(&path, gfn, now_ms);
                if !self.grow(&path, now_ms) {
                    self.put(&path, Slot::EMPTY);
                    self.prune(&path);
                    return None;
                }
            }
            path.descend(&self.hints, gfn)?;
        }
        Some(path)
    }

    /// Puts a node in place of an empty slot, or of a hint that it then holds
    /// in pieces.
    fn grow(&mut self, path: &Path<'a>, now_ms: u64) -> bool {
        let Some(id) = self.state.take_node(self.hints.nodes) else {
            return false;
        };
        let old = path.slot();
        let child = match path.parent() {
            Some(parent) if old != Slot::EMPTY => {
                self.split(id, old, path.shift());
                parent.with(id, cast::u64_from_usize(NODE_SLOTS))
            }
            _ => Child::new(id, 0, now_ms),
        };
        path.store(Slot(child.0));
        if old == Slot::EMPTY {
            path.count(true);
        }
        true
    }

    /// Fills a node with the pieces of a hint that spans 2^`shift` frames.
    fn split(&mut self, id: u32, old: Slot, shift: u32) {
        let piece = 1u64.wrapping_shl(shift.saturating_sub(NODE_BITS));
        let mut pages: u64 = 0;
        for slot in self.hints.nodes.node(id).into_iter().flatten() {
            slot.store(old.piece(pages).0, Ordering::Release);
            pages = pages.wrapping_add(piece);
        }
        if let Content::Cell { id, .. } = old.content() {
            let more = cast::u64_from_usize(NODE_SLOTS - 1);
            cells::share(self.hints.nodes, id, more);
        }
    }

    /// Whether the linear ranges are those of the list, in its order.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// use gvahint_core::{addr::VaBits, linear::LinearList};
    /// let [a, b] = [[0, 1 << 46, 4096, 4096], [0, 1 << 45, 4096, 4096]].map(Vec::from);
    /// let [ab, ba] = [[&a[..], &b].concat(), [&b[..], &a].concat()];
    /// let [ab, ba] = [&ab, &ba].map(|words| LinearList::parse(words, VaBits::Bits48).unwrap());
    /// vm.writer().set_linear(&ab).unwrap();
    /// assert!(vm.writer().has_linear(&ab) && !vm.writer().has_linear(&ba));
    /// ```
    pub fn has_linear(&self, list: &LinearList<'_>) -> bool {
        self.hints.linear().holds(list)
    }

    /// Sets the linear ranges; `true` if they differ from those before (in number,
    /// order or any value). Hints stay, which say nothing of these. Pages may have
    /// been aged meanwhile by ranges that were no longer true: as if all had moved.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// use gvahint_core::{addr::VaBits, linear::LinearList};
    /// let words = [0, 0xffff_8880_0000_0000, 1 << 30, 1 << 30];
    /// let list = LinearList::parse(&words, VaBits::Bits48).unwrap();
    /// vm.map(5, 0, &[0x7000]);
    /// assert_eq!(vm.writer().set_linear(&list), Ok(true));
    /// assert_eq!(vm.writer().hints(), 1);
    /// assert!(vm.hints().owes_context());
    /// assert_eq!(vm.writer().set_linear(&list), Ok(false));
    /// ```
    ///
    /// # Errors
    ///
    /// [`Fault::NoRoom`], if there was no range before: nothing changed.
    pub fn set_linear(&mut self, list: &LinearList<'_>) -> Result<bool, Fault> {
        if self.has_linear(list) {
            return Ok(false);
        }
        let nodes = self.hints.nodes;
        let old = cast::low_u32(self.hints.top.linear.load(Ordering::Relaxed));
        let new = match (list.is_empty(), old) {
            (true, _) => 0,
            (false, 0) => self.state.take_node(nodes).ok_or(Fault::NoRoom)?,
            (false, old) => old,
        };
        self.begin_epoch(|top| {
            Store::new(nodes.node(new)).replace(list);
            top.linear.store(u64::from(new), Ordering::Release);
        });
        if self.state.hints > 0 {
            self.hints.top.moved.incur();
        }
        if new != old {
            self.state.retire(nodes, old);
        }
        Ok(true)
    }

    /// Frames with a hint of any kind.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// vm.map(512, 9, &[0x4000_0000 | 9]);
    /// vm.report(&[5 | 3 << 46]).answer().unwrap(); // a page table: known, not covered
    /// assert_eq!(vm.writer().hints(), 513);
    /// ```
    pub const fn hints(&self) -> u64 {
        self.state.hints
    }

    /// Writes a slot and lets go of what it held.
    #[inline]
    fn put(&mut self, path: &Path<'a>, new: Slot) {
        let old = path.slot();
        if new.is_data() {
            self.turn_into_data(old);
        }
        path.store(new);
        // After it: until then the page, or a large one that it lies in, was aged as what it was.
        if !new.is_data() && self.holds_data(old) {
            self.hints.top.turned.incur();
        }
        if self.moves(old, new) {
            self.hints.top.moved.incur();
        }
        if old == Slot::EMPTY && new != Slot::EMPTY {
            path.count(true);
        } else if old != Slot::EMPTY && new == Slot::EMPTY {
            path.count(false);
        }
        if new.0 & 7 != 0 {
            let frames = 1u64.wrapping_shl(path.shift());
            self.state.hints = self.state.hints.saturating_add(frames);
            if new.is_kept() {
                self.state.keep(frames);
            }
        }
        if old != Slot::EMPTY {
            self.forget(old, path.shift());
        }
    }
}

#[cfg(all(test, not(loom)))]
mod interrupted;
