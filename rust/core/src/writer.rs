// SPDX-License-Identifier: GPL-2.0

//! Changing the hint table, by one writer at a time.

use crate::addr::{Gva, PAGE_SIZE};
use crate::cast;
use crate::linear::LinearList;
use crate::report::{Kind, Set};
use crate::slot::{Content, Slot};
use crate::sync::{AtomicU64, Ordering};
use crate::table::{is_beyond_horizon, CellHead, Hints, CHUNK, CLEAN_MS, OLDEST_MS};
use crate::wire::Fault;

/// Ends the list of free cells.
const NONE: u32 = u32::MAX;
/// Bits of a cell's version in a slot.
const VERSION_MASK: u32 = (1 << 21) - 1;

/// What only the writer needs to know of a table; lives as long as its
/// storage, in what serialises writers.
///
/// # Invariants
///
/// Cells from `fresh` on were never used since the last clear; those below are
/// named by as many slots as their head says (at least one), or are in the
/// list that starts at `free`.
#[derive(Debug)]
pub struct WriterState {
    free: u32,
    fresh: u32,
    version: u32,
    hints: u64,
}

impl Default for WriterState {
    fn default() -> Self {
        Self::new()
    }
}

impl WriterState {
    /// For zeroed storage.
    pub const fn new() -> Self {
        Self {
            free: NONE,
            fresh: 0,
            version: 0,
            hints: 0,
        }
    }

    /// Frames with a hint of any kind; also those that have aged and were not
    /// cleaned up yet.
    pub const fn hints(&self) -> u64 {
        self.hints
    }
}

/// Exclusive access to a table.
#[derive(Debug)]
pub struct Writer<'a> {
    hints: Hints<'a>,
    state: &'a mut WriterState,
}

impl<'a> Writer<'a> {
    /// `state` must be that of the table's storage.
    pub fn new(hints: Hints<'a>, state: &'a mut WriterState) -> Self {
        Self { hints, state }
    }

    /// Replaces what was known of the set's range.
    ///
    /// Never leaves a part: if there is no room for the new set, the range is
    /// uncovered, because what was known is no longer the whole truth. Sets
    /// without gVAs, and those with one, always find room.
    ///
    /// # Errors
    ///
    /// [`Fault::BeyondTable`] (nothing changed) or [`Fault::NoRoom`].
    pub fn replace(&mut self, set: &Set<'_>, now_ms: u64) -> Result<(), Fault> {
        let gfn = set.gfn().raw();
        let last = gfn.saturating_add(set.pages()).saturating_sub(1);
        if self.hints.place(last).is_none() {
            return Err(Fault::BeyondTable);
        }
        if set.kind() == Kind::Revoked {
            self.revoke(gfn, set.pages());
            return Ok(());
        }
        self.prepare(gfn, now_ms);
        let content = match set.kind() {
            Kind::Revoked => Content::Empty,
            Kind::KernelOnly => Content::KernelOnly,
            Kind::PageTable => Content::PageTable,
            Kind::TooMany => Content::TooMany,
            Kind::Mapped => {
                let mut gvas = set.gvas();
                match (gvas.next(), gvas.len()) {
                    (Some((gva, size)), 0) => Content::One(gva, size),
                    _ => self.new_cell(set).ok_or(Fault::NoRoom)?,
                }
            }
        };
        for page in 0..set.pages() {
            let content = match content {
                Content::One(gva, size) => {
                    let raw = gva.raw().wrapping_add(page.wrapping_mul(PAGE_SIZE));
                    Content::One(Gva::stored(raw), size)
                }
                other => other,
            };
            self.put(gfn.saturating_add(page), Slot::new(content, now_ms));
        }
        Ok(())
    }

    /// Uncovers `pages` frames from `gfn`; never allocates. For what the guest
    /// revokes and for memory that left the memslots.
    pub fn revoke(&mut self, gfn: u64, pages: u64) {
        let end = gfn.saturating_add(pages).min(self.hints.max_gfn);
        let chunk = cast::u64_from_usize(CHUNK);
        let mut at = gfn;
        while at < end {
            let next = (at | chunk.wrapping_sub(1)).saturating_add(1).min(end);
            let used = |(word, _): (&AtomicU64, _)| word.load(Ordering::Relaxed) != 0;
            if self.hints.place(at).is_some_and(used) {
                for gfn in at..next {
                    self.put(gfn, Slot::EMPTY);
                }
            }
            at = next;
        }
    }

    /// Uncovers everything, in time proportional to the number of chunks.
    /// The linear ranges stay.
    pub fn clear(&mut self) {
        self.in_new_epoch(|_| {});
    }

    /// Sets the linear ranges. If they differ from those before (in number,
    /// order or any value), everything is uncovered; `true` then.
    pub fn set_linear(&mut self, list: &LinearList<'_>) -> bool {
        if self.hints.linear.holds(list) {
            return false;
        }
        self.in_new_epoch(|hints| hints.linear.replace(list));
        true
    }

    /// Frames with a hint of any kind.
    pub const fn hints(&self) -> u64 {
        self.state.hints
    }

    /// Forgets all slots, and changes something else meanwhile; readers
    /// decline until both are done.
    fn in_new_epoch(&mut self, change: impl FnOnce(&Hints<'a>)) {
        let epoch = self.hints.epoch.load(Ordering::Relaxed);
        // `change` stores with release: who sees any of it sees this before it.
        self.hints
            .epoch
            .store(epoch.wrapping_add(1), Ordering::Relaxed);
        for chunk in self.hints.chunks {
            if chunk.load(Ordering::Relaxed) != 0 {
                chunk.store(0, Ordering::Release);
            }
        }
        change(&self.hints);
        self.hints
            .epoch
            .store(epoch.wrapping_add(2), Ordering::Release);
        *self.state = WriterState {
            version: self.state.version,
            ..WriterState::new()
        };
    }

    /// Makes sure that stamps in the frame's chunk are unambiguous up to
    /// `CLEAN_MS` from now.
    fn prepare(&mut self, gfn: u64, now_ms: u64) {
        let Some((chunk, _)) = self.hints.place(gfn) else {
            return;
        };
        let cleaned = chunk.load(Ordering::Relaxed);
        if cleaned != 0 && now_ms.saturating_sub(cleaned.saturating_sub(1)) < CLEAN_MS {
            return;
        }
        let index = cast::usize_from_u64(gfn) / CHUNK;
        let start = index.saturating_mul(CHUNK);
        let all_dead = is_beyond_horizon(cleaned, now_ms);
        for at in start..start.saturating_add(CHUNK) {
            let Some(slot) = self.hints.slots.get(at) else {
                break;
            };
            if cleaned == 0 {
                // Left over from before a clear, cells and all.
                slot.store(0, Ordering::Release);
                continue;
            }
            let word = Slot(slot.load(Ordering::Relaxed));
            if word != Slot::EMPTY && (all_dead || word.is_older(now_ms, OLDEST_MS)) {
                self.put(cast::u64_from_usize(at), Slot::EMPTY);
            }
        }
        chunk.store(now_ms.saturating_add(1), Ordering::Release);
    }

    /// Writes a slot and lets go of what it named. All that is done to a cell
    /// later is stored with release: who sees any of it sees this slot changed.
    fn put(&mut self, gfn: u64, new: Slot) {
        let Some((_, slot)) = self.hints.place(gfn) else {
            return;
        };
        let old = Slot(slot.load(Ordering::Relaxed));
        slot.store(new.0, Ordering::Release);
        if old != Slot::EMPTY {
            self.state.hints = self.state.hints.saturating_sub(1);
        }
        if new != Slot::EMPTY {
            self.state.hints = self.state.hints.saturating_add(1);
        }
        if let Content::Cell { id, .. } = old.content() {
            self.unref(id);
        }
    }

    /// One slot less names the cell.
    fn unref(&mut self, id: u32) {
        let Some([head, ..]) = self.hints.cell(id) else {
            return;
        };
        let value = CellHead(head.load(Ordering::Relaxed));
        if value.refs() > 1 {
            let less = value.with_refs(value.refs().saturating_sub(1));
            head.store(less.0, Ordering::Release);
        } else {
            head.store(u64::from(self.state.free), Ordering::Release);
            self.state.free = id;
        }
    }

    /// A cell with the set's gVAs, to be named by all slots of its range. If
    /// there is none, the range's own are given up and tried once more.
    fn new_cell(&mut self, set: &Set<'_>) -> Option<Content> {
        let id = match self.take_cell() {
            Some(id) => id,
            None => {
                self.revoke(set.gfn().raw(), set.pages());
                self.take_cell()?
            }
        };
        let [head, words @ ..] = self.hints.cell(id)?;
        for ((gva, size), word) in set.gvas().zip(words) {
            word.store(gva.raw() | u64::from(size.order()), Ordering::Release);
        }
        let value = CellHead::new(set.gfn().raw(), set.gvas().len(), set.pages());
        head.store(value.0, Ordering::Release);
        self.state.version = self.state.version.wrapping_add(1) & VERSION_MASK;
        Some(Content::Cell {
            id,
            version: self.state.version,
        })
    }

    fn take_cell(&mut self) -> Option<u32> {
        if self.state.free != NONE {
            let id = self.state.free;
            let [head, ..] = self.hints.cell(id)?;
            self.state.free = cast::low_u32(head.load(Ordering::Relaxed));
            return Some(id);
        }
        let id = self.state.fresh;
        self.hints.cell(id)?;
        self.state.fresh = id.saturating_add(1);
        Some(id)
    }
}

#[cfg(test)]
mod interrupted;
#[cfg(test)]
mod tests;
