// SPDX-License-Identifier: GPL-2.0

//! The hint table: frame -> the complete set of gVAs, or why there is none.
//!
//! A flat array of one word per frame, sized at HELLO, in storage handed in
//! (zeroed when it is new):
//!
//! | words | |
//! |---|---|
//! | 1 | epoch: odd while everything changes at once |
//! | 193 | the linear ranges |
//! | 1 per chunk of 512 frames | when the chunk was last cleaned (ms, + 1); 0: its slots mean nothing |
//! | 1 per frame | slot (`slot.rs`): a gVA, a kind, or a cell's number; and its age |
//! | 8 per cell | up to 7 gVAs, of one frame or of a run |
//!
//! # Invariants
//!
//! - One writer at a time ([`crate::writer`]), any number of readers, which
//!   never wait and never retry: what changes while it is read is declined.
//! - A slot that names a cell is replaced before the cell is written again;
//!   so who finds the slot unchanged after reading the cell has read one set.
//! - A slot in a chunk was written at most 10 minutes before the chunk was
//!   last cleaned. Slots keep 16 bits of time; readers decline once these
//!   could be ambiguous, writers clean long before.

use crate::addr::{Gfn, Gva, MapSize, GFN_BITS, PAGE_SIZE};
use crate::cast;
use crate::linear::{Store, STORE_WORDS};
use crate::plan::Reason;
use crate::policy::LinearAlias;
use crate::slot::{Content, Slot, MAX_CELLS};
use crate::sync::{AtomicU64, Ordering};
use crate::wire::MAX_SET_GVAS;

/// Frames per chunk.
pub(crate) const CHUNK: usize = 512;
/// Words per cell: what the cell is for, and its gVAs.
pub(crate) const CELL_WORDS: usize = 1 + MAX_SET_GVAS;
const CELL_BYTES: u64 = cast::u64_from_usize(CELL_WORDS) * 8;
/// Longest `hint_max_age_ms`: a slot of that age is dead under any setting.
pub(crate) const OLDEST_MS: u32 = 600_000;
/// A chunk is cleaned when it is written to and was not for so long.
pub(crate) const CLEAN_MS: u64 = 256 * 1024;
/// A chunk that was not cleaned for so long has no live slot: each was
/// written within `CLEAN_MS` after the last time.
pub(crate) const HORIZON_MS: u64 = 1024 * 1024;
/// gVAs of one frame: those of a set and of the linear ranges that hold it.
pub const MAX_GVAS: usize = 16;

/// The gVAs under which a frame can be reached.
#[derive(Clone, Copy, Debug)]
pub struct GvaList {
    gvas: [(Gva, MapSize); MAX_GVAS],
    len: usize,
}

impl Default for GvaList {
    fn default() -> Self {
        Self {
            gvas: [(Gva::stored(0), MapSize::M4K); MAX_GVAS],
            len: 0,
        }
    }
}

impl GvaList {
    /// Adds one; `false` if there is no place.
    pub(crate) fn push(&mut self, gva: Gva, size: MapSize) -> bool {
        let Some(place) = self.gvas.get_mut(self.len) else {
            return false;
        };
        *place = (gva, size);
        self.len = self.len.saturating_add(1);
        true
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none. A lookup never returns that.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The gVAs.
    pub fn iter(&self) -> impl Iterator<Item = Gva> + '_ {
        self.sized().map(|(gva, _)| gva)
    }

    /// The gVAs, and with which page size the guest maps each.
    pub fn sized(&self) -> impl Iterator<Item = (Gva, MapSize)> + '_ {
        self.gvas.iter().take(self.len).copied()
    }
}

/// How large a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    max_gfn: u64,
    cells: u32,
}

impl Shape {
    /// A table for the frames below `max_gfn` (1..=2^40) and so many pages or
    /// runs with several gVAs (at most 2^24).
    pub fn new(max_gfn: u64, cells: u32) -> Option<Self> {
        let fits = max_gfn > 0 && max_gfn <= 1 << GFN_BITS && cells <= MAX_CELLS;
        fits.then_some(Self { max_gfn, cells })
    }

    /// The largest that makes sense within `max_bytes`: a cell for each 32nd
    /// frame, if there is room. `None` if not even the slots fit.
    pub fn fit(max_gfn: u64, max_bytes: u64) -> Option<Self> {
        let slots = Self::new(max_gfn, 0)?;
        let left = max_bytes.checked_sub(slots.bytes())?;
        let cells = (left / CELL_BYTES)
            .min((max_gfn / 32).saturating_add(64))
            .min(u64::from(MAX_CELLS));
        Self::new(max_gfn, cast::low_u32(cells))
    }

    /// First frame for which there is no room.
    pub const fn max_gfn(&self) -> u64 {
        self.max_gfn
    }

    fn chunks(&self) -> usize {
        cast::usize_from_u64(self.max_gfn).div_ceil(CHUNK)
    }

    /// Words of storage.
    pub fn words(&self) -> usize {
        let cells = cast::usize_from_u32(self.cells).saturating_mul(CELL_WORDS);
        self.chunks()
            .saturating_mul(1 + CHUNK)
            .saturating_add(1 + STORE_WORDS)
            .saturating_add(cells)
    }

    /// Bytes of storage.
    pub fn bytes(&self) -> u64 {
        cast::u64_from_usize(self.words()).saturating_mul(8)
    }
}

/// What a lookup depends on besides the frame.
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
#[derive(Clone, Copy, Debug)]
pub struct Hints<'a> {
    pub(crate) max_gfn: u64,
    pub(crate) epoch: &'a AtomicU64,
    pub(crate) linear: Store<'a>,
    pub(crate) chunks: &'a [AtomicU64],
    pub(crate) slots: &'a [AtomicU64],
    pub(crate) cells: &'a [AtomicU64],
}

impl<'a> Hints<'a> {
    /// A view of storage that was zeroed when it was new and is of that shape;
    /// `None` if it is too short.
    pub fn new(words: &'a [AtomicU64], shape: Shape) -> Option<Self> {
        let words = words.get(..shape.words())?;
        let (epoch, words) = words.split_first()?;
        let (linear, words) = words.split_at_checked(STORE_WORDS)?;
        let (chunks, words) = words.split_at_checked(shape.chunks())?;
        let (slots, cells) = words.split_at_checked(shape.chunks().saturating_mul(CHUNK))?;
        Some(Self {
            max_gfn: shape.max_gfn,
            epoch,
            linear: Store::new(linear),
            chunks,
            slots,
            cells,
        })
    }

    /// The complete set of gVAs of a frame, at least one, or why it is uncovered.
    ///
    /// Lock-free, without a loop longer than the number of linear ranges.
    ///
    /// # Errors
    ///
    /// The reason: [`Reason::NoHint`], `Aged`, `KernelOnly`, `PageTable`,
    /// `TooMany`, `NoRoom` or `Race`.
    pub fn lookup(&self, gfn: Gfn, query: &Query) -> Result<GvaList, Reason> {
        let epoch = self.epoch.load(Ordering::Acquire);
        let result = self.read(gfn, query);
        // All loads in between are acquire: none of them is later than this one.
        if epoch & 1 != 0 || self.epoch.load(Ordering::Acquire) != epoch {
            return Err(Reason::Race);
        }
        result
    }

    fn read(&self, gfn: Gfn, query: &Query) -> Result<GvaList, Reason> {
        let (chunk, cell) = self.place(gfn.raw()).ok_or(Reason::NoRoom)?;
        let cleaned = chunk.load(Ordering::Acquire);
        if cleaned == 0 {
            return Err(Reason::NoHint);
        }
        let slot = Slot(cell.load(Ordering::Acquire));
        let content = slot.content();
        if content == Content::Empty {
            return Err(Reason::NoHint);
        }
        if is_beyond_horizon(cleaned, query.now_ms) || slot.is_older(query.now_ms, query.max_age_ms)
        {
            return Err(Reason::Aged);
        }
        let mut list = GvaList::default();
        let with_linear = match content {
            Content::Empty => return Err(Reason::NoHint),
            Content::PageTable => return Err(Reason::PageTable),
            Content::TooMany => return Err(Reason::TooMany),
            Content::KernelOnly => query.alias != LinearAlias::Never,
            Content::One(gva, size) => {
                list.push(gva, size);
                query.alias == LinearAlias::Always
            }
            Content::Cell { id, .. } => {
                self.push_cell(gfn, id, &mut list);
                if cell.load(Ordering::Acquire) != slot.0 {
                    return Err(Reason::Race);
                }
                query.alias == LinearAlias::Always
            }
        };
        if with_linear && !self.linear.push_gvas(gfn, &mut list) {
            return Err(Reason::TooMany);
        }
        if list.is_empty() {
            return Err(Reason::KernelOnly);
        }
        Ok(list)
    }

    /// The chunk word and the slot of a frame.
    #[inline]
    pub(crate) fn place(&self, gfn: u64) -> Option<(&'a AtomicU64, &'a AtomicU64)> {
        if gfn >= self.max_gfn {
            return None;
        }
        let index = cast::usize_from_u64(gfn);
        Some((self.chunks.get(index / CHUNK)?, self.slots.get(index)?))
    }

    /// The words of a cell.
    #[inline]
    pub(crate) fn cell(&self, id: u32) -> Option<&'a [AtomicU64; CELL_WORDS]> {
        let start = cast::usize_from_u32(id).saturating_mul(CELL_WORDS);
        self.cells.get(start..)?.first_chunk()
    }

    /// Adds a cell's gVAs; nothing sensible if it changes meanwhile.
    fn push_cell(&self, gfn: Gfn, id: u32, list: &mut GvaList) {
        let Some([head, gvas @ ..]) = self.cell(id) else {
            return;
        };
        let head = CellHead(head.load(Ordering::Acquire));
        let page = gfn.raw().wrapping_sub(head.base());
        let offset = page.wrapping_mul(PAGE_SIZE);
        for word in gvas.iter().take(head.count()) {
            let word = word.load(Ordering::Acquire);
            let size = MapSize::from_order(word & (PAGE_SIZE - 1)).unwrap_or(MapSize::M4K);
            let base = word & !(PAGE_SIZE - 1);
            list.push(Gva::stored(base.wrapping_add(offset)), size);
        }
    }
}

/// Whether a chunk with that word has no live slot.
pub(crate) fn is_beyond_horizon(cleaned: u64, now_ms: u64) -> bool {
    now_ms.saturating_sub(cleaned.saturating_sub(1)) >= HORIZON_MS
}

/// First word of a cell in use: the run's first frame (40 bits), how many gVAs
/// (3), how many slots name the cell (21).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CellHead(pub(crate) u64);

impl CellHead {
    const REFS_SHIFT: u32 = GFN_BITS + 3;

    pub(crate) fn new(base: u64, count: usize, refs: u64) -> Self {
        let count = cast::u64_from_usize(count) & 7;
        Self(base | count << GFN_BITS | refs << Self::REFS_SHIFT)
    }

    pub(crate) fn base(self) -> u64 {
        self.0 & ((1 << GFN_BITS) - 1)
    }

    pub(crate) fn count(self) -> usize {
        cast::usize_from_u64(self.0 >> GFN_BITS & 7)
    }

    pub(crate) fn refs(self) -> u64 {
        self.0 >> Self::REFS_SHIFT
    }

    pub(crate) fn with_refs(self, refs: u64) -> Self {
        Self::new(self.base(), self.count(), refs)
    }
}
